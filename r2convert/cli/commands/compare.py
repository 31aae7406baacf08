"""`r2convert compare`: are two checkpoints the same network, and if not, where do they differ?

Two prediction files are compared by :mod:`r2convert.cli.commands.compare_predictions`.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2convert.cli.arguments import checkpoint_path
from r2convert.cli.commands.compare_predictions import are_predictions, compare_prediction_files
from r2convert.cli.console import print_json, stdout_console
from r2convert.errors import UsageError

if TYPE_CHECKING:
    from r2convert.checkpoint.open import Checkpoint
    from r2convert.checks.parity import ActivationComparison
    from r2convert.mapping.comparison import Comparison
    from r2convert.mapping.identity import Resolution
    from r2convert.mapping.tables import Tables

EXIT_DIFFERENT = 1
_SHOWN = 20


@click.command(short_help="Are two checkpoints the same network? If not, where do they differ?")
@click.argument("a")
@click.argument("b")
@click.option("--all", "everything", is_flag=True, help="List every difference, not only the first 20.")
@click.option("--activations", is_flag=True, help="Also run both, and name the first layer at which they part.")
@click.option("--network-a", metavar="NAME", help="Which network of prediction file A, if it holds several.")
@click.option("--network-b", metavar="NAME", help="Which network of prediction file B.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def compare(
    context: click.Context,
    /,
    a: str,
    b: str,
    everything: bool,
    activations: bool,
    network_a: str | None,
    network_b: str | None,
    as_json: bool,
) -> None:
    r"""Compare checkpoints A and B tensor by tensor, across containers and layouts.

    If both are known variants, tensors are compared under their mm names; counters of training batches and
    layers that nothing reads do not count. Exit code 1 if they differ. With --activations both networks are run on
    one drawn image in float64, which tells where in the network a difference starts to matter.

    A and B may also be two files that verify --predictions has written: then answers are compared image by image,
    with the exact McNemar test of which network is better.

    \b
    Examples:
      r2convert compare official.pth mm.safetensors
      r2convert compare strict.jsonl bf16.jsonl --all
    """
    if are_predictions((a, b)):
        if activations:
            raise UsageError("--activations compares two checkpoints", got="two prediction files")
        named, limit = (network_a, network_b), None if everything else _SHOWN
        if not compare_prediction_files(Path(a), Path(b), named, limit=limit, as_json=as_json):
            context.exit(EXIT_DIFFERENT)
        return
    if network_a or network_b:
        raise UsageError("--network-a and --network-b choose from prediction files", got="two checkpoints")
    if not _compare_checkpoints(a, b, everything=everything, activations=activations, as_json=as_json):
        context.exit(EXIT_DIFFERENT)


def _compare_checkpoints(a: str, b: str, *, everything: bool, activations: bool, as_json: bool) -> bool:
    """Compare, print, and say whether they are equal."""
    from r2convert.catalog import load_catalog
    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.comparison import Side
    from r2convert.mapping.comparison import compare as compare_sides
    from r2convert.mapping.tables import Tables

    tables = Tables(load_catalog())
    with ExitStack() as stack:
        opened = [stack.enter_context(open_checkpoint(checkpoint_path(tables.catalog, name)[0])) for name in (a, b)]
        resolutions = _resolve_both(tables, opened)
        outputs = _compare_activations(opened, resolutions) if activations else None
        sides = [Side(checkpoint, each) for checkpoint, each in zip(opened, resolutions, strict=True)]
        comparison = compare_sides(*sides)
    if as_json:
        print_json({**_as_json(comparison), **({"activations": _outputs_as_json(outputs)} if outputs else {})})
    else:
        _print(comparison, resolutions, None if everything else _SHOWN)
        if outputs is not None:
            _print_outputs(outputs)
    return comparison.equal


def _resolve_both(tables: Tables, opened: list[Checkpoint]) -> list[Resolution | None]:
    """What both are; if one is unknown, both are compared by their own names."""
    from r2convert.errors import MappingError
    from r2convert.mapping.identity import resolve

    found: list[Resolution | None] = []
    for checkpoint in opened:
        try:
            found.append(resolve(tables, checkpoint))
        except MappingError:
            found.append(None)
    return found if all(found) else [None, None]


def _compare_activations(opened: list[Checkpoint], resolutions: list[Resolution | None]) -> ActivationComparison:
    """Run both networks.

    Raises:
        UsageError: they are not known networks of one architecture.
    """
    from r2convert.checks.parity import compare_activations, random_input
    from r2convert.models.build import load_network

    known = [resolution for resolution in resolutions if resolution is not None]
    variants = [resolution.identity.variant for resolution in known]
    if len(known) < len(opened) or variants[0].architecture != variants[1].architecture:
        raise UsageError(
            "--activations compares two checkpoints of one network",
            expected="two files of the same variant",
            got=" and ".join(variant.id for variant in variants) or "a file that holds no known network",
        )
    a, b = (load_network(checkpoint, each) for checkpoint, each in zip(opened, known, strict=True))
    return compare_activations(a, b, random_input(variants[0]))


def _outputs_as_json(outputs: ActivationComparison) -> dict[str, object]:
    from r2convert.results.document import activations

    return activations(outputs)


def _print_outputs(outputs: ActivationComparison) -> None:
    from r2convert.checks.parity import parting, shown_difference

    console = stdout_console()
    if outputs.equal:
        console.print(f"[green]equal activations[/]: {len(outputs.layers)} layers", soft_wrap=True)
        return
    console.print(f"[bold red]different activations[/]: {parting(outputs)}", soft_wrap=True)
    for stage in outputs.stages:
        console.print(f"  {stage.name}: {shown_difference(stage) if stage.differs else 'equal'}", soft_wrap=True)


def _as_json(comparison: Comparison) -> dict[str, object]:
    first, second = comparison.content_hashes
    return {
        "equal": comparison.equal,
        "content_hash": {"a": first, "b": second},
        "differing": [
            {
                "name": tensor.name,
                "reason": tensor.reason,
                "max_abs_diff": tensor.max_abs_diff,
                "mean_abs_diff": tensor.mean_abs_diff,
            }
            for tensor in comparison.differing
        ],
        "only_in_a": list(comparison.only_in_a),
        "only_in_b": list(comparison.only_in_b),
    }


def _print(comparison: Comparison, resolutions: list[Resolution | None], limit: int | None) -> None:
    from rich.markup import escape

    console = stdout_console()
    for label, resolution in zip(("A", "B"), resolutions, strict=True):
        if resolution is not None:
            identity = resolution.identity
            console.print(f"{label}: {identity.variant.id}, {identity.layout} layout", soft_wrap=True)
    if comparison.equal:
        console.print(
            f"[green]equal[/]: {comparison.common} tensors, content hash {comparison.content_hashes[0]}", soft_wrap=True
        )
        return
    console.print(
        f"[bold red]different[/]: {len(comparison.differing)} of {comparison.common} common tensors", soft_wrap=True
    )
    for tensor in comparison.differing[:limit]:
        size = (
            "" if tensor.max_abs_diff is None else f", max {tensor.max_abs_diff:.3g}, mean {tensor.mean_abs_diff:.3g}"
        )
        console.print(f"  {escape(tensor.name)}: {escape(tensor.reason)}{size}", soft_wrap=True)
    _print_rest(len(comparison.differing), limit)
    for label, names in (("A", comparison.only_in_a), ("B", comparison.only_in_b)):
        for name in names[:limit]:
            console.print(f"  only in {label}: {escape(name)}", soft_wrap=True)
        _print_rest(len(names), limit)


def _print_rest(count: int, limit: int | None) -> None:
    if limit is not None and count > limit:
        stdout_console().print(f"  and {count - limit} more (--all lists them)")
