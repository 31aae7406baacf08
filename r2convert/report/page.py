"""Results as one page of HTML that needs nothing but itself; it takes jinja2, of the extra ``[report]``."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources

import jinja2
from markupsafe import Markup

from r2convert.catalog import Catalog
from r2convert.catalog.printed import readable
from r2convert.files import printable
from r2convert.report import charts, classes, commands, differences
from r2convert.report.changes import Change, changed_predictions, changes
from r2convert.report.thumbnails import Thumbnails
from r2convert.results.documents import PredictionsComparison
from r2convert.results.reading import Run, plain
from r2convert.results.verdicts import COLUMNS, LABELS, SIGNS, WORST_FIRST, Check, Metric, Verdict, leading_check
from r2convert.results.verification import TOLERANCE, CheckpointResult
from r2convert.version import __version__

_SAID: dict[Verdict, tuple[str, str]] = {
    "fail": ("1 fails", "{} fail"),
    "inconclusive": ("1 is inconclusive", "{} are inconclusive"),
    "known-deviation": ("1 deviates for a known reason", "{} deviate for a known reason"),
    "pass": ("1 passes", "{} pass"),
    "not-comparable": ("1 cannot be compared", "{} cannot be compared"),
}
"""Of one network and of several, worst first."""
_COLUMNS: tuple[Metric, ...] = ("parameters", "flops", "top1", "top5")
_MANY = 6
"""Networks from which on layers that are all equal are not drawn one by one."""


@dataclass(frozen=True, slots=True)
class Network:
    """One result: where it lies on the page, its name, the run it is from, and what is drawn of it."""

    anchor: str
    name: str
    run: Run
    result: CheckpointResult
    claims: charts.ClaimStrip | None
    wiring: charts.LayerChart | None
    parity: charts.LayerChart | None

    @property
    def leading(self) -> tuple[Check | None, ...]:
        """The check that each column of the verdict table shows."""
        return tuple(leading_check(self.result.checks, metric) for metric in _COLUMNS)

    @property
    def has_classes(self) -> bool:
        """Whether anything is known of single classes."""
        accuracy = self.result.accuracy
        return accuracy is not None and bool(accuracy.per_class or accuracy.confusions)


def render_page(
    runs: Sequence[Run], catalog: Catalog, thumbnails: Thumbnails, predictions: PredictionsComparison | None = None
) -> str:
    """The whole page; the same input gives the same bytes. Of two runs, what changed is shown as well.

    Args:
        runs: results files, in the order in which they are to appear.
        catalog: what is published about the networks.
        thumbnails: the images, as far as they are at hand.
        predictions: what two runs predict for each image.

    Raises:
        UsageError: the predictions are not those of the runs.
    """
    changed = changes(*runs) if len(runs) == 2 else ()
    networks = _networks(runs, catalog)
    unchecked = [file for run in runs for file in run.verification.unchecked]
    measured = [(each.anchor, each.result) for each in networks]
    return _template(catalog, thumbnails).render(
        runs=runs,
        networks=networks,
        unchecked=unchecked,
        changes=changed,
        predictions=changed_predictions(predictions, *runs) if predictions else (),
        class_names=classes.names_by_index(runs),
        compare=commands.compare_command(predictions, *runs) if len(runs) == 2 else "",
        headline=(_headline_of_changes(changed, catalog) if changed else _headline(networks))
        + (f"; {len(unchecked)} file{'s' * (len(unchecked) > 1)} could not be checked" if unchecked else ""),
        overview=charts.overview_chart(measured, catalog),
    )


def _networks(runs: Sequence[Run], catalog: Catalog) -> list[Network]:
    found = [(run, result) for run in runs for result in run.results]
    many = len(found) > _MANY
    networks = []
    for number, (run, result) in enumerate(found, start=1):
        wiring, outputs = result.wiring, result.parity.comparison if result.parity else None
        networks.append(
            Network(
                f"network-{number}",
                differences.network_name(result.variant, catalog),
                run,
                result,
                claims=charts.claim_strip(result),
                wiring=charts.wiring_chart(wiring) if wiring and (wiring.suspects or not many) else None,
                parity=charts.parity_chart(outputs)
                if outputs and outputs.by_layer and not (many and outputs.equal)
                else None,
            )
        )
    return networks


def _template(catalog: Catalog, thumbnails: Thumbnails) -> jinja2.Template:
    """The template, with all that it may ask about results."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("r2convert.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "minus": lambda number: number.replace("-", "\N{MINUS SIGN}"),
        "sign": SIGNS.__getitem__,
        "label": LABELS.__getitem__,
        "file_name": differences.file_name,
        "short_name": differences.short_name,
        "network_name": partial(differences.network_name, catalog=catalog),
        "class_name": classes.class_name,
        "plain": plain,
        "printable": printable,
    }
    style, script = _file("page.css"), _file("page.js")
    environment.globals |= {
        "charts": charts,
        "classes": classes,
        "commands": commands,
        "differences": differences,
        "picture_of": thumbnails.data_uri,
        "has_pictures": thumbnails.at_hand,
        "metrics": {metric: COLUMNS[metric] for metric in _COLUMNS},
        "worst_first": WORST_FIRST,
        "readable": readable,
        "tolerance": TOLERANCE,
        "version": __version__,
        # The page's own style sheet and script, which the policy allows by their digests and nothing besides.
        "style": Markup(style),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "style_hash": _source_hash(style),
        "script_hash": _source_hash(script),
    }
    return environment.get_template("page.html.j2")


def _file(name: str) -> str:
    return (resources.files("r2convert.report") / "templates" / name).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(f"\n{text}".encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _headline(networks: Sequence[Network]) -> str:
    """How many networks came out how, worst first; a single one by its name."""
    if not networks:
        return "No network was verified"
    verdicts = [each.result.verdict for each in networks]
    if len(networks) == 1:
        return f"{networks[0].name} {_SAID[verdicts[0]][0].removeprefix('1 ')}"
    counts = {verdict: verdicts.count(verdict) for verdict in _SAID}
    parts = [_SAID[verdict][count > 1].format(count) for verdict, count in counts.items() if count]
    return f"{len(networks)} networks: " + ", ".join(parts)


def _headline_of_changes(changed: Sequence[Change], catalog: Catalog) -> str:
    """How many verdicts changed; of a single network, from what to what."""
    verdicts = [(each.before.verdict, each.after.verdict) for each in changed]
    if len(changed) == 1:
        (before, after), name = verdicts[0], differences.network_name(changed[0].after.variant, catalog)
        return f"{name}: {before} before and after" if before == after else f"{name}: {before} before, {after} after"
    others = sum(before != after for before, after in verdicts)
    return f"{len(changed)} networks before and after: {others or 'no'} verdict{'s' if others > 1 else ''} changed"
