"""Measure how much of the bare networks' speed a whole accuracy measurement keeps, and where its time goes.

    python -m scripts.bench_imagenet [--images 1000] [--slices 2] [--rounds 1] [--json]

On generated JPEGs of the size and detail of ImageNet's, slice by slice: all competitors run in turn on every slice, in
one process, so that a slow minute of the machine touches all alike; whole measurement and bare loop, which are nearly
alike, are run several times in turn, and the timm-style loop once, half way through. 1,000 images take about 20 minutes
on two cores.

- decode: crops a second on one thread, against Pillow's decode, resize and crop, bit for bit the same;
- whole: `measure_accuracy` from files to counts, against a bare loop of the same network over ready tensors, in
  channels-last order, which is the faster one on a CPU;
- timm-style: the same, against Pillow transforms in a DataLoader and an eager network, with timm's own defaults;
- three: three networks in one pass, against the sum of their bare loops in torch's default order and in that one;
- convolutions: their share of that loop, below which no order of work comes;
- profile: the processor's time by what it was spent on.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from r2convert.imagenet.validation_set import ImageLocation, ValidationSet
from r2convert.models.build import build_network
from scripts.measuring import Figure, parser, tell

VARIANTS = ("res2net50_w26_s4", "res2net50_w14_s8", "res2net50_w48_s2")
SIZES = ((500, 375), (500, 333), (375, 500), (480, 360), (640, 480), (400, 300))
BARE_BATCH = 8
TIMM_BATCH = 256
TIMM_WORKERS = min(4, os.cpu_count() or 1)
DECODED = 48
PAIRS = 3

Networks = Mapping[str, torch.nn.Module]
Seconds = dict[str, list[float]]

REMARKS = f"""\
The bare loop shows ready float32 tensors, eager, in `inference_mode`, in batches of {BARE_BATCH}, as the engine does on
two cores; torch's default order is the one that networks come in. Every whole measurement of a slice pays for its start
(about half a second). The timm-style peer does what `timm/validate.py` does with its defaults (batches of {TIMM_BATCH},
{TIMM_WORKERS} workers, Pillow transforms, an eager network). Weights are torch's initial ones: speed does not depend on
them. A whole measurement decodes, crops, hashes and ranks besides; it makes up for that by keeping the memory that a
layer frees for the next one, instead of handing it back to the system, and by bringing a convolution's weights into
oneDNN's order once instead of for every batch. Three networks in 0.75 of their channels-last loops cannot be reached
in `strict`: the convolutions alone take about as much of these loops, and they are oneDNN's own. The profile counts
seconds of the processor over all threads: decoding is what decode threads take, the rest is what the launching thread
takes outside the network and what the thread takes that predictions go to."""


def main() -> None:
    """Measure and tell."""
    arguments = parser(__doc__, rounds=1)
    arguments.add_argument("--images", type=int, default=1000)
    arguments.add_argument("--slices", type=int, default=2, help="parts that the images are split into")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), options.images)
        images = open_validation_set(Path(folder))
        networks = {name: build_network(load_catalog({}).variants[name]).eval() for name in VARIANTS}
        figures = [
            decode_figure(images),
            *network_figures(images, networks, options.slices, options.rounds),
        ]
    tell(f"Accuracy on images ({options.images:,} generated JPEGs, {VARIANTS[0]})", figures, options, REMARKS)


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


def slices_of(images: ValidationSet, count: int) -> list[ValidationSet]:
    """The images in so many parts."""
    return [replace(images, images=images.images[start::count]) for start in range(count)]


def decode_figure(images: ValidationSet) -> Figure:
    """Crops a second on one thread."""
    data = [image.location.read() for image in images.images if image.location]
    fast = crop_function()
    if any(not np.array_equal(fast(each), crop_image(each)) for each in data):
        raise SystemExit("the fast crops are not Pillow's")
    seconds: Seconds = {"pillow": [], "ours": []}
    for start in range(0, len(data), DECODED):
        for name, crop in (("pillow", crop_image), ("ours", fast)):
            seconds[name].append(timed(partial(crop_all, data[start : start + DECODED], crop)))
    rate = len(data) / sum(seconds["pillow"])
    size = sum(map(len, data)) / len(data) / 1000
    note = f"Pillow {rate:.0f} crops a second, {size:.0f} kB a picture; all {len(data):,} crops bit-identical"
    return Figure("crops a second on one thread / Pillow's", "at least 1.15", ratio(seconds, "pillow", "ours"), note)


def network_figures(whole_set: ValidationSet, networks: Networks, parts: int, rounds: int) -> list[Figure]:
    """Whole measurements against bare loops."""
    name, network = next(iter(networks.items()))
    seconds: Seconds = {}
    profiles = []
    slices = slices_of(whole_set, parts) * rounds
    for number, images in enumerate(slices):
        if number == len(slices) // 2:
            # Over all of them: its batches are large, and its workers decode one each.
            seconds["timm-style"] = [timed(partial(run_timm_style, network, whole_set))]
        crops = np.stack([crop_image(image.location.read()) for image in images.images if image.location])
        ready = normalise(torch.from_numpy(crops))
        runs: dict[str, Callable[[], object]] = {
            **{f"bare {each}": partial(run_bare, networks[each], ready, torch.channels_last) for each in networks},
            **{f"default {each}": partial(run_bare, networks[each], ready) for each in networks},
            "three": partial(measure_accuracy, networks, images),
        }
        for each, run in runs.items():
            seconds.setdefault(each, []).append(timed(run))
        for _ in range(PAIRS):
            seconds.setdefault("bare loop", []).append(timed(runs[f"bare {name}"]))
            seconds.setdefault("whole", []).append(timed(partial(measure_accuracy, {name: network}, images)))
        profiles.append(profile(network, images))
    for order in ("bare", "default"):
        seconds[f"all {order}"] = list(map(sum, zip(*(seconds[f"{order} {each}"] for each in networks), strict=True)))
    passes = {"timm-style": 1, "whole": PAIRS * rounds, "bare loop": PAIRS * rounds}
    speeds = {each: count * len(whole_set.images) / sum(seconds[each]) for each, count in passes.items()}
    whole = f"{speeds['whole']:.1f} against"
    return [
        Figure(
            "images a second, whole measurement / bare channels-last loop",
            "at least 1.0",
            ratio(seconds, "bare loop", "whole"),
            f"{whole} {speeds['bare loop']:.1f}; median of {len(seconds['whole'])} pairs, {spread(seconds)}",
        ),
        Figure(
            "images a second, whole measurement / timm-style validation",
            "at least 1.9",
            round(speeds["whole"] / speeds["timm-style"], 3),
            f"{whole} {speeds['timm-style']:.1f}",
        ),
        Figure(
            "time of three networks in one pass / their bare loops together, default order",
            "at most 0.75",
            ratio(seconds, "three", "all default"),
            f"{sum(seconds['three']):.0f} s against {sum(seconds['all default']):.0f} s",
        ),
        Figure(
            "the same / their bare channels-last loops together",
            "",
            ratio(seconds, "three", "all bare"),
            f"{sum(seconds['three']):.0f} s against {sum(seconds['all bare']):.0f} s",
        ),
        Figure(
            "share of convolutions in these channels-last loops",
            "",
            round(statistics.mean(convolution_share(each, ready) for each in networks.values()), 3),
            "oneDNN's; the rest is BatchNorm, additions, ReLU, concatenation and copies",
        ),
        profile_figure(profiles),
    ]


def convolution_share(network: torch.nn.Module, ready: torch.Tensor) -> float:
    """Which part of the bare channels-last loop's time its convolutions take."""
    run_bare(network, ready[:BARE_BATCH], torch.channels_last)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        run_bare(network, ready[: 2 * BARE_BATCH], torch.channels_last)
    microseconds = {each.key: each.self_cpu_time_total for each in profiler.key_averages()}
    convolutions: float = sum(each for name, each in microseconds.items() if "convolution" in name)
    return float(convolutions / sum(microseconds.values()))


@dataclass(frozen=True, slots=True)
class Profile:
    """Seconds of the processor that a measurement takes."""

    network: float
    decoding: float
    rest: float


@dataclass(frozen=True, slots=True)
class _TimedLocation(ImageLocation):
    """Notes how much of the processor's time the thread that reads it has taken."""

    def read(self) -> bytes:
        DECODE_THREADS[threading.get_ident()] = time.thread_time()
        return ImageLocation.read(self)


DECODE_THREADS: dict[int, float] = {}


def profile(network: torch.nn.Module, images: ValidationSet) -> Profile:
    """Where the processor's time goes in one measurement, by the clocks of its threads."""
    inside, kept, began = [0.0], [0.0], [0.0]
    hooks = [
        network.register_forward_pre_hook(lambda *_: began.__setitem__(0, time.thread_time())),
        network.register_forward_hook(lambda *_: inside.__setitem__(0, inside[0] + time.thread_time() - began[0])),
    ]
    timed_images = tuple(
        replace(image, location=image.location and _TimedLocation(image.location.path)) for image in images.images
    )
    DECODE_THREADS.clear()
    whole, launching = time.process_time(), time.thread_time()
    measure_accuracy(
        {"it": network},
        replace(images, images=timed_images),
        progress=lambda _: kept.__setitem__(0, time.thread_time()),
    )
    whole, launching = time.process_time() - whole, time.thread_time() - launching
    for hook in hooks:
        hook.remove()
    decoding, rest = sum(DECODE_THREADS.values()), launching - inside[0] + kept[0]
    return Profile(whole - decoding - rest, decoding, rest)


def profile_figure(profiles: Sequence[Profile]) -> Figure:
    """The share of neither network nor decoding."""
    network, decoding, rest = (
        sum(getattr(each, part) for each in profiles) for part in ("network", "decoding", "rest")
    )
    whole = network + decoding + rest
    shares = {"network": network, "decoding and cropping": decoding, "rest": rest}
    note = ", ".join(f"{name} {100 * seconds / whole:.1f} %" for name, seconds in shares.items())
    return Figure(
        "share of the processor's time outside network and decoding", "at most 0.02", round(rest / whole, 4), note
    )


def timed(run: Callable[[], object]) -> float:
    """Seconds it takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def ratio(seconds: Seconds, one: str, other: str) -> float:
    """The median over the slices of one time divided by another of the same slice."""
    return round(statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True)), 3)


def spread(seconds: Seconds) -> str:
    """The least and the largest ratio of a pair."""
    ratios = [a / b for a, b in zip(seconds["bare loop"], seconds["whole"], strict=True)]
    return f"{min(ratios):.3f} to {max(ratios):.3f}"


def crop_all(data: Sequence[bytes], crop: Callable[[bytes], object]) -> None:
    """Crops all pictures."""
    for each in data:
        crop(each)


def run_bare(
    network: torch.nn.Module, ready: torch.Tensor, order: torch.memory_format = torch.contiguous_format
) -> None:
    """The network alone, eager, over ready tensors that it is shown in a memory order."""
    network.to(memory_format=order)  # type: ignore[call-overload]
    with torch.inference_mode():
        for start in range(0, len(ready), BARE_BATCH):
            network(ready[start : start + BARE_BATCH].contiguous(memory_format=order))


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
