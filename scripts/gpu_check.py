"""Check on a GPU, in one command, what can only be known there; needs no data, takes a few minutes.

    python -m scripts.gpu_check [--device cuda] [--images 1000] [--workers 16] [--seconds 380] [--write]

Images are synthetic and the network has random weights, so that top-1 and top-5 are known beforehand. The result is a
table with a row per check. A failing check does not stop the others: its error is its row. A check that would start too
late is skipped, and one that hangs ends the run with a traceback; the most important rows come first, those that could
hang last. The exit code is 1 if a check fails, 2 without the device. With ``--write`` the table is written to
docs/gpu-check.md after every row; `scripts.bench` includes it in the page of benchmarks. ``--device cpu`` tries out the
checks themselves, on a few images and without what only CUDA has.

Speeds are those of networks over crops that lie ready on the device, without an audit and without a prediction file.
Files to crops or to counts are measured on JPEGs of the size and detail of ImageNet's.
"""

from __future__ import annotations

import argparse
import faulthandler
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from r2convert.catalog.protocol import ACCELERATIONS, Acceleration, ComputePrecision, Precision
from r2convert.checks.standins import write_synthetic_set
from r2convert.evaluation.backends import normalise
from r2convert.evaluation.engine import Run, measure_accuracy
from r2convert.evaluation.precision import accelerated, accelerations_for, computing_in, without_gradients
from r2convert.evaluation.predictions import NetworkPredictions, Predictions
from r2convert.evaluation.processes import local_device
from r2convert.imagenet.crop_store import ResidentCrops, memory_for
from r2convert.imagenet.datasets import open_validation_set
from r2convert.imagenet.device_resize import SOURCE_SIDE, SourceReader, resample
from r2convert.imagenet.loader import Loader
from r2convert.imagenet.preprocessing import STANDARD, Crop, crop_image, crop_pixels
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet
from r2convert.results.verification import Accuracy
from scripts.bench_acceleration import draw_network
from scripts.bench_imagenet import write_pictures

LEAST_LOADING_RATIO = 2.0
LEAST_COMPUTE_RATIO = 0.97
LEAST_FAST_RATIO = 3.0
MOST_SECONDS_OF_ONE = 15.0
MOST_SECONDS_OF_ELEVEN = 60.0
WHOLE_SET = 50_000
BATCH_SIZE = 256
# Enough batches that filling the first one does not count.
REPEATED = 8
PICTURES, PICTURES_REPEATED = 128, 128
RESIZED_AT_ONCE = 64
# A check that would begin in the last of them is left out.
LAST_SECONDS = 20
# What worker processes may take for a batch; they are forked beside CUDA's threads, and could hang.
MOST_SECONDS_OF_A_BATCH = 60
PAGE = Path(__file__).parent.parent / "docs" / "gpu-check.md"


Way = tuple[ComputePrecision, tuple[Acceleration, ...]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row of the table, and what stands below it; ``good`` is ``None`` where something is only told."""

    check: str
    found: str
    wanted: str = ""
    good: bool | None = None
    details: str = ""


@dataclass
class Bench:
    """What all checks work with, until when, and what some of them find for others: rates, and which fall short."""

    network: torch.nn.Module
    images: ValidationSet
    folder: Path
    device: torch.device
    workers: int
    known: tuple[int, int]
    ends: float

    def __post_init__(self) -> None:
        self.rates: dict[str, float] = {}
        self.short: list[Precision] = []

    @property
    def on_gpu(self) -> bool:
        """Whether speeds mean anything."""
        return self.device.type == "cuda"

    @property
    def batch_size(self) -> int:
        """Images per batch."""
        return BATCH_SIZE if self.on_gpu else 8

    def loader(self, images: ValidationSet) -> Loader:
        """Decodes images and crops them on the device."""
        return Loader(images.images, device=self.device, workers=self.workers)

    @cached_property
    def pictures(self) -> ValidationSet:
        """JPEGs like ImageNet's."""
        folder = self.folder / "pictures"
        folder.mkdir(exist_ok=True)
        write_pictures(folder, PICTURES if self.on_gpu else 8)
        return open_validation_set(folder)

    @cached_property
    def many_pictures(self) -> ValidationSet:
        """The same several times over."""
        return repeated(self.pictures, PICTURES_REPEATED if self.on_gpu else 1)

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

    def bare_rate(
        self, network: torch.nn.Module, precision: ComputePrecision, order: torch.memory_format, *, search: bool = False
    ) -> float:
        """Images a second of a bare network over tensors that are ready; ``search`` has cuDNN try all algorithms."""
        ready = torch.rand((self.batch_size, 3, 224, 224), device=self.device).contiguous(memory_format=order)
        count = len(self.many.images)

        def run() -> None:
            with computing_in(precision, self.device), without_gradients(precision):
                torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = not search, search
                for _ in range(-(-count // self.batch_size)):
                    network(ready)

        return count / timed(run, self.wait)

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
    parser.add_argument("--seconds", type=float, default=380.0, help="how long all of it may take")
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

    def write(remark: str) -> None:
        if options.write:
            took = f"{time.monotonic() - started:.0f} s{remark}"
            options.page.write_text(page(machine, outcomes, took), encoding="utf-8")

    # Works while the interpreter's lock is held, too.
    faulthandler.dump_traceback_later(options.seconds, exit=True, file=2)
    for outcome in run_checks(device, count, options.workers, started + options.seconds - LAST_SECONDS):
        print(line(outcome), flush=True)
        outcomes.append(outcome)
        write(", **not finished**")
    faulthandler.cancel_dump_traceback_later()
    write("")
    print(f"{time.monotonic() - started:.0f} s in all")
    return 1 if any(outcome.good is False for outcome in outcomes) else 0


def run_checks(device: torch.device, count: int, workers: int, ends: float) -> Iterator[Outcome]:
    """All checks, one after the other; one that fails does not keep the others from running."""
    yield from caught("resize on the device", lambda: [check_resize(device, count)], ends)
    network = draw_network()
    known = round(0.6 * count), round(0.8 * count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "val"

        def check_everything() -> Iterator[Outcome]:
            ranks = ranking(network, device)
            write_synthetic_set(path, ranks, images=count, top1_correct=known[0], top5_correct=known[1])
            bench = Bench(network, open_validation_set(path), Path(folder), device, workers, known, ends)
            for name, check in CHECKS.items():
                yield from caught(name, lambda check=check: check(bench), ends)  # type: ignore[misc]

        yield from caught("synthetic images", check_everything, ends)


def caught(name: str, check: Callable[[], Sequence[Outcome] | Iterator[Outcome]], ends: float) -> Iterator[Outcome]:
    """The rows of a check; whatever it raises is one more. It is not begun if the time is up."""
    if time.monotonic() > ends:
        yield Outcome(name, "not run: the time was up")
        return
    try:
        yield from check()
    except Exception as error:
        said = (str(error).strip() or "no message").partition("\n")[0]
        yield Outcome(name, f"{type(error).__name__}: {said}"[:200].replace("|", "/"), "", good=False)
        # After some errors CUDA answers nothing but errors, and every row has to say so.
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


def line(outcome: Outcome) -> str:
    """An outcome as a line for the terminal."""
    verdict = {True: "ok  ", False: "FAIL", None: "    "}[outcome.good]
    return f"{verdict}  {outcome.check:<42}{outcome.found:<48} {outcome.wanted}\n{outcome.details}".rstrip()


def page(machine: str, outcomes: Sequence[Outcome], seconds: str) -> str:
    """The table as a section of the page of benchmarks, and below it what there is to say of a row."""
    verdicts = {True: "ok", False: "**failed**", None: ""}
    rows = [f"| {each.check} | {each.wanted} | {each.found} | {verdicts[each.good]} |" for each in outcomes]
    head = ["## GPU", "", f"`python -m scripts.gpu_check`: {machine}; {seconds}.", ""]
    below = [f"\n### {each.check}\n\n```text\n{each.details}\n```" for each in outcomes if each.details]
    return "\n".join([*head, "| check | goal | found | |", "|---|---|---|---|", *rows, *below]) + "\n"


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
        yield from caught(check, lambda check=check, run=run: count(check, *run), bench.ends)  # type: ignore[misc]
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


def check_compute(bench: Bench) -> Iterator[Outcome]:
    """Strict over ready crops, against the bare network on ready tensors."""
    rate, _ = bench.strict  # which has brought the network to the device, in its memory order
    bench.rates["strict"] = rate
    bare = bench.bare_rate(bench.network, "strict", torch.contiguous_format)
    good = rate / bare >= LEAST_COMPUTE_RATIO if bench.on_gpu else None
    found = f"{rate / bare:.3f} x, {rate:,.0f} against {bare:,.0f} images a second"
    yield Outcome("strict on ready crops", found, f">= {LEAST_COMPUTE_RATIO} x the bare network", good)
    if not good:
        bench.short.append("strict")


def tell_profiles(bench: Bench) -> Iterator[Outcome]:
    """Where the time goes in what falls short."""
    for precision in bench.short:
        yield from caught(f"profile of {precision}", lambda each=precision: [profile(bench, each)], bench.ends)  # type: ignore[misc]


def profile(bench: Bench, precision: Precision) -> Outcome:
    """Where the time of a few batches goes, what takes most of the device's time first."""
    run = bench.run(precision)
    backend = run.backend("it", bench.network)
    places = np.arange(min(8 * bench.batch_size, len(bench.many.images)))

    def show() -> None:
        run.show(backend, bench.resident, places, run.first_precision, run.found.networks["it"], None)
        bench.wait()

    show()
    with torch.profiler.profile() as profiler:
        started = time.perf_counter()
        show()
        seconds = time.perf_counter() - started
    kind = "device" if bench.on_gpu else "cpu"
    table = profiler.key_averages().table(f"self_{kind}_time_total", row_limit=15, max_name_column_width=60)
    return Outcome(f"profile of {precision}", f"{len(places):,} images in {seconds:.2f} s", details=table.strip())


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
    if not bench.on_gpu or ratio < LEAST_FAST_RATIO:
        bench.short.append("fast")


def check_whole(bench: Bench) -> Iterator[Outcome]:
    """Strict from files to counts, as a whole, and what such a run tells of itself."""
    images = bench.many_pictures
    runs: list[Accuracy] = []

    def run() -> None:
        found = measure_accuracy({"it": bench.network}, images, device=bench.device, workers=bench.workers)
        runs.append(found["it"])

    seconds = timed(run)
    bench.rates["whole"] = len(images.images) / seconds
    found = f"{bench.rates['whole']:,.0f} images a second: {len(images.images):,} in {seconds:.2f} s"
    yield Outcome("files to counts, strict", found)
    if speed := runs[-1].speed:
        found = (
            f"{speed.batch_milliseconds:.1f} ms a batch of {speed.batch_size}, busy for {speed.busy:.0%} of the time, "
            f"at most {speed.peak_bytes / 2**30:.1f} GiB"
        )
        yield Outcome("what that run tells of the device", found)


def check_loading(bench: Bench) -> Iterator[Outcome]:
    """Files to crops on the device, against DataLoader processes with Pillow."""
    images = bench.many_pictures
    places, loader = range(len(images.images)), bench.loader(images)
    threads = timed(lambda: [batch.places for batch in loader.batches(places, BATCH_SIZE)], bench.wait)
    bench.rates["decode"] = len(places) / threads
    # The better of two epochs: in the second one the workers are there already.
    processes_loader = torch.utils.data.DataLoader(
        PillowCrops(images.images),
        batch_size=64,
        num_workers=bench.workers,
        persistent_workers=True,
        timeout=MOST_SECONDS_OF_A_BATCH,
    )
    said = f"{bench.rates['decode']:,.0f}"
    try:
        processes = timed(lambda: sum(len(batch) for batch in processes_loader))
    except RuntimeError:
        yield Outcome("decode to crop, alone", f"{said} a second")
        raise
    found = f"{processes / threads:.2f} x, {said} against {len(places) / processes:,.0f} a second"
    wanted = f">= {LEAST_LOADING_RATIO} x DataLoader, {bench.workers} workers"
    # A trial on a processor says nothing of speeds.
    yield Outcome("decode to crop", found, wanted, processes / threads >= LEAST_LOADING_RATIO if bench.on_gpu else None)


def tell_faster_ways(bench: Bench) -> Iterator[Outcome]:
    """How much faster each precision and each acceleration is than strict, and how many predictions it changes."""
    ways: list[Way] = [("bf16", ()), ("fp32", ("fold-bn",))]
    if not bench.on_gpu:
        yield from tell_ways(bench, ways)
        return
    first_pass = accelerations_for("fast", (), bench.device)
    ways = [("bf16", first_pass), ("tf32", ()), *ways, ("fp16", ())]
    yield from tell_ways(bench, [*ways, ("fp32", ("channels-last",)), ("bf16", ("channels-last",))])
    name = " ".join(("bare bf16", *first_pass))
    yield from caught(name, lambda: [tell_search(bench, name, first_pass)], bench.ends)


def tell_compiled_ways(bench: Bench) -> Iterator[Outcome]:
    """The same for compiled networks; compiling takes a minute."""
    if bench.on_gpu:
        yield from tell_ways(bench, [("bf16", ACCELERATIONS), ("fp32", ("compile",))])


def tell_ways(bench: Bench, ways: Sequence[Way]) -> Iterator[Outcome]:
    """One row per way."""
    for way in ways:
        name = " ".join((way[0], *way[1]))
        yield from caught(name, lambda way=way, name=name: [tell_way(bench, name, *way)], bench.ends)  # type: ignore[misc]


def tell_search(bench: Bench, name: str, accelerations: tuple[Acceleration, ...]) -> Outcome:
    """What cuDNN's search for the fastest algorithms would gain; the engine leaves it out, so that results repeat."""
    network = accelerated(bench.network, accelerations, bench.device)
    plain, searched = (bench.bare_rate(network, "bf16", torch.channels_last, search=search) for search in (False, True))
    return Outcome(name, f"{plain:,.0f} images a second, {searched:,.0f} with cuDNN's search")


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
    dataset = create_dataset("", root=str(bench.pictures.path))
    several: Any = torch.utils.data.ConcatDataset([dataset] * (len(bench.many_pictures.images) // len(dataset)))
    workers = bench.workers if bench.on_gpu else 0
    loader = create_loader(
        several,
        input_size=(3, 224, 224),
        batch_size=bench.batch_size,
        use_prefetcher=bench.on_gpu,
        interpolation="bilinear",
        mean=STANDARD.mean,
        std=STANDARD.std,
        num_workers=workers,
        crop_pct=STANDARD.crop / STANDARD.resize,
        device=bench.device,
    )
    dataset.transform = several.transform
    if workers:
        loader.loader.timeout = MOST_SECONDS_OF_A_BATCH

    def validate() -> None:
        with computing_in("tf32" if bench.on_gpu else "strict", bench.device), torch.inference_mode():
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
            for images, labels in loader:
                for share in accuracy(bench.network(images), labels, topk=(1, 5)):
                    share.item()

    bench.network.to(bench.device)
    theirs, ours = len(several) / timed(validate, bench.wait), bench.rates.get("whole")
    found = f"{theirs:,.0f} images a second"
    found = f"{ours / theirs:.2f} x, {ours:,.0f} against {found}" if ours else f"not known, against {found}"
    yield Outcome("files to counts, strict / timm's loop", found)


def extrapolate(bench: Bench) -> Iterator[Outcome]:
    """How long all 50,000 images would take, from the rates that were measured."""
    missing = [name for name in ("whole", "decode", "strict", "fast") if name not in bench.rates]
    if missing:
        yield Outcome("all 50,000 images", f"not known without the rate of {', '.join(missing)}")
        return
    one = WHOLE_SET / bench.rates["whole"]
    said = f"{one:.1f} s = 50,000 / {bench.rates['whole']:,.0f} from files to counts"
    yield goal("one network, 50,000 images, strict", said, one, MOST_SECONDS_OF_ONE, bench)
    decode, fast = bench.rates["decode"], max(bench.rates["strict"], bench.rates["fast"])
    # The first network sees its images as they are decoded; the others see crops that lie ready.
    first = WHOLE_SET / min(decode, fast)
    eleven = first + 10 * WHOLE_SET / fast
    said = f"{eleven:.1f} s = {first:.1f} (50,000 / min(decode {decode:,.0f}, fast)) + 10 x 50,000 / fast {fast:,.0f}"
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
    "files to counts, strict": check_whole,
    "decode to crop": check_loading,
    "all 50,000 images": extrapolate,
    "where the time goes": tell_profiles,
    "faster ways": tell_faster_ways,
    "timm's loop": check_timm,
    "compiled": tell_compiled_ways,
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
