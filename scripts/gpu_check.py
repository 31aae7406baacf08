"""Checks on a GPU, in one command, what can only be known there; needs no data, takes a few minutes.

Pictures are drawn and a network is filled with drawn weights, so that top-1 and top-5 are known beforehand. One table
comes out, a line a check; the exit code is 1 if one fails. With ``--device cpu`` it tries itself out.

Usage: ``python scripts/gpu_check.py [--device cuda] [--images 1000] [--workers 16]``
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from r2convert.catalog import load_catalog
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.device_resize import DeviceCropper, crop_function_on
from r2convert.imagenet.loading import load_batches, reader
from r2convert.imagenet.pipeline import Crop, crop_image, crop_pixels
from r2convert.imagenet.standin import write_standin_set
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet
from r2convert.mapping.tables import Tables
from r2convert.models.build import build_network
from r2convert.verify.accuracy import measure_accuracy
from r2convert.verify.inference import normalise
from r2convert.verify.precision import computing_in
from r2convert.verify.standin import standin_state_dict

VARIANT = "res2net50_w14_s8"
LEAST_LOADING_RATIO = 2.0
LEAST_COMPUTE_RATIO = 0.95


@dataclass(frozen=True, slots=True)
class Outcome:
    """A line of the table."""

    check: str
    found: str
    wanted: str
    good: bool


def main() -> int:
    """Runs all checks."""
    parser = argparse.ArgumentParser(description="Checks exactness and speed on a GPU.")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=16)
    options = parser.parse_args()
    device: torch.device = options.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(f"{name}, torch {torch.__version__}, {options.images} images, {options.workers} decode threads")
    network = draw_network()
    outcomes = [check_resize(device, options.images)]
    with tempfile.TemporaryDirectory() as folder:
        right, among_five = round(0.6 * options.images), round(0.8 * options.images)
        write_standin_set(
            Path(folder), ranking(network, device), images=options.images, top1_correct=right, top5_correct=among_five
        )
        images = open_validation_set(Path(folder))
        outcomes += check_counts(network, images, device, (right, among_five))
        outcomes.append(check_loading(images, device, options.workers))
        outcomes.append(check_compute(network, images, device, options.workers))
    for outcome in outcomes:
        verdict = "ok  " if outcome.good else "FAIL"
        print(f"{verdict}  {outcome.check:<44}{outcome.found:<36}{outcome.wanted}")
    return 0 if all(outcome.good for outcome in outcomes) else 1


def draw_network() -> torch.nn.Module:
    """The network with the weights of the stand-in checkpoints."""
    tables = Tables(load_catalog({}))
    variant = tables.catalog.variants[VARIANT]
    network = build_network(variant)
    network.load_state_dict(standin_state_dict(tables.of(variant), "mm"))
    return network.eval()


def ranking(network: torch.nn.Module, device: torch.device) -> Callable[[Crop], npt.NDArray[np.floating]]:
    """Crops to logits, in strict float32."""

    def rank(crops: Crop) -> npt.NDArray[np.floating]:
        with computing_in("strict", device), torch.inference_mode():
            logits = network.to(device)(normalise(torch.from_numpy(crops).to(device)))
        found: npt.NDArray[np.floating] = logits.cpu().numpy()
        return found

    return rank


def check_resize(device: torch.device, count: int) -> Outcome:
    """Whether the device's crops are Pillow's, over many sizes."""
    generator = np.random.default_rng(0)
    cropper = DeviceCropper(device)
    different = 0
    for _ in range(count):
        height, width = generator.integers(100, 800, 2)
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        different += not np.array_equal(cropper.crop_pixels(pixels), crop_pixels(pixels))
    return Outcome("resize on the device", f"{different} of {count} crops differ", "0", different == 0)


def check_counts(
    network: torch.nn.Module, images: ValidationSet, device: torch.device, known: tuple[int, int]
) -> list[Outcome]:
    """Whether strict and fast on the device count what a CPU counts, and what is known."""
    outcomes = []
    runs = {
        "strict on the CPU": measure_accuracy({"it": network}, images),
        "strict on the device": measure_accuracy({"it": network}, images, device=device),
        "fast on the device": measure_accuracy({"it": network}, images, device=device, precision="fast"),
    }
    for name, result in runs.items():
        found = result["it"]
        counts = found.top1_correct, found.top5_correct
        again = f", {found.audit.images} shown again" if found.audit else ""
        outcomes.append(Outcome(f"top-1 and top-5, {name}", f"{counts}{again}", str(known), counts == known))
    hashes = {result["it"].crops_sha256 for result in runs.values()}
    outcomes.append(Outcome("the same pixels everywhere", f"{len(hashes)} hash of crops", "1", len(hashes) == 1))
    return outcomes


def check_loading(images: ValidationSet, device: torch.device, workers: int) -> Outcome:
    """Files to crops, against DataLoader processes with Pillow."""
    read_crop = reader(crop_function_on(device))
    buffers = [np.empty((64, 224, 224, 3), np.uint8) for _ in range(3)]
    threads = timed(lambda: consume(load_batches(images.images, read_crop, buffers, workers=workers)))
    loader = torch.utils.data.DataLoader(PillowCrops(images.images), batch_size=64, num_workers=workers)
    processes = timed(lambda: consume(loader))
    rates = f"{len(images.images) / threads:.0f} to {len(images.images) / processes:.0f} a second"
    ratio = processes / threads
    wanted = f">= {LEAST_LOADING_RATIO} x DataLoader"
    return Outcome("decode to crop", f"{ratio:.2f} x, {rates}", wanted, ratio >= LEAST_LOADING_RATIO)


def check_compute(network: torch.nn.Module, images: ValidationSet, device: torch.device, workers: int) -> Outcome:
    """The whole measurement, against the bare network on batches that lie ready on the device."""
    batch_size = 256 if device.type == "cuda" else 8
    ready = torch.rand((batch_size, 3, 224, 224), device=device)
    batches = -(-len(images.images) // batch_size)

    def run_bare() -> None:
        with computing_in("strict", device), torch.inference_mode():
            for _ in range(batches):
                network(ready)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    network.to(device)
    run_bare()
    bare = timed(run_bare)
    whole = timed(lambda: measure_accuracy({"it": network}, images, device=device, workers=workers))
    found = f"{bare / whole:.3f} x, {len(images.images) / whole:.0f} images a second"
    return Outcome(
        "whole measurement to bare network", found, f">= {LEAST_COMPUTE_RATIO}", bare / whole >= LEAST_COMPUTE_RATIO
    )


class PillowCrops(torch.utils.data.Dataset[torch.Tensor]):
    """What a data set with transforms on Pillow images does, up to the crop."""

    def __init__(self, images: Sequence[ValidationImage]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        location = self.images[index].location
        return torch.from_numpy(crop_image(location.read() if location else b"").copy())


def consume(batches: object) -> None:
    """Takes everything there is."""
    for _ in batches:  # type: ignore[attr-defined]
        pass


def timed(run: Callable[[], object]) -> float:
    """Seconds it takes, the better of two."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    raise SystemExit(main())
