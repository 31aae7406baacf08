"""Draws one block of a Res2Net beside the names that its tensors have in every layout, from the mapping tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from r2convert.catalog import load_catalog
from r2convert.mapping.tables import Expansion, Tables

VARIANT, BLOCK = "res2net50_w26_s4", "backbone.layer1.1"
"""A block in the middle of a stage, where each split is added to the next one."""
_WIDTH, _LINE = 1000, 16
_LAYOUT, _CONV, _NORM = 330, 460, 710
"""Where the columns of the list begin."""
_STYLE = """
svg { --ink: #1b1f24; --muted: #59636e; --line: #c9ced5; --back: #ffffff; --hue: #0068a8; --soft: #e7f1f8; }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e8eaed; --muted: #a2abb5; --line: #444b54; --back: #14171b; --hue: #7cc4f5; --soft: #1c3041; }
}
text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
.name { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 11px; }
.muted { fill: var(--muted); }
.head { font-weight: 600; }
.part { fill: var(--soft); stroke: var(--hue); }
.number { fill: var(--hue); font-weight: 700; }
.back { fill: var(--back); }
.rule { stroke: var(--line); }
.flow { stroke: var(--muted); fill: none; stroke-width: 1.5; marker-end: url(#arrow); }
.tip { fill: var(--muted); }
"""
_ARROW = """\
<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">
<path class="tip" d="M0 0 8 4 0 8Z"/></marker></defs>"""


@dataclass(frozen=True, slots=True)
class Part:
    """A convolution of the block with the BatchNorm after it, by their mm names, and where it is drawn."""

    number: int
    conv: str
    norm: str
    label: str
    x: int
    y: int
    width: int


_PARTS = (
    Part(1, "conv1", "bn1", "1x1", 40, 62, 240),
    Part(2, "convs.0", "bns.0", "3x3", 40, 170, 52),
    Part(3, "convs.1", "bns.1", "3x3", 102, 232, 52),
    Part(4, "convs.2", "bns.2", "3x3", 164, 294, 52),
    Part(5, "conv3", "bn3", "1x1", 40, 400, 240),
)
_HEIGHT_OF_PART = 30
_SPLITS = (66, 128, 190, 254)
"""Where the four splits run down, from left to right."""


def draw() -> str:
    """The picture, as SVG that takes the reader's colour scheme and fonts; the same text at every call."""
    tables = Tables(load_catalog({}))
    expansion = tables.of(tables.catalog.find(VARIANT))
    names = list(_names(expansion))
    height = max(500, names[-1][0] + 24)
    title = "A block of a Res2Net with four splits, and the names of its tensors in each layout"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}">',
            f"<style>{_STYLE}</style>",
            _ARROW,
            f'<rect class="back" width="{_WIDTH}" height="{height}" rx="8"/>',
            *_block(),
            *(line for _, line in names),
            "</svg>\n",
        ]
    )


def _block() -> Iterator[str]:
    yield _text(40, 28, f"{VARIANT}, {BLOCK.removeprefix('backbone.')}", "head")
    yield _flow("M160 38 V60")
    for part in _PARTS:
        x, y, width = part.x, part.y, part.width
        yield f'<rect class="part" x="{x}" y="{y}" width="{width}" height="{_HEIGHT_OF_PART}" rx="4"/>'
        middle = x + width // 2
        number = f'<tspan class="number">{part.number}</tspan> {part.label}'
        yield f'<text x="{middle}" y="{y + 20}" text-anchor="middle">{number}</text>'
    top, end = 92, 398
    for index, x in enumerate(_SPLITS):
        split = _PARTS[index + 1] if index < len(_SPLITS) - 1 else None
        if split is None:
            yield _flow(f"M{x} {top} V{end}")
            continue
        yield _flow(f"M{x} {top} V{split.y - 2}")
        yield _flow(f"M{x} {split.y + _HEIGHT_OF_PART} V{end}")
        if index < len(_SPLITS) - 2:
            # What comes out of a split is added to the next one, before its convolution.
            level = split.y + _HEIGHT_OF_PART + 14
            yield _flow(f"M{x} {level} H{_SPLITS[index + 1] - 7}")
            yield f'<circle class="back" cx="{_SPLITS[index + 1]}" cy="{level}" r="7"/>'
            yield f'<text class="muted" x="{_SPLITS[index + 1]}" y="{level + 5}" text-anchor="middle">+</text>'
    yield _text(260, 250, "as is", "muted")
    yield _text(40, 118, "split", "muted")
    yield _flow("M160 430 V470")
    yield _flow("M160 48 H298 V452 H170")
    yield '<circle class="back" cx="160" cy="452" r="8"/>'
    yield '<text class="muted" x="160" y="457" text-anchor="middle">+</text>'
    yield _text(40, 490, "Behind every convolution: a BatchNorm.", "muted")


def _names(expansion: Expansion) -> Iterator[tuple[int, str]]:
    """Lines of the list with the heights they stand at: layouts of equal names share one."""
    y = 28
    for x, heading in ((_LAYOUT, "layout"), (_CONV, "convolution"), (_NORM, "its BatchNorm's mean")):
        yield y, _text(x, y, heading, "head")
    for part in _PARTS:
        y += 12
        yield y, f'<line class="rule" x1="{_LAYOUT - 20}" x2="{_WIDTH - 20}" y1="{y}" y2="{y}"/>'
        yield y, f'<text class="number" x="{_LAYOUT - 18}" y="{y + _LINE}">{part.number}</text>'
        for layouts, conv, norm in _spellings(expansion, part):
            for index, line in enumerate(_two_lines(layouts)):
                y += _LINE
                yield y, _text(_LAYOUT, y, line, "muted")
                if index == 0:
                    yield y, _text(_CONV, y, conv, "name")
                    yield y, _text(_NORM, y, norm, "name")


def _spellings(expansion: Expansion, part: Part) -> list[tuple[list[str], str, str]]:
    """Layouts that spell a part alike, with the names of its weight and of its running mean."""
    slots = expansion.names("mm")
    conv = slots[f"{BLOCK}.{part.conv}.weight"].names
    norm = slots[f"{BLOCK}.{part.norm}.running_mean"].names
    found: dict[tuple[str, str], list[str]] = {}
    for layout in expansion.table.layouts:
        if layout in conv:
            found.setdefault((conv[layout], norm.get(layout, "")), []).append(layout)
    return [(layouts, *names) for names, layouts in found.items()]


def _two_lines(layouts: Sequence[str]) -> list[str]:
    """Names of layouts, two per line."""
    pairs = [", ".join(layouts[at : at + 2]) for at in range(0, len(layouts), 2)]
    return [f"{pair}," for pair in pairs[:-1]] + pairs[-1:]


def _text(x: int, y: int, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'


def _flow(path: str) -> str:
    return f'<path class="flow" d="{path}"/>'
