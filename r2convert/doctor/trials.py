"""Tries every cause on the sample, block by block; what is clearly out of the question is left out from then on.

Every image is decoded once. Settings that only count labels differently share the answers of the sound one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from r2convert.doctor.agreement import KnownScore, Right, difference, expect
from r2convert.doctor.answers import Network, Top
from r2convert.doctor.causes import Cause
from r2convert.doctor.crops import CropPixels
from r2convert.doctor.label_orders import relabelling
from r2convert.doctor.sample import Block, Decode, read_block
from r2convert.doctor.setting import CropKind, Setting, Shown
from r2convert.evaluation.statistics import probability_of_at_least
from r2convert.imagenet.validation_set import ValidationImage

FIRST_BLOCK, LARGEST_BLOCK = 8, 64
"""Blocks double: a few images tell most causes from the rest, and the others deserve a batch that runs fast."""
OUT_OF_THE_QUESTION = 25.0
"""Misfit (five standard errors, squared) from which on a setting is tried no further."""
_HOPELESS = 0.9
"""Probability of gaining so little by chance from which on a setting is not taken to gain anything."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Where the images come from.

    Args:
        images: the sample, in a drawn order.
        all_images: how many it was drawn from.
        decode: an image's bytes to pixels.
        crops: the ways of cropping that are at hand.
        workers: threads that decode and crop.
    """

    images: Sequence[ValidationImage]
    all_images: int
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
        """Take answers to further images, with the labels the data set gives them."""
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
        shown: how many images networks were shown, over all settings.
    """

    sound: Trial
    others: tuple[Trial, ...]
    crops: npt.NDArray[np.uint8]
    images: tuple[ValidationImage, ...]
    lost: tuple[str, ...]
    shown: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is.

    Args:
        done: images shown so far, over all settings.
        total: images to be shown at most; it falls with every setting that is left out.
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
    target: KnownScore | None,
    progress: Callable[[Progress], None],
    *,
    thorough: bool = False,
) -> Trials:
    """Try all causes.

    Args:
        network: the network.
        sampling: the images.
        sound: how the published number was measured.
        causes: what to try; each changes one thing of the sound setting.
        target: the score to be explained, if one is known.
        progress: called before a setting is tried on a block.
        thorough: try every cause on every image, also what is clearly out of the question.
    """
    race = _Race(network, sampling, target, progress, Trial(None, sound), [_trial(each, sound) for each in causes])
    with ThreadPoolExecutor(sampling.workers, thread_name_prefix="decode") as pool:
        for block in _blocks(sampling.images):
            race.show(read_block(block, sampling.decode, pool), pool)
            if not thorough:
                race.leave_out()
    return race.result()


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
class _Race:
    network: Network
    sampling: Sampling
    target: KnownScore | None
    progress: Callable[[Progress], None]
    sound: Trial
    others: list[Trial]
    crops: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    images: list[ValidationImage] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    shown: int = 0

    def show(self, block: Block, pool: ThreadPoolExecutor) -> None:
        """Show a block to every setting that is still in question."""
        self.images += block.images
        self.lost += block.lost
        if not block.images:
            return
        labels = np.array([image.label for image in block.images])
        cropped: dict[CropKind, npt.NDArray[np.uint8]] = {}
        answered: dict[Shown, Top] = {}
        running = list(self._running())
        total = self.shown + len({each.setting.shown for each in running}) * self._left_with(block)
        for trial in running:
            shown = trial.setting.shown
            if shown not in answered:
                crop, feed, change = shown
                if crop not in cropped:
                    cropped[crop] = block.crops(self.sampling.crops[crop], pool)
                self.progress(Progress(self.shown, total, "as given" if trial.cause is None else trial.cause.what))
                answered[shown] = self.network.answer(cropped[crop], feed, change)
                self.shown += len(block.images)
            trial.add(answered[shown], labels)
        if sum(map(len, self.crops)) < LARGEST_BLOCK:
            self.crops.append(cropped[self.sound.setting.crop])

    def leave_out(self) -> None:
        """Decide which settings are not worth another block."""
        for trial in self.others:
            trial.is_over = trial.is_over or self._is_hopeless(trial)

    def result(self) -> Trials:
        crops = np.concatenate(self.crops) if self.crops else np.empty((0, 224, 224, 3), np.uint8)
        return Trials(self.sound, tuple(self.others), crops, tuple(self.images), tuple(self.lost), self.shown)

    def _running(self) -> Iterator[Trial]:
        yield self.sound
        # Labels cost nothing, and go on for as long as there are images.
        yield from (each for each in self.others if not each.is_over or each.setting.shown == self.sound.setting.shown)

    def _left_with(self, block: Block) -> int:
        """Images still to be shown to each setting, those of this block included."""
        return len(self.sampling.images) - len(self.images) - len(self.lost) + len(block.images)

    def _is_hopeless(self, trial: Trial) -> bool:
        """Whether it neither comes near the number to be explained nor betters the sound setting."""
        if not len(trial.right):
            return False
        change = difference(self.sound.right, trial.right)
        differing = change.gained + change.lost
        gains = differing and probability_of_at_least(change.gained, differing, 0.5) < _HOPELESS
        if gains and change.gained > change.lost:
            return False
        if self.target is None:
            return change.lost > change.gained
        return expect(trial.right, self.target, self.sampling.all_images).misfit > OUT_OF_THE_QUESTION
