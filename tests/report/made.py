"""Results as verify would find them on all images, made up so that every part of a report has something to show."""

from __future__ import annotations

import random
from typing import Any

from msgspec.structs import replace

from r2convert.catalog import Variant
from r2convert.catalog.printed import printed_interval
from r2convert.checks.claims import PublishedNumbers, accuracy_checks
from r2convert.checks.parity import parity_check
from r2convert.checks.wiring import wiring_check
from r2convert.imagenet.labels import synsets
from r2convert.mapping.tables import Tables
from r2convert.results.documents import (
    BothSides,
    ChangedImage,
    PairedCounts,
    PredictionComparison,
    PredictionFileSummary,
    PredictionsComparison,
)
from r2convert.results.reading import plain
from r2convert.results.verdicts import Check
from r2convert.results.verification import (
    Accuracy,
    ActivationComparison,
    CheckpointResult,
    Confusion,
    LayerWiring,
    OutputDifference,
    ParityResult,
    WiringResult,
    verification,
)

IMAGES = 50_000
A_CLASS = 50
COMMAND = ("r2convert", "verify", "--imagenet", "/data/ImageNet 2012/val", "--json", "results.json")


def made_document(tables: Tables, *variants: str, broken: str = "", command: tuple[str, ...] = COMMAND) -> Any:
    """What verify writes for files of these variants, of all by default; the broken one has two tensors swapped."""
    catalog = tables.catalog
    official = (each for each in catalog.variants.values() if _is_in_official_table(each))
    chosen = [catalog.find(name) for name in variants] or list(official)
    results = [made_result(tables, variant, broken=variant.id == broken) for variant in chosen]
    return plain(verification(results, "cpu", command=command))


def _is_in_official_table(variant: Variant) -> bool:
    return any(claim.source == "official README" for claim in variant.claims)


def made_result(tables: Tables, variant: Variant, *, broken: bool = False) -> CheckpointResult:
    """One file with accuracies as published, or 4,000 images less."""
    numbers = PublishedNumbers(tables, tables.of(variant))
    draw = random.Random(variant.id)
    accuracy = _accuracy(variant, 4000 if broken else 0, draw)
    wiring = WiringResult(64, "/home/someone/Pictures", _wiring(numbers, draw, broken=broken))
    parity = ParityResult.of("timm", "1.0.31", _comparison(numbers, draw, broken=broken))
    checks = (
        *(Check(metric, "pass", measured=310) for metric in ("names", "shapes", "values")),
        wiring_check(wiring),
        parity_check(parity),
        *numbers.checks(),
        *accuracy_checks(variant, accuracy, variant.weights[0], dataset="imagenet"),
    )
    digits = f"{draw.getrandbits(256):064x}"
    return CheckpointResult(
        variant.id,
        f"/data/checkpoints/{variant.sources[0].file_name}",
        digits,
        digits[::-1],
        variant.sources[0].layout,
        checks,
        accuracy=accuracy,
        operations=numbers.operations(unreachable=False),
        wiring=wiring,
        parity=parity,
        weights=variant.weights[0].id,
        evidence="the file's SHA-256 is the published one",
    )


def made_predictions(before: Any, after: Any, variant: str) -> PredictionsComparison:
    """What compare would say of two documents' predictions for a variant: 30 images won, and what else is needed."""
    one, other = (
        next(result["accuracy"]["top1_correct"] for result in each["results"] if result["variant"] == variant)
        for each in (before, after)
    )
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, IMAGES + 1)]
    lost, others = 30, 12
    won = other - one + lost
    label = 620
    kinds = [((label,), (681,))] * lost + [((681,), (label,))] * won + [((), (-1,))] + [((7,), (8,))] * (others - 1)
    changed = tuple(ChangedImage(name, label, a, b) for name, (a, b) in zip(names, kinds, strict=False))
    top1 = PairedCounts(one - lost, lost, won, IMAGES - one - won, 0.5)
    comparison = PredictionComparison(
        BothSides(f"0 {variant}", f"0 {variant}"), IMAGES, 3, len(changed), len(changed) + 5, top1, top1, changed
    )
    first, second = (PredictionFileSummary(f"{name}.jsonl", "strict", (), "pil") for name in ("before", "after"))
    return PredictionsComparison(False, first, second, (comparison,))


def _accuracy(variant: Variant, fewer: int, draw: random.Random) -> Accuracy:
    top1, top5 = (printed_interval(variant.claims_on(metric)[0]).first + 2 - fewer for metric in ("top1", "top5"))
    names = synsets()
    right = [round(A_CLASS * draw.betavariate(5, 1.4)) for _ in names]
    while sum(right) != top1:
        step, at = (1 if sum(right) < top1 else -1), draw.randrange(len(right))
        right[at] = min(max(right[at] + step, 3), A_CLASS)
    confusions = tuple(
        Confusion(names[first], names[second], 31 - 3 * rank, (f"ILSVRC2012_val_{rank + 1:08d}.JPEG",))
        for rank, (first, second) in enumerate([(620, 681), (638, 639), (834, 906), (657, 744), (55, 58), (482, 848)])
    )
    return Accuracy(
        images=IMAGES,
        top1_correct=top1,
        top5_correct=top5,
        missing=0,
        unreadable=0,
        not_a_number=0,
        pipeline="opencv" if variant.sources[0].publisher == "paddle" else "pil",
        precision="strict",
        crops_sha256="5e" * 32,
        per_class={name: (A_CLASS, count) for name, count in zip(names, right, strict=True)},
        confusions=confusions,
    )


def _wiring(numbers: PublishedNumbers, draw: random.Random, *, broken: bool) -> tuple[LayerWiring, ...]:
    names = [layer.name for layer in numbers.operations(unreachable=False).layers or () if layer.kind == "BatchNorm2d"]
    layers = [
        LayerWiring(name, draw.uniform(0.02, 0.11), draw.uniform(0.03, 0.3), draw.uniform(0.9, 1), 0.97)
        for name in names
    ]
    if broken:
        at = len(layers) // 2
        layers[at] = replace(layers[at], mean_shift=1.23, log_variance=0.5, suspect=True)
        layers[at + 1] = replace(layers[at + 1], mean_shift=28.8, log_variance=7.1, suspect=True)
    return tuple(layers)


def _comparison(numbers: PublishedNumbers, draw: random.Random, *, broken: bool) -> ActivationComparison:
    kinds = ("Conv2d", "BatchNorm2d", "Linear")
    names = [layer.name for layer in numbers.operations(unreachable=False).layers or () if layer.kind in kinds]
    layers = []
    for index, name in enumerate(names):
        off = broken and index >= len(names) // 2
        relative = draw.uniform(0.02, 0.4) if off else draw.choice([0.0, 1, 2, 3]) * 1.1e-16
        layers.append(OutputDifference(name, 3 * relative, relative))
    stages = ["backbone.maxpool", *(f"backbone.layer{number}" for number in range(1, 5)), "head.fc"]
    shown = [
        OutputDifference(stage, 0.9 if broken and at > 2 else 1e-15, 0.31 if broken and at > 2 else 3e-16)
        for at, stage in enumerate(stages)
    ]
    return ActivationComparison.of(tuple(layers), tuple(shown))
