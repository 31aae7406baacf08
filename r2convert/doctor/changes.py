"""The one thing that a cause changes, done: another crop, another input, another order of classes, another network.

Every change of a network leaves names and shapes as they are, so that no loader notices it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from r2convert.catalog.protocol import MEAN, STANDARD_DEVIATION
from r2convert.doctor.causes import CropKind, Feed, LabelOrder, NetworkChange
from r2convert.errors import UsageError
from r2convert.evaluation.backends import normalise
from r2convert.imagenet.labels import CLASS_COUNT, devkit_order
from r2convert.imagenet.preprocessing import CROP_SIDE, Crop, crop_corner, crop_pixels, opencv_crop_pixels, resized_size
from r2convert.models.blocks import Classifier, Res2NetBlock

Pixels = npt.NDArray[np.uint8]
CropPixels = Callable[[Pixels], Crop]


def crop_functions() -> Mapping[CropKind, CropPixels]:
    """Every way this installation knows; ``opencv`` only where OpenCV is installed."""
    functions: dict[CropKind, CropPixels] = {
        "pillow": crop_pixels,
        "not antialiased": _crop_not_antialiased,
        "bicubic": partial(_crop_resized, resampling=Image.Resampling.BICUBIC),
        "nearest": partial(_crop_resized, resampling=Image.Resampling.NEAREST),
        "squashed": _crop_squashed,
        "no margin": _crop_without_margin,
    }
    try:
        functions["opencv"] = opencv_crop_pixels()
    except UsageError:
        # Whoever needs it finds it missing here and says so.
        return functions
    return functions


def _crop_resized(pixels: Pixels, resampling: Image.Resampling) -> Crop:
    """As published, with another filter of Pillow's."""
    width, height = resized_size(pixels.shape[1], pixels.shape[0])
    resized = Image.fromarray(pixels).resize((width, height), resampling)
    return _centre(np.asarray(resized))


def _crop_not_antialiased(pixels: Pixels) -> Crop:
    """Bilinear between the four nearest source pixels, however far the image shrinks: torch's default on tensors."""
    width, height = resized_size(pixels.shape[1], pixels.shape[0])
    planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].to(torch.float32)
    resized = functional.interpolate(planes, (height, width), mode="bilinear", align_corners=False, antialias=False)
    return _centre(resized[0].permute(1, 2, 0).round().to(torch.uint8).numpy())


def _crop_squashed(pixels: Pixels) -> Crop:
    """Both sides brought to 224, whatever that does to proportions."""
    return np.asarray(Image.fromarray(pixels).resize((CROP_SIDE, CROP_SIDE), Image.Resampling.BILINEAR))


def _crop_without_margin(pixels: Pixels) -> Crop:
    """The short side brought to 224 instead of 256, so that nothing of it is cut off."""
    height, width = pixels.shape[:2]
    scale = CROP_SIDE / min(width, height)
    size = max(CROP_SIDE, int(width * scale)), max(CROP_SIDE, int(height * scale))
    return _centre(np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)))


def _centre(resized: Pixels) -> Crop:
    left, top = crop_corner(resized.shape[1], resized.shape[0])
    return np.ascontiguousarray(resized[top : top + CROP_SIDE, left : left + CROP_SIDE])


def feed_pixels(crops: Tensor, feed: Feed) -> Tensor:
    """Pixels to input.

    Args:
        crops: uint8, shape (images, height, width, 3), red green blue.
        feed: in which way.

    Returns:
        float32, shape (images, 3, height, width).
    """
    if feed == "published":
        return normalise(crops)
    if feed == "bgr":
        # The channels change places and the mean and deviation do not: what a forgotten conversion does.
        return normalise(crops.flip(-1))
    pixels = crops.permute(0, 3, 1, 2).to(torch.float32)
    if feed == "0 to 255":
        return pixels
    if feed == "0 to 1":
        return pixels / 255
    if feed == "-1 to 1":
        return pixels / 127.5 - 1
    # Mean and deviation are those of pixels from 0 to 1, and nothing was divided by 255.
    return (pixels - _column(MEAN, pixels)) / _column(STANDARD_DEVIATION, pixels)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device)[:, None, None]


def relabelling(order: LabelOrder) -> npt.NDArray[np.int64]:
    """What each class becomes.

    Returns:
        Shape (1000,): at position ``c`` the label that takes the place of ``c``; 1000 or -1 where there is no such
        class.
    """
    classes = np.arange(CLASS_COUNT)
    if order == "plus one":
        return classes + 1
    if order == "minus one":
        return classes - 1
    if order == "one class":
        # What a reader of class folders makes of a folder without any: all that is there is class 0.
        return np.zeros_like(classes)
    if order == "as given":
        return classes
    # Position -> the class that stands there; turned round: class -> position.
    standing = np.array(devkit_order()) if order.endswith("devkit") else _by_digits()
    return standing if order.startswith("out of") else np.argsort(standing)


def _by_digits() -> npt.NDArray[np.int64]:
    """Folders named 0 to 999 as file systems sort them: 0, 1, 10, 100, 101, ..., 11, ..."""
    return np.array(sorted(range(CLASS_COUNT), key=str))


Change = AbstractContextManager[None]


@contextmanager
def changed_network(network: Classifier, change: NetworkChange) -> Iterator[None]:
    """Has a network compute something else for a while; it is put back at the end.

    Args:
        network: the network, in evaluation mode.
        change: one that :func:`changes_of` gives for its architecture.
    """
    with ExitStack() as changes:
        for changed in _CHANGES[change](network):
            changes.enter_context(changed)
        yield


def _pools_pad_otherwise(network: Classifier) -> Iterator[Change]:
    for block in _stage_blocks(network):
        yield _attribute(block.pool, "count_include_pad", not block.pool.count_include_pad)


def _shortcuts_stride(network: Classifier) -> Iterator[Change]:
    # A window of one pixel with the stride is what a convolution with the stride looks at.
    for block in _blocks(network):
        if isinstance(block.downsample, nn.Sequential) and isinstance(block.downsample[0], nn.AvgPool2d):
            yield _attribute(block.downsample[0], "kernel_size", 1)


def _first_block_is_of_the_other_kind(network: Classifier) -> Iterator[Change]:
    block = next(_blocks(network))
    if block.kind == "normal":
        pool = next(_stage_blocks(network)).pool
        yield _attribute(block, "pool", nn.AvgPool2d(3, 1, 1, count_include_pad=pool.count_include_pad))
    yield _attribute(block, "kind", "normal" if block.kind == "stage" else "stage")


def _blocks(network: nn.Module) -> Iterator[Res2NetBlock]:
    return (module for module in network.modules() if isinstance(module, Res2NetBlock))


def _stage_blocks(network: nn.Module) -> Iterator[Res2NetBlock]:
    return (block for block in _blocks(network) if block.kind == "stage")


@contextmanager
def _attribute(module: nn.Module, name: str, value: object) -> Iterator[None]:
    missing = object()
    found = getattr(module, name, missing)
    setattr(module, name, value)
    try:
        yield
    finally:
        if found is missing:
            delattr(module, name)
        else:
            setattr(module, name, found)


@contextmanager
def _with_batch_statistics(network: nn.Module) -> Iterator[None]:
    """Training mode's normalisation, without its update of the running statistics."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm in norms:
            norm.training, norm.track_running_stats = False, True


@contextmanager
def _with_random_stem(network: nn.Module) -> Iterator[None]:
    """The first convolution and its BatchNorm as they are before anything is loaded."""
    conv = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    found = {module: {name: tensor.clone() for name, tensor in module.state_dict().items()} for module in (conv, norm)}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        norm.reset_parameters()
    try:
        yield
    finally:
        for module, state in found.items():
            module.load_state_dict(state)


_CHANGES: Mapping[NetworkChange, Callable[[Classifier], Iterable[Change]]] = MappingProxyType(
    {
        "none": lambda _: (),
        "pool padding": _pools_pad_otherwise,
        "first block": _first_block_is_of_the_other_kind,
        "first pool": lambda network: (_attribute(next(_blocks(network)), "pool", nn.Identity()),),
        "shortcut pool": _shortcuts_stride,
        "batch statistics": lambda network: (_with_batch_statistics(network),),
        "random stem": lambda network: (_with_random_stem(network),),
    }
)
