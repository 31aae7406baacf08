"""Check on a GPU, in one command, what can only be known there; needs no data, takes a few minutes.

    python -m scripts.gpu_check [--device cuda] [--images 1000] [--workers 16] [--write]

Pictures are drawn and a network is filled with drawn weights, so that top-1 and top-5 are known beforehand. One table
comes out, a line a check; the exit code is 1 if one fails, 2 without the device. With ``--write`` the table goes to
docs/gpu-check.md, which `scripts.bench` takes into docs/maintainers/benchmarks.md. With ``--device cpu`` it tries
itself out, on a few images and without what only CUDA has.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from r2convert.checks.standins import write_synthetic_set
from r2convert.evaluation.backends import ACCELERATIONS, Acceleration, Precision, computing_in, normalise
from r2convert.evaluation.engine import measure_accuracy
from r2convert.evaluation.prediction_comparison import compare_predictions
from r2convert.evaluation.prediction_store import PredictionFile
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.device_resize import SOURCE_SIDE, SourceReader, resample
from r2convert.imagenet.loader import Loader
from r2convert.imagenet.preprocessing import Crop, crop_image, crop_pixels
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet
from scripts.bench_acceleration import draw_network

LEAST_LOADING_RATIO = 2.0
LEAST_COMPUTE_RATIO = 0.95
# Enough batches that filling the first one does not count.
REPEATED = 8
RESIZED_AT_ONCE = 64
PAGE = Path(__file__).parent.parent / "docs" / "gpu-check.md"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A line of the table; ``good`` is ``None`` where something is only told."""

    check: str
    found: str
    wanted: str = ""
    good: bool | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """What all checks work with."""

    network: torch.nn.Module
    images: ValidationSet
    device: torch.device
    workers: int
    folder: Path

    def counts(self, name: str, device: torch.device, **options: object) -> tuple[int, int, str]:
        """Top-1, top-5 and the hash of crops of one measurement, whose answers are kept under a name."""
        kept = PredictionFile(self.folder / name)
        found = measure_accuracy({"it": self.network}, self.images, device=device, predictions=kept, **options)["it"]  # type: ignore[arg-type]
        return found.top1_correct, found.top5_correct, found.crops_sha256

    def seconds(self, images: ValidationSet) -> float:
        """Seconds of one measurement."""
        return timed(lambda: measure_accuracy({"it": self.network}, images, device=self.device, workers=self.workers))


def main() -> int:
    """Run all checks and show the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--images", type=int, help="by default 1000, on a CPU 24")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--write", action="store_true", help=f"write the table to {PAGE.name}")
    options = parser.parse_args()
    device: torch.device = options.device
    if device.type == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here; --device cpu tries the checks themselves out.", file=sys.stderr)
        return 2
    started = time.monotonic()
    count = options.images or (1000 if device.type == "cuda" else 24)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU only: a trial of the checks"
    machine = (
        f"{name}, {platform.processor() or platform.machine()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, {count:,} images, {options.workers} decode threads"
    )
    print(machine, flush=True)
    outcomes = []
    for outcome in run_checks(device, count, options.workers):
        print(line(outcome), flush=True)
        outcomes.append(outcome)
    seconds = f"{time.monotonic() - started:.0f} s in all"
    print(seconds)
    if options.write:
        PAGE.write_text(page(machine, outcomes, seconds), encoding="utf-8")
    return 1 if any(outcome.good is False for outcome in outcomes) else 0


def run_checks(device: torch.device, count: int, workers: int) -> Iterator[Outcome]:
    """All checks, one after the other."""
    yield check_resize(device, count)
    network = draw_network()
    right, among_five = round(0.6 * count), round(0.8 * count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ranks = ranking(network, device)
        write_synthetic_set(folder / "val", ranks, images=count, top1_correct=right, top5_correct=among_five)
        bench = Bench(network, open_validation_set(folder / "val"), device, workers, folder)
        yield from check_counts(bench, (right, among_five))
        yield check_memory(bench, (right, among_five))
        yield check_loading(bench)
        yield check_compute(bench)
        yield from tell_faster_ways(bench)


def line(outcome: Outcome) -> str:
    """An outcome as a line for the terminal."""
    verdict = {True: "ok  ", False: "FAIL", None: "    "}[outcome.good]
    return f"{verdict}  {outcome.check:<42}{outcome.found:<48}{outcome.wanted}".rstrip()


def page(machine: str, outcomes: Sequence[Outcome], seconds: str) -> str:
    """The table as a section of the page of benchmarks."""
    verdicts = {True: "ok", False: "**failed**", None: ""}
    rows = [f"| {each.check} | {each.wanted} | {each.found} | {verdicts[each.good]} |" for each in outcomes]
    head = ["## GPU", "", f"`python -m scripts.gpu_check`: {machine}; {seconds}.", ""]
    return "\n".join([*head, "| check | goal | found | |", "|---|---|---|---|", *rows]) + "\n"


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
    sources = np.zeros((RESIZED_AT_ONCE, SOURCE_SIDE, SOURCE_SIDE, 3), np.uint8)
    reader = SourceReader()
    different = 0
    for start in range(0, count, RESIZED_AT_ONCE):
        sizes = generator.integers(100, 800, (min(RESIZED_AT_ONCE, count - start), 2))
        pictures = [generator.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
        geometries = [reader.put(pixels, source) for pixels, source in zip(pictures, sources, strict=False)]
        crops = resample(torch.from_numpy(sources).to(device), geometries).cpu().numpy()
        different += sum(
            not np.array_equal(crop, crop_pixels(pixels)) for crop, pixels in zip(crops, pictures, strict=True)
        )
    return Outcome("resize on the device", f"{different} of {count:,} crops differ from Pillow's", "0", different == 0)


def check_counts(bench: Bench, known: tuple[int, int]) -> Iterator[Outcome]:
    """Whether strict and fast on the device count what a CPU counts, and what is known."""
    runs: dict[str, tuple[torch.device, Precision]] = {
        "strict on the CPU": (torch.device("cpu"), "strict"),
        "strict on the device": (bench.device, "strict"),
        "fast on the device": (bench.device, "fast"),
    }
    hashes = set()
    for name, (device, precision) in runs.items():
        top1, top5, crops = bench.counts(name, device, precision=precision)
        hashes.add(crops)
        yield counts_outcome(f"right answers, {name}", (top1, top5), known)
    yield Outcome("pixels shown on both", f"{len(hashes)} hash of all crops", "1", len(hashes) == 1)


def check_memory(bench: Bench, known: tuple[int, int]) -> Outcome:
    """Whether memory that runs out costs nothing but time."""
    with little_memory(bench.device):
        top1, top5, _ = bench.counts("little memory", bench.device, batch_size=len(bench.images.images))
    return counts_outcome("right answers, memory running out", (top1, top5), known)


def counts_outcome(check: str, found: tuple[int, int], known: tuple[int, int]) -> Outcome:
    """Top-1 and top-5 that were found, and that are known."""
    return Outcome(check, _pair(found), _pair(known), found == known)


def _pair(counts: tuple[int, int]) -> str:
    return f"{counts[0]:,} and {counts[1]:,}"


@contextmanager
def little_memory(device: torch.device) -> Iterator[None]:
    """Leaves a CUDA device too little memory for all images at once."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 6 * 2**30 / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def check_loading(bench: Bench) -> Outcome:
    """Files to crops on the device, against DataLoader processes with Pillow."""
    images = repeated(bench.images, 2 if bench.device.type == "cuda" else 1).images
    loader_here = Loader(images, device=bench.device, workers=bench.workers)
    threads = timed(lambda: [batch.places for batch in loader_here.batches(range(len(images)), 256)])
    loader = torch.utils.data.DataLoader(PillowCrops(images), batch_size=64, num_workers=bench.workers)
    processes = timed(lambda: sum(len(batch) for batch in loader))
    found = f"{processes / threads:.2f} x, {len(images) / threads:.0f} against {len(images) / processes:.0f} a second"
    wanted = f">= {LEAST_LOADING_RATIO} x DataLoader, {bench.workers} workers"
    good = processes / threads >= LEAST_LOADING_RATIO
    # A trial on a processor says nothing of speeds.
    return Outcome("decode to crop", found, wanted, good if bench.device.type == "cuda" else None)


def check_compute(bench: Bench) -> Outcome:
    """The whole measurement, against the bare network on batches that lie ready on the device."""
    on_gpu = bench.device.type == "cuda"
    images = repeated(bench.images, REPEATED if on_gpu else 1)
    batch_size, count = (256 if on_gpu else 8), len(images.images)
    ready = torch.rand((batch_size, 3, 224, 224), device=bench.device)

    def run_bare() -> None:
        with computing_in("strict", bench.device), torch.inference_mode():
            for _ in range(-(-count // batch_size)):
                bench.network(ready)
            if on_gpu:
                torch.cuda.synchronize(bench.device)

    bench.network.to(bench.device)
    run_bare()
    bare, whole = timed(run_bare), bench.seconds(images)
    found = f"{bare / whole:.3f} x, {count / whole:.0f} images a second"
    wanted = f">= {LEAST_COMPUTE_RATIO} x bare network"
    return Outcome("whole strict measurement", found, wanted, bare / whole >= LEAST_COMPUTE_RATIO if on_gpu else None)


def tell_faster_ways(bench: Bench) -> Iterator[Outcome]:
    """How much faster each precision and each acceleration is than strict, and how many predictions it changes."""
    on_gpu = bench.device.type == "cuda"
    ways: list[tuple[Precision, tuple[Acceleration, ...]]] = [("strict", ()), ("fast", ()), ("bf16", ())]
    if on_gpu:
        ways += [("tf32", ()), ("fp16", ()), *(("fp32", (each,)) for each in ACCELERATIONS), ("bf16", ACCELERATIONS)]
    else:
        ways += [("fp32", ("fold-bn",))]
    images = repeated(bench.images, REPEATED if on_gpu else 1)
    speeds: dict[str, float] = {}
    for precision, accelerations in ways:
        name = " ".join((precision, *accelerations))
        kept = PredictionFile(bench.folder / name)
        options = {"precision": precision, "accelerations": accelerations, "predictions": kept}
        speeds[name] = steady_speed(bench, images, **options)
        changed = compare_predictions(bench.folder / "strict", kept.path).changed_top1
        ratio = speeds[name] / speeds["strict"]
        yield Outcome(name, f"{ratio:.2f} x strict, {changed} of {len(images.images):,} answers changed")


def steady_speed(bench: Bench, images: ValidationSet, **options: object) -> float:
    """Images a second of one measurement from its first batch on, in which networks are compiled and recorded."""
    seen: list[tuple[float, int]] = []
    measure_accuracy(
        {"it": bench.network},
        images,
        device=bench.device,
        workers=bench.workers,
        batch_size=None if bench.device.type == "cuda" else 4,
        progress=lambda step: seen.append((time.perf_counter(), step.done)),
        **options,  # type: ignore[arg-type]
    )
    return (len(images.images) - seen[0][1]) / (time.perf_counter() - seen[0][0])


def repeated(images: ValidationSet, times: int) -> ValidationSet:
    """The same images several times over, as a longer set."""
    return replace(images, images=images.images * times)


class PillowCrops(torch.utils.data.Dataset[torch.Tensor]):
    """What a data set with transforms on Pillow images does, up to the crop."""

    def __init__(self, images: Sequence[ValidationImage]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        location = self.images[index].location
        return torch.from_numpy(crop_image(location.read() if location else b"").copy())


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
