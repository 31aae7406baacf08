"""Makes the pictures of README and documentation in docs/assets: the terminal, the report, and a block of the network.

    python -m scripts.pictures

The terminal shows what real commands print on the stand-in of `r2convert demo`. The report is of results made up of
the published numbers, with two tensors swapped in one network; it takes Chromium and playwright, and stays as it is
without. A test says when the drawing of the block is out of date.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from r2convert import api
from r2convert.catalog import load_catalog
from r2convert.mapping.tables import Tables
from r2convert.report.page import render_page
from r2convert.report.thumbnails import Thumbnails
from r2convert.results.reading import read_run
from scripts.block_drawing import draw as draw_block

ASSETS = Path(__file__).parent.parent / "docs" / "assets"
_COLUMNS = 80
_NETWORKS, _BROKEN = ("res2net50_w26_s8", "res2net50_w14_s8", "res2net50_v1b_w26_s4"), "res2net50_w26_s8"
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
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="A terminal">
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
<g transform="translate({terminal_x}, 14)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def draw_terminals() -> None:
    """What `list`, `map` and `verify` print, on a stand-in of a published file."""
    with tempfile.TemporaryDirectory() as place, api.demo_stage(Path(place)) as stage:
        environment = {**stage.environment, "COLUMNS": str(_COLUMNS), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
        environment.pop("NO_COLOR", None)
        file = "mm.pth"
        convert = [("fetch", stage.variant), ("map", stage.variant, file), ("verify", file)]
        for name, steps in (("list", [("list", "--publisher", "official")]), ("convert", convert)):
            text = Text("\n\n").join(_ran(step, place, environment) for step in steps)
            console = Console(
                record=True, width=_COLUMNS, force_terminal=True, color_system="truecolor", file=io.StringIO()
            )
            console.print(text, highlight=False)
            svg = console.export_svg(theme=_THEME, code_format=_TEMPLATE, unique_id=name)
            (ASSETS / f"terminal-{name}.svg").write_text(svg, encoding="utf-8")


def _ran(arguments: Sequence[str], place: str, environment: Mapping[str, str]) -> Text:
    """A command as it is typed, and the result that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "r2convert", *arguments],
        cwd=place,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # progress bars
        text=True,
        check=True,
    )
    printed = done.stdout.replace(str(Path(place).resolve()) + os.sep, "")
    lines = [line.rstrip() for line in printed.rstrip().splitlines()]
    return Text.assemble(
        ("$ ", "dim"), (f"r2convert {shlex.join(arguments)}\n", "bold"), Text.from_ansi("\n".join(lines))
    )


def photograph_report() -> None:
    """The beginning of a page of three networks, in both colour schemes."""
    from playwright.sync_api import sync_playwright

    from tests.report.made import made_document

    catalog = load_catalog({})
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        results, page_file = Path(place, "results.json"), Path(place, "report.html")
        results.write_text(json.dumps(made_document(Tables(catalog), *_NETWORKS, broken=_BROKEN)), encoding="utf-8")
        page = render_page([read_run(str(results))], catalog, Thumbnails.from_images(None))
        page_file.write_text(page, encoding="utf-8")
        # Root, which CI often is, may not use the sandbox.
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            tab = browser.new_page(
                viewport={"width": 1080, "height": 625}, color_scheme=scheme, device_scale_factor=1.5
            )
            tab.goto(page_file.as_uri())
            shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
            shot.save(ASSETS / f"report-{scheme}.webp", quality=80, method=6)
        browser.close()


def main() -> None:
    """Make all pictures."""
    (ASSETS / "block.svg").write_text(draw_block(), encoding="utf-8")
    draw_terminals()
    if shutil.which("chromium"):
        photograph_report()
    else:
        print("There is no chromium here: the pictures of the report stay as they are.", file=sys.stderr)


if __name__ == "__main__":
    main()
