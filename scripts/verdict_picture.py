"""Draws docs/assets/verdicts.svg: what `r2convert verify --references` prints, as the terminal shows it.

Run it again when a network, a claim or the table changes; a test says when that is.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from r2convert.catalog import load_catalog
from r2convert.checks.run import verify_references
from r2convert.mapping.tables import Tables
from r2convert.report.terminal import results_view

PICTURE = Path(__file__).parent.parent / "docs" / "assets" / "verdicts.svg"
_COLUMNS = 80
_THEME = TerminalTheme(
    (24, 27, 33),
    (216, 222, 233),
    [(24, 27, 33), (240, 113, 120), (126, 199, 120), (232, 190, 106), (120, 170, 240), (200, 150, 230), (110, 200, 210),
     (216, 222, 233)],
    [(110, 118, 132), (240, 113, 120), (126, 199, 120), (232, 190, 106), (120, 170, 240), (200, 150, 230),
     (110, 200, 210), (255, 255, 255)],
)  # fmt: skip

# Rich's own template loads a font from another machine; this one takes the reader's.
_TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="The verdict table">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
<rect fill="#181b21" width="{width}" height="{height}" rx="10"/>
<text class="{unique_id}-matrix" x="{terminal_x}" y="30" fill="#ffffff">$ r2convert verify --references</text>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def draw() -> str:
    """The picture: the same text at every call and on every machine."""
    console = Console(record=True, width=_COLUMNS, force_terminal=True, color_system="truecolor", file=io.StringIO())
    console.print(results_view(verify_references(Tables(load_catalog({})))), highlight=False)
    return console.export_svg(theme=_THEME, code_format=_TEMPLATE, unique_id="verdicts")


def main() -> None:
    """Write the picture; with --check only say whether it is current."""
    picture = draw()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PICTURE.read_text(encoding="utf-8") == picture else f"{PICTURE} is out of date: run {__file__}")
    PICTURE.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
