"""What was counted or measured layer by layer, as tables for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from r2convert.checks.parity import parting, shown_difference
from r2convert.report.styles import plain_table, verdict_text
from r2convert.results.verification import ActivationComparison, Operations, WiringResult, number

_PREFIX = "backbone."


def operations_view(operations: Operations) -> RenderableType:
    """What every layer costs for one image, in network order, and all together; layers that cost nothing left out."""
    headings = ("MACs", "mmcv", "fvcore", "activ.")
    table = plain_table("layer", *headings, right=headings)
    # Where the counts leave no room for a name, it goes on in the next line.
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
    for layer in operations.layers or ():
        counts = (layer.macs, layer.mmcv, layer.fvcore, layer.activations)
        if any(counts):
            table.add_row(layer.name.removeprefix(_PREFIX), *(f"{count:,}" if count else "" for count in counts))
    conventions = ("macs", "mmcv", "fvcore", "activations")
    total = "\n".join(f"  {each:<11} {getattr(operations, each):>15,}" for each in conventions)
    return Group(table, Text(f"all layers\n{total}\n"))


def wiring_table(wiring: WiringResult) -> Table:
    """How well every BatchNorm's memory fits what arrived, in network order."""
    measured = ("mean shift", "log var.", "corr. means", "corr. vars")
    table = plain_table("BatchNorm", *measured, "", right=measured)
    for layer in wiring.layers:
        values = (layer.mean_shift, layer.log_variance, layer.mean_correlation, layer.variance_correlation)
        word = verdict_text("fail", "suspect") if layer.suspect else Text("")
        table.add_row(layer.name.removeprefix(_PREFIX), *(f"{number(value):.2f}" for value in values), word)
    return table


def stages_table(comparison: ActivationComparison) -> Table:
    """How far two networks are apart at every stage, and at the first layer that differs."""
    table = plain_table("output", "largest difference", "of its largest value", right=("largest difference",))
    first = comparison.first_layer
    for output in (*comparison.stages, *([first] if first is not None and first not in comparison.stages else [])):
        name = output.name.removeprefix(_PREFIX) + (" (first layer to differ)" if output is first else "")
        table.add_row(name, f"{number(output.max_abs_diff):.3g}", f"{100 * number(output.relative):.2g} %")
    return table


def activations_view(comparison: ActivationComparison) -> Text:
    """Whether two networks' activations are equal, and if not, where they part."""
    if comparison.equal:
        return Text("equal activations", style="green").append(f": {comparison.layers} layers", style="default")
    view = Text("different activations", style="bold red").append(f": {parting(comparison)}", style="not bold default")
    for stage in comparison.stages:
        state = shown_difference(stage) if stage.differs else "equal"
        view.append(f"\n  {stage.name}: {state}", style="not bold default")
    return view
