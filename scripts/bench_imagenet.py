"""Measures how much of the bare networks' speed a whole accuracy measurement keeps.

All ratios are taken in one run on one machine, the competitors in turn, the best of several rounds each:

- decode: crops a second on one thread, against Pillow's decode, resize and crop;
- whole: images a second of ``measure_accuracy``, against a bare loop of the same network over ready tensors;
- timm-style: the same, against Pillow transforms in DataLoader processes and an eager network;
- three: three networks in one pass, against the sum of their bare loops.

Usage: ``python scripts/bench_imagenet.py [--images 96] [--rounds 3]``
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from r2convert.catalog import load_catalog
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.labels import synsets
from r2convert.imagenet.pipeline import crop_image, fast_crop_function
from r2convert.imagenet.validation_set import ValidationSet
from r2convert.models.build import build_network
from r2convert.verify.accuracy import measure_accuracy
from r2convert.verify.inference import normalise

VARIANTS = ("res2net50_w26_s4", "res2net50_w14_s8", "res2net50_w48_s2")
SIZES = ((500, 375), (500, 333), (375, 500), (480, 360), (640, 480), (400, 300))


def main() -> None:
    """Measures and prints one JSON document."""
    parser = argparse.ArgumentParser(description="Speed of accuracy measurements, as ratios.")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), options.images)
        images = open_validation_set(Path(folder))
        networks: dict[str, torch.nn.Module] = {
            name: build_network(load_catalog({}).variants[name]).eval() for name in VARIANTS
        }
        result = {"machine": describe_machine(), "images": options.images}
        result |= measure_decoding(images, options.rounds) | measure_networks(images, networks, options.rounds)
    print(json.dumps(result, indent=2))


def describe_machine() -> dict[str, str]:
    """What the absolute numbers depend on."""
    return {"processor": platform.processor(), "cores": str(os.cpu_count()), "torch": torch.__version__}


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


def measure_decoding(images: ValidationSet, rounds: int) -> dict[str, float]:
    """Crops a second on one thread."""
    data = [image.location.read() for image in images.images if image.location]
    fast = fast_crop_function()
    if any(not np.array_equal(fast(each), crop_image(each)) for each in data):
        raise SystemExit("the fast crops are not Pillow's")
    seconds = best_of(rounds, {"pillow": lambda: each_of(data, crop_image), "ours": lambda: each_of(data, fast)})
    return {
        "picture_kilobytes": round(sum(map(len, data)) / len(data) / 1000, 1),
        "pillow_crops_per_second": round(len(data) / seconds["pillow"], 1),
        "decode_ratio": round(seconds["pillow"] / seconds["ours"], 3),
    }


def measure_networks(
    images: ValidationSet, networks: dict[str, torch.nn.Module], rounds: int
) -> dict[str, float | dict[str, float]]:
    """Whole measurements against bare loops."""
    first, network = next(iter(networks.items()))
    count = len(images.images)
    crops = np.stack([crop_image(image.location.read()) for image in images.images if image.location])
    ready = normalise(torch.from_numpy(crops)).contiguous()
    seconds = best_of(
        rounds,
        {
            **{f"bare {name}": lambda each=each: run_bare(each, ready) for name, each in networks.items()},  # type: ignore[misc]
            "whole": lambda: measure_accuracy({first: network}, images),
            "timm-style": lambda: run_timm_style(network, images),
            "three": lambda: measure_accuracy(networks, images),
        },
    )
    bare = sum(seconds[f"bare {name}"] for name in networks)
    return {
        "images_per_second": {name: round(count / taken, 2) for name, taken in seconds.items()},
        "whole_to_bare": round(seconds[f"bare {first}"] / seconds["whole"], 3),
        "whole_to_timm_style": round(seconds["timm-style"] / seconds["whole"], 3),
        "three_to_sum_of_bare": round(seconds["three"] / bare, 3),
    }


def best_of(rounds: int, runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Shortest time of each, all run in turn so that a slow minute hits all alike."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def each_of(data: list[bytes], crop: Callable[[bytes], object]) -> None:
    """Crops all pictures."""
    for each in data:
        crop(each)


def run_bare(network: torch.nn.Module, ready: torch.Tensor, batch_size: int = 8) -> None:
    """The network alone, eager and in its own memory order, in the batch size that is fastest on a CPU."""
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with torch.inference_mode():
        for start in range(0, len(ready), batch_size):
            network(ready[start : start + batch_size])


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
    """DataLoader processes with Pillow, batches of 32, an eager network, top-1 and top-5 by ``topk``."""
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    loader = torch.utils.data.DataLoader(PillowTransforms(images), batch_size=32, num_workers=os.cpu_count() or 1)
    correct = 0
    with torch.inference_mode():
        for inputs, labels in loader:
            correct += int((network(inputs).topk(5).indices == labels[:, None]).sum())
    return correct


if __name__ == "__main__":
    main()
