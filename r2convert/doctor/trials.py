"""Every cause tried on a sample of the images, block by block, and what can be seen in the file whatever its score.

Every image is decoded once. Settings that only count labels differently share the predictions of the sound one. A
cause that is clearly out of the question after a few images is tried no further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import sqrt
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from r2convert.checks.wiring import FEWEST, beyond_the_stem, check_wiring
from r2convert.doctor.causes import Cause, CropKind, Feed, NetworkChange, Setting, Shown
from r2convert.doctor.changes import CropPixels, changed_network, feed_pixels, relabelling
from r2convert.errors import AccessError, UnreadableImageError
from r2convert.evaluation.backends import rank_logits
from r2convert.evaluation.precision import computing_in
from r2convert.imagenet.preprocessing import Crop, resized_size
from r2convert.imagenet.validation_set import ValidationImage
from r2convert.models.blocks import Classifier

Right = npt.NDArray[np.bool_]
"""Shape (images, 2): whether the label was ranked first, and whether it was among the first five."""
Top = npt.NDArray[np.int16]
Decode = Callable[[bytes], npt.NDArray[np.uint8]]

FIRST_BLOCK, LARGEST_BLOCK = 8, 64
"""Blocks double: a few images tell most causes from the rest, and the others deserve a batch that runs fast."""
HOPELESS = 6
"""A cause that loses so many images more than it gains, and three times as many, will not turn round."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network on a device.

    Args:
        network: in evaluation mode, in float32, on the device.
        device: where it runs.
        batch_size: images that run at once.
    """

    network: Classifier
    device: torch.device
    batch_size: int

    def predict(self, crops: Crop, feed: Feed, change: NetworkChange) -> Top:
        """The five classes ranked first for each crop, int16, shape (images, 5); -1 where a logit is NaN.

        Raises:
            AccessError: the device is out of memory.
        """
        with computing_in("strict", self.device), torch.inference_mode(), changed_network(self.network, change):
            try:
                parts = [self._rank(part, feed) for part in _even_parts(crops, self.batch_size)]
            except torch.OutOfMemoryError as error:
                raise AccessError(
                    "out of memory",
                    where=str(self.device),
                    got=f"{self.batch_size} images at once",
                    next_step="name a smaller --batch-size, or use --device cpu",
                ) from error
        return np.concatenate(parts)

    def _rank(self, part: Tensor, feed: Feed) -> Top:
        layout = torch.channels_last if self.device.type == "cpu" else torch.contiguous_format
        inputs = feed_pixels(part.to(self.device), feed).contiguous(memory_format=layout)
        unused = torch.zeros(len(part), dtype=torch.int64, device=self.device)
        return cast("Top", rank_logits(self.network(inputs).float(), unused).top.cpu().numpy())


def prepared(network: Classifier, device: torch.device, batch_size: int | None) -> Network:
    """A network made ready to run: float32, and on a CPU channels last, which is a fifth faster there.

    Args:
        network: the network, in evaluation mode; it is moved to the device.
        device: where it is to run.
        batch_size: images that run at once; by default 32 on a CPU, else 128.
    """
    on_cpu = device.type == "cpu"
    layout = torch.channels_last if on_cpu else torch.contiguous_format
    moved = network.to(device=device, dtype=torch.float32, memory_format=layout)  # type: ignore[call-overload]
    return Network(moved, device, batch_size or (32 if on_cpu else 128))


@dataclass(frozen=True, slots=True)
class Sampling:
    """Where the images come from.

    Args:
        images: the sample, in random order, so that the first of them stand for all of them.
        decode: an image's bytes to pixels.
        crops: the ways of cropping that are at hand.
        workers: threads that decode and crop.
    """

    images: Sequence[ValidationImage]
    decode: Decode
    crops: Mapping[CropKind, CropPixels]
    workers: int


@dataclass(slots=True)
class Trial:
    """One setting on the sample.

    Args:
        cause: what is different, or ``None`` for the sound setting.
        setting: how accuracy is measured.
        top: classes ranked first for the images shown so far, int16, shape (images, 5).
        right: of each, whether its label is first and whether it is among the five.
        is_over: whether it was clearly out of the question, and left out from there on.
    """

    cause: Cause | None
    setting: Setting
    top: Top = field(default_factory=lambda: np.empty((0, 5), np.int16))
    right: Right = field(default_factory=lambda: np.empty((0, 2), np.bool_))
    is_over: bool = False

    def add(self, top: Top, labels: npt.NDArray[np.int64]) -> None:
        """Take predictions for further images, with the labels that the data set gives them."""
        own = relabelling(self.setting.labels)[labels]
        right = np.stack((top[:, 0] == own, (top == own[:, None]).any(axis=1)), axis=1)
        self.top = np.concatenate((self.top, top))
        self.right = np.concatenate((self.right, right))


@dataclass(frozen=True, slots=True)
class Trials:
    """All settings on the sample.

    Args:
        sound: the sound one, which saw every image.
        others: one a cause, in the order of the causes.
        crops: the first images as the sound setting crops them, for the wiring check.
        images: those that could be read.
        lost: names of images that are missing or could not be read.
        shown: how many images were run, over all settings.
    """

    sound: Trial
    others: tuple[Trial, ...]
    crops: Crop
    images: tuple[ValidationImage, ...]
    lost: tuple[str, ...]
    shown: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is.

    Args:
        done: images run so far, over all settings.
        total: images to be run at most; it falls with every setting that is left out.
        trying: what is being tried.
    """

    done: int
    total: int
    trying: str


def run_trials(
    network: Network,
    sampling: Sampling,
    sound: Setting,
    causes: Sequence[Cause],
    progress: Callable[[Progress], None],
    *,
    measured: float | None = None,
    thorough: bool = False,
) -> Trials:
    """Try all causes.

    Args:
        network: the network.
        sampling: the images.
        sound: how the published number was measured.
        causes: what to try; each changes one thing of the sound setting.
        progress: called before a setting is tried on a block.
        measured: top-1 (0 to 1) that a mistake elsewhere is to explain, if there is such a number.
        thorough: try every cause on every image, also what is clearly out of the question.
    """
    run = _Run(network, sampling, progress, measured, Trial(None, sound), [_trial(each, sound) for each in causes])
    with ThreadPoolExecutor(sampling.workers, thread_name_prefix="decode") as pool:
        for block in _blocks(sampling.images):
            run.show(block, pool)
            if not thorough:
                run.leave_out()
    crops = np.concatenate(run.crops) if run.crops else np.empty((0, 224, 224, 3), np.uint8)
    return Trials(run.sound, tuple(run.others), crops, tuple(run.images), tuple(run.lost), run.shown)


def shuffled(images: Sequence[ValidationImage], seed: int) -> list[ValidationImage]:
    """The images in random order."""
    return [images[position] for position in np.random.default_rng(seed).permutation(len(images))]


def _blocks(images: Sequence[ValidationImage]) -> Iterator[Sequence[ValidationImage]]:
    start, size = 0, FIRST_BLOCK
    while start < len(images):
        yield images[start : start + size]
        start, size = start + size, min(LARGEST_BLOCK, start + size)


def _trial(cause: Cause, sound: Setting) -> Trial:
    """A cause's change on top of the sound setting, which may crop otherwise than the default."""
    changed, default = cause.setting, Setting()
    crop = changed.crop if changed.crop != default.crop or cause.id == "pillow-resize" else sound.crop
    return Trial(cause, Setting(crop, changed.feed, changed.network, changed.labels))


@dataclass(slots=True)
class _Run:
    network: Network
    sampling: Sampling
    progress: Callable[[Progress], None]
    measured: float | None
    sound: Trial
    others: list[Trial]
    crops: list[Crop] = field(default_factory=list)
    images: list[ValidationImage] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    shown: int = 0

    def show(self, block: Sequence[ValidationImage], pool: ThreadPoolExecutor) -> None:
        """Run a block under every setting that is still in question."""
        decoded = list(pool.map(self._pixels, block))
        read = [(image, pixels) for image, pixels in zip(block, decoded, strict=True) if pixels is not None]
        self.lost += [image.id for image, pixels in zip(block, decoded, strict=True) if pixels is None]
        if not read:
            return
        self.images += [image for image, _ in read]
        labels = np.array([image.label for image, _ in read])
        cropped: dict[CropKind, Crop] = {}
        predicted: dict[Shown, Top] = {}
        # Labels cost nothing, and go on for as long as there are images.
        running = [each for each in self.others if not each.is_over or each.setting.shown == self.sound.setting.shown]
        left = len(self.sampling.images) - len(self.images) - len(self.lost) + len(read)
        total = self.shown + left * len({each.setting.shown for each in (self.sound, *running)})
        for trial in (self.sound, *running):
            shown = trial.setting.shown
            if shown not in predicted:
                crop, feed, change = shown
                if crop not in cropped:
                    cropped[crop] = np.stack(list(pool.map(self.sampling.crops[crop], (pixels for _, pixels in read))))
                self.progress(Progress(self.shown, total, "as given" if trial.cause is None else trial.cause.what))
                predicted[shown] = self.network.predict(cropped[crop], feed, change)
                self.shown += len(read)
            trial.add(predicted[shown], labels)
        if sum(map(len, self.crops)) < LARGEST_BLOCK:
            self.crops.append(cropped[self.sound.setting.crop])

    def leave_out(self) -> None:
        """Decide which settings are not worth another block: they neither raise the score nor give the measured."""
        for trial in self.others:
            gained, lost = changed_images(self.sound.right, trial.right)
            is_worse = lost - gained >= HOPELESS and 3 * gained < lost
            trial.is_over = trial.is_over or (is_worse and not self._may_give_the_measured(trial))

    def _may_give_the_measured(self, trial: Trial) -> bool:
        if self.measured is None:
            return False
        images, share = len(trial.right), float(trial.right[:, 0].mean())
        # Five standard errors, counting one more right and one more wrong.
        error = sqrt((share + 1 / images) * (1 - share + 1 / images) / images)
        return abs(share - self.measured) < 5 * error

    def _pixels(self, image: ValidationImage) -> npt.NDArray[np.uint8] | None:
        if image.location is None:
            return None
        try:
            pixels = self.sampling.decode(image.location.read())
            resized_size(pixels.shape[1], pixels.shape[0])
        except (UnreadableImageError, OSError):
            return None
        return pixels


def changed_images(first: Right, second: Right) -> tuple[int, int]:
    """How many images only the second setting has right, and how many only the first; of those that both were shown."""
    shared = min(len(first), len(second))
    one, other = first[:shared, 0], second[:shared, 0]
    return int((other & ~one).sum()), int((one & ~other).sum())


def _even_parts(crops: Crop, size: int) -> tuple[Tensor, ...]:
    # A last batch of two or three images would have statistics of its own.
    return torch.from_numpy(crops).tensor_split(max(1, -(-len(crops) // size)))


def wiring_suspects(network: Network, crops: Crop, setting: Setting) -> tuple[str, ...]:
    """BatchNorms at which arrives what they do not remember; none if the stem alone does, or with under 16 images."""
    if len(crops) < FEWEST:
        return ()
    batches = (feed_pixels(part.to(network.device), setting.feed) for part in _even_parts(crops, 2 * FEWEST))
    # Batch statistics are what the check goes by in any case.
    change = "none" if setting.network == "batch statistics" else setting.network
    with computing_in("strict", network.device), changed_network(network.network, change):
        layers = check_wiring(network.network, batches)
    suspects = [layer for layer in layers if layer.suspect]
    return tuple(layer.name.removeprefix("backbone.") for layer in suspects) if beyond_the_stem(suspects) else ()


_FEWEST_VALUES = 500
"""With fewer, an even spread can be chance."""
_KOLMOGOROV = 1.95
"""Times 1 / sqrt(values): an even spread is further off than this once in a thousand times."""


def untouched_layers(network: nn.Module) -> tuple[str, ...]:
    """Module paths of layers whose values are still those with which frameworks start, in network order.

    A BatchNorm that has seen one batch has running means other than 0 and variances other than 1. A convolution or
    linear layer of PyTorch starts with values spread evenly between -1 / sqrt(fan-in) and 1 / sqrt(fan-in), and no
    training leaves them so; OpenMMLab starts classifiers with a deviation of 0.01 and biases of 0.
    """
    return tuple(name for name, module in network.named_modules() if _is_untouched(module))


def _is_untouched(module: nn.Module) -> bool:
    if isinstance(module, nn.BatchNorm2d):
        mean, variance = module.running_mean, module.running_var
        assert mean is not None  # noqa: S101 - BatchNorms here keep statistics
        assert variance is not None  # noqa: S101
        return bool((mean == 0).all() and (variance == 1).all())
    if isinstance(module, nn.Linear) and bool((module.bias == 0).all()):
        return abs(float(module.weight.detach().std()) / 0.01 - 1) < 0.02 or _is_evenly_spread(module.weight)
    return isinstance(module, nn.Conv2d | nn.Linear) and _is_evenly_spread(module.weight)


def _is_evenly_spread(weight: Tensor) -> bool:
    """Kolmogorov's test of an even spread over the interval in which PyTorch starts."""
    bound = 1 / sqrt(weight[0].numel())
    weight = weight.detach()
    largest = float(weight.abs().max())
    # Nearly every trained weight ends here; sorting millions of values is for the few that do not.
    if weight.numel() < _FEWEST_VALUES or not 0.95 * bound < largest <= bound * (1 + 1e-6):
        return False
    values = np.sort(weight.cpu().to(torch.float64).numpy(), axis=None)
    expected = (values + bound) / (2 * bound)
    steps = np.arange(1, len(values) + 1) / len(values)
    distance = float(max(np.abs(expected - steps).max(), np.abs(expected - steps + 1 / len(values)).max()))
    return distance < _KOLMOGOROV / sqrt(len(values))
