"""Accuracy of every class, worst first, against the published mean over all classes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from r2convert.report.page.drawing import MEASURED, PUBLISHED, Caption, Chart, Frame, draw_chart

_FRAME = Frame(220, 220, left=48, bottom=44)


def class_chart(key: str, network: str, shares: Sequence[float], published: float | None) -> Chart:
    """The chart.

    Args:
        key: told apart from other charts by this.
        network: its name.
        shares: by class, images that are right, in per cent.
        published: published top-1 in per cent, if there is one.
    """
    ordered = sorted(shares)
    mean = sum(ordered) / len(ordered)
    below = sum(share < published for share in ordered) if published is not None else 0
    against = (
        f" The published mean is {published:.2f} %: {below} classes lie below it." if published is not None else ""
    )
    caption = Caption(
        key,
        f"Accuracy of {network} by class",
        f"{len(ordered)} classes from {ordered[0]:.1f} % to {ordered[-1]:.1f} %, {mean:.2f} % on average.{against}",
    )
    return draw_chart(caption, _FRAME, lambda axes, _: _paint(axes, ordered, published))


def _paint(axes: Axes, ordered: Sequence[float], published: float | None) -> None:
    edges = list(range(len(ordered) + 1))
    axes.stairs(ordered, edges, fill=True, color=MEASURED, alpha=0.3, lw=0)
    axes.stairs(ordered, edges, color=MEASURED, lw=1.6, baseline=None)
    if published is not None:
        axes.axhline(published, color=PUBLISHED, lw=1.4, ls=(0, (5, 3)))
        # At the left, where classes are worst and the chart is empty; the curve is below it there.
        above = published < 92
        axes.text(
            len(ordered) * 0.012,
            published + (1.5 if above else -2),
            f"published mean {published:.2f} %",
            color=PUBLISHED,
            va="bottom" if above else "top",
        )
    axes.set_xlim(0, len(ordered))
    axes.set_ylim(0, 101)
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y")
    axes.tick_params(length=0)
    axes.set_xlabel("classes, from the worst to the best")
    axes.set_ylabel("top-1, %")
