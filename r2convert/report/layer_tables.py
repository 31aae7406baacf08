"""What was counted or measured layer by layer, as tables for the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from r2convert.report.styles import plain_table, verdict_text
from r2convert.verify.counting import OperationCount
from r2convert.verify.wiring_check import WiringResult

_PREFIX = "backbone."


def operations_table(operations: OperationCount) -> Table:
    """What every layer costs for one image, in network order, with the sum below; layers that cost nothing left out."""
    headings = ("MACs", "mmcv", "fvcore", "activations")
    table = plain_table("layer", *headings, right=headings)
    table.columns[0].overflow = "fold"
    for layer in operations.layers:
        counts = (layer.macs, layer.mmcv, layer.fvcore, layer.activations)
        if any(counts):
            table.add_row(layer.name.removeprefix(_PREFIX), *(f"{count:,}" if count else "" for count in counts))
    table.add_section()
    total = (operations.macs, operations.mmcv, operations.fvcore, operations.activations)
    table.add_row("all layers", *(f"{count:,}" for count in total))
    return table


def wiring_table(wiring: WiringResult) -> Table:
    """How well every BatchNorm's memory fits what arrived, in network order."""
    measured = ("mean shift", "log var.", "corr. means", "corr. vars")
    table = plain_table("BatchNorm", *measured, "", right=measured)
    for layer in wiring.layers:
        values = (layer.mean_shift, layer.log_variance, layer.mean_correlation, layer.variance_correlation)
        word = verdict_text("fail", "suspect") if layer.suspect else Text("")
        table.add_row(layer.name.removeprefix(_PREFIX), *(f"{value:.2f}" for value in values), word)
    return table
