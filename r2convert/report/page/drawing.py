"""What all charts have in common: drawn by matplotlib, coloured by the page, the same bytes every time.

Colours are CSS variables, so that one drawing serves both colour schemes. matplotlib knows no variables: it draws in
placeholder colours that are replaced in the SVG it writes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID = "#000001", "#000002", "#000003"
PUBLISHED, MEASURED, ALARM, SURFACE = "#000004", "#000005", "#000006", "#000007"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    PUBLISHED: "--published",
    MEASURED: "--measured",
    ALARM: "--alarm",
    SURFACE: "--surface",
}

FONT_SIZE = 11.5
WIDE, NARROW = 888, 328
"""Widths in CSS pixels: of a column of text on a desk, and of a phone 360 pixels wide without its margins."""

_PIXELS_PER_INCH = 72  # so that a point of matplotlib is a pixel
_MARGIN = 18
"""Above and to the right of the data: half a label of a tick."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay letters: they can be read aloud, searched and copied
    "text.parse_math": False,  # names may have dollar signs
    "axes.unicode_minus": True,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib; wider than what systems have, so labels keep apart
    "font.size": FONT_SIZE,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.labelsize": FONT_SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": FONT_SIZE,
    "ytick.labelsize": FONT_SIZE,
    "grid.color": GRID,
    "grid.linewidth": 1,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class Caption:
    """What a chart shows, for those who do not see it.

    Args:
        key: letters and digits that no other chart of the page has.
        title: a few words.
        description: what can be seen, in a sentence or two.
    """

    key: str
    title: str
    description: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart in two widths; style sheets show one of them."""

    wide: Markup
    narrow: Markup


@dataclass(frozen=True, slots=True)
class Frame:
    """Room around the data, in pixels.

    Args:
        wide: height of the wide chart.
        narrow: height of the narrow one.
        left: for the vertical axis.
        bottom: for the horizontal axis.
    """

    wide: int
    narrow: int
    left: int
    bottom: int


def draw_chart(caption: Caption, frame: Frame, paint: Callable[[Axes, bool], None]) -> Chart:
    """Draw a chart twice: letters must not shrink with the screen.

    Args:
        caption: what it shows.
        frame: how high it is, and how much of that is for the axes.
        paint: puts the data on axes; told whether it is the narrow one.
    """
    return Chart(
        _draw(caption, f"{caption.key}-wide", (WIDE, frame.wide), frame, lambda axes: paint(axes, False)),
        _draw(caption, f"{caption.key}-narrow", (NARROW, frame.narrow), frame, lambda axes: paint(axes, True)),
    )


def _draw(caption: Caption, key: str, size: tuple[int, int], frame: Frame, paint: Callable[[Axes], None]) -> Markup:
    width, height = size
    with mpl.rc_context({**_STYLE, "svg.hashsalt": key}):
        figure = Figure(figsize=(width / _PIXELS_PER_INCH, height / _PIXELS_PER_INCH), dpi=_PIXELS_PER_INCH)
        # Margins are set, not found by a layout engine: that would draw everything twice more.
        room = (width - frame.left - _MARGIN) / width, (height - frame.bottom - _MARGIN) / height
        paint(figure.add_axes((frame.left / width, frame.bottom / height, *room)))
        file = io.BytesIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return _for_page(file.getvalue().decode("utf-8"), caption, key, size)


def _for_page(svg: str, caption: Caption, key: str, size: tuple[int, int]) -> Markup:
    """An SVG document as a part of the page: described, coloured by variables, with ids of its own."""
    drawn = svg[svg.index("</defs>") + len("</defs>") : svg.rindex("</svg>")]
    drawn = re.sub(r'<g id="[^"]*"', "<g", drawn)
    drawn = re.sub(r'\bid="', f'id="{key}-', drawn)
    drawn = drawn.replace("url(#", f"url(#{key}-").replace('xlink:href="#', f'href="#{key}-')
    # matplotlib spells out every < and > of a text, so a match that has none does not leave its text or attribute.
    drawn = re.sub(r'style="[^"<>]*"', lambda found: _style_for_page(found[0]), drawn)
    drawn = re.sub(r"\s*\n\s*", " ", drawn)
    width, height = size
    return Markup(  # noqa: S704 - matplotlib escapes what it writes, and the caption is escaped here
        f'<svg class="{key.rpartition("-")[2]}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-labelledby="{key}-title {key}-description">'
        f'<title id="{key}-title">{escape(caption.title)}</title>'
        f'<desc id="{key}-description">{escape(caption.description)}</desc>{drawn}</svg>'
    )


def _style_for_page(style: str) -> str:
    """A style with the page's colours and in the page's font."""
    style = re.sub(r"font-family: [^;\"]*;? ?|font: ([\d.]+px) [^;\"]*", lambda found: _size_of(found[1]), style)
    return re.sub(r"#00000[1-7]", lambda found: f"var({_VARIABLES[found[0]]})", style)


def _size_of(size: str | None) -> str:
    return f"font-size: {size}" if size else ""
