"""`r2convert verify`: what its options say about running networks without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from r2convert.checks.run import Probes

PEERS = ("timm", "mmpretrain")
DRAWN = ""
"""The value of --wiring without a path."""

_SMALLEST_SIDE = 32
_LARGEST_SIDE = 100_000


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """The options of one run; the names are those on the command line."""

    wiring: str | None
    peer: str | None
    input_size: tuple[int, int]

    @property
    def need_files(self) -> bool:
        """Whether there has to be a checkpoint."""
        return self.wiring is not None or self.peer is not None

    @property
    def runs_networks(self) -> bool:
        """Whether a device is needed."""
        return self.wiring is not None


def _parse_input_size(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    """``224`` or ``224x320`` to (height, width)."""
    sides = value.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isascii() and side.isdigit() for side in sides):
        raise click.BadParameter(f"{value!r} is no size: write 256 or, height first, 256x320")
    height, width = int(sides[0]), int(sides[-1])
    if not _SMALLEST_SIDE <= min(height, width) <= max(height, width) <= _LARGEST_SIDE:
        raise click.BadParameter(f"{value!r}: each side has to be {_SMALLEST_SIDE} to {_LARGEST_SIDE:,} pixels")
    return height, width


def network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--wiring``, ``--peer``, ``--input-size`` and ``--by-layer``."""
    for option in reversed(
        (
            click.option(
                "--wiring",
                is_flag=False,
                flag_value=DRAWN,
                metavar="[FOLDER]",
                help="Show any pictures (by default drawn ones) and compare what BatchNorms see and remember.",
            ),
            click.option(
                "--peer", type=click.Choice(PEERS), help="Have another implementation read the file, and compare."
            ),
            click.option(
                "--input-size",
                callback=_parse_input_size,
                default="224",
                show_default=True,
                metavar="H[xW]",
                help="Count operations for images of this size.",
            ),
            click.option("--by-layer", is_flag=True, help="List operations and activations layer by layer."),
        )
    ):
        command = option(command)
    return command


def open_probes(options: NetworkOptions, device: str | None) -> Probes:
    """Open what was asked for.

    Raises:
        UsageError: the peer is not installed.
        DatasetError: the pictures cannot be used.
    """
    from r2convert.checks.parity import open_peer
    from r2convert.checks.run import Probes
    from r2convert.checks.wiring import images_from, synthetic_images

    pictures = None
    if options.wiring is not None:
        folder = Path(options.wiring).expanduser()
        pictures = synthetic_images() if options.wiring == DRAWN else images_from(folder)
    peer = open_peer(options.peer) if options.peer is not None else None
    return Probes(options.input_size, pictures, peer, device or "cpu")
