"""Answers kept in a file, runs that are stopped and continued."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from r2convert.catalog.protocol import Precision
from r2convert.checks.standins import synthetic_image
from r2convert.errors import AccessError, InputError, OutputExistsError, UsageError
from r2convert.evaluation import engine
from r2convert.evaluation.engine import AccuracyProgress
from r2convert.evaluation.prediction_comparison import compare_predictions, network_pairs
from r2convert.evaluation.prediction_store import PredictionFile, read_measurement
from r2convert.evaluation.predictions import Predictions
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import synsets, validation_labels, validation_name
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.results.verification import Accuracy

COUNT = 11

pytestmark = pytest.mark.usefixtures("one_thread")


def measure_accuracy(*arguments: Any, **options: Any) -> dict[str, Accuracy]:
    """What is found, apart from how fast, which differs from run to run."""
    found = engine.measure_accuracy(*arguments, **options)
    return {name: replace(accuracy, speed=None) for name, accuracy in found.items()}


class ByColour(torch.nn.Module):
    """Ranks classes by a few sums over the picture: quick, and different for every picture."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(12, 1000, generator=torch.Generator().manual_seed(seed)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1) @ self.weight


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ValidationSet:
    folder = tmp_path_factory.mktemp("images")
    for number in range(COUNT):
        file = folder / synsets()[number * 80] / f"{number}.JPEG"
        file.parent.mkdir()
        file.write_bytes(synthetic_image(number) if number != 4 else b"damaged")
    return open_validation_set(folder)


def measure(
    images: ValidationSet, file: PredictionFile, *, stop_after: int = 99, seed: int = 0, precision: Precision = "strict"
) -> dict[str, Accuracy]:
    def stop(progress: AccuracyProgress) -> None:
        # Counted over both networks, one after the other.
        earlier = COUNT if progress.network == "second" else 0
        if earlier + progress.done >= stop_after:
            raise KeyboardInterrupt

    networks = {"first": ByColour(seed), "second": ByColour(1)}
    return measure_accuracy(networks, images, batch_size=2, precision=precision, progress=stop, predictions=file)


def test_scores_can_be_recomputed_from_the_file(images: ValidationSet, tmp_path: Path) -> None:
    results = measure(images, PredictionFile(tmp_path / "predictions.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert (rows[0]["schema"], rows[0]["images"], list(rows[0]["networks"])) == (
        "r2convert.predictions/1",
        COUNT,
        ["first", "second"],
    )
    assert [row["image"] for row in rows[1:]] == [image.id for image in images.images]
    readable = [row for row in rows[1:] if row["crop"]]
    assert len(readable) == COUNT - 1
    for name, result in results.items():
        assert result.top1_correct == sum(row["label"] == row["answers"][name]["top5"][0] for row in readable)
        assert result.top5_correct == sum(row["label"] in row["answers"][name]["top5"] for row in readable)
        for row in readable:
            answer = row["answers"][name]
            assert (answer["rank"] < 5) == (row["label"] in answer["top5"])
            assert answer["margins"][0] > 0
    assert not (tmp_path / "predictions.jsonl.partial").exists()


@pytest.mark.parametrize("stop_after", [2, 6, 10, 12, 20])
@pytest.mark.parametrize("cut", [0, 1, 40])
def test_a_stopped_run_is_continued_to_the_same_result(
    images: ValidationSet, tmp_path: Path, stop_after: int, cut: int
) -> None:
    whole = measure(images, PredictionFile(tmp_path / "whole"))
    file = PredictionFile(tmp_path / "stopped", resume=True)
    with pytest.raises(KeyboardInterrupt):
        measure(images, file, stop_after=stop_after)
    assert not file.path.exists()
    kept = file.part().read_bytes()
    file.part().write_bytes(kept[: len(kept) - cut])
    assert measure(images, file) == whole
    assert file.path.read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_stopped_run_in_another_precision_is_continued(images: ValidationSet, tmp_path: Path) -> None:
    whole = measure(images, PredictionFile(tmp_path / "whole"), precision="bf16")
    file = PredictionFile(tmp_path / "stopped", resume=True)
    with pytest.raises(KeyboardInterrupt):
        measure(images, file, stop_after=6, precision="bf16")
    # Of the first network; the batch that was under way is kept, too.
    assert file.part().read_bytes().count(b"\n") == 1 + 8
    continued = measure(images, file, precision="bf16")
    assert file.path.read_bytes() == (tmp_path / "whole").read_bytes()
    for name, audited in (("first", COUNT - 8), ("second", COUNT - 1)):
        result = continued[name]
        assert result.top5_correct == whole[name].top5_correct
        assert result.audit is not None
        assert result.audit.images == audited


@pytest.mark.parametrize("length", [0, 1, 50])
def test_a_file_cut_in_its_first_line_is_begun_anew(images: ValidationSet, tmp_path: Path, length: int) -> None:
    whole = measure(images, PredictionFile(tmp_path / "whole"))
    file = PredictionFile(tmp_path / "cut", resume=True)
    file.part().write_bytes((tmp_path / "whole").read_bytes()[:length])
    assert measure(images, file) == whole


def test_a_complete_run_is_not_done_again(images: ValidationSet, tmp_path: Path) -> None:
    file = PredictionFile(tmp_path / "file", resume=True)
    first = measure(images, file)
    seen: list[AccuracyProgress] = []
    again = measure_accuracy(
        {"first": ByColour(0), "second": ByColour(1)}, images, progress=seen.append, predictions=file
    )
    assert again == first
    assert not seen


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_prediction_store import ByColour, PredictionFile, measure_accuracy, open_validation_set

def die(progress):
    if progress.done >= 6:
        os.kill(os.getpid(), signal.SIGKILL)

networks = {"first": ByColour(0), "second": ByColour(1)}
file = PredictionFile(Path(sys.argv[3]))
measure_accuracy(networks, open_validation_set(Path(sys.argv[2])), batch_size=2, progress=die, predictions=file)
"""


def test_a_killed_process_leaves_what_it_had_done(images: ValidationSet, tmp_path: Path) -> None:
    arguments = [str(Path(__file__).parent), str(images.path), str(tmp_path / "killed")]
    ended = subprocess.run([sys.executable, "-c", KILLED_RUN, *arguments], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len((tmp_path / "killed.partial").read_text().splitlines()) == 7
    whole = measure(images, PredictionFile(tmp_path / "whole"))
    assert measure(images, PredictionFile(tmp_path / "killed", resume=True)) == whole


def test_answers_to_another_question_are_not_mixed_in(images: ValidationSet, tmp_path: Path) -> None:
    file = PredictionFile(tmp_path / "file", resume=True)
    with pytest.raises(KeyboardInterrupt):
        measure(images, file, stop_after=4)
    with pytest.raises(UsageError, match="belong to another measurement") as caught:
        measure(images, file, seed=5)
    assert caught.value.got == "another networks"
    assert file.part().exists()
    measure(images, file)
    with pytest.raises(UsageError, match="belong to another measurement"):
        measure(images, file, seed=5)
    assert file.path.exists()
    fewer = ValidationSet(images.path, images.layout, images.images[:6])
    with pytest.raises(UsageError) as caught:
        measure(fewer, file)
    assert caught.value.got == "another data_set, images"


def test_what_is_there_is_replaced_only_when_asked(images: ValidationSet, tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = measure(images, PredictionFile(path))
    before = path.read_bytes()
    with pytest.raises(OutputExistsError):
        measure(images, PredictionFile(path))
    with pytest.raises(KeyboardInterrupt):
        measure(images, PredictionFile(path, overwrite=True), stop_after=2)
    assert path.read_bytes() == before
    assert measure(images, PredictionFile(path, overwrite=True)) == whole


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: b"{}\n",
        lambda line: b"no json\n",
        lambda line: line.replace(b'"top5":[', b'"top5":["x",'),
        lambda line: line.replace(b'"rank":', b'"rank":99999999'),
        lambda line: line.replace(b".JPEG", b".PNG"),
        lambda line: line.replace(b'"first"', b'"other"'),
    ],
)
def test_damaged_lines_are_named(images: ValidationSet, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = PredictionFile(tmp_path / "file", resume=True)
    measure(images, file)
    lines = file.path.read_bytes().splitlines(keepends=True)
    lines[3] = damage(lines[3])
    file.path.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match="predictions are damaged") as caught:
        measure(images, file)
    assert str(caught.value.where).endswith(":4")


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[]\n", b"weights", b'{"schema":"r2convert.predictions/1"}\n'])
def test_other_files_are_no_predictions(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match="not a predictions file"):
        read_measurement(tmp_path / "file")


def test_a_place_that_cannot_be_written_is_named(images: ValidationSet, tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(AccessError, match="cannot be kept"):
        measure(images, PredictionFile(tmp_path / "folder" / "file"))
    with pytest.raises(AccessError):
        read_measurement(tmp_path / "nowhere")


@contextmanager
def full_disk(after: int) -> Iterator[None]:
    """No file grows beyond so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_a_full_disk_interrupts_is_continued(images: ValidationSet, tmp_path: Path) -> None:
    found = measure(images, PredictionFile(tmp_path / "whole"))
    whole = (tmp_path / "whole").read_bytes()
    kept = tmp_path / "kept"
    with full_disk(len(whole) // 2), pytest.raises(AccessError, match="cannot be kept") as caught:
        measure(images, PredictionFile(kept))
    assert "--resume" in str(caught.value.next_step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.partial", "whole"]
    assert measure(images, PredictionFile(kept, resume=True)) == found
    assert kept.read_bytes() == whole


def test_a_full_disk_leaves_no_half_of_the_complete_file(images: ValidationSet, tmp_path: Path) -> None:
    names = measure(images, PredictionFile(tmp_path / "whole"))
    measurement, found = read_measurement(tmp_path / "whole"), Predictions(images, names)
    PredictionFile(tmp_path / "whole", resume=True).restore(measurement, found)
    with full_disk(1000), pytest.raises(AccessError, match="cannot be kept"):
        PredictionFile(tmp_path / "again").complete(measurement, found)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_answers_of_nan_survive_the_file(images: ValidationSet, tmp_path: Path) -> None:
    class Broken(ByColour):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images) * np.nan

    file = PredictionFile(tmp_path / "file", resume=True)
    first = measure_accuracy({"it": Broken()}, images, predictions=file)
    assert first["it"].not_a_number == COUNT - 1
    assert measure_accuracy({"it": Broken()}, images, predictions=file) == first


def test_two_files_are_compared_image_by_image(images: ValidationSet, tmp_path: Path) -> None:
    measure(images, PredictionFile(tmp_path / "a"))
    measure(images, PredictionFile(tmp_path / "b"), seed=7)
    (same,) = compare_predictions(tmp_path / "a", tmp_path / "b", network_a="second", network_b="second")
    assert (same.images, same.other_crops, same.changed_top1, same.changed_top5) == (COUNT, 0, 0, 0)
    assert same.equal
    assert same.top1.mcnemar_p == 1
    (other,) = compare_predictions(tmp_path / "a", tmp_path / "b", network_a="first", network_b="first")
    top = [
        [(row["image"], row["label"], row["answers"]["first"]["top5"]) for row in rows if row["crop"]]
        for rows in ([json.loads(line) for line in (tmp_path / name).read_text().splitlines()[1:]] for name in "ab")
    ]
    changed = [a[0] for a, b in zip(*top, strict=True) if a[2][0] != b[2][0]]
    assert [each.image for each in other.changed] == changed
    assert other.changed_top1 == len(changed) > 5
    for counts, cut in ((other.top1, 1), (other.top5, 5)):
        right = [(a[1] in a[2][:cut], b[1] in b[2][:cut]) for a, b in zip(*top, strict=True)]
        assert (counts.only_a, counts.only_b) == (right.count((True, False)), right.count((False, True)))
        assert counts.both + counts.only_a + counts.only_b + counts.neither == COUNT
    assert other.changed_top5 >= sum(set(a[2]) != set(b[2]) for a, b in zip(*top, strict=True))


def test_networks_are_paired_by_name(images: ValidationSet, tmp_path: Path) -> None:
    measure(images, PredictionFile(tmp_path / "a"))
    measure(images, PredictionFile(tmp_path / "b"), seed=7)
    assert network_pairs(tmp_path / "a", tmp_path / "b") == [("first", "first"), ("second", "second")]
    assert network_pairs(tmp_path / "a", tmp_path / "a", network_a="first", network_b="second") == [("first", "second")]
    with pytest.raises(UsageError, match="which network"):
        network_pairs(tmp_path / "a", tmp_path / "b", network_a="first")
    measure_accuracy({"0 it": ByColour()}, images, predictions=PredictionFile(tmp_path / "numbered"))
    measure_accuracy({"1 it": ByColour(), "2 that": ByColour()}, images, predictions=PredictionFile(tmp_path / "more"))
    pair = [("0 it", "1 it")]
    assert network_pairs(tmp_path / "numbered", tmp_path / "more", network_b="it") == pair


def test_other_crops_are_counted_and_other_pipelines_refused(images: ValidationSet, tmp_path: Path) -> None:
    measure(images, PredictionFile(tmp_path / "a"))
    lines = (tmp_path / "a").read_bytes().splitlines(keepends=True)
    row = json.loads(lines[1])
    lines[1] = json.dumps({**row, "crop": "00" * 31 + "11"}).encode() + b"\n"
    (tmp_path / "b").write_bytes(b"".join(lines))
    (found,) = compare_predictions(tmp_path / "a", tmp_path / "b", network_a="first", network_b="first")
    assert (found.other_crops, found.equal) == (1, True)
    lines[0] = lines[0].replace(b'"pil"', b'"opencv"')
    (tmp_path / "b").write_bytes(b"".join(lines))
    with pytest.raises(UsageError, match="different crops"):
        compare_predictions(tmp_path / "a", tmp_path / "b", network_a="first", network_b="first")


def test_files_that_do_not_belong_together_are_refused(images: ValidationSet, tmp_path: Path) -> None:
    measure(images, PredictionFile(tmp_path / "a"))
    measure(ValidationSet(images.path, images.layout, images.images[:6]), PredictionFile(tmp_path / "b"))
    with pytest.raises(UsageError, match="about different images"):
        compare_predictions(tmp_path / "a", tmp_path / "b")
    with pytest.raises(UsageError, match="which network"):
        compare_predictions(tmp_path / "a", tmp_path / "a")
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "short").write_bytes(b"".join(data.splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match="incomplete"):
        compare_predictions(tmp_path / "short", tmp_path / "short", network_a="first", network_b="first")
    (tmp_path / "cut").write_bytes(data[:-5])
    with pytest.raises(InputError, match="incomplete"):
        compare_predictions(tmp_path / "cut", tmp_path / "cut", network_a="first", network_b="first")


def test_a_run_is_continued_after_images_were_moved_into_class_folders(tmp_path: Path) -> None:
    flat, folders = tmp_path / "flat", tmp_path / "folders"
    for number in range(1, 9):
        label = validation_labels()[number - 1]
        for place in (flat, folders / synsets()[label]):
            place.mkdir(parents=True, exist_ok=True)
            (place / validation_name(number)).write_bytes(synthetic_image(number))
    whole = measure(open_validation_set(folders), PredictionFile(tmp_path / "whole"))
    file = PredictionFile(tmp_path / "moved", resume=True)
    with pytest.raises(KeyboardInterrupt):
        measure(open_validation_set(flat), file, stop_after=4)
    assert measure(open_validation_set(folders), file) == whole
    assert file.path.read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_place_is_refused_before_anything_is_measured(images: ValidationSet, tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    with pytest.raises(OutputExistsError):
        PredictionFile(tmp_path / "kept").require_place()
    PredictionFile(tmp_path / "kept", overwrite=True).require_place()
    PredictionFile(tmp_path / "new" / "kept").require_place()
    for place in (tmp_path, Path(os.devnull)):
        with pytest.raises(AccessError, match="cannot be kept in a folder, a device or a pipe"):
            PredictionFile(place, overwrite=True).require_place()
    with pytest.raises(AccessError, match="cannot be kept"):
        PredictionFile(tmp_path / "kept" / "file").require_place()
