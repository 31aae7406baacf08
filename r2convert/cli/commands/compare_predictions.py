"""`r2convert compare` of two prediction files: which images two networks answer differently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from r2convert.cli.console import print_json, stdout_console
from r2convert.errors import UsageError
from r2convert.files import printable

if TYPE_CHECKING:
    from rich.table import Table

    from r2convert.evaluation.prediction_comparison import ChangedImage, PairedCounts, PredictionComparison
    from r2convert.evaluation.prediction_store import Question

_FIRST_BYTES = b'{"schema":"r2convert.predictions/'
_NAME_COLUMNS = 34


def are_predictions(names: Sequence[str]) -> bool:
    """Whether these are prediction files; told by their first bytes, without loading anything.

    Raises:
        UsageError: some are and some are not.
    """
    found = [_holds_predictions(Path(name)) for name in names]
    if any(found) and not all(found):
        raise UsageError(
            "predictions can only be compared with predictions",
            expected="two files that verify --predictions has written, or two checkpoints",
            got=" and ".join(names),
        )
    return all(found)


def _holds_predictions(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_FIRST_BYTES)) == _FIRST_BYTES


def compare_prediction_files(
    a: Path, b: Path, networks: tuple[str | None, str | None], *, limit: int | None, as_json: bool
) -> bool:
    """Compare, print, and say whether all answers are equal.

    Args:
        a: a prediction file.
        b: another one.
        networks: which network of each; ``None`` where that is clear.
        limit: how many changed images to list; ``None`` for all.
        as_json: print one JSON document instead.
    """
    from r2convert.evaluation.prediction_comparison import compare_predictions, network_pairs
    from r2convert.evaluation.prediction_store import read_question

    questions = read_question(a), read_question(b)
    pairs = network_pairs(a, b, network_a=networks[0], network_b=networks[1])
    comparisons = [compare_predictions(a, b, network_a=one, network_b=other) for one, other in pairs]
    equal = all(comparison.equal for comparison in comparisons)
    if as_json:
        print_json(_document((a, b), questions, comparisons, equal=equal))
    else:
        for comparison in comparisons:
            _print(comparison, (a, b), questions, limit)
    return equal


def _document(
    paths: tuple[Path, Path],
    questions: tuple[Question, Question],
    comparisons: Sequence[PredictionComparison],
    *,
    equal: bool,
) -> dict[str, object]:
    sides = {
        side: {
            "file": str(path),
            "precision": question.precision,
            "accelerations": list(question.accelerations),
            "pipeline": question.pipeline,
        }
        for side, path, question in zip("ab", paths, questions, strict=True)
    }
    return {"equal": equal, **sides, "comparisons": [_as_json(comparison) for comparison in comparisons]}


def _as_json(comparison: PredictionComparison) -> dict[str, object]:
    from dataclasses import asdict

    counts = {"top1": comparison.top1, "top5": comparison.top5}
    return {
        "network": {"a": comparison.network_a, "b": comparison.network_b},
        "images": comparison.images,
        "other_crops": comparison.other_crops,
        "changed_top1": comparison.changed_top1,
        "changed_top5": comparison.changed_top5,
        **{name: {**asdict(each), "mcnemar_p": each.mcnemar_probability} for name, each in counts.items()},
        "changed": [asdict(each) for each in comparison.changed],
    }


def _print(
    comparison: PredictionComparison,
    paths: tuple[Path, Path],
    questions: tuple[Question, Question],
    limit: int | None,
) -> None:
    from rich.markup import escape

    console = stdout_console()
    names = comparison.network_a, comparison.network_b
    for side, path, question, name in zip("AB", paths, questions, names, strict=True):
        how = ", ".join((question.precision, *question.accelerations))
        console.print(escape(printable(f"{side}: {path.name}, {name}, {how}")), soft_wrap=True)
    images = comparison.images
    if comparison.equal:
        console.print(f"[green]equal answers[/] to {images:,} images: every first class, every first five")
    else:
        console.print(
            f"[bold red]different answers[/] to {images:,} images: the first class of {comparison.changed_top1:,}, "
            f"the first five of {comparison.changed_top5:,}",
            soft_wrap=True,
        )
    if comparison.other_crops:
        console.print(f"[yellow]warning:[/] of {comparison.other_crops:,} images the two were shown other pixels")
    console.print(_score_table(comparison))
    if comparison.changed:
        console.print(_changed_table(comparison.changed[:limit]))
    if limit is not None and len(comparison.changed) > limit:
        console.print(f"  and {len(comparison.changed) - limit:,} more (--all lists them)")


def _score_table(comparison: PredictionComparison) -> Table:
    from r2convert.report.styles import plain_table

    columns = ("right in", "A", "B", "both", "only A", "only B", "neither", "McNemar p")
    table = plain_table(*columns, right=columns[1:])
    for name, counts in (("top-1", comparison.top1), ("top-5", comparison.top5)):
        numbers = (counts.a, counts.b, counts.both, counts.only_a, counts.only_b, counts.neither)
        table.add_row(name, *(f"{number:,}" for number in numbers), _probability(counts))
    return table


def _probability(counts: PairedCounts) -> str:
    value = counts.mcnemar_probability
    return f"{value:.2g}"


def _changed_table(changed: Sequence[ChangedImage]) -> Table:
    from r2convert.imagenet.labels import synsets
    from r2convert.report.styles import plain_table

    table = plain_table("image", "label", "A says", "B says", right=())
    for each in changed:
        first = (synsets()[side[0]] if side and side[0] >= 0 else "-" for side in (each.a, each.b))
        table.add_row(_shortened(each.image), synsets()[each.label], *first)
    return table


def _shortened(image: str) -> str:
    """The end of a long name, which tells images apart, as it can be printed."""
    from rich.markup import escape

    name = printable(image)
    return escape(name if len(name) <= _NAME_COLUMNS else "..." + name[3 - _NAME_COLUMNS :])
