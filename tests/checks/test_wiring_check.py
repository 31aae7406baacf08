"""The wiring check's verdict, and the pictures it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from r2convert.checks.pictures import DRAWN, MOST, Pictures, drawn_pictures, pictures_from
from r2convert.checks.wiring import LayerWiring
from r2convert.checks.wiring_check import WiringResult, run_wiring, wiring_check
from r2convert.errors import DatasetError
from r2convert.imagenet.preprocessing import crop_image
from r2convert.imagenet.standin import draw_picture


def layer(name: str, *, suspect: bool) -> LayerWiring:
    return LayerWiring(name, 0.0, 0.0, 1.0, 1.0, suspect)


def result(suspects: int, source: str | None) -> WiringResult:
    return WiringResult(32, source, tuple(layer(f"bn{number}", suspect=number < suspects) for number in range(8)))


def test_no_suspect_passes() -> None:
    check = wiring_check(result(0, "photos"))
    assert (check.metric, check.verdict, check.measured) == ("wiring", "pass", 8)


def test_suspects_fail_on_given_pictures_and_are_named_in_order() -> None:
    check = wiring_check(result(6, "photos"))
    assert (check.verdict, check.measured) == ("fail", 2)
    assert "bn0, bn1, bn2, bn3 and 2 more" in check.note


def test_drawn_pictures_are_too_odd_to_condemn_anything() -> None:
    check = wiring_check(result(1, None))
    assert check.verdict == "inconclusive"
    assert "--wiring FOLDER" in check.note


def test_drawn_pictures_are_the_same_every_time() -> None:
    one, other = drawn_pictures(), drawn_pictures()
    assert one.source is None
    assert one.crops.shape == (DRAWN, 224, 224, 3)
    assert np.array_equal(one.crops, other.crops)


def test_pictures_are_cut_as_published_numbers_are_measured_and_bad_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    for number in range(20):
        place = tmp_path / "cats" if number % 2 else tmp_path
        (place / f"{number:02}.PNG").write_bytes(draw_picture(number))
    (tmp_path / "00.jpg").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("not a picture")
    pictures = pictures_from(tmp_path)
    assert pictures.source == tmp_path
    assert len(pictures.crops) == 20
    assert np.array_equal(pictures.crops[0], crop_image(draw_picture(0)))


def test_large_folders_are_sampled_over_all_of_it(tmp_path: Path) -> None:
    picture = draw_picture(0)
    other = draw_picture(1)
    for number in range(3 * MOST):
        (tmp_path / f"{number:03}.jpg").write_bytes(picture if number < 2 * MOST else other)
    crops = pictures_from(tmp_path).crops
    assert len(crops) == MOST
    of_the_last_third = sum(np.array_equal(crop, crop_image(other)) for crop in crops)
    assert abs(of_the_last_third - MOST / 3) <= 1


@pytest.mark.parametrize("name", ["file", "missing", "empty"])
def test_what_is_no_folder_of_pictures_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError):
        pictures_from(tmp_path / name)


def test_a_network_in_double_precision_is_shown_the_same_pictures() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8)).double().eval()
    crops = np.random.default_rng(0).integers(0, 256, (70, 224, 224, 3), np.uint8)
    found = run_wiring(network, Pictures(crops, Path("photos")), torch.device("cpu"))
    assert (found.pictures, found.source) == (70, "photos")
    # The statistics are untouched by any training.
    assert [each.name for each in found.suspects] == ["1"]
