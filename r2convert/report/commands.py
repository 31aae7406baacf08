"""Commands to copy from the page: how it was made, and what to run next for everything that did not pass."""

from __future__ import annotations

import shlex

from r2convert.catalog.variant import IMAGENET_IMAGES
from r2convert.report.differences import is_accuracy
from r2convert.results.documents import PredictionsComparison
from r2convert.results.reading import Run
from r2convert.results.verdicts import Check, Metric
from r2convert.results.verification import CheckpointResult

_COUNTS = ("parameters", "flops", "activations")


def command_of(run: Run) -> str:
    """The command, quoted so that a shell runs nothing but r2convert; the empty string if it is something else."""
    command = run.verification.command or ()
    return shlex.join(command) if command[:1] == ("r2convert",) else ""


def compare_command(predictions: PredictionsComparison | None, before: Run, after: Run) -> str:
    """The command that lists every image two runs predict differently; the empty string if they kept no predictions."""
    if predictions is None:
        files = [_option(run, "--predictions") for run in (before, after)]
    else:
        files = [predictions.a.file, predictions.b.file]
    return f"r2convert compare {shlex.join(files)} --all" if all(files) and files[0] != files[1] else ""


def leading_command(result: CheckpointResult, run: Run) -> str:
    """What to run next for the first check that has the verdict of them all."""
    commands = (next_command(check, result, run) for check in result.checks if check.verdict == result.verdict)
    return next(filter(None, commands), "")


def next_command(check: Check, result: CheckpointResult, run: Run) -> str:
    """The command that says more about a check; the empty string for one that passes."""
    if check.verdict == "pass":
        return ""
    if result.checkpoint is None:
        return "r2convert list --claims"
    file = shlex.quote(result.checkpoint)
    if is_accuracy(check):
        return _next_for_accuracy(check, result, file, shlex.quote(_option(run, "--imagenet") or "PATH"))
    if check.metric in _COUNTS:
        return f"r2convert verify {file} --by-layer"
    published = f"r2convert compare {shlex.quote(result.variant)} {file}"
    photographs = f"r2convert verify {file} --wiring=FOLDER"
    commands: dict[Metric, str] = {
        "names": f"r2convert inspect {file} --tensors",
        "shapes": f"r2convert inspect {file} --tensors",
        "receipt": published,
        "wiring": published if check.verdict == "fail" else photographs,
        "parity": photographs,
    }
    undecided = check.verdict == "not-comparable"
    return f"r2convert inspect {file}" if undecided else commands.get(check.metric, f"r2convert inspect {file}")


def _next_for_accuracy(check: Check, result: CheckpointResult, file: str, images: str) -> str:
    if check.verdict == "fail":
        return f"r2convert doctor {file} --imagenet {images}"
    if check.verdict == "inconclusive":
        whole = result.accuracy is not None and result.accuracy.images >= IMAGENET_IMAGES
        return f"r2convert verify {file} --imagenet {images}" + (" --device cpu" if whole else "")
    if result.weights is None:
        return f"r2convert compare {shlex.quote(result.variant)} {file}"
    if check.weights not in (None, result.weights):
        return f"r2convert verify {shlex.quote(check.weights or '')} --fetch --imagenet {images}"
    # Other images were measured, or in another way: where the 50,000 are, nobody has said.
    return f"r2convert verify {file} --imagenet PATH"


def _option(run: Run, name: str) -> str:
    """What a run's command line gives an option; the empty string where it does not have it."""
    words = run.verification.command or ()
    for word, following in zip(words, (*words[1:], ""), strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""
