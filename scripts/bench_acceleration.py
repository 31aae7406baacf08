"""Measure on the CPU what each faster precision and each acceleration gains and what it changes.

    python -m scripts.bench_acceleration [--images 96] [--rounds 2] [--compile] [--json]

Speed is that of the first pass, from its second batch on, against `strict` in the same round. Changed answers are
counted over all images, each shown in `strict` as well. Compiling takes a minute and a C++ compiler, so it is asked
for. What CUDA has more is measured by `scripts.gpu_check`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch

from r2convert.catalog import load_catalog
from r2convert.catalog.protocol import Acceleration, Precision
from r2convert.checks.standins import random_state_dict, synthetic_image
from r2convert.evaluation.engine import AccuracyProgress, measure_accuracy
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import synsets
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.mapping.tables import Tables
from r2convert.models.build import build_network
from scripts.measuring import Figure, parser, tell

VARIANT = "res2net50_w14_s8"
# So many images are audited in any case: the count is over all of them.
MOST_IMAGES = 256

Way = tuple[Precision, tuple[Acceleration, ...]]

REMARKS = """\
The network has random weights and is run on synthetic images; a trained one on photographs may change more
predictions or fewer. On a CPU `channels-last` is part of `strict` already."""


def main() -> None:
    """Measure, and print the document."""
    arguments = parser(__doc__, rounds=2)
    arguments.add_argument("--images", type=int, default=96, choices=range(16, MOST_IMAGES + 1), metavar="N")
    arguments.add_argument("--compile", action="store_true", help="compile, too")
    options = arguments.parse_args()
    ways: list[Way] = [("strict", ()), ("bf16", ()), ("fp32", ("fold-bn",)), ("bf16", ("fold-bn",))]
    if options.compile:
        ways += [("fp32", ("compile",)), ("fp32", ("fold-bn", "compile"))]
    network = draw_network()
    with tempfile.TemporaryDirectory() as name:
        images = write_pictures(Path(name), options.images)
        rounds = [[measure(network, images, way) for way in ways] for _ in range(options.rounds)]
    figures = []
    for number, (precision, accelerations) in enumerate(ways[1:], 1):
        speeds = [each[number][0] / each[0][0] for each in rounds]
        figures.append(
            Figure(
                " ".join((precision, *accelerations)) + " / strict, images a second",
                "",
                round(statistics.median(speeds), 2),
                f"{rounds[0][number][1]} of {options.images} first answers changed",
            )
        )
    tell(f"Precisions and accelerations on the processor ({VARIANT})", figures, options, REMARKS)


def draw_network() -> torch.nn.Module:
    """The network with the weights of the stand-in checkpoints."""
    tables = Tables(load_catalog({}))
    variant = tables.catalog.variants[VARIANT]
    network = build_network(variant)
    network.load_state_dict(random_state_dict(tables.of(variant), "mm"))
    return network.eval()


def write_pictures(folder: Path, count: int) -> ValidationSet:
    """Synthetic images, one class each."""
    for number in range(count):
        file = folder / synsets()[number] / f"{number:05d}.JPEG"
        file.parent.mkdir()
        file.write_bytes(synthetic_image(number))
    return open_validation_set(folder)


def measure(network: torch.nn.Module, images: ValidationSet, way: Way) -> tuple[float, int]:
    """Images per second of the first pass from its second batch on, and predictions that differ from strict's."""
    precision, accelerations = way
    steps: list[tuple[float, int]] = []

    def follow(progress: AccuracyProgress) -> None:
        if not steps or steps[-1][1] < progress.done:
            steps.append((time.perf_counter(), progress.done))

    found = measure_accuracy(
        {"it": network}, images, precision=precision, accelerations=accelerations, progress=follow
    )["it"]
    (started, first), (ended, last) = steps[0], next(step for step in steps if step[1] == len(images.images))
    return (last - first) / (ended - started), found.audit.changed_top1 if found.audit else 0


if __name__ == "__main__":
    main()
