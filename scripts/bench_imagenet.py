"""Measure how much of the bare networks' speed a whole accuracy measurement keeps.

    python -m scripts.bench_imagenet [--images 96] [--rounds 3] [--json]

All competitors run in turn in every round, in one process, on generated JPEGs of the size and detail of ImageNet's:

- decode: crops a second on one thread, against Pillow's decode, resize and crop, bit for bit the same;
- whole: `measure_accuracy` from files to counts, against a bare loop of the same network over ready tensors;
- timm-style: the same, against Pillow transforms in a DataLoader and an eager network, with timm's own defaults;
- three: three networks in one pass, against the sum of their bare loops.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from r2convert.catalog import load_catalog
from r2convert.evaluation.backends import normalise
from r2convert.evaluation.engine import measure_accuracy
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import synsets
from r2convert.imagenet.preprocessing import crop_function, crop_image
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.models.build import build_network
from scripts.measuring import Figure, parser, tell

VARIANTS = ("res2net50_w26_s4", "res2net50_w14_s8", "res2net50_w48_s2")
SIZES = ((500, 375), (500, 333), (375, 500), (480, 360), (640, 480), (400, 300))
BARE_BATCH = 8
TIMM_BATCH = 256
TIMM_WORKERS = min(4, os.cpu_count() or 1)
DECODE_SLICE = 48

Runs = Mapping[str, Callable[[], object]]
Seconds = dict[str, list[float]]


def main() -> None:
    """Measure and tell."""
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--images", type=int, default=96)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), options.images)
        images = open_validation_set(Path(folder))
        networks = {name: build_network(load_catalog({}).variants[name]).eval() for name in VARIANTS}
        figures = [decode_figure(images, options.rounds), *network_figures(images, networks, options.rounds)]
    tell(f"Accuracy on images ({options.images:,} generated JPEGs, {VARIANTS[0]})", figures, options, REMARKS)


REMARKS = f"""\
The bare loop shows ready float32 tensors in batches of {BARE_BATCH}, the fastest size on a CPU, in torch's default
memory order unless it says otherwise. The timm-style peer does what `timm/validate.py` does with its defaults
(batches of {TIMM_BATCH}, {TIMM_WORKERS} workers, Pillow transforms, an eager network). Weights are torch's initial
ones: speed does not depend on them."""


def write_pictures(folder: Path, count: int) -> None:
    """JPEGs of the size, detail and file size of ImageNet's: shapes, texture and sensor noise, about 110 kB each."""
    generator = np.random.default_rng(0)
    for number in range(count):
        width, height = SIZES[number % len(SIZES)]
        coarse, fine = (
            np.asarray(
                Image.fromarray(generator.integers(0, 256, (height // step, width // step, 3), np.uint8)).resize(
                    (width, height), Image.Resampling.BICUBIC
                ),
                np.float32,
            )
            for step in (40, 5)
        )
        noise = generator.normal(0, 7, (height, width, 1))
        file = folder / synsets()[number % 1000] / f"{number:05d}.JPEG"
        file.parent.mkdir(exist_ok=True)
        pixels = np.clip(coarse + (fine - 128) / 3 + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(file, "JPEG", quality=93)


def decode_figure(images: ValidationSet, rounds: int) -> Figure:
    """Crops a second on one thread."""
    data = [image.location.read() for image in images.images if image.location]
    fast = crop_function()
    if any(not np.array_equal(fast(each), crop_image(each)) for each in data):
        raise SystemExit("the fast crops are not Pillow's")
    slices = [data[start : start + DECODE_SLICE] for start in range(0, len(data), DECODE_SLICE)]
    seconds: Seconds = {"pillow": [], "ours": []}
    for each in slices * rounds:
        for name, crop in (("pillow", crop_image), ("ours", fast)):
            seconds[name] += in_turn({name: partial(crop_all, each, crop)}, 1)[name]
    rate = len(data) * rounds / sum(seconds["pillow"])
    size = sum(map(len, data)) / len(data) / 1000
    note = f"Pillow {rate:.0f} crops a second, {size:.0f} kB a picture; all {len(data):,} crops bit-identical"
    return Figure("crops a second on one thread / Pillow's", "at least 1.15", ratio(seconds, "pillow", "ours"), note)


def network_figures(images: ValidationSet, networks: Mapping[str, torch.nn.Module], rounds: int) -> list[Figure]:
    """Whole measurements against bare loops."""
    name, network = next(iter(networks.items()))
    crops = np.stack([crop_image(image.location.read()) for image in images.images if image.location])
    ready = normalise(torch.from_numpy(crops)).contiguous()
    bare: Runs = {f"bare {each}": bare_loop(networks[each], ready) for each in networks}
    seconds = in_turn(
        {
            **bare,
            "bare channels-last": bare_loop(network, ready, torch.channels_last),
            "whole": lambda: measure_accuracy({name: network}, images),
            "timm-style": lambda: run_timm_style(network, images),
            "three": lambda: measure_accuracy(networks, images),
        },
        rounds,
    )
    seconds["sum of bare"] = [sum(each) for each in zip(*(seconds[each] for each in bare), strict=True)]
    rates = {each: f"{len(images.images) / statistics.median(taken):.1f}" for each, taken in seconds.items()}
    whole = f"{rates['whole']} against"
    return [
        Figure(
            "images a second, whole measurement / bare forward loop",
            "at least 0.95",
            ratio(seconds, f"bare {name}", "whole"),
            f"{whole} {rates[f'bare {name}']}",
        ),
        Figure(
            "the same / bare loop in channels-last order",
            "",
            ratio(seconds, "bare channels-last", "whole"),
            f"{whole} {rates['bare channels-last']}",
        ),
        Figure(
            "images a second, whole measurement / timm-style validation",
            "at least 1.25",
            ratio(seconds, "timm-style", "whole"),
            f"{whole} {rates['timm-style']}",
        ),
        Figure(
            "time of three networks in one pass / sum of their bare loops",
            "at most 1.02",
            ratio(seconds, "three", "sum of bare"),
            f"{statistics.median(seconds['three']):.1f} s against {statistics.median(seconds['sum of bare']):.1f} s",
        ),
    ]


def in_turn(runs: Runs, rounds: int) -> Seconds:
    """Seconds of each in every round; within a round all run in turn, so that a slow minute touches all alike."""
    seconds: Seconds = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: Seconds, one: str, other: str) -> float:
    """The median over the rounds of one time divided by another of the same round."""
    return round(statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True)), 3)


def crop_all(data: Sequence[bytes], crop: Callable[[bytes], object]) -> None:
    """Crops all pictures."""
    for each in data:
        crop(each)


def bare_loop(
    network: torch.nn.Module, ready: torch.Tensor, order: torch.memory_format = torch.contiguous_format
) -> Callable[[], None]:
    """The network alone, eager, over tensors that lie ready in a memory order."""

    def run() -> None:
        network.to(memory_format=order)  # type: ignore[call-overload]
        with torch.inference_mode():
            for start in range(0, len(ready), BARE_BATCH):
                network(ready[start : start + BARE_BATCH].contiguous(memory_format=order))

    return run


class PillowTransforms(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """What a data set with torchvision's transforms on Pillow images does."""

    def __init__(self, images: ValidationSet) -> None:
        self.images = images.images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        location = self.images[index].location
        image = Image.open(io.BytesIO(location.read() if location else b"")).convert("RGB")
        scale = 256 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        pixels = torch.from_numpy(np.array(image.crop((left, top, left + 224, top + 224))))
        return normalise(pixels[None])[0], self.images[index].label


def run_timm_style(network: torch.nn.Module, images: ValidationSet) -> int:
    """DataLoader processes with Pillow, an eager network in the default memory order, top-1 and top-5 by `topk`."""
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    loader = torch.utils.data.DataLoader(PillowTransforms(images), batch_size=TIMM_BATCH, num_workers=TIMM_WORKERS)
    correct = 0
    with torch.inference_mode():
        for inputs, labels in loader:
            correct += int((network(inputs).topk(5).indices == labels[:, None]).sum())
    return correct


if __name__ == "__main__":
    main()
