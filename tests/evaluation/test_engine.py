"""Counts of right answers, against a plain loop over single images and against constructed answers."""

import copy
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from msgspec.structs import replace
from PIL import Image

from r2convert.catalog.protocol import ComputePrecision, Protocol
from r2convert.checks.standins import SyntheticSet, synthetic_image, write_synthetic_set
from r2convert.errors import AccessError, CheckpointError, UsageError
from r2convert.evaluation import backends, engine
from r2convert.evaluation.engine import AccuracyProgress
from r2convert.evaluation.precision import computing_in
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import real_labels, synsets, validation_name
from r2convert.imagenet.preprocessing import Crop
from r2convert.imagenet.validation_set import ImageLocation
from r2convert.results.verification import Accuracy

Logits = npt.NDArray[np.float32]

pytestmark = pytest.mark.usefixtures("one_thread")


def measure_accuracy(*arguments: Any, **options: Any) -> dict[str, Accuracy]:
    """What is found, apart from how fast, which differs from run to run."""
    found = engine.measure_accuracy(*arguments, **options)
    return {name: replace(accuracy, speed=None) for name, accuracy in found.items()}


def build_network(seed: int) -> torch.nn.Module:
    """A small network with convolutions and a BatchNorm whose answers differ from picture to picture."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 7, stride=4),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, stride=4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(512, 1000),
    ).eval()


def answer_by_hand(network: torch.nn.Module, file: Path) -> list[int]:
    """Class indices, best first, of one picture: written for this test, sharing nothing with the package."""
    image = Image.open(file).convert("RGB")
    width, height = image.size
    shorter = min(width, height)
    image = image.resize(
        (256 * width // shorter if width > shorter else 256, 256 * height // shorter if height > shorter else 256),
        Image.Resampling.BILINEAR,
    )
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    pixels = torch.tensor(np.array(image))[top : top + 224, left : left + 224].permute(2, 0, 1)[None] / 255
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    with torch.no_grad():
        logits = network((pixels - mean) / deviation)[0].tolist()
    return sorted(range(1000), key=lambda index: -logits[index])


def count_by_hand(network: torch.nn.Module, folder: Path) -> tuple[int, int]:
    answers = [(synsets().index(file.parent.name), answer_by_hand(network, file)) for file in folder.glob("n*/*.JPEG")]
    return sum(label == answer[0] for label, answer in answers), sum(label in answer[:5] for label, answer in answers)


def rank_with(network: torch.nn.Module) -> Callable[[Crop], Logits]:
    def rank(crops: Crop) -> Logits:
        pixels = torch.from_numpy(crops).permute(0, 3, 1, 2) / 255
        mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
        deviation = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
        with torch.no_grad():
            logits: Logits = network((pixels - mean) / deviation).numpy()
        return logits

    return rank


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return build_network(0)


@pytest.fixture(scope="module")
def standin(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> SyntheticSet:
    folder = tmp_path_factory.mktemp("standin")
    return write_synthetic_set(folder, rank_with(network), images=34, top1_correct=20, top5_correct=27)


def test_constructed_counts_are_what_a_plain_loop_finds(network: torch.nn.Module, standin: SyntheticSet) -> None:
    assert count_by_hand(network, standin.folder) == (20, 27)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_no_images_is_wrong_usage(network: torch.nn.Module, standin: SyntheticSet, batch_size: int) -> None:
    with pytest.raises(UsageError, match="at least one image"):
        measure_accuracy({"it": network}, open_validation_set(standin.folder), batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [None, 1, 7, 64])
def test_constructed_counts_are_measured(
    network: torch.nn.Module, standin: SyntheticSet, batch_size: int | None
) -> None:
    images = open_validation_set(standin.folder)
    result = measure_accuracy({"it": network}, images, batch_size=batch_size)["it"]
    assert (result.images, result.top1_correct, result.top5_correct) == (34, 20, 27)
    assert (result.missing, result.unreadable, result.not_a_number, result.problems) == (0, 0, 0, ())
    assert (result.pipeline, result.precision) == ("pil", "strict")


def test_several_networks_in_one_pass_count_as_alone(network: torch.nn.Module, standin: SyntheticSet) -> None:
    images = open_validation_set(standin.folder)
    networks = {"right": network, "other": build_network(1), "third": build_network(2)}
    together = measure_accuracy(networks, images)
    assert list(together) == list(networks)
    for name, one in networks.items():
        assert together[name] == measure_accuracy({name: one}, images)[name]
        assert (together[name].top1_correct, together[name].top5_correct) == count_by_hand(one, standin.folder)
    assert together["other"].crops_sha256 == together["right"].crops_sha256


def test_unreadable_images_are_counted_wrong_and_listed(network: torch.nn.Module, tmp_path: Path) -> None:
    standin = write_synthetic_set(tmp_path, rank_with(network), images=9, top1_correct=9, top5_correct=9)
    whole = measure_accuracy({"it": network}, open_validation_set(tmp_path))["it"]
    damaged = sorted(standin.folder.glob("n*/*.JPEG"))[3]
    damaged.write_bytes(damaged.read_bytes()[:1000])
    result = measure_accuracy({"it": network}, open_validation_set(tmp_path))["it"]
    assert (result.images, result.top1_correct, result.top5_correct, result.unreadable) == (9, 8, 8, 1)
    ((name, reason),) = result.problems
    assert name == f"{damaged.parent.name}/{damaged.name}"
    assert "truncated" in reason.lower()
    assert result.crops_sha256 != whole.crops_sha256


def test_a_network_that_answers_nan_is_never_right(standin: SyntheticSet) -> None:
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images), 1000), torch.nan)

    result = measure_accuracy({"it": Broken()}, open_validation_set(standin.folder))["it"]
    assert (result.top1_correct, result.top5_correct, result.not_a_number) == (0, 0, 34)


def test_a_network_of_another_task_is_refused(standin: SyntheticSet) -> None:
    with pytest.raises(CheckpointError) as caught:
        measure_accuracy({"it": torch.nn.Flatten()}, open_validation_set(standin.folder))
    assert "1,000 logits" in str(caught.value)


def test_progress_counts_up_to_the_whole_set(network: torch.nn.Module, standin: SyntheticSet) -> None:
    seen: list[AccuracyProgress] = []
    measure_accuracy({"it": network}, open_validation_set(standin.folder), batch_size=10, progress=seen.append)
    assert [(step.done, step.total) for step in seen] == [(10, 34), (20, 34), (30, 34), (34, 34)]
    assert seen[-1].top1_correct == {"it": 20}


def test_kept_crops_count_like_fresh_ones(network: torch.nn.Module, standin: SyntheticSet, tmp_path: Path) -> None:
    images = open_validation_set(standin.folder)
    fresh = measure_accuracy({"it": network}, images)
    for _ in range(2):
        assert measure_accuracy({"it": network}, images, crop_cache=tmp_path) == fresh
    assert len(list(tmp_path.iterdir())) == 2


def test_a_measurement_can_be_ended_early(network: torch.nn.Module, standin: SyntheticSet) -> None:
    images = open_validation_set(standin.folder)
    result = measure_accuracy({"it": network}, images, batch_size=10, stop_when=lambda step: step.done >= 20)["it"]
    whole = measure_accuracy({"it": network}, dataclasses.replace(images, images=images.images[:20]))["it"]
    assert result == whole
    assert result.images == 20


def test_scores_by_class_add_up(network: torch.nn.Module, standin: SyntheticSet) -> None:
    result = measure_accuracy({"it": network}, open_validation_set(standin.folder))["it"]
    folders = {folder.name: len(list(folder.iterdir())) for folder in standin.folder.iterdir()}
    assert {synset: images for synset, (images, _) in result.per_class.items()} == folders
    assert sum(right for _, right in result.per_class.values()) == 20
    assert (result.real_images, result.real_top1_correct, result.real_top5_correct) == (0, 0, 0)


def test_real_labels_are_scored_where_files_have_official_names(network: torch.nn.Module, tmp_path: Path) -> None:
    labels = real_labels()
    answers: dict[int, int] = {}
    for number in range(1, 30):
        file = tmp_path / validation_name(number)
        file.write_bytes(synthetic_image(number))
        answer = answer_by_hand(network, file)[0]
        if answer in answers.values():
            file.unlink()  # two pictures with one answer could not be told apart below
        else:
            answers[number] = answer
    with_labels = [number for number in answers if labels[number - 1]]
    assert 4 < len(with_labels) < len(answers)
    wrong = [i for i in range(1000) if all(i not in labels[n - 1] for n in with_labels)][:5]

    class Oracle(torch.nn.Module):
        """Of the images with ReaL labels it gets two right first, one fifth, one sixth, and the others not at all."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found = network(images)
            logits = torch.zeros_like(found)
            for row, answer in enumerate(found.argmax(1).tolist()):
                ranked = list(wrong)
                for place, number in zip((0, 0, 4, 5), with_labels[:4], strict=True):
                    if answers[number] == answer:
                        ranked.insert(place, min(labels[number - 1]))
                logits[row, ranked] = torch.arange(len(ranked), 0, -1, dtype=logits.dtype)
            return logits

    result = measure_accuracy({"it": Oracle()}, open_validation_set(tmp_path))["it"]
    assert (result.images, result.real_images) == (len(answers), len(with_labels))
    assert (result.real_top1_correct, result.real_top5_correct) == (2, 3)


def test_memory_that_runs_out_halves_what_runs_at_once(network: torch.nn.Module, standin: SyntheticSet) -> None:
    sizes: list[int] = []

    class Hungry(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            if len(images) > 3:
                raise torch.OutOfMemoryError("no memory")
            answer: torch.Tensor = network(images)
            return answer

    result = measure_accuracy({"it": Hungry()}, open_validation_set(standin.folder), batch_size=10)["it"]
    assert (result.images, result.top1_correct, result.top5_correct) == (34, 20, 27)
    assert sizes[:4] == [1, 10, 5, 3]  # one image, to see whether the network is fit at all
    assert set(sizes[4:]) == {3}


def test_a_device_too_small_for_one_image_is_named(standin: SyntheticSet) -> None:
    class Hungry(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("no memory\nand details")

    with pytest.raises(AccessError, match="no memory for a single image"):
        measure_accuracy({"it": Hungry()}, open_validation_set(standin.folder))


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        lambda: RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"),
        lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        lambda: RuntimeError("GET was unable to find an engine to execute this computation"),
        lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
@pytest.mark.parametrize("where", ["normalise", "network", "rank"])
def test_memory_that_runs_out_anywhere_loses_no_image(
    network: torch.nn.Module,
    standin: SyntheticSet,
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[], RuntimeError],
    where: str,
) -> None:
    calls: list[int] = []

    def failing(whole: Callable[..., Any]) -> Callable[..., Any]:
        def run(images: torch.Tensor, *rest: Any) -> Any:
            calls.append(len(images))
            if len(calls) in (2, 4, 9):
                raise error()
            return whole(images, *rest)

        return run

    if where == "network":
        monkeypatch.setattr(network, "forward", failing(network.forward))
    else:
        name = {"normalise": "_normalise", "rank": "rank_logits"}[where]
        monkeypatch.setattr(backends, name, failing(getattr(backends, name)))
    result = engine.measure_accuracy({"it": network}, open_validation_set(standin.folder), batch_size=12)["it"]
    assert (result.images, result.top1_correct, result.top5_correct) == (34, 20, 27)
    assert result.speed is not None
    assert result.speed.batch_size < 12


def test_another_failure_is_not_taken_for_a_lack_of_memory(standin: SyntheticSet) -> None:
    sizes: list[int] = []

    class Failing(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            if len(sizes) > 1:
                raise RuntimeError("shapes do not fit")
            return torch.zeros(len(images), 1000)

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        measure_accuracy({"it": Failing()}, open_validation_set(standin.folder), batch_size=8)
    assert sizes[:2] == [1, 8]


def test_a_network_in_double_precision_runs_in_float32(network: torch.nn.Module, standin: SyntheticSet) -> None:
    double = copy.deepcopy(network).double()
    result = measure_accuracy({"it": double}, open_validation_set(standin.folder))["it"]
    assert (result.top1_correct, result.top5_correct) == (20, 27)


def test_a_network_of_other_channels_is_refused_before_any_network_has_run(
    network: torch.nn.Module, standin: SyntheticSet
) -> None:
    grey = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    batches: list[object] = []
    with pytest.raises(CheckpointError, match="cannot be shown RGB images") as caught:
        measure_accuracy({"it": network, "grey": grey}, open_validation_set(standin.folder), progress=batches.append)
    assert batches == []
    assert caught.value.where == "grey"
    assert "1 channels" in str(caught.value.got) or "channels" in str(caught.value.got)


def test_a_run_tells_how_fast_it_was(network: torch.nn.Module, standin: SyntheticSet) -> None:
    images = open_validation_set(standin.folder)
    for precision in ("strict", "fast"):
        speed = engine.measure_accuracy({"it": network}, images, batch_size=10, precision=precision)["it"].speed
        assert speed is not None
        assert (speed.images, speed.batch_size) == (34, 10)
        assert 0 < speed.busy <= 1
        assert 0 < speed.batch_milliseconds < 1000 * speed.seconds
        assert speed.images_per_second == 34 / speed.seconds
        assert speed.peak_bytes > 10 * 2**20


def test_images_are_decoded_once_whatever_memory_there_is(
    network: torch.nn.Module, standin: SyntheticSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_validation_set(standin.folder)
    networks = {"right": network, "other": build_network(1)}
    expected = measure_accuracy(networks, images)
    read: list[ImageLocation] = []
    whole = ImageLocation.read

    def counting(location: ImageLocation) -> bytes:
        read.append(location)
        return whole(location)

    def little_memory(count: int, side: int, device: torch.device) -> torch.Tensor:
        return torch.empty((min(count, 13), side, side, 3), dtype=torch.uint8)

    monkeypatch.setattr(ImageLocation, "read", counting)
    monkeypatch.setattr(engine, "memory_for", little_memory)
    assert measure_accuracy(networks, images, batch_size=5) == expected
    assert len(read) == len(set(read)) == 34
    fast = measure_accuracy(networks, images, batch_size=5, precision="fast")
    assert all(fast[name].top5_correct == expected[name].top5_correct for name in networks)
    assert len(read) == 2 * 34


def test_each_network_ends_by_itself(network: torch.nn.Module, standin: SyntheticSet) -> None:
    images = open_validation_set(standin.folder)
    networks = {"stopped": build_network(1), "whole": network}
    found = measure_accuracy(
        networks, images, batch_size=10, stop_when=lambda step: step.network == "stopped" and step.done >= 20
    )
    assert {name: accuracy.images for name, accuracy in found.items()} == {"stopped": 20, "whole": 34}


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_older_and_newer_settings_of_torch_can_be_read_inside(precision: str) -> None:
    newer: Any = torch.backends.cudnn
    found = newer.conv.fp32_precision
    try:
        newer.conv.fp32_precision = precision
        with computing_in("strict", torch.device("cpu")):
            assert torch.backends.cudnn.allow_tf32 is False
            assert torch.get_float32_matmul_precision() == "highest"
            assert torch.backends.cuda.matmul.allow_tf32 is False
        assert newer.conv.fp32_precision == precision
    finally:
        newer.conv.fp32_precision = found


@pytest.mark.parametrize("asked", ["tf32", "bf16"])
def test_what_all_of_torch_is_set_to_changes_no_strict_convolution(asked: str) -> None:
    backends: Any = torch.backends
    convolutions = (backends.cudnn.conv, backends.mkldnn.conv)
    convolution, images = torch.nn.Conv2d(64, 64, 3), torch.randn(2, 64, 32, 32)
    with computing_in("strict", torch.device("cpu")), torch.inference_mode():
        expected = convolution(images)
    found = backends.fp32_precision, [each.fp32_precision for each in convolutions]
    try:
        backends.fp32_precision = asked
        for each in convolutions:
            each.fp32_precision = "none"
        with computing_in("strict", torch.device("cpu")), torch.inference_mode():
            assert [each.fp32_precision for each in convolutions] == ["ieee", "ieee"]
            assert torch.backends.cudnn.allow_tf32 is False
            assert torch.equal(convolution(images), expected)
        assert backends.fp32_precision == asked
    finally:
        backends.fp32_precision, _ = found
        for each, precision in zip(convolutions, found[1], strict=True):
            each.fp32_precision = precision


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_are_rounded_once_and_not_for_every_batch(standin: SyntheticSet, precision: ComputePrecision) -> None:
    pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 1000, bias=False))
    with torch.profiler.profile(record_shapes=True) as profiler:
        measure_accuracy({"it": pool}, open_validation_set(standin.folder), precision=precision, batch_size=2)
    events: Any = profiler.events()
    copied = [event.input_shapes[0] for event in events if event.name == "aten::_to_copy"]
    assert copied.count([1000, 3]) == 1


def test_settings_of_torch_are_left_as_they_were(network: torch.nn.Module, standin: SyntheticSet) -> None:
    inside: list[str] = []

    class Watching(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            inside.append(torch.backends.cuda.matmul.fp32_precision)
            return torch.zeros(len(images), 1000)

    before = torch.backends.cuda.matmul.fp32_precision
    network.train()
    measure_accuracy({"watching": Watching(), "it": network}, open_validation_set(standin.folder))
    assert set(inside) == {"ieee"}
    assert torch.backends.cuda.matmul.fp32_precision == before
    assert not network.training


def test_standin_sets_are_the_same_every_time(network: torch.nn.Module, standin: SyntheticSet, tmp_path: Path) -> None:
    again = write_synthetic_set(tmp_path, rank_with(network), images=34, top1_correct=20, top5_correct=27)
    files = {file.relative_to(again.folder): file.read_bytes() for file in again.folder.glob("n*/*")}
    assert files == {file.relative_to(standin.folder): file.read_bytes() for file in standin.folder.glob("n*/*")}
    formats = {Image.open(io.BytesIO(data)).format for data in files.values()}
    modes = {Image.open(io.BytesIO(data)).mode for data in files.values()}
    assert formats == {"JPEG", "PNG"}
    assert modes == {"RGB", "L", "CMYK"}


def test_counts_that_cannot_all_be_true_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot all be true"):
        write_synthetic_set(
            tmp_path, lambda crops: np.zeros((len(crops), 1000)), images=4, top1_correct=3, top5_correct=2
        )


def test_a_network_that_cannot_tell_classes_apart_gives_no_standin(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too close together"):
        write_synthetic_set(
            tmp_path, lambda crops: np.zeros((len(crops), 1000)), images=4, top1_correct=2, top5_correct=2
        )
    assert not list(tmp_path.iterdir())


def test_a_classifier_of_own_classes_is_measured_on_them(tmp_path: Path) -> None:
    names = ("ant", "bee", "cat")
    for number in range(12):
        file = tmp_path / names[number % 3] / f"{number}.JPEG"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(synthetic_image(number))
    images = open_validation_set(tmp_path)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 3, bias=False))
    result = measure_accuracy({"it": network}, images)["it"]
    assert (result.images, result.top5_correct) == (12, 12)
    assert set(result.per_class) == set(names)
    assert sum(right for _, right in result.per_class.values()) == result.top1_correct
    assert sum(confusion.count for confusion in result.confusions) == 12 - result.top1_correct
    with pytest.raises(CheckpointError, match="does not fit the classes") as caught:
        measure_accuracy({"it": build_network(0)}, images)
    assert caught.value.expected == "3 logits per image"

    class InADictionary(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": images.mean((2, 3))}

    with pytest.raises(CheckpointError, match="does not fit the classes") as caught:
        measure_accuracy({"it": InADictionary()}, images)
    assert caught.value.got == "a dict for 1 image"
    assert "returns the logits alone" in str(caught.value.next_step)


def test_only_the_classes_of_a_subset_are_ranked(network: torch.nn.Module, standin: SyntheticSet) -> None:
    images = open_validation_set(standin.folder)
    subset = tuple(sorted({image.label for image in images.images}))
    whole = measure_accuracy({"it": network}, images)["it"]
    part = measure_accuracy({"it": network}, dataclasses.replace(images, ranked=subset))["it"]
    assert part.top1_correct > whole.top1_correct
    assert {synsets().index(confusion.predicted) for confusion in part.confusions} <= set(subset)


def test_the_protocol_is_used_and_told(standin: SyntheticSet) -> None:
    shapes: list[tuple[int, ...]] = []
    means: list[float] = []

    class Watching(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(images.shape[1:]))
            means.append(float(images.mean()))
            return torch.zeros(len(images), 1000)

    images = open_validation_set(standin.folder)
    protocol = Protocol(96, 64, "bicubic", mean=(0, 0, 0), std=(1, 1, 1))
    result = measure_accuracy({"it": Watching()}, images, protocol=protocol)["it"]
    assert set(shapes) == {(3, 64, 64)}
    assert all(0 <= mean <= 1 for mean in means)
    used = result.protocol
    assert used is not None
    assert (used.resize, used.crop, used.interpolation, used.mean, used.std) == (
        96,
        64,
        "bicubic",
        (0, 0, 0),
        (1, 1, 1),
    )
    with pytest.raises(UsageError, match="cropped like this"):
        Protocol(64, 96)
