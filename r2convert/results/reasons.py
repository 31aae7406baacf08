"""Why checks did not simply pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from r2convert.checks.checks import Verdict
from r2convert.results.judged import Judged


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, with everything it is the reason for.

    Args:
        variant: id of the network.
        labels: the checks, each with who published the number.
        verdict: what came of them.
        note: the reason in words.
    """

    variant: str
    labels: tuple[str, ...]
    verdict: Verdict
    note: str


def reasons_of(results: Iterable[Judged]) -> tuple[Reason, ...]:
    """Why checks of these results did not simply pass, in order; equal reasons of one result together."""
    found = []
    for result in results:
        grouped: dict[tuple[Verdict, str], list[str]] = {}
        for check in result.checks:
            if check.verdict != "pass" and check.note:
                label = check.metric if check.source is None else f"{check.metric} ({check.source})"
                grouped.setdefault((check.verdict, check.note), []).append(label)
        found += [Reason(result.variant, tuple(labels), *key) for key, labels in grouped.items()]
    return tuple(found)
