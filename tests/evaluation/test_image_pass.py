"""A pass as a GPU runs it: resized on the device, one batch asked ahead, memory that runs out in between."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from r2convert.checks.standins import synthetic_image
from r2convert.errors import AccessError
from r2convert.evaluation.backends import Inference
from r2convert.evaluation.engine import AccuracyProgress, ImagePass
from r2convert.evaluation.predictions import Predictions
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import synsets
from r2convert.imagenet.loader import DeviceCrops, HostCrops, reader
from r2convert.imagenet.preprocessing import crop_image, pixel_function
from r2convert.imagenet.validation_set import ValidationSet

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


class ByColour(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(12, 1000, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1) @ self.weight


class Failing(ByColour):
    """Runs out of memory at some of its calls, in the words of one kind of device."""

    def __init__(self, error: Callable[[], RuntimeError], calls: set[int]) -> None:
        super().__init__()
        self.error, self.calls, self.sizes = error, calls, list[int]()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        if len(self.sizes) in self.calls:
            raise self.error()
        return super().forward(images)


class OneAhead(Inference):
    """Asks about the next batch before it reads the last one's answers, as on a GPU."""

    @property
    def batches_ahead(self) -> int:
        return 1


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ValidationSet:
    folder = tmp_path_factory.mktemp("images")
    for number in range(21):
        file = folder / synsets()[number] / f"{number}.JPEG"
        file.parent.mkdir()
        file.write_bytes(synthetic_image(number) if number != 6 else b"damaged")
    return open_validation_set(folder)


@pytest.fixture(scope="module")
def expected(images: ValidationSet) -> Predictions:
    inference = Inference({"it": ByColour()}, CPU, 8)
    return ImagePass(inference, HostCrops(reader(crop_image), CPU, 2)).answer(images.images, "strict")


def require_equal(found: Predictions, expected: Predictions) -> None:
    assert found.loaded == expected.loaded
    for name, answers in expected.answers.items():
        assert np.array_equal(found.answers[name].top, answers.top)
        assert np.array_equal(found.answers[name].rank, answers.rank)
        np.testing.assert_allclose(found.answers[name].margins, answers.margins, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 5, 8, 64])
def test_a_batch_asked_ahead_changes_nothing(images: ValidationSet, expected: Predictions, batch_size: int) -> None:
    steps: list[AccuracyProgress] = []
    written: list[int] = []
    inference = OneAhead({"it": ByColour()}, CPU, batch_size)
    image_pass = ImagePass(inference, DeviceCrops(pixel_function(), CPU, 2), steps.append)
    found = image_pass.answer(images.images, "strict", lambda answered: written.append(answered.done))
    require_equal(found, expected)
    assert written == [step.done for step in steps] == [*range(batch_size, 21, batch_size), 21]


def test_a_pass_that_is_ended_has_whole_batches(images: ValidationSet, expected: Predictions) -> None:
    inference = OneAhead({"it": ByColour()}, CPU, 5)
    image_pass = ImagePass(inference, DeviceCrops(pixel_function(), CPU, 2), stop_when=lambda step: step.done >= 10)
    found = image_pass.answer(images.images, "strict")
    assert found.loaded == expected.loaded[:10]


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        lambda: RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"),
        lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_that_runs_out_loses_no_image(
    images: ValidationSet, expected: Predictions, error: Callable[[], RuntimeError]
) -> None:
    network = Failing(error, calls={1, 3, 6})
    inference = OneAhead({"first": ByColour(), "it": network}, CPU, 8)
    found = ImagePass(inference, DeviceCrops(pixel_function(), CPU, 2)).answer(images.images, "strict")
    assert found.loaded == expected.loaded
    for name in ("first", "it"):
        assert np.array_equal(found.answers[name].top, expected.answers["it"].top)
    assert network.sizes[0] == 8
    assert network.sizes[-1] == inference.images_at_once == 1


def test_memory_that_never_suffices_is_named(images: ValidationSet) -> None:
    network = Failing(lambda: RuntimeError("MPS backend out of memory"), calls=set(range(100)))
    image_pass = ImagePass(Inference({"it": network}, CPU, 8), HostCrops(reader(crop_image), CPU, 2))
    with pytest.raises(AccessError, match="no memory for a single image"):
        image_pass.answer(images.images, "strict")


def test_another_failure_is_not_taken_for_a_lack_of_memory(images: ValidationSet) -> None:
    network = Failing(lambda: RuntimeError("shapes do not fit"), calls={1})
    image_pass = ImagePass(Inference({"it": network}, CPU, 8), HostCrops(reader(crop_image), CPU, 2))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        image_pass.answer(images.images, "strict")
    assert network.sizes == [8]
