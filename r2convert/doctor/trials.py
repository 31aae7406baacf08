"""Every cause tried on a sample of the images, block by block.

Every image is decoded once. Settings that only count labels differently share the predictions of the sound one. A
cause that is clearly out of the question after a few images is tried no further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from r2convert.doctor.causes import Cause, Setting, crop_maker, relabelled
from r2convert.errors import UnreadableImageError
from r2convert.evaluation.backends import ignored_classes, memory_format, normalise, out_of_memory, rank_logits
from r2convert.evaluation.precision import computing_in
from r2convert.imagenet.device_resize import is_out_of_memory
from r2convert.imagenet.preprocessing import Crop, Pixels, pixel_function, resized_size
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet

Right = npt.NDArray[np.bool_]
"""Shape (images, 2): whether the label was ranked first, and whether it was among the first five."""
Top = npt.NDArray[np.int16]

FIRST_BLOCK, LARGEST_BLOCK = 8, 64
"""Blocks double: a few images tell most causes from the rest, and the others deserve a batch that runs fast."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where networks run, and on how many images at once."""

    device: torch.device
    batch_size: int

    @classmethod
    def of(cls, device: torch.device | str, batch_size: int | None = None) -> Device:
        """A device; by default with 32 images at once on a CPU, else 128."""
        chosen = torch.device(device)
        return cls(chosen, batch_size or (32 if chosen.type == "cpu" else 128))

    def inputs(self, setting: Setting, crops: Crop) -> Iterable[Tensor]:
        """What a setting shows its network, in even parts: two or three images would have statistics of their own."""
        for part in torch.from_numpy(crops).tensor_split(max(1, -(-len(crops) // self.batch_size))):
            # The channels change places and the mean and deviation do not: what a forgotten conversion does.
            pixels = part.to(self.device).flip(-1) if setting.bgr else part.to(self.device)
            yield normalise(pixels, setting.protocol).contiguous(memory_format=memory_format(self.device))

    def predict(self, setting: Setting, crops: Crop, ranked: Sequence[int] | None = None) -> Top:
        """The five classes ranked first for each crop, int16, shape (images, 5); -1 where a logit is NaN.

        Raises:
            AccessError: the device is out of memory.
        """
        ignored = ignored_classes(ranked, setting.network.head.fc.out_features, self.device)
        try:
            with computing_in("strict", self.device), torch.inference_mode():
                logits = torch.cat([setting.network(part) for part in self.inputs(setting, crops)])
                unused = torch.zeros(len(logits), dtype=torch.int64, device=self.device)
                top: Top = rank_logits(logits, unused, ignored).top.cpu().numpy()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(f"{self.batch_size} images at once on {self.device}", error) from error
        return top


@dataclass(slots=True, eq=False)
class Trial:
    """A cause, its setting, what that had right so far, and whether it was found hopeless and is left out."""

    cause: Cause
    setting: Setting
    right: Right = field(default_factory=lambda: np.empty((0, 2), np.bool_))
    is_over: bool = False


class Progress(NamedTuple):
    """Images run so far, over all settings; how many at most, fewer with every one left out; what is being tried."""

    done: int
    total: int
    trying: str


@dataclass(slots=True)
class Trials:
    """All settings on a sample; :meth:`run` shows them its images.

    Args:
        images: the sample.
        device: where networks run.
        sound: the sound setting, which sees every image.
        others: one a cause, in the order of the causes.
        is_hopeless: whether a trial is clearly out of the question after the images so far, given the sound one.
        crops: the first images as the sound setting crops them, for the wiring check.
        read: how many images could be read.
        lost: names of images that are missing or could not be read.
        shown: how many images were run, over all settings.
    """

    images: ValidationSet
    device: Device
    sound: Trial
    others: list[Trial]
    is_hopeless: Callable[[Trial, Trial], bool] = lambda _, __: False
    crops: list[Crop] = field(default_factory=list)
    read: int = 0
    lost: list[str] = field(default_factory=list)
    shown: int = 0

    def run(self, seed: int, workers: int, progress: Callable[[Progress], None]) -> None:
        """Try all causes.

        Args:
            seed: random seed of the order, so that the first images stand for all of them.
            workers: threads that decode and crop.
            progress: called before a setting is tried on a block.
        """
        images, decode = shuffled(self.images.images, seed), pixel_function()
        start, size = 0, FIRST_BLOCK
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            while start < len(images):
                block = images[start : start + size]
                decoded = list(zip(block, pool.map(lambda image: _pixels(image, decode), block), strict=True))
                self.lost += [image.id for image, pixels in decoded if pixels is None]
                read = [(image, pixels) for image, pixels in decoded if pixels is not None]
                if read:
                    self._show(read, pool, progress)
                start, size = start + size, min(LARGEST_BLOCK, start + size)

    def _show(
        self,
        block: Sequence[tuple[ValidationImage, Pixels]],
        pool: ThreadPoolExecutor,
        progress: Callable[[Progress], None],
    ) -> None:
        """Run a block under every setting that is still in question."""
        images, pixels = [image for image, _ in block], [found for _, found in block]
        crops: dict[object, Crop] = {}
        predictions: dict[Setting, Top] = {}
        running = [self.sound, *(each for each in self.others if not each.is_over)]
        left = len(self.images.images) - self.read - len(self.lost)
        total = self.shown + left * len({each.setting.shown for each in running})
        for trial in running:
            setting = trial.setting
            if setting.cropped not in crops:
                crops[setting.cropped] = np.stack(list(pool.map(crop_maker(*setting.cropped), pixels)))
            if setting.shown not in predictions:
                progress(Progress(self.shown, total, trial.cause.what))
                predictions[setting.shown] = self.device.predict(setting, crops[setting.cropped], self.images.ranked)
                self.shown += len(images)
            top = predictions[setting.shown]
            labels = relabelled(setting.labels, images, len(self.images.classes))[:, None]
            right = np.stack((top[:, 0] == labels[:, 0], (top == labels).any(axis=1)), axis=1)
            trial.right = np.concatenate((trial.right, right))
            # Labels cost nothing, and go on for as long as there are images.
            if setting.shown != self.sound.setting.shown:
                trial.is_over = self.is_hopeless(trial, self.sound)
        self.read += len(images)
        if sum(map(len, self.crops)) < LARGEST_BLOCK:
            self.crops.append(crops[self.sound.setting.cropped])


def shuffled(images: Sequence[ValidationImage], seed: int) -> list[ValidationImage]:
    """The images in random order."""
    return [images[place] for place in np.random.default_rng(seed).permutation(len(images))]


def _pixels(image: ValidationImage, decode: Callable[[bytes], Pixels]) -> Pixels | None:
    if image.location is None:
        return None
    try:
        pixels = decode(image.location.read())
        resized_size(pixels.shape[1], pixels.shape[0])
    except (UnreadableImageError, OSError):
        return None
    return pixels
