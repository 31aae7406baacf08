"""From a checkpoint and images to a diagnosis."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from r2convert.catalog.printed import printed_interval
from r2convert.catalog.variant import IMAGENET_IMAGES, Variant
from r2convert.checks.claims import likely_weights
from r2convert.checks.run import Examined, Probes, Request, default_protocol, examine
from r2convert.doctor.causes import SOUND, Setting, causes_for, crop_maker, network_causes
from r2convert.doctor.evidence import bad_values, lost_images, untouched_layers, wrong_wiring
from r2convert.doctor.ranking import Ranking, is_hopeless
from r2convert.doctor.trials import Device, Progress, Trial, Trials
from r2convert.errors import DatasetError, InputError, UsageError
from r2convert.evaluation.backends import prepared
from r2convert.evaluation.resources import core_count
from r2convert.imagenet.validation_set import ValidationSet, stratified_sample
from r2convert.mapping.identity import Identity, maker_of, resolve
from r2convert.mapping.tables import Tables
from r2convert.models.blocks import Classifier
from r2convert.models.build import load_network
from r2convert.results.diagnosis import CauseNotTried, Diagnosis, KnownScore, TriedImages, TriedSetting
from r2convert.results.verification import environment


def consult(
    tables: Tables,
    request: Request,
    images: ValidationSet,
    *,
    limit: int,
    seed: int = 0,
    measured: KnownScore | None = None,
    expected: KnownScore | None = None,
    device: Device,
    device_name: str = "",
    thorough: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Diagnosis:
    """Try the usual causes of a wrong accuracy on ``limit`` of the images, and rank them.

    :func:`r2convert.api.diagnose` says what the options mean. ``device_name`` is what the results call the device.

    Raises:
        InputError: the file cannot be read, is none of the known networks, or is no classifier of the images' classes;
            or none of the images can be read.
        AccessError: the file is not there, or the device is out of memory.
        UsageError: OpenCV is needed and not installed.
    """
    started, sample = time.monotonic(), stratified_sample(images, limit, seed=seed)
    examined = examine(tables, request, Probes(), classes=len(images.classes), background=True)
    identity, result = examined.identity, examined.result
    sound = Setting(default_protocol(identity), prepared(examined.require_network(), device.device))
    crop_maker(*sound.cropped)  # says so where OpenCV is needed and missing
    tried, not_tried = [], []
    other_weights = _other_weights(tables, request, examined, device.device)
    for cause, setting in causes_for(
        sound, network_causes(identity.variant, _others(tables, identity), other_weights), images
    ):
        try:
            crop_maker(*setting.cropped)
            tried.append(Trial(cause, setting))
        except UsageError:
            not_tried.append(CauseNotTried(cause.id, "OpenCV is not installed"))
    trials = Trials(sample, device, Trial(SOUND, sound), tried)
    if not thorough:
        trials.is_hopeless = partial(is_hopeless, sample=len(sample.images), measured=measured)
    trials.run(seed, core_count(), progress)
    if not trials.read:
        raise DatasetError("none of the images can be read", where=str(images.path), got=", ".join(trials.lost[:3]))
    known, source = _known_score(identity, images, expected)
    ranking = Ranking(trials.sound, trials.others, known, len(images.images))
    best = next(iter(ranking.rising()), trials.sound)
    answer = ranking.explain(
        measured,
        certain=[*bad_values(result.checks), *untouched_layers(sound.network)],
        likely=[
            *(wrong_wiring(device, sound, trials.crops) and wrong_wiring(device, best.setting, trials.crops)),
            *lost_images(trials.lost, len(sample.images)),
        ],
    )
    return Diagnosis(
        environment=environment(device_name or str(device.device)),
        checkpoint=str(request.path),
        variant=identity.variant.id,
        layout=identity.layout,
        sha256=result.sha256,
        images=TriedImages(
            str(images.path), images.layout, len(images.images), len(sample.images), len(trials.lost), seed
        ),
        sound_setting=TriedSetting(
            "opencv" if sound.protocol.pipeline == "opencv" else "pillow", protocol=str(sound.protocol)
        ),
        measured=measured,
        sound=known,
        sound_source=source,
        **answer._asdict(),
        explanations=answer.explanations,
        not_tried=tuple(not_tried),
        images_shown=trials.shown,
        seconds=round(time.monotonic() - started, 3),
    )


def _others(tables: Tables, identity: Identity) -> dict[str, Variant]:
    """Networks with the same names and shapes, by the program that computes them."""
    programs = {program.name: id_ for id_, program in tables.catalog.programs.items()}
    others = (each for each in identity.fits if each != identity.variant)
    return {programs.get(maker_of(tables.catalog, each), each.id): each for each in others}


def _other_weights(
    tables: Tables, request: Request, examined: Examined, device: torch.device
) -> tuple[str, Classifier] | None:
    """The network with the file's other weights and their key: the moving average, or the raw ones."""
    key = examined.other_key
    if key is None:
        return None
    try:
        with replace(request, key=key).open(tables, digest=False) as checkpoint:
            other = resolve(tables, checkpoint, examined.identity.variant, request.layout)
            return key, prepared(load_network(checkpoint, other), device)
    except InputError:
        # Some programs average the parameters alone, which make no network.
        return None


def _known_score(
    identity: Identity, images: ValidationSet, expected: KnownScore | None
) -> tuple[KnownScore | None, str | None]:
    """What a sound measurement gives on all images, and who says so."""
    if expected is not None:
        return expected, "given as expected"
    weights = likely_weights(identity)
    top1, top5 = (weights.claim_on("top1"), weights.claim_on("top5")) if weights else (None, None)
    if top1 is None or images.dataset != "imagenet":
        return None, None
    intervals = [printed_interval(claim) for claim in (top1, top5) if claim is not None]
    shares = [(each.first + each.last) / 2 / IMAGENET_IMAGES for each in intervals]
    digit = (intervals[0].last - intervals[0].first + 1) / IMAGENET_IMAGES
    source = top1.source + ("" if identity.weights else ", if the file is theirs")
    return KnownScore(shares[0], shares[1] if len(shares) > 1 else None, digit), source
