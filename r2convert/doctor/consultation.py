"""From a checkpoint and images to a diagnosis: everything the doctor does, in order."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from r2convert.catalog.printed import printed_interval
from r2convert.catalog.variant import IMAGENET_IMAGES, Claim
from r2convert.checks.claims import likely_weights
from r2convert.checks.run import Examined, Probes, Request, examine
from r2convert.doctor.agreement import KnownScore
from r2convert.doctor.answers import Network, prepared
from r2convert.doctor.causes import WRONG_FOLDERS, Cause, causes_for
from r2convert.doctor.crops import crop_functions
from r2convert.doctor.evidence import Evidence, gather_evidence
from r2convert.doctor.finding import Diagnosis, Question
from r2convert.doctor.gains import best_remedy, diagnose_low_score, is_low, score_of
from r2convert.doctor.numbers import diagnose_nothing, diagnose_number, fit_number
from r2convert.doctor.sample import shuffled
from r2convert.doctor.setting import CropKind, Setting
from r2convert.doctor.trials import Progress, Sampling, Trial, Trials, run_trials
from r2convert.errors import DatasetError, MappingError
from r2convert.imagenet.labels import CLASS_COUNT, validation_labels
from r2convert.imagenet.preprocessing import opencv_crop_pixels, pixel_function
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.mapping.evidence import recognise
from r2convert.mapping.tables import Tables
from r2convert.models.blocks import Classifier
from r2convert.models.build import load_network


@dataclass(frozen=True, slots=True)
class DoctorImages:
    """The images to try causes on.

    Args:
        sample: the images.
        all_images: how many it was drawn from.
        full_set: whether it was drawn from the 50,000 images that published numbers speak of.
        seed: of the draw.
    """

    sample: ValidationSet
    all_images: int
    full_set: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Consultation:
    """A diagnosis, and what it was made from.

    Args:
        path: the checkpoint.
        variant: which network it holds.
        layout: whose names it has.
        sha256: of the file.
        images: the images.
        lost: how many of the sample are missing or cannot be read.
        sound: how the published number was measured.
        question: what was to be explained.
        diagnosis: the answer.
        not_tried: cause -> why it could not be tried here.
        shown: images shown to the network, over all settings.
        seconds: how long that took.
    """

    path: Path
    variant: str
    layout: str
    sha256: str
    images: DoctorImages
    lost: int
    sound: Setting
    question: Question
    diagnosis: Diagnosis
    not_tried: tuple[tuple[str, str], ...]
    shown: int
    seconds: float


def consult(
    tables: Tables,
    request: Request,
    images: DoctorImages,
    *,
    measured: KnownScore | None = None,
    expected: KnownScore | None = None,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
    thorough: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Consultation:
    """Try the usual causes of a wrong accuracy and rank them.

    Args:
        tables: the tables of the catalogue.
        request: the checkpoint.
        images: what to try them on.
        measured: a score that was measured elsewhere on all of these images.
        expected: the score that these images ought to give; by default the published one where it speaks of them.
        device: where the network runs.
        batch_size: images that run at once; by default 32 on a CPU, else 128.
        thorough: try every cause on every image, also what is clearly out of the question after a few.
        progress: called before every setting is tried on some images.

    Raises:
        InputError: the file cannot be read, is none of the known networks, or is no classifier of ImageNet; or none
            of the images can be read.
        AccessError: the file is not there, or the device has no memory.
        UsageError: OpenCV is needed and not installed.
    """
    started = time.monotonic()
    examined = examine(tables, request, Probes(), load=False)
    network = prepared(_load(tables, request), torch.device(device), batch_size)
    sound = _sound_setting(examined)
    question = _question(examined, images, measured, expected)
    causes, not_tried = _triable(list(causes_for(examined.identity.variant.architecture, sound)))
    sampling = Sampling(
        shuffled(images.sample.images, images.seed), images.all_images, pixel_function(), crop_functions(), _threads()
    )
    trials = run_trials(
        network, sampling, sound, causes, question.measured or question.sound, progress, thorough=thorough
    )
    if not trials.images:
        raise DatasetError(
            "none of the images can be read", where=str(images.sample.path), got=", ".join(trials.lost[:3])
        )
    evidence = _gather(network, trials, question, images.all_images, _bad_values(examined))
    diagnosis = diagnose(trials, question, evidence, images.all_images)
    return Consultation(
        path=request.path,
        variant=examined.identity.variant.id,
        layout=examined.result.layout or "",
        sha256=examined.result.sha256 or "",
        images=images,
        lost=len(trials.lost),
        sound=sound,
        question=question,
        diagnosis=diagnosis,
        not_tried=tuple(not_tried),
        shown=trials.shown,
        seconds=time.monotonic() - started,
    )


def _load(tables: Tables, request: Request) -> Classifier:
    """The network; a background class in front of the thousand is one of the causes, so it may have one."""
    with request.open(tables) as checkpoint:
        resolution = recognise(tables, checkpoint, request.variant, request.layout)
        identity = resolution.identity
        if not identity.has_classifier or identity.classes not in (CLASS_COUNT, CLASS_COUNT + 1):
            raise MappingError(
                "this file has no accuracy on ImageNet",
                where=str(request.path),
                expected=f"a classifier of {CLASS_COUNT} classes, or one more for the background",
                got=f"{identity.classes} classes" if identity.has_classifier else "a backbone without classifier",
                next_step="`r2convert verify` checks the rest",
            )
        return load_network(checkpoint, resolution)


def _sound_setting(examined: Examined) -> Setting:
    """How the file's publisher measured."""
    weights = likely_weights(examined.identity)
    if weights is None or weights.protocol.pipeline != "opencv":
        return Setting()
    opencv_crop_pixels()  # says so where OpenCV is missing
    return Setting(crop="opencv")


def _question(
    examined: Examined, images: DoctorImages, measured: KnownScore | None, expected: KnownScore | None
) -> Question:
    if expected is not None:
        return Question(measured, expected, "given as expected")
    weights = likely_weights(examined.identity)
    claims = {claim.metric: claim for claim in reversed(weights.claims)} if weights else {}
    if not images.full_set or "top1" not in claims:
        return Question(measured)
    top5 = _share(claims["top5"]) if "top5" in claims else None
    interval = printed_interval(claims["top1"])
    digit = (interval.last - interval.first + 1) / IMAGENET_IMAGES
    source = claims["top1"].source if examined.identity.weights else f"{claims['top1'].source}, if the file is theirs"
    return Question(measured, KnownScore(_share(claims["top1"]), top5, digit), source)


def _share(claim: Claim) -> float:
    interval = printed_interval(claim)
    return (interval.first + interval.last) / 2 / IMAGENET_IMAGES


def _triable(causes: list[Cause]) -> tuple[list[Cause], list[tuple[str, str]]]:
    """The causes that can be tried with what is installed, and why the others cannot."""
    at_hand = crop_functions()
    missing: list[CropKind] = [cause.setting.crop for cause in causes if cause.setting.crop not in at_hand]
    kept = [cause for cause in causes if cause.setting.crop not in missing]
    return kept, [(cause.id, "OpenCV is not installed") for cause in causes if cause.setting.crop in missing]


def _bad_values(examined: Examined) -> tuple[str, ...]:
    """What is wrong with the file's values, such as NaN or negative variances."""
    return tuple(check.note for check in examined.result.checks if check.metric == "values" and check.verdict == "fail")


def _gather(
    network: Network, trials: Trials, question: Question, all_images: int, bad_values: tuple[str, ...]
) -> Evidence:
    low = is_low(score_of(trials.sound, trials.sound, question.sound, all_images), question.sound)
    remedy = best_remedy(trials.sound, trials.others, low=low)
    count = len(trials.images) + len(trials.lost)
    setting = None if remedy is None else remedy.setting
    return gather_evidence(network, trials.crops, trials.sound.setting, setting, trials.lost, count, bad_values)


def diagnose(trials: Trials, question: Question, evidence: Evidence, all_images: int) -> Diagnosis:
    """Rank the causes; which question is asked, too, is told from the scores.

    A number from elsewhere may need a mistake to come about. Or it is what the file gives here as well: then the file
    or the images are to blame, if anything is.

    Args:
        trials: every cause on the sample.
        question: what is known of the score.
        evidence: what was seen in the file and the images.
        all_images: how many images the sample was drawn from.
    """
    sound, others = trials.sound, [*trials.others, *_from_the_names(trials)]
    low = diagnose_low_score(sound, others, question, evidence, all_images)
    if question.measured is None or evidence.is_certain:
        return low
    fit = fit_number(sound, others, question, all_images)
    if not fit.as_given_fits:
        return diagnose_number(fit, question)
    if low.is_low_here or low.explanations:
        return low
    return diagnose_nothing(fit, question)


def _from_the_names(trials: Trials) -> list[Trial]:
    """A trial with the labels that ILSVRC 2012 gives to the images' names, where the set gives them others."""
    official = validation_labels()
    given = np.array([image.label for image in trials.images])
    named = np.array([image.label if image.number is None else official[image.number - 1] for image in trials.images])
    if (given == named).all():
        return []
    trial = Trial(WRONG_FOLDERS, trials.sound.setting)
    trial.add(trials.sound.top, named)
    return [trial]


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
