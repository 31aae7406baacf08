"""Networks on a device: how they are run, made faster and ranked, and what results say of that."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r2convert.catalog import Catalog
from r2convert.catalog.protocol import Acceleration, Precision
from r2convert.checks.standins import synthetic_image
from r2convert.errors import UsageError
from r2convert.evaluation.backends import rank_logits
from r2convert.evaluation.engine import measure_accuracy
from r2convert.evaluation.precision import accelerated, fold_batch_norms, prepacked
from r2convert.evaluation.prediction_store import PredictionFile, read_measurement
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import synsets
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.models.build import build_network

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


class Small(torch.nn.Module):
    """A convolution that is followed by its BatchNorm, and one that two layers read."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = torch.nn.Conv2d(3, 12, 7, stride=6)
        self.norm = torch.nn.BatchNorm2d(12)
        self.shared = torch.nn.Conv2d(12, 12, 3, stride=3)
        self.shared_norm = torch.nn.BatchNorm2d(12)
        self.head = torch.nn.Linear(12 * 16, 1000)
        for norm in (self.norm, self.shared_norm):
            norm.load_state_dict({"running_mean": torch.randn(12), "running_var": 0.5 + torch.rand(12)}, strict=False)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        shared = self.shared(torch.relu(self.norm(self.conv(images))))
        pooled = torch.nn.functional.adaptive_avg_pool2d(self.shared_norm(shared) + shared, 4)
        logits: torch.Tensor = self.head(pooled.flatten(1))
        return logits


def norms(network: torch.nn.Module) -> int:
    return sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ValidationSet:
    folder = tmp_path_factory.mktemp("images")
    for number in range(24):
        file = folder / synsets()[number] / f"{number}.JPEG"
        file.parent.mkdir()
        file.write_bytes(synthetic_image(number))
    return open_validation_set(folder)


@pytest.mark.parametrize("name", ["res2net50_w14_s8", "res2net50_v1b_w26_s4", "res2next_dla60_w4_s4_c8"])
def test_every_batch_norm_of_a_reference_network_is_folded(catalog: Catalog, name: str) -> None:
    torch.manual_seed(0)
    network = build_network(catalog.variants[name]).eval()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    folded = accelerated(network, ["fold-bn"], CPU)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(images), network(images), rtol=1e-3, atol=1e-4)
    assert norms(network) > 50
    assert norms(folded) == 0
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", ["res2net50_w14_s8", "res2next50_w4_s4_c8"])
def test_packed_weights_change_nothing_but_roundings(catalog: Catalog, name: str) -> None:
    torch.manual_seed(0)
    network = build_network(catalog.variants[name]).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    packed = prepacked(network)
    assert packed is not network
    for size in (3, 2):
        images = torch.randn(size, 3, 96, 96).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            torch.testing.assert_close(packed(images), network(images), rtol=1e-4, atol=1e-5)
    own = {tensor.data_ptr() for tensor in network.state_dict().values()}
    assert {tensor.data_ptr() for tensor in packed.state_dict().values()} == own


def test_a_packed_network_may_look_at_the_weights_of_its_layers() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 3, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            again = torch.nn.functional.conv2d(images, self.convolution.weight)
            result: torch.Tensor = self.convolution(images) + again
            return result

    network, images = Tied().eval(), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(prepacked(network)(images), network(images))


def test_a_convolution_that_others_read_keeps_its_batch_norm() -> None:
    network = Small()
    folded = accelerated(network, ["fold-bn"], CPU)
    assert (norms(network), norms(folded)) == (2, 1)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(images), network(images), rtol=1e-4, atol=1e-5)


def test_a_network_that_looks_at_its_input_cannot_be_folded() -> None:
    class Choosy(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images

    with pytest.raises(UsageError, match="cannot be folded"):
        fold_batch_norms(Choosy())


def test_nothing_asked_for_is_the_network_itself() -> None:
    network = Small()
    assert accelerated(network, (), CPU) is network


@pytest.mark.parametrize("accelerations", [("fold-bn",), ("channels-last", "compile"), ("fold-bn", "compile")])
def test_what_accelerations_change_is_counted(
    images: ValidationSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, accelerations: tuple[Acceleration, ...]
) -> None:
    # Without a C++ compiler the network is still captured as a whole; only the last step is left out.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    strict = measure_accuracy({"it": Small()}, images)["it"]
    file = PredictionFile(tmp_path / "kept")
    result = measure_accuracy({"it": Small()}, images, precision="fp32", accelerations=accelerations, predictions=file)[
        "it"
    ]
    assert result.accelerations == read_measurement(file.path).accelerations == accelerations
    assert result.audit is not None
    assert (result.audit.images, result.audit.first_precision) == (24, "fp32")
    assert result.audit.changed_top1 == 0
    assert result.audit.largest_drift < 1e-4
    assert result.top5_correct == strict.top5_correct
    fast = measure_accuracy({"it": Small()}, images, precision="fast", accelerations=accelerations)["it"]
    assert (fast.top1_correct, fast.top5_correct) == (strict.top1_correct, strict.top5_correct)
    assert strict.accelerations == ()


def test_every_one_of_many_networks_is_compiled(images: ValidationSet, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=count))
    networks = {str(seed): Small(seed) for seed in range(10)}
    measure_accuracy(networks, images, precision="fp32", accelerations=["compile"])
    assert len(compiled) == 10


def test_a_machine_that_cannot_compile_says_so(images: ValidationSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(network: torch.nn.Module, **_: object) -> torch.nn.Module:
        def run(_: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("No working C++ compiler found\nand details")

        return run  # type: ignore[return-value]

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(UsageError, match="cannot be compiled") as caught:
        measure_accuracy({"it": Small()}, images, precision="fp32", accelerations=["compile"])
    assert caught.value.got == "No working C++ compiler found"


@pytest.mark.parametrize("acceleration", ["channels-last", "fold-bn", "compile"])
def test_strict_takes_no_shortcut(images: ValidationSet, acceleration: Acceleration) -> None:
    with pytest.raises(UsageError, match="takes no shortcut"):
        measure_accuracy({"it": Small()}, images, accelerations=[acceleration])


def test_float32_without_shortcuts_is_strict(images: ValidationSet) -> None:
    found = {}
    precisions: tuple[Precision, ...] = ("strict", "fp32")
    for precision in precisions:
        found[precision] = measure_accuracy({"it": Small()}, images, precision=precision)["it"]
    audit = found["fp32"].audit
    assert audit is not None
    assert audit.largest_drift == 0
    assert found["fp32"].top5_correct == found["strict"].top5_correct


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(-3, 3), min_size=8, max_size=8), min_size=1, max_size=5), label=st.integers(0, 7)
)
def test_ranks_are_those_of_a_sort_by_logit_then_class_index(rows: list[list[int]], label: int) -> None:
    logits = torch.tensor(rows, dtype=torch.float32)
    ranking = rank_logits(logits, torch.full((len(rows),), label))
    for row, values in enumerate(rows):
        expected = sorted(range(8), key=lambda index, values=values: (-values[index], index))  # type: ignore[misc]
        assert ranking.top[row].tolist() == expected[:5]
        assert ranking.rank[row] == expected.index(label)
        ordered = sorted(values, reverse=True)
        cut = ordered[5] if label in expected[:5] else ordered[4]
        assert ranking.margins[row].tolist() == [ordered[0] - ordered[1], values[label] - cut]


def test_a_row_with_a_nan_ranks_nothing() -> None:
    logits = torch.arange(20, dtype=torch.float32).repeat(3, 1)
    logits[1, 4] = torch.nan
    logits[2] = torch.nan
    ranking = rank_logits(logits, torch.tensor([19, 19, 19]))
    assert ranking.rank.tolist() == [0, 20, 20]
    assert ranking.top.tolist() == [[19, 18, 17, 16, 15], [-1] * 5, [-1] * 5]
    assert np.isnan(ranking.margins[1:].numpy()).all()


def test_infinite_logits_are_ranked_by_size() -> None:
    logits = torch.tensor([[0.0, torch.inf, -torch.inf, 1, 2, 3, 4]])
    assert rank_logits(logits, torch.tensor([1])).rank.tolist() == [0]
    assert rank_logits(logits, torch.tensor([2])).rank.tolist() == [6]


def test_no_images_give_an_empty_ranking() -> None:
    ranking = rank_logits(torch.empty((0, 10)), torch.empty(0, dtype=torch.int64))
    assert (ranking.top.shape, ranking.rank.shape, ranking.margins.shape) == ((0, 5), (0,), (0, 2))


def test_memory_that_runs_out_is_not_taken_for_a_missing_compiler(
    images: ValidationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, sizes = Small(), list[int]()

    def compile_hungry(network: torch.nn.Module, **_: object) -> Callable[[torch.Tensor], torch.Tensor]:
        def run(images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            if len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            logits: torch.Tensor = network(images)
            return logits

        return run

    expected = measure_accuracy({"it": network}, images)["it"]
    monkeypatch.setattr(torch, "compile", compile_hungry)
    found = measure_accuracy({"it": network}, images, precision="fast", accelerations=["compile"], batch_size=8)["it"]
    assert found.top5_correct == expected.top5_correct
    assert sizes[:3] == [8, 4, 2]


@pytest.mark.parametrize("classes", [1, 2, 5, 6, 7])
def test_few_classes_are_ranked(classes: int) -> None:
    logits = torch.randn(50, classes, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % classes
    ranking = rank_logits(logits, labels)
    for row in range(50):
        order = sorted(range(classes), key=lambda index: (-float(logits[row, index]), index))
        assert ranking.top[row].tolist() == (order + 5 * [-1])[:5]
        assert ranking.rank[row] == order.index(int(labels[row]))
    assert not ranking.margins.isnan().any()


def test_classes_that_do_not_count_are_never_ranked_before_others() -> None:
    logits = torch.tensor([[9.0, 1, 5, 8, 3, 2, 4, 0]])
    ignored = torch.tensor([True, False, False, True, False, False, False, False])
    ranking = rank_logits(logits, torch.tensor([2]), ignored)
    assert ranking.top.tolist() == [[2, 6, 4, 5, 1]]
    assert ranking.rank.tolist() == [0]
    assert ranking.margins[0, 0] == 1
    assert rank_logits(torch.tensor([[torch.nan, 1, 2, 3, 4, 5, 6, 7]]), torch.tensor([2]), ignored).top[0, 0] == -1
