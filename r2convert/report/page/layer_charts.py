"""What was measured layer by layer: one strip a network for the wiring check, one chart a network for parity."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import log10

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from r2convert.report.page.drawing import ALARM, INK, MEASURED, MUTED, Caption, Chart, Frame, draw_chart
from r2convert.results.verification import TOLERANCE, ActivationComparison, LayerWiring, OutputDifference, WiringResult

_STRIP_FRAME = Frame(150, 150, left=66, bottom=22)
_PARITY_FRAME = Frame(190, 190, left=62, bottom=24)
_PREFIX = "backbone."
_FULL_SCALE = 1.5
"""Disagreement at which a bar of the strip is cut: three times what is called suspect at the most."""
_EXACT, _WORST = 1e-18, 1e1
_NAMED = 2
_LONGEST, _LONGEST_NARROW = 24, 18
"""Letters of a name for which there is room on half of a strip."""
_LONGEST_STAGE = 12
_SMALL = 10


def wiring_strip(key: str, network: str, wiring: WiringResult) -> Chart:
    """One bar a BatchNorm: upwards by how much means are off, downwards by how much variances are."""
    suspects = [layer.name.removeprefix(_PREFIX) for layer in wiring.layers if layer.suspect]
    said = f"{len(suspects)} disagree: {', '.join(suspects[:5])}" if suspects else "none disagrees"
    caption = Caption(
        key,
        f"Wiring check of {network}",
        f"{len(wiring.layers)} BatchNorms in network order, shown {wiring.pictures} pictures; {said}.",
    )
    return draw_chart(caption, _STRIP_FRAME, lambda axes, narrow: _paint_strip(axes, wiring.layers, narrow=narrow))


def parity_chart(key: str, network: str, peer: str, comparison: ActivationComparison) -> Chart:
    """One dot a layer: by which share of its largest value two implementations' outputs differ."""
    differing = [layer.name for layer in comparison.by_layer if layer.differs]
    said = f"the first of {len(differing)} that differ is {differing[0]}" if differing else "none differs"
    caption = Caption(
        key, f"Parity of {network} with {peer}", f"{len(comparison.by_layer)} layers in network order; {said}."
    )
    return draw_chart(caption, _PARITY_FRAME, lambda axes, _: _paint_parity(axes, comparison.by_layer))


def _paint_strip(axes: Axes, layers: Sequence[LayerWiring], *, narrow: bool) -> None:
    edges = [index - 0.5 for index in range(len(layers) + 1)]
    for suspect, colour in ((False, MEASURED), (True, ALARM)):
        bars = [layer if layer.suspect == suspect else None for layer in layers]
        # One outline each, instead of a rectangle a layer: a tenth of the time and of the bytes.
        axes.stairs([_cut(bar.mean_shift) if bar else 0 for bar in bars], edges, fill=True, color=colour, lw=0)
        downwards = [-_cut(bar.log_variance) if bar else 0 for bar in bars]
        axes.stairs(downwards, edges, fill=True, color=colour, alpha=0.6, lw=0)
    axes.axhline(0, color=INK, lw=0.8)
    _mark_stages(axes, [layer.name for layer in layers], narrow=narrow)
    _name_suspects(axes, layers, narrow=narrow)
    axes.set_ylim(-_FULL_SCALE - 0.1, _FULL_SCALE + 0.75)
    full = f"≥{_FULL_SCALE}"
    heights = [share * _FULL_SCALE for share in (-1, -0.5, 0, 0.5, 1)]
    axes.set_yticks(heights, [full, "variances", "0", "means", full], fontsize=_SMALL)
    axes.tick_params(length=0)
    axes.spines["bottom"].set_visible(False)


def _cut(value: float | None) -> float:
    """The height of a bar; what was no number is as bad as can be shown."""
    return _FULL_SCALE if value is None else min(abs(value), _FULL_SCALE)


def _name_suspects(axes: Axes, layers: Sequence[LayerWiring], *, narrow: bool) -> None:
    """Name the first suspects above the bars, on the side where there is more room."""
    suspects = [index for index, layer in enumerate(layers) if layer.suspect]
    if not suspects:
        return
    named, longest = (1, _LONGEST_NARROW) if narrow else (_NAMED, _LONGEST)
    names = [_cut_name(layers[index].name.removeprefix(_PREFIX), longest) for index in suspects[:named]]
    more = f" and {len(suspects) - named} more" if len(suspects) > named and not narrow else ""
    side = "right" if suspects[0] > len(layers) / 2 else "left"
    axes.text(suspects[0], _FULL_SCALE + 0.15, ", ".join(names) + more, color=ALARM, ha=side)


def _cut_name(name: str, longest: int) -> str:
    """A name of at most so many letters; its end says more than its beginning."""
    return name if len(name) <= longest else "…" + name[1 - longest :]


def _mark_stages(axes: Axes, names: Sequence[str], *, narrow: bool) -> None:
    """Ticks where a stage begins, each stage's name in its middle."""
    start, middles, shown = 0, [], []
    for stage, members in groupby(names, key=_stage):
        count = len(list(members))
        if start:
            axes.axvline(start - 0.5, color=MUTED, lw=0.8, ls=(0, (1, 2)), zorder=0)
        if count >= len(names) / (9 if narrow else 24):
            middles.append(start + (count - 1) / 2)
            shown.append(_cut_name(stage, _LONGEST_STAGE))
        start += count
    axes.set_xlim(-0.8, len(names) - 0.2)
    axes.set_xticks(middles, shown)


def _stage(name: str) -> str:
    first = name.removeprefix(_PREFIX).partition(".")[0]
    if first == "head":
        return first
    return first if any(letter.isdigit() for letter in first) and first.startswith(("layer", "level")) else "stem"


def _paint_parity(axes: Axes, layers: Sequence[OutputDifference]) -> None:
    for wrong, colour in ((False, MEASURED), (True, ALARM)):
        at = [index for index, layer in enumerate(layers) if layer.differs == wrong]
        heights = [_height(layers[index]) for index in at]
        axes.plot(at, heights, "D" if wrong else "o", ms=4.5 if wrong else 3.5, color=colour, mew=0, ls="")
    axes.axhline(TOLERANCE, color=INK, lw=1, ls=(0, (5, 3)))
    axes.text(0, TOLERANCE * 2, "what counts as equal lies below", color=MUTED, va="bottom")
    axes.set_yscale("log")
    axes.set_ylim(_EXACT / 4, _WORST * 4)
    axes.yaxis.set_major_locator(FixedLocator([_EXACT, 1e-15, 1e-12, 1e-9, 1e-6, 1e-3, 1]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    _mark_stages(axes, [layer.name for layer in layers], narrow=True)
    axes.grid(axis="y")
    axes.tick_params(length=0)
    axes.set_ylabel("share of largest value", fontsize=_SMALL)


def _height(layer: OutputDifference) -> float:
    return _WORST if layer.relative is None else min(max(layer.relative, _EXACT), _WORST)


def _power(value: float) -> str:
    if value <= _EXACT:
        return "same"
    digits = str(round(log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return "1" if value == 1 else f"10{digits}"
