"""A faster first pass gives strict's counts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r2convert.catalog.protocol import Precision
from r2convert.checks.standins import synthetic_image
from r2convert.errors import UsageError
from r2convert.evaluation.backends import rank_logits
from r2convert.evaluation.engine import measure_accuracy
from r2convert.evaluation.prediction_comparison import compare_predictions
from r2convert.evaluation.prediction_store import PredictionFile
from r2convert.evaluation.predictions import NetworkPredictions, Places
from r2convert.evaluation.recheck import audit_precision, recheck
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import synsets
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.results.verification import PrecisionAudit

COUNT = 3000

pytestmark = pytest.mark.usefixtures("one_thread")


class Imagined:
    """A network whose logits are drawn, exact in strict and shaken in any other precision."""

    def __init__(self, seed: int, shake: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.strict = torch.randn(COUNT, 40, generator=generator)
        self.shaken = self.strict + shake * (torch.rand(COUNT, 40, generator=generator) - 0.5)
        self.with_crop = np.array([row for row in range(COUNT) if row % 100], np.intp)
        self.ids = [f"{row}.JPEG" for row in range(COUNT)]
        self.shown_again = 0

    def show(self, logits: torch.Tensor, places: Places) -> NetworkPredictions:
        found = NetworkPredictions.unknown(COUNT, 40)
        ranking = rank_logits(logits[torch.from_numpy(places)], torch.from_numpy(places) % 40)
        found.done[places] = True
        found.top[places], found.rank[places] = ranking.top.numpy(), ranking.rank.numpy()
        found.margins[places] = ranking.margins.numpy()
        return found

    def fast(self) -> NetworkPredictions:
        return self.show(self.shaken, self.with_crop)

    def show_strict(self, places: Places) -> NetworkPredictions:
        self.shown_again += len(places)
        return self.show(self.strict, places)

    def recheck(self) -> tuple[NetworkPredictions, PrecisionAudit]:
        found = self.fast()
        return found, recheck(found, self.with_crop, self.ids, self.show_strict, "bf16")


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), shake=st.sampled_from([0.0, 1e-3, 0.02, 0.1]))
def test_rechecked_predictions_are_those_of_strict(seed: int, shake: float) -> None:
    imagined = Imagined(seed, shake)
    found, audit = imagined.recheck()
    assert audit.images == imagined.shown_again
    assert audit.largest_drift <= shake + 1e-6
    assert audit.bound == 2 * audit.largest_drift
    strict = imagined.show_strict(imagined.with_crop)
    assert np.array_equal(found.top[:, 0], strict.top[:, 0])
    assert np.array_equal(found.rank < 5, strict.rank < 5)
    if shake <= 1e-3:
        assert audit.images < 0.15 * COUNT


def test_without_a_recheck_predictions_do_change_and_the_sample_tells() -> None:
    imagined = Imagined(0, 0.1)
    found = imagined.fast()
    audit = audit_precision(found, imagined.with_crop, imagined.ids, imagined.show_strict, "bf16")
    strict = imagined.show_strict(imagined.with_crop)
    changed = np.count_nonzero(found.top[:, 0] != strict.top[:, 0])
    assert changed > 0
    assert audit.images == 256
    assert 0 < audit.changed_top1 / 256 < 5 * changed / COUNT
    assert audit.bound is None


def test_predictions_of_nan_are_rechecked() -> None:
    imagined = Imagined(0, 1e-3)
    imagined.shaken[1:2000:7] = torch.nan
    found, _ = imagined.recheck()
    strict = imagined.show_strict(imagined.with_crop)
    assert np.array_equal(found.top[:, 0], strict.top[:, 0])


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
    # The two measurements differ in precision only, so they can be compared.
    (comparison,) = compare_predictions(tmp_path / "strict", tmp_path / "bf16")
    assert (audit.images, audit.changed_top1) == (40, comparison.changed_top1)
    assert audit.largest_drift > 1e-4
    (same,) = compare_predictions(tmp_path / "strict", tmp_path / "fast")
    assert same.changed_top1 == 0
    for name in ("top1_correct", "top5_correct", "crops_sha256", "per_class"):
        assert getattr(results["fast"], name) == getattr(results["strict"], name)


def test_a_complete_file_of_another_precision_is_not_measured_again(images: ValidationSet, tmp_path: Path) -> None:
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
