"""The table as model zoos print it, in GitHub's Markdown, with what was published beside what was measured.

Published accuracies speak of weights: they stand beside a file only where it is proven to hold those.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from r2convert.catalog import Catalog
from r2convert.report.differences import difference, file_name, imagenet_operations, network_name, published_value
from r2convert.results.reading import Run
from r2convert.results.verdicts import Check, leading_check
from r2convert.results.verification import CheckpointResult

_HEADINGS = (
    "Model", "Params (M)", "Flops (G)", "Top-1 (%)", "Top-5 (%)",
    "Published top-1 (%)", "Published top-5 (%)", "Difference, top-1", "Verdict", "File",
)  # fmt: skip
_LEFT = ("Model", "Verdict", "File")
_ABSENT = "-"
_SPECIAL = re.compile(r"([\\`*_\[\]|~$:@/&<>])")
_PLAIN_NAME = re.compile(r"[\w.+-]+", re.ASCII)


def markdown_table(runs: Sequence[Run], catalog: Catalog) -> str:
    """Every result of the runs as a row, and under the table what the numbers stand for.

    Args:
        runs: results files, in the order in which they are to appear.
        catalog: names of the networks.
    """
    results = [result for run in runs for result in run.results]
    rules = [":--" if heading in _LEFT else "--:" for heading in _HEADINGS]
    rows = [_HEADINGS, rules, *(_row(result, catalog) for result in results)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *_notes(results)]) + "\n"


def _row(result: CheckpointResult, catalog: Catalog) -> list[str]:
    parameters, operations = leading_check(result.checks, "parameters"), imagenet_operations(result)
    accuracy = result.accuracy
    shares = (accuracy.top1_correct, accuracy.top5_correct) if accuracy else (None, None)
    published: list[Check | None] = [None, None]
    if result.weights:
        published = [leading_check(result.checks, metric) for metric in ("top1", "top5")]
    return [
        _escape(network_name(result.variant, catalog)),
        f"{parameters.measured / 1e6:.2f}" if parameters and parameters.measured is not None else _ABSENT,
        f"{operations.mmcv / 1e9:.2f}" if operations else _ABSENT,
        *(f"{100 * count / accuracy.images:.2f}" if accuracy and count is not None else _ABSENT for count in shares),
        *(str(published_value(check)) if check else _ABSENT for check in published),
        (difference(published[0], result) if published[0] else "") or _ABSENT,
        result.verdict,
        _code(file_name(result)) if result.checkpoint else "reference network",
    ]


def _notes(results: Sequence[CheckpointResult]) -> list[str]:
    """What a reader has to know to compare the numbers with others."""
    counts = sorted({result.accuracy.images for result in results if result.accuracy})
    measured = " or ".join(f"{count:,}" for count in counts)
    notes = ["Params, Flops, Top-1 and Top-5 were measured; Flops are counted as mmcv does, for one 224x224 image."]
    notes += [f"Accuracies were measured on {measured} images."] if counts else ["No accuracy was measured."]
    if any(result.accuracy and not result.weights for result in results):
        notes.append("Where nothing proves whose weights a file holds, no published accuracy stands beside it.")
    return notes


def _code(name: str) -> str:
    """A file's name, set as code where it cannot end the code."""
    return f"`{name}`" if _PLAIN_NAME.fullmatch(name) else _escape(name)


def _escape(text: str) -> str:
    """Text that Markdown and HTML take for nothing but text."""
    return _SPECIAL.sub(lambda found: f"&#{ord(found[1])};" if found[1] in "<>&|:@/" else f"\\{found[1]}", text)
