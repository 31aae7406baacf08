"""Results as one page of HTML that needs nothing but itself; it takes jinja2, of the extra ``[report]``."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup

from r2convert.catalog import Catalog, Variant
from r2convert.catalog.variant import IMAGENET_IMAGES
from r2convert.checks.claims import claim_check
from r2convert.checks.counting import count_operations
from r2convert.evaluation.statistics import accuracy_interval
from r2convert.imagenet.labels import class_index_by_synset, class_names
from r2convert.report.changes import Change, changed_predictions, changes, compare_command
from r2convert.report.charts import (
    AccuracyChart,
    ClaimStrip,
    LayerChart,
    Share,
    Standing,
    accuracy_chart,
    claim_strip,
    class_counts,
    parity_chart,
    wiring_chart,
)
from r2convert.report.differences import (
    imagenet_operations,
    known_variant,
    network_name,
    published_value,
    short_name,
)
from r2convert.report.rows import (
    SHOWN,
    SPEED,
    CheckRow,
    NetworkRow,
    check_rows,
    network_row,
    speed_cells,
)
from r2convert.report.thumbnails import Thumbnails
from r2convert.results.documents import PredictionsComparison
from r2convert.results.reading import Run, plain
from r2convert.results.verdicts import COLUMNS, SIGNS, Check, Verdict, leading_check
from r2convert.results.verification import Accuracy, CheckpointResult, Confusion
from r2convert.version import __version__

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
_FEW_ROWS = 10
"""Rows of changed images up to which they are not folded away."""
_MANY = 6
"""Networks from which on layers that are all equal are not drawn one by one."""
_FEW_IMAGES = 10
"""Images a class below which the accuracy of one class is mostly chance."""
_WORST_CLASSES = 10
_CONFUSIONS = 8


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class: its name, images that are right, of how many, and the share in per cent."""

    name: str
    right: int
    images: int
    share: float


@dataclass(frozen=True, slots=True)
class ConfusionRow:
    """A pair of classes: the label, the prediction, how often, and the images at hand (``data:``) by name."""

    label: str
    predicted: str
    count: int
    pictures: dict[str, str]


@dataclass(frozen=True, slots=True)
class ClassSection:
    """One network's classes.

    Args:
        counts: see :func:`~r2convert.report.charts.class_counts`; empty if the results do not list classes.
        published: published top-1 in per cent.
        worst: the worst ones.
        confusions: the most frequent ones.
    """

    counts: tuple[int, ...]
    published: float | None
    worst: tuple[ClassRow, ...]
    confusions: tuple[ConfusionRow, ...]


@dataclass(frozen=True, slots=True)
class NetworkView:
    """Everything the page shows of one result."""

    row: NetworkRow
    run: str
    result: CheckpointResult
    checks: tuple[CheckRow, ...]
    next: str
    claims: ClaimStrip | None
    classes: ClassSection | None
    speed: tuple[str, ...]
    wiring: LayerChart | None
    parity: LayerChart | None


@dataclass(frozen=True, slots=True)
class RunView:
    """One results file, with its command as a shell takes it."""

    run: Run
    command: str
    environment: tuple[tuple[str, str], ...]
    networks: tuple[NetworkView, ...]


def render_page(
    runs: Sequence[Run], catalog: Catalog, thumbnails: Thumbnails, predictions: PredictionsComparison | None = None
) -> str:
    """The whole page; the same input gives the same bytes. Of two runs, what changed is shown as well.

    Args:
        runs: results files, in the order in which they are to appear.
        catalog: what is published of the networks.
        thumbnails: the images, as far as they are at hand.
        predictions: what two runs predict for each image.

    Raises:
        UsageError: the predictions are not those of the runs.
    """
    changed = changes(runs[0], runs[1], catalog) if len(runs) == 2 else ()
    changed_images = changed_predictions(predictions, runs[0], runs[1], catalog, thumbnails) if predictions else ()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("r2convert.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = "{:,}".format
    environment.filters["sign"] = lambda verdict: SIGNS[verdict]
    environment.filters["minus"] = lambda number: number.replace("-", "\N{MINUS SIGN}")
    environment.filters["short"] = short_name
    environment.filters["class_name"] = class_name
    views = _run_views(runs, catalog, thumbnails, many=sum(len(run.results) for run in runs) > _MANY)
    networks = [network for view in views for network in view.networks]
    style, script = _file("page.css"), _file("page.js")
    return environment.get_template("page.html.j2").render(
        runs=views,
        networks=networks,
        changes=changed,
        predictions=changed_images,
        compare=compare_command(predictions, runs[0], runs[1]) if len(runs) == 2 else "",
        headings=[COLUMNS[metric] for metric in SHOWN],
        speed_headings=SPEED,
        few=len(networks) <= _FEW,
        few_rows=_FEW_ROWS,
        few_images=_FEW_IMAGES,
        headline=_headline([network.row for network in networks], changed),
        overview=_overview(networks, catalog),
        # The page's own style sheet and script, which the policy allows by their digests and nothing besides.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        style_hash=_source_hash(style),
        script_hash=_source_hash(script),
        version=__version__,
    )


def class_name(synset: str) -> str:
    """A class as people call it, or the WordNet id of one that is not in ImageNet-1k."""
    index = class_index_by_synset().get(synset)
    return synset if index is None else class_names()[index]


def _file(name: str) -> str:
    return (resources.files("r2convert.report") / "templates" / name).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(f"\n{text}".encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _run_views(runs: Sequence[Run], catalog: Catalog, thumbnails: Thumbnails, *, many: bool) -> list[RunView]:
    views, number = [], 0
    for run in runs:
        networks = []
        for result in run.results:
            number += 1
            networks.append(_network_view(f"network-{number}", result, run, catalog, thumbnails, many=many))
        views.append(RunView(run, _command(run), _environment(run), tuple(networks)))
    return views


def _network_view(
    anchor: str, result: CheckpointResult, run: Run, catalog: Catalog, thumbnails: Thumbnails, *, many: bool
) -> NetworkView:
    row, checks = network_row(anchor, result, catalog), check_rows(result, run)
    outputs = result.parity.comparison if result.parity else None
    leading = (check.next for check in checks if check.next and check.verdict == result.verdict)
    return NetworkView(
        row=row,
        run=run.name,
        result=result,
        checks=checks,
        next=next(leading, ""),
        claims=claim_strip(result),
        classes=_class_section(result, thumbnails),
        speed=speed_cells(result.accuracy.speed) if result.accuracy and result.accuracy.speed else (),
        wiring=wiring_chart(result.wiring) if result.wiring and (not many or result.wiring.suspects) else None,
        parity=parity_chart(outputs) if outputs and outputs.by_layer and not (many and outputs.equal) else None,
    )


def _command(run: Run) -> str:
    """The command, quoted so that a shell runs nothing but r2convert; the empty string if it is something else."""
    command = run.verification.command or ()
    return shlex.join(command) if command[:1] == ("r2convert",) else ""


def _environment(run: Run) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in plain(run.verification.environment).items() if value)


def _headline(rows: Sequence[NetworkRow], changed: Sequence[Change]) -> str:
    """How many networks came out how, worst first; a single one by its name. Of two runs, how many changed."""
    if changed:
        return _headline_of_changes(changed)
    if not rows:
        return "No network was verified"
    if len(rows) == 1:
        return f"{rows[0].name} {_SAID[rows[0].verdict][0].removeprefix('1 ')}"
    verdicts = [row.verdict for row in rows]
    counts = {verdict: verdicts.count(verdict) for verdict in _SAID}
    parts = [_SAID[verdict][count > 1].format(count) for verdict, count in counts.items() if count]
    return f"{len(rows)} networks: " + ", ".join(parts)


def _headline_of_changes(changed: Sequence[Change]) -> str:
    others = sum(change.verdicts[0] != change.verdicts[1] for change in changed)
    if len(changed) == 1:
        (name, (before, after)) = changed[0].name, changed[0].verdicts
        return f"{name}: {before} before and after" if before == after else f"{name}: {before} before, {after} after"
    verdicts = "no verdict" if not others else "1 verdict" if others == 1 else f"{others} verdicts"
    return f"{len(changed)} networks before and after: {verdicts} changed"


def _overview(networks: Sequence[NetworkView], catalog: Catalog) -> AccuracyChart | None:
    """Every network of the catalogue and whatever was measured; ``None`` if nothing was."""
    if not any(network.result.accuracy for network in networks):
        return None
    found = dict.fromkeys([*(network.result.variant for network in networks), *catalog.variants])
    standings = (_standing(variant, [n for n in networks if n.result.variant == variant], catalog) for variant in found)
    return accuracy_chart([standing for standing in standings if standing is not None])


def _standing(variant: str, networks: Sequence[NetworkView], catalog: Catalog) -> Standing | None:
    known = known_variant(variant, catalog)
    claims = known.claims_on("top1") if known else ()
    macs = _reference_macs(known) if known else _counted_macs(networks)
    if macs is None:
        return None
    return Standing(
        network_name(variant, catalog),
        networks[0].row.anchor if networks else "",
        macs,
        _published(claim_check(claims[0], "not-comparable", None)) if claims else None,
        tuple(_measured_share(each.result.accuracy) for each in networks if each.result.accuracy is not None),
    )


@cache
def _reference_macs(variant: Variant) -> int:
    """Multiply-adds of the reference network: counted the same way for measured networks and for others."""
    return count_operations(variant).macs


def _counted_macs(networks: Iterable[NetworkView]) -> int | None:
    counted = (imagenet_operations(each.result) for each in networks)
    return next((operations.macs for operations in counted if operations), None)


def _measured_share(accuracy: Accuracy) -> Share:
    share = 100 * accuracy.top1_correct / accuracy.images
    if accuracy.images >= IMAGENET_IMAGES:
        return Share(share, share, share)
    low, high = accuracy_interval(accuracy.top1_correct, accuracy.images)
    return Share(share, 100 * low, 100 * high)


def _published(check: Check | None) -> float | None:
    return float(published_value(check)) if check is not None else None


def _class_section(result: CheckpointResult, thumbnails: Thumbnails) -> ClassSection | None:
    """What is known of a network's classes; ``None`` if nothing was measured on images, or nothing is listed."""
    accuracy = result.accuracy
    if accuracy is None or not (accuracy.per_class or accuracy.confusions):
        return None
    counts, published = accuracy.per_class, _published(leading_check(result.checks, "top1"))
    shares = {name: 100 * right / images for name, (images, right) in counts.items()}
    # Of equally bad classes the one with more images says more.
    worst = sorted(counts, key=lambda name: (shares[name], -counts[name][0], name))[:_WORST_CLASSES]
    return ClassSection(
        counts=class_counts(shares.values()) if shares else (),
        published=published,
        worst=tuple(ClassRow(class_name(each), counts[each][1], counts[each][0], shares[each]) for each in worst),
        confusions=tuple(_confusion_row(each, thumbnails) for each in accuracy.confusions[:_CONFUSIONS]),
    )


def _confusion_row(confusion: Confusion, thumbnails: Thumbnails) -> ConfusionRow:
    pictures = {name: uri for name in confusion.images if (uri := thumbnails.data_uri(name))}
    return ConfusionRow(class_name(confusion.label), class_name(confusion.predicted), confusion.count, pictures)
