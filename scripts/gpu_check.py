"""Check on a GPU, in one command, what can only be known there; needs no data, takes a few minutes.

    python -m scripts.gpu_check [--device cuda] [--images 1000] [--workers 16] [--write]

Images are synthetic and a network is filled with random weights, so that top-1 and top-5 are known beforehand. One
table comes out, a row a check, to the end whatever a row finds: an error is a row like any other. The exit code is 1 if
one fails, 2 without the device. With ``--write`` the table goes to docs/gpu-check.md after every row, from where
`scripts.bench` takes it into the page of benchmarks. With ``--device cpu`` it tries itself out, on a few images and
without what only CUDA has.

Speeds are those of networks over crops that lie ready on the device, without an audit and without a prediction file.
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
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from r2convert.catalog.protocol import ACCELERATIONS, Acceleration, ComputePrecision, Precision
from r2convert.checks.standins import write_synthetic_set
from r2convert.evaluation.backends import normalise
from r2convert.evaluation.engine import Run, measure_accuracy
from r2convert.evaluation.precision import accelerations_for, computing_in
from r2convert.evaluation.predictions import NetworkPredictions, Predictions
from r2convert.evaluation.processes import local_device
from r2convert.imagenet.crop_store import ResidentCrops, memory_for
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.device_resize import SOURCE_SIDE, SourceReader, resample
from r2convert.imagenet.loader import Loader
from r2convert.imagenet.preprocessing import STANDARD, Crop, crop_image, crop_pixels
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet
from scripts.bench_acceleration import draw_network

LEAST_LOADING_RATIO = 2.0
LEAST_COMPUTE_RATIO = 0.97
LEAST_FAST_RATIO = 3.0
MOST_SECONDS_OF_ONE = 15.0
MOST_SECONDS_OF_ELEVEN = 60.0
WHOLE_SET = 50_000
BATCH_SIZE = 256
# Enough batches that filling the first one does not count.
REPEATED = 8
RESIZED_AT_ONCE = 64
PAGE = Path(__file__).parent.parent / "docs" / "gpu-check.md"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row of the table; ``good`` is ``None`` where something is only told."""

    check: str
    found: str
    wanted: str = ""
    good: bool | None = None


@dataclass
class Bench:
    """What all checks work with, and the rates that some of them find for others."""

    network: torch.nn.Module
    images: ValidationSet
    device: torch.device
    workers: int
    known: tuple[int, int]

    def __post_init__(self) -> None:
        self.rates: dict[str, float] = {}

    @property
    def on_gpu(self) -> bool:
        """Whether speeds mean anything."""
        return self.device.type == "cuda"

    @property
    def batch_size(self) -> int:
        """Images a batch."""
        return BATCH_SIZE if self.on_gpu else 8

    def loader(self, images: ValidationSet) -> Loader:
        """Decodes images and crops them on the device."""
        return Loader(images.images, device=self.device, workers=self.workers)

    @cached_property
    def many(self) -> ValidationSet:
        """The images several times over."""
        return repeated(self.images, REPEATED if self.on_gpu else 1)

    @cached_property
    def resident(self) -> ResidentCrops:
        """Their crops, ready on the device."""
        count = len(self.many.images)
        crops = ResidentCrops(self.loader(self.many), memory_for(count, STANDARD.crop, self.device), range(count))
        for _ in crops.batches(range(count), self.batch_size):
            pass
        self.wait()
        return crops

    def wait(self) -> None:
        """Until the device has done everything it was given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def run(self, precision: Precision, accelerations: tuple[Acceleration, ...] = ()) -> Run:
        """A measurement over the ready crops."""
        found = Predictions(self.many, ["it"])
        # What became of the images is known; only the networks are timed.
        found.loaded[:] = True
        chosen = accelerations_for(precision, accelerations, self.device)
        return Run(found, self.loader(self.many), self.device, self.batch_size, STANDARD, precision, chosen)

    def network_rate(
        self, precision: ComputePrecision, accelerations: tuple[Acceleration, ...] = ()
    ) -> tuple[float, NetworkPredictions]:
        """Images a second of one network over the ready crops, from its second batch on, and what it predicts."""
        run = self.run(precision, accelerations)
        backend = run.backend("it", self.network)
        everything = np.arange(len(self.many.images))
        run.show(backend, self.resident, everything[: self.batch_size], precision, run.found.networks["it"], None)
        seconds = timed(
            lambda: run.show(backend, self.resident, everything, precision, run.found.networks["it"], None), self.wait
        )
        return len(everything) / seconds, run.found.networks["it"]

    @cached_property
    def strict(self) -> tuple[float, NetworkPredictions]:
        """The rate and the predictions of strict."""
        return self.network_rate("strict")


def main() -> int:
    """Run all checks and show the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--images", type=int, help="by default 1000, on a CPU 24")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--write", action="store_true", help=f"write the table to {PAGE.name}")
    parser.add_argument("--page", type=Path, default=PAGE, help="where to write it")
    options = parser.parse_args()
    if options.device.type == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here; --device cpu tries the checks themselves out.", file=sys.stderr)
        return 2
    device = local_device(options.device)
    started = time.monotonic()
    count = options.images or (1000 if device.type == "cuda" else 24)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU only: a trial of the checks"
    machine = (
        f"{name}, {platform.processor() or platform.machine()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, {datetime.now(UTC):%Y-%m-%d}, {count:,} images, {options.workers} decode threads"
    )
    print(machine, flush=True)
    outcomes: list[Outcome] = []
    for outcome in run_checks(device, count, options.workers):
        print(line(outcome), flush=True)
        outcomes.append(outcome)
        if options.write:
            options.page.write_text(page(machine, outcomes, f"{time.monotonic() - started:.0f} s"), encoding="utf-8")
    print(f"{time.monotonic() - started:.0f} s in all")
    return 1 if any(outcome.good is False for outcome in outcomes) else 0


def run_checks(device: torch.device, count: int, workers: int) -> Iterator[Outcome]:
    """All checks, one after the other; one that fails does not keep the others from running."""
    yield from caught("resize on the device", lambda: [check_resize(device, count)])
    network = draw_network()
    known = round(0.6 * count), round(0.8 * count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "val"

        def check_everything() -> Iterator[Outcome]:
            ranks = ranking(network, device)
            write_synthetic_set(path, ranks, images=count, top1_correct=known[0], top5_correct=known[1])
            bench = Bench(network, open_validation_set(path), device, workers, known)
            for name, check in CHECKS.items():
                yield from caught(name, lambda check=check: check(bench))  # type: ignore[misc]

        yield from caught("synthetic images", check_everything)


def caught(name: str, check: Callable[[], Sequence[Outcome] | Iterator[Outcome]]) -> Iterator[Outcome]:
    """The rows of a check; whatever it raises is one more."""
    try:
        yield from check()
    except Exception as error:
        said = (str(error).strip() or "no message").partition("\n")[0]
        yield Outcome(name, f"{type(error).__name__}: {said}"[:200].replace("|", "/"), "", good=False)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def line(outcome: Outcome) -> str:
    """An outcome as a line for the terminal."""
    verdict = {True: "ok  ", False: "FAIL", None: "    "}[outcome.good]
    return f"{verdict}  {outcome.check:<42}{outcome.found:<48} {outcome.wanted}".rstrip()


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
        images = [generator.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
        geometries = [reader.put(pixels, source) for pixels, source in zip(images, sources, strict=False)]
        crops = resample(torch.from_numpy(sources).to(device), geometries).cpu().numpy()
        different += sum(
            not np.array_equal(crop, crop_pixels(pixels)) for crop, pixels in zip(crops, images, strict=True)
        )
    return Outcome("resize on the device", f"{different} of {count:,} crops differ from Pillow's", "0", different == 0)


def check_counts(bench: Bench) -> Iterator[Outcome]:
    """Whether strict and fast on the device count what a CPU counts, and what is known."""
    runs: dict[str, tuple[torch.device, Precision]] = {
        "strict on the device": (bench.device, "strict"),
        "fast on the device": (bench.device, "fast"),
        "strict on the CPU": (torch.device("cpu"), "strict"),
    }
    hashes: list[str] = []

    def count(check: str, device: torch.device, precision: Precision) -> Iterator[Outcome]:
        found = measure_accuracy({"it": bench.network}, bench.images, device=device, precision=precision)["it"]
        hashes.append(found.crops_sha256)
        yield counts_outcome(check, (found.top1_correct, found.top5_correct), bench.known)

    for name, run in runs.items():
        check = f"right predictions, {name}"
        yield from caught(check, lambda check=check, run=run: count(check, *run))  # type: ignore[misc]
    same = len(set(hashes)) == 1 and len(hashes) == len(runs)
    yield Outcome("pixels shown on both", f"{len(set(hashes))} hash of all crops, {len(hashes)} runs", "1", same)


def check_memory(bench: Bench) -> Iterator[Outcome]:
    """Whether memory that runs out costs nothing but time."""
    with little_memory(bench.device):
        found = measure_accuracy(
            {"it": bench.network}, bench.images, device=bench.device, batch_size=len(bench.images.images)
        )["it"]
    yield counts_outcome("right predictions, memory running out", (found.top1_correct, found.top5_correct), bench.known)


def counts_outcome(check: str, found: tuple[int, int], known: tuple[int, int]) -> Outcome:
    """Top-1 and top-5 that were found, and that are known."""
    said, wanted = (f"{counts[0]:,} and {counts[1]:,}" for counts in (found, known))
    return Outcome(check, said, wanted, found == known)


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


def check_loading(bench: Bench) -> Iterator[Outcome]:
    """Files to crops on the device, against DataLoader processes with Pillow."""
    images = bench.many
    places = range(len(images.images))
    threads = timed(lambda: [batch.places for batch in bench.loader(images).batches(places, 256)], bench.wait)
    # The better of two epochs: in the second one the workers are there already.
    processes_loader = torch.utils.data.DataLoader(
        PillowCrops(images.images), batch_size=64, num_workers=bench.workers, persistent_workers=True
    )
    processes = timed(lambda: sum(len(batch) for batch in processes_loader))
    bench.rates["decode"] = len(places) / threads
    found = f"{processes / threads:.2f} x, {len(places) / threads:,.0f} against {len(places) / processes:,.0f} a second"
    wanted = f">= {LEAST_LOADING_RATIO} x DataLoader, {bench.workers} workers"
    # A trial on a processor says nothing of speeds.
    yield Outcome("decode to crop", found, wanted, processes / threads >= LEAST_LOADING_RATIO if bench.on_gpu else None)


def check_compute(bench: Bench) -> Iterator[Outcome]:
    """Strict over ready crops, against the bare network on ready tensors; where the time goes if that is short."""
    count = len(bench.many.images)
    ready = torch.rand((bench.batch_size, 3, 224, 224), device=bench.device)

    def run_bare() -> None:
        with computing_in("strict", bench.device), torch.inference_mode():
            for _ in range(-(-count // bench.batch_size)):
                bench.network(ready)

    rate, _ = bench.strict  # which has brought the network to the device, in its memory order
    bare = count / timed(run_bare, bench.wait)
    bench.rates["strict"] = rate
    good = rate / bare >= LEAST_COMPUTE_RATIO if bench.on_gpu else None
    found = f"{rate / bare:.3f} x, {rate:,.0f} against {bare:,.0f} images a second"
    yield Outcome("strict on ready crops", found, f">= {LEAST_COMPUTE_RATIO} x the bare network", good)
    if good is False:
        yield Outcome("where the time of strict goes", profile(bench))


def profile(bench: Bench) -> str:
    """The five operations that take most of the device's time over a few batches, in percent."""
    run = bench.run("strict")
    backend = run.backend("it", bench.network)
    places = np.arange(min(8 * bench.batch_size, len(bench.many.images)))
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        run.show(backend, bench.resident, places, "strict", run.found.networks["it"], None)
        bench.wait()
    events = [(event.self_device_time_total, event.key) for event in profiler.key_averages()]
    total = sum(seconds for seconds, _ in events) or 1
    return ", ".join(f"{name[:40]} {100 * seconds / total:.0f} %" for seconds, name in sorted(events, reverse=True)[:5])


def check_fast(bench: Bench) -> Iterator[Outcome]:
    """Fast, rechecks included, against strict: how much faster, and whether it counts the same."""
    run = bench.run("fast")
    backend = run.backend("it", bench.network)
    places = np.arange(len(bench.many.images))
    seconds = timed(lambda: run.measure_network(backend, bench.resident, places), bench.wait)
    rate, strict = bench.strict
    bench.rates["fast"] = len(places) / seconds
    found = run.found.networks["it"]
    ratio, audit = bench.rates["fast"] / rate, run.audits["it"][-1]
    same = (found.top1_correct, found.top5_correct) == (strict.top1_correct, strict.top5_correct)
    said = (
        f"{ratio:.2f} x, {bench.rates['fast']:,.0f} images a second, {'strict' if same else 'NOT strict'}'s counts, "
        f"{audit.images:,} rechecked after {audit.first_precision}"
    )
    good = same and ratio >= LEAST_FAST_RATIO if bench.on_gpu else same
    yield Outcome("fast on ready crops", said, f">= {LEAST_FAST_RATIO} x strict, the same counts", good)


def tell_faster_ways(bench: Bench) -> Iterator[Outcome]:
    """How much faster each precision and each acceleration is than strict, and how many predictions it changes."""
    ways: list[tuple[ComputePrecision, tuple[Acceleration, ...]]] = [("bf16", ()), ("fp32", ("fold-bn",))]
    if bench.on_gpu:
        others: tuple[Acceleration, ...] = tuple(each for each in ACCELERATIONS if each != "fold-bn")
        ways += [("tf32", ()), ("fp16", ()), *(("fp32", (each,)) for each in others)]
        ways += [("bf16", ("channels-last",)), ("bf16", ("channels-last", "fold-bn")), ("bf16", ACCELERATIONS)]
    for precision, accelerations in ways:
        name = " ".join((precision, *accelerations))
        yield from caught(name, lambda way=(precision, accelerations), name=name: [tell_way(bench, name, *way)])  # type: ignore[misc]


def tell_way(bench: Bench, name: str, precision: ComputePrecision, accelerations: tuple[Acceleration, ...]) -> Outcome:
    """One of them."""
    strict_rate, strict = bench.strict
    rate, found = bench.network_rate(precision, accelerations)
    changed = int(np.count_nonzero(found.top[:, 0] != strict.top[:, 0]))
    of = f"{changed} of {len(found.done):,} predictions changed"
    return Outcome(name, f"{rate / strict_rate:.2f} x strict, {rate:,.0f} images a second, {of}")


def check_timm(bench: Bench) -> Iterator[Outcome]:
    """The same network in a loop like timm's ``validate.py``, its defaults: files to counts, TF32 on."""
    try:
        from timm.data import create_dataset, create_loader
        from timm.utils import accuracy
    except ImportError as error:
        yield Outcome("timm's loop", f"timm is not installed: {error}")
        return
    loader = create_loader(
        create_dataset("", root=str(bench.images.path)),
        input_size=(3, 224, 224),
        batch_size=bench.batch_size,
        use_prefetcher=bench.on_gpu,
        interpolation="bilinear",
        mean=STANDARD.mean,
        std=STANDARD.std,
        num_workers=min(bench.workers, 16) if bench.on_gpu else 0,
        crop_pct=STANDARD.crop / STANDARD.resize,
        device=bench.device,
    )

    def validate() -> None:
        with computing_in("tf32" if bench.on_gpu else "strict", bench.device), torch.inference_mode():
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
            for images, labels in loader:
                accuracy(bench.network(images), labels, topk=(1, 5))

    bench.network.to(bench.device)
    theirs = len(bench.images.images) / timed(validate, bench.wait)
    ours = len(bench.images.images) / timed(
        lambda: measure_accuracy({"it": bench.network}, bench.images, device=bench.device, workers=bench.workers)
    )
    found = f"{ours / theirs:.2f} x, {ours:,.0f} against {theirs:,.0f} images a second"
    yield Outcome("whole strict measurement / timm's loop", found)


def extrapolate(bench: Bench) -> Iterator[Outcome]:
    """How long all 50,000 images would take, from the rates that were measured."""
    missing = [name for name in ("decode", "strict", "fast") if name not in bench.rates]
    if missing:
        yield Outcome("all 50,000 images", f"not known without the rate of {', '.join(missing)}")
        return
    decode, strict, fast = bench.rates["decode"], bench.rates["strict"], max(bench.rates["strict"], bench.rates["fast"])
    # The first network sees its images as they are decoded; the others see crops that lie ready.
    one = WHOLE_SET / min(decode, strict)
    said = f"{one:.1f} s = 50,000 / min(decode {decode:,.0f}, strict {strict:,.0f})"
    yield goal("one network, 50,000 images, strict", said, one, MOST_SECONDS_OF_ONE, bench)
    first = WHOLE_SET / min(decode, fast)
    eleven = first + 10 * WHOLE_SET / fast
    said = f"{eleven:.1f} s = {first:.1f} + 10 x 50,000 / {fast:,.0f}"
    yield goal("eleven networks, strict's counts", said, eleven, MOST_SECONDS_OF_ELEVEN, bench)


def goal(check: str, said: str, seconds: float, most: float, bench: Bench) -> Outcome:
    """Seconds, and how many there may be at most."""
    return Outcome(check, said, f"<= {most:.0f} s", seconds <= most if bench.on_gpu else None)


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


CHECKS: dict[str, Callable[[Bench], Iterator[Outcome]]] = {
    "right predictions": check_counts,
    "memory running out": check_memory,
    "strict on ready crops": check_compute,
    "fast on ready crops": check_fast,
    "decode to crop": check_loading,
    "all 50,000 images": extrapolate,
    "timm's loop": check_timm,
    "faster ways": tell_faster_ways,
}


def timed(run: Callable[[], object], wait: Callable[[], None] = lambda: None) -> float:
    """Seconds it takes until the device is done, the better of two."""
    seconds = []
    for _ in range(2):
        wait()
        started = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    raise SystemExit(main())
