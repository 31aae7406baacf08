"""The script that lays stand-in sets out in every way people keep theirs."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r2convert.errors import UsageError
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import synsets
from r2convert.imagenet.validation_set import ValidationSet

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_validation_set.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def images(tmp_path: Path, write_picture: Callable[..., Path]) -> ValidationSet:
    for seed in range(8):
        write_picture(tmp_path / "made" / synsets()[seed % 3] / f"{seed}.JPEG", seed=seed)
    return open_validation_set(tmp_path / "made")


@pytest.mark.parametrize("layout", ["flat", "tar", "openmmlab", "shards"])
def test_labels_and_bytes_survive_the_layout(
    layout: str, script: dict[str, Any], images: ValidationSet, tmp_path: Path
) -> None:
    (tmp_path / layout).mkdir()
    script["LAYOUTS"][layout](tmp_path / layout, script["give_numbers"](images))
    found = open_validation_set(tmp_path / layout)
    assert found.warnings == ()
    read = {(image.label, image.location.read()) for image in found.images if image.location}
    assert read == {(image.label, image.location.read()) for image in images.images if image.location}
    assert len(found.images) == 8


def test_a_label_can_be_given_fifty_times_only(
    script: dict[str, Any], tmp_path: Path, write_picture: Callable[..., Path]
) -> None:
    for number in range(51):
        write_picture(tmp_path / "n01440764" / f"{number}.JPEG", width=8, height=8)
    with pytest.raises(UsageError, match="more pictures have one label"):
        script["give_numbers"](open_validation_set(tmp_path))
