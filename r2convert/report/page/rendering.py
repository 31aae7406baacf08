"""Renders results as one page that needs nothing but itself."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
from markupsafe import Markup

from r2convert.catalog import Catalog
from r2convert.report.page.accuracy_sections import ClassSection, class_section, overview_chart
from r2convert.report.page.check_rows import HEADINGS, CheckRow, NetworkRow, check_rows, network_row
from r2convert.report.page.drawing import Chart
from r2convert.report.page.layer_charts import parity_chart, wiring_strip
from r2convert.report.page.thumbnails import Thumbnails
from r2convert.results.reading import Run, plain
from r2convert.results.verdicts import Verdict
from r2convert.results.verification import CheckpointResult
from r2convert.version import __version__

_SIGNS: dict[Verdict, str] = {
    "pass": "✓",
    "fail": "✗",
    "known-deviation": "≈",
    "inconclusive": "?",
    "not-comparable": "·",
}
_SAID: dict[Verdict, tuple[str, str]] = {
    "fail": ("1 fails", "{} fail"),
    "inconclusive": ("1 is inconclusive", "{} are inconclusive"),
    "known-deviation": ("1 deviates for a known reason", "{} deviate for a known reason"),
    "pass": ("1 passes", "{} pass"),
    "not-comparable": ("1 cannot be compared", "{} cannot be compared"),
}
"""Of one network and of several, worst first."""
_FEW = 2
"""Networks up to which nothing is folded away."""
_FEW_IMAGES = 10
"""Images a class below which the accuracy of one class is mostly chance."""


@dataclass(frozen=True, slots=True)
class NetworkView:
    """Everything the page shows of one result."""

    row: NetworkRow
    result: CheckpointResult
    checks: tuple[CheckRow, ...]
    classes: ClassSection | None
    wiring: Chart | None
    parity: Chart | None


@dataclass(frozen=True, slots=True)
class RunView:
    """One results file, with its command as a shell takes it."""

    run: Run
    command: str
    environment: tuple[tuple[str, str], ...]
    networks: tuple[NetworkView, ...]


def render_page(runs: Sequence[Run], catalog: Catalog, thumbnails: Thumbnails) -> str:
    """The whole page; the same input gives the same bytes.

    Args:
        runs: results files, in the order in which they are to appear.
        catalog: what is published of the networks.
        thumbnails: the images, as far as they are at hand.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("r2convert.report.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sign"] = lambda verdict: _SIGNS[verdict]
    environment.filters["minus"] = lambda number: number.replace("-", "\N{MINUS SIGN}")
    views = _run_views(runs, catalog, thumbnails)
    networks = [network for view in views for network in view.networks]
    return environment.get_template("page.html.j2").render(
        runs=views,
        networks=networks,
        headings=list(HEADINGS.values()),
        few=len(networks) <= _FEW,
        few_images=_FEW_IMAGES,
        headline=_headline([network.row for network in networks]),
        overview=overview_chart([network.result for network in networks], catalog),
        style=Markup(_style()),  # noqa: S704 - this package's own style sheet
        version=__version__,
    )


def _run_views(runs: Sequence[Run], catalog: Catalog, thumbnails: Thumbnails) -> list[RunView]:
    views, number = [], 0
    for run in runs:
        networks = []
        for result in run.results:
            number += 1
            networks.append(_network_view(f"network-{number}", result, catalog, thumbnails))
        views.append(RunView(run, _command(run), _environment(run), tuple(networks)))
    return views


def _network_view(anchor: str, result: CheckpointResult, catalog: Catalog, thumbnails: Thumbnails) -> NetworkView:
    row = network_row(anchor, result, catalog)
    parity = result.parity
    outputs = parity.comparison if parity else None
    return NetworkView(
        row=row,
        result=result,
        checks=tuple(check_rows(result)),
        classes=class_section(f"{anchor}-classes", result, catalog, thumbnails),
        wiring=wiring_strip(f"{anchor}-wiring", row.name, result.wiring) if result.wiring else None,
        parity=parity_chart(f"{anchor}-parity", row.name, parity.peer, outputs) if parity and outputs else None,
    )


def _command(run: Run) -> str:
    """The command, quoted so that a shell runs nothing but r2convert; the empty string if it is something else."""
    command = run.verification.command or ()
    return shlex.join(command) if command[:1] == ("r2convert",) else ""


def _environment(run: Run) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in plain(run.verification.environment).items() if value)


def _headline(rows: Sequence[NetworkRow]) -> str:
    """How many networks came out how, worst first; a single one by its name."""
    if not rows:
        return "No network was verified"
    if len(rows) == 1:
        return f"{rows[0].name} {_SAID[rows[0].verdict][0].removeprefix('1 ')}"
    verdicts = [row.verdict for row in rows]
    counts = {verdict: verdicts.count(verdict) for verdict in _SAID}
    parts = [_SAID[verdict][count > 1].format(count) for verdict, count in counts.items() if count]
    return f"{len(rows)} networks: " + ", ".join(parts)


def _style() -> str:
    return (resources.files("r2convert.report.page") / "templates" / "page.css").read_text(encoding="utf-8")
