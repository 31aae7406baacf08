"""A faster first pass gives strict's counts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r2convert.checks.standins import synthetic_image
from r2convert.errors import UsageError
from r2convert.evaluation.backends import Precision, rank_logits
from r2convert.evaluation.engine import measure_accuracy
from r2convert.evaluation.prediction_comparison import compare_predictions
from r2convert.evaluation.prediction_store import PredictionFile
from r2convert.evaluation.predictions import Predictions
from r2convert.evaluation.recheck import answer_and_audit, answer_and_settle
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import synsets
from r2convert.imagenet.validation_set import ImageLocation, LoadedImage, ValidationImage, ValidationSet

COUNT = 3000

pytestmark = pytest.mark.usefixtures("one_thread")


class Imagined:
    """Two networks whose logits are drawn, exact in strict and shaken in any other precision."""

    def __init__(self, seed: int, shake: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.images = [ValidationImage(f"{row}", row % 40, ImageLocation(Path())) for row in range(COUNT)]
        self.strict = {name: torch.randn(COUNT, 40, generator=generator) for name in ("one", "two")}
        self.shaken = {
            name: logits + shake * (torch.rand(COUNT, 40, generator=generator) - 0.5)
            for name, logits in self.strict.items()
        }
        self.unreadable = set(range(0, COUNT, 100))
        self.shown_again = 0

    def __call__(self, images: Sequence[ValidationImage], precision: str) -> Predictions:
        rows = [int(image.id) for image in images]
        self.shown_again += len(rows) if precision == "strict" else 0
        answered = Predictions(images, self.strict)
        readable = [row for row in rows if row not in self.unreadable]
        source = self.strict if precision == "strict" else self.shaken
        labels = torch.tensor([row % 40 for row in readable], dtype=torch.int64)
        rankings = {name: rank_logits(logits[readable], labels) for name, logits in source.items()}
        loaded = [
            LoadedImage(image, b"", "unreadable" if row in self.unreadable else None)
            for row, image in zip(rows, images, strict=True)
        ]
        answered.add(loaded, rankings)
        return answered


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), shake=st.sampled_from([0.0, 1e-3, 0.02, 0.1]))
def test_settled_answers_are_those_of_strict(seed: int, shake: float) -> None:
    imagined = Imagined(seed, shake)
    settled, audits = answer_and_settle(imagined, imagined.images, "bf16")
    shown_again = imagined.shown_again
    strict = imagined(imagined.images, "strict")
    for name, answers in settled.answers.items():
        assert np.array_equal(answers.top[:, 0], strict.answers[name].top[:, 0])
        assert np.array_equal(answers.rank < 5, strict.answers[name].rank < 5)
        assert audits[name].images == shown_again
        assert audits[name].largest_drift <= shake + 1e-6
        assert audits[name].bound == 2 * audits[name].largest_drift
    if shake <= 1e-3:
        assert shown_again < 0.15 * COUNT


def test_without_settling_answers_do_change_and_the_sample_tells() -> None:
    imagined = Imagined(0, 0.1)
    first, audits = answer_and_audit(imagined, imagined.images, "bf16")
    strict = imagined(imagined.images, "strict")
    changed = np.count_nonzero(first.answers["one"].top[:, 0] != strict.answers["one"].top[:, 0])
    assert changed > 0
    assert audits["one"].images == 256
    assert 0 < audits["one"].changed_top1 / 256 < 5 * changed / COUNT
    assert audits["one"].bound is None


def test_answers_of_nan_are_asked_again() -> None:
    imagined = Imagined(0, 1e-3)
    imagined.shaken["one"][1:2000:7] = torch.nan
    settled, _ = answer_and_settle(imagined, imagined.images, "fp16")
    strict = imagined(imagined.images, "strict")
    assert np.array_equal(settled.answers["one"].top[:, 0], strict.answers["one"].top[:, 0])


class ByColour(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(108, 1000, bias=False)
        torch.nn.init.normal_(self.linear.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(torch.nn.functional.adaptive_avg_pool2d(images, 6).flatten(1))
        return logits


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ValidationSet:
    folder = tmp_path_factory.mktemp("images")
    for number in range(40):
        file = folder / synsets()[number] / f"{number}.JPEG"
        file.parent.mkdir()
        file.write_bytes(synthetic_image(number))
    return open_validation_set(folder)


def test_fast_counts_as_strict_and_bf16_says_what_it_changed(images: ValidationSet, tmp_path: Path) -> None:
    results = {}
    precisions: tuple[Precision, ...] = ("strict", "bf16", "fast")
    for precision in precisions:
        file = PredictionFile(tmp_path / precision)
        results[precision] = measure_accuracy(
            {"it": ByColour()},
            images,
            precision=precision,
            predictions=file,
        )["it"]
        assert results[precision].precision == precision
    assert results["strict"].audit is None
    audit = results["bf16"].audit
    assert audit is not None
    # The files' questions differ in precision only, so they can be compared.
    comparison = compare_predictions(tmp_path / "strict", tmp_path / "bf16")
    assert (audit.images, audit.changed_top1) == (40, comparison.changed_top1)
    assert audit.largest_drift > 1e-4
    assert compare_predictions(tmp_path / "strict", tmp_path / "fast").changed_top1 == 0
    for name in ("top1_correct", "top5_correct", "crops_sha256", "per_class"):
        assert getattr(results["fast"], name) == getattr(results["strict"], name)


def test_a_complete_file_of_another_precision_is_not_asked_again(images: ValidationSet, tmp_path: Path) -> None:
    file = PredictionFile(tmp_path / "file", resume=True)
    first = measure_accuracy({"it": ByColour()}, images, precision="bf16", predictions=file)["it"]
    again = measure_accuracy({"it": ByColour()}, images, precision="bf16", predictions=file)["it"]
    assert (again.top1_correct, again.crops_sha256) == (first.top1_correct, first.crops_sha256)


def test_tf32_is_refused_where_it_does_not_exist(images: ValidationSet) -> None:
    with pytest.raises(UsageError, match="CUDA devices only"):
        measure_accuracy({"it": ByColour()}, images, precision="tf32")


def test_only_strict_runs_end_early(images: ValidationSet) -> None:
    with pytest.raises(UsageError, match="ended early"):
        measure_accuracy({"it": ByColour()}, images, precision="bf16", stop_when=lambda step: True)
