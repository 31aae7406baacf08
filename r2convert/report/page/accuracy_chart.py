"""Accuracy against multiply-adds: every network's published point, and those that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from r2convert.report.page.drawing import INK, MEASURED, MUTED, PUBLISHED, SURFACE, Caption, Chart, Frame, draw_chart
from r2convert.report.page.label_placing import Box, Label, Place, Spot, place_labels

_HEIGHTS = (500, 540)
_POINT = 6.0
_GIGA_TICKS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 30)
_FEW_GIGA_TICKS = (2, 3, 4, 6, 8, 12, 16, 24)


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """A measured accuracy.

    Args:
        top1: in per cent.
        low: lower end of its 99.9 % interval if only a part of the validation set was shown, else ``top1``.
        high: upper end.
    """

    top1: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class NetworkPoints:
    """One network.

    Args:
        name: what to write beside it.
        macs: multiply-adds for one image of 224x224, counted the same way for all.
        published: published top-1 in per cent, or ``None``.
        measured: one a file that was measured.
    """

    name: str
    macs: int
    published: float | None
    measured: tuple[MeasuredPoint, ...]


def accuracy_chart(networks: Sequence[NetworkPoints]) -> Chart:
    """The chart; networks without any accuracy are left out."""
    shown = [network for network in networks if network.published is not None or network.measured]
    measured = sum(bool(network.measured) for network in shown)
    caption = Caption(
        "accuracy",
        "Top-1 accuracy against multiply-adds",
        f"{len(shown)} networks as published, {measured} of them measured. " + " ".join(map(_sentence, shown)),
    )
    return draw_chart(
        caption, Frame(*_HEIGHTS, left=44, bottom=44), lambda axes, narrow: _paint(axes, shown, narrow=narrow)
    )


def _sentence(network: NetworkPoints) -> str:
    parts = [f"{network.published:.2f} % published"] if network.published is not None else []
    parts += [f"{point.top1:.2f} % measured" for point in network.measured]
    return f"{network.name}: {network.macs / 1e9:.2f} G, {', '.join(parts)}."


def _paint(axes: Axes, networks: Sequence[NetworkPoints], *, narrow: bool) -> None:
    for network in networks:
        x = network.macs / 1e9
        if network.published is not None:
            axes.plot(x, network.published, "o", ms=9, mec=PUBLISHED, mfc=SURFACE, mew=1.8, zorder=3)
        for point in network.measured:
            if point.high > point.low:
                axes.plot([x, x], [point.low, point.high], "-", color=MEASURED, lw=1.2, zorder=2)
            if network.published is not None:
                axes.plot([x, x], [network.published, point.top1], ":", color=MEASURED, lw=1.2, zorder=2)
            axes.plot(x, point.top1, "D", ms=5, color=MEASURED, mew=0, zorder=4)
    _set_scales(axes, networks, _FEW_GIGA_TICKS if narrow else _GIGA_TICKS)
    axes.plot([], [], "o", ms=9, mec=PUBLISHED, mfc=SURFACE, mew=1.8, label="published")
    if any(network.measured for network in networks):
        axes.plot([], [], "D", ms=5, color=MEASURED, mew=0, label="measured")
    if any(point.high > point.low for network in networks for point in network.measured):
        axes.plot([], [], "-", color=MEASURED, lw=1.2, label="99.9 % interval")
    legend = axes.legend(loc="upper left", handletextpad=0.4, borderaxespad=0.2)
    _label(axes, networks, legend, narrow=narrow)


def _set_scales(axes: Axes, networks: Sequence[NetworkPoints], ticks: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} G"))
    axes.grid(axis="both")
    axes.tick_params(length=0)
    giga = [network.macs / 1e9 for network in networks] or [4.0]
    axes.set_xlim(min(giga) * 0.86, max(giga) * 1.2)
    axes.set_xlabel("multiply-adds, 224x224 image (log scale)")
    axes.set_ylabel("top-1 accuracy, %")
    axes.margins(y=0.07)


def _label(axes: Axes, networks: Sequence[NetworkPoints], legend: Legend, *, narrow: bool) -> None:
    """Write every name beside its point."""
    figure = axes.figure
    assert isinstance(figure, Figure)  # noqa: S101 - charts have no subfigures
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    axes.autoscale_view()
    room = Box(*axes.get_window_extent(renderer).bounds)
    texts = [axes.text(0, 0, _short(each.name) if narrow else each.name, color=INK, zorder=5) for each in networks]
    labels = []
    for network, text in zip(networks, texts, strict=True):
        size = text.get_window_extent(renderer)
        labels.append(Label(_spots(axes, network), size.width + 2, size.height))
    points = [point for label in labels for point in label.points]
    obstacles = [Box(x - _POINT, y - _POINT, 2 * _POINT, 2 * _POINT) for x, y in points]
    places = place_labels(labels, [*obstacles, Box(*legend.get_window_extent(renderer).bounds)], room)
    for text, label, place in zip(texts, labels, places, strict=True):
        _put(axes, text, label, place)


def _spots(axes: Axes, network: NetworkPoints) -> tuple[Spot, ...]:
    """Where a network's points are, in pixels; the first is the one to be labelled."""
    heights = [point.top1 for point in network.measured]
    heights = [network.published, *heights] if network.published is not None else heights
    found = axes.transData.transform([(network.macs / 1e9, height) for height in heights])
    return tuple((float(x), float(y)) for x, y in found)


def _put(axes: Axes, text: Text, label: Label, place: Place | None) -> None:
    if place is None:
        text.remove()
        return
    to_data = axes.transData.inverted()
    x, y = to_data.transform((place.box.left + 1, place.box.bottom + place.box.height / 2))
    text.set_position((float(x), float(y)))
    text.set_verticalalignment("center_baseline")
    if place.leader is not None:
        xs, ys = zip(*to_data.transform([label.spot, place.leader]), strict=True)
        axes.plot(xs, ys, "-", color=MUTED, lw=0.8, zorder=1, scalex=False, scaley=False)


def _short(name: str) -> str:
    return name.replace("Res2Net-", "").replace("Res2NeXt", "NeXt")
