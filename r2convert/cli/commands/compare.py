"""`r2convert compare`: are two checkpoints the same network, and if not, where do they differ? Predictions too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from msgspec.structs import replace

from r2convert import api
from r2convert.cli import options
from r2convert.cli.console import coloured, print_json, print_table, print_warning, stdout_console
from r2convert.errors import UsageError
from r2convert.files import printable
from r2convert.results.reading import plain

EXIT_DIFFERENT = 1
_SHOWN = 20
_PREDICTIONS = b'{"schema":"r2convert.predictions/'
"""How a prediction file begins."""
_NAME_COLUMNS = 34


@options.command("compare", "Tell whether two checkpoints hold the same network, and where they differ.")
@click.argument("a", type=options.Checkpoint())
@click.argument("b", type=options.Checkpoint())
@options.checkpoint_options
@options.option("--activations", is_flag=True, help="Also run both, and name the first layer at which they differ.")
@options.option("--network-a", metavar="NAME", help="Which network of prediction file A, if it holds several.")
@options.option("--network-b", metavar="NAME", help="Which network of prediction file B.")
@options.option(
    "--all", "everything", group=options.OUTPUT, is_flag=True, help="List every difference, not only the first 20."
)
@options.json_option
@click.pass_context
def command(
    context: click.Context,
    a: str,
    b: str,
    part: api.Part,
    fetch: bool,
    activations: bool,
    network_a: str | None,
    network_b: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    r"""Compare checkpoints A and B tensor by tensor, across containers and layouts.

    If both are known variants, tensors are compared under their mm names; batch counters and
    unused layers are ignored. Exit code 1 if they differ. With --activations both networks are run on one random
    image in float64, which shows where in the network a difference starts to matter.

    A and B may also be two files written by verify --predictions: predictions are compared image by image, with
    McNemar's exact test of which network is better.

    \b
    Examples:
      r2convert compare official.pth mm.safetensors
      r2convert compare strict.jsonl bf16.jsonl --all
    """
    limit = None if everything else _SHOWN
    if _are_predictions(a, b):
        if activations:
            raise UsageError("--activations compares two checkpoints", got="two prediction files")
        equal = _compare_predictions((a, b), (network_a, network_b), limit, as_json=as_json)
    else:
        if network_a or network_b:
            raise UsageError("--network-a and --network-b choose from prediction files", got="two checkpoints")
        one, other = options.locate(a, b, fetch=fetch)
        equal = _compare_checkpoints(one, other, limit, part, activations=activations, as_json=as_json)
    if not equal:
        context.exit(EXIT_DIFFERENT)


def _compare_checkpoints(
    a: api.Located, b: api.Located, limit: int | None, part: api.Part, *, activations: bool, as_json: bool
) -> bool:
    outputs = api.compare_activations(a, b, part) if activations else None
    comparison = api.compare(a, b, variant=part.variant, key=part.key, prefix=part.prefix, leave_out=part.leave_out)
    for warning in comparison.warnings:
        print_warning(warning)
    if as_json:
        print_json(plain(comparison if outputs is None else replace(comparison, activations=outputs)))
        return comparison.equal
    _print(comparison, limit)
    if outputs is not None:
        from r2convert.report.terminal import activations_view  # here: `--help` does without rich

        stdout_console().print(activations_view(outputs), soft_wrap=True)
    return comparison.equal


def _print(comparison: api.Comparison, limit: int | None) -> None:
    for label, identity in zip("AB", comparison.identities, strict=True):
        if identity is not None:
            click.echo(f"{label}: {identity.variant}, {identity.layout} layout")
    if comparison.equal:
        same = f"{comparison.common} tensors, content hash {comparison.content_hash.a}"
        click.echo(f"{coloured('equal', 'green')}: {same}")
        variants = {identity.variant for identity in comparison.identities if identity is not None}
        if len(variants) > 1:
            click.echo(f"These tensors fit {' and '.join(sorted(variants))}, which compute different things.")
        return
    differing = f"{len(comparison.differing)} of {comparison.common} common tensors"
    if not comparison.only_in_a and not comparison.only_in_b:
        rounded = all(tensor.max_abs_diff == 0 for tensor in comparison.differing)
        differing += ", in nothing but their element types" if rounded else ""
    click.echo(f"{coloured('different', 'red', bold=True)}: {differing}")
    lines = []
    for tensor in comparison.differing:
        size = ""
        if tensor.max_abs_diff is not None and tensor.mean_abs_diff is not None:
            size = f", max {tensor.max_abs_diff:.3g}, mean {tensor.mean_abs_diff:.3g}"
        lines.append(f"  {tensor.name}: {tensor.reason}{size}")
    _print_lines(lines, limit)
    for label, names in (("A", comparison.only_in_a), ("B", comparison.only_in_b)):
        _print_lines([f"  only in {label}: {name}" for name in names], limit)


def _print_lines(lines: Sequence[str], limit: int | None) -> None:
    for line in lines[:limit]:
        click.echo(printable(line))
    _print_rest(len(lines), limit)


def _print_rest(count: int, limit: int | None) -> None:
    if limit is not None and count > limit:
        click.echo(f"  and {count - limit:,} more (--all lists them)")


def _are_predictions(*names: str) -> bool:
    """Whether these are prediction files, judged by their first bytes.

    Raises:
        UsageError: some are and some are not.
    """
    found = [_holds_predictions(Path(name)) for name in names]
    if any(found) and not all(found):
        raise UsageError(
            "predictions can only be compared with predictions",
            expected="two files written by verify --predictions, or two checkpoints",
            got=" and ".join(names),
        )
    return all(found)


def _holds_predictions(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_PREDICTIONS)) == _PREDICTIONS


def _compare_predictions(
    paths: tuple[str, str], networks: tuple[str | None, str | None], limit: int | None, *, as_json: bool
) -> bool:
    found = api.compare_predictions(*paths, network_a=networks[0], network_b=networks[1])
    if as_json:
        print_json(plain(found))
    else:
        for comparison in found.comparisons:
            _print_predictions(comparison, found, limit)
    return found.equal


def _print_predictions(
    comparison: api.PredictionComparison, found: api.PredictionsComparison, limit: int | None
) -> None:
    names = comparison.network.a, comparison.network.b
    for side, made, name in zip("AB", (found.a, found.b), names, strict=True):
        how = ", ".join((made.precision, *made.accelerations))
        click.echo(printable(f"{side}: {Path(made.file).name}, {name}, {how}"))
    images = comparison.images
    if comparison.equal:
        click.echo(f"{coloured('equal predictions', 'green')} on {images:,} images: every top-1 and every top-5")
    else:
        different = coloured("different predictions", "red", bold=True)
        changed = f"top-1 of {comparison.changed_top1:,}, top-5 of {comparison.changed_top5:,}"
        click.echo(f"{different} on {images:,} images: {changed}")
    if comparison.other_crops:
        click.echo(f"{coloured('warning:', 'yellow')} the crops of {comparison.other_crops:,} images differ")
    _print_scores(comparison)
    if comparison.changed:
        _print_changed(comparison.changed[:limit])
    _print_rest(len(comparison.changed), limit)


def _print_scores(comparison: api.PredictionComparison) -> None:
    columns = ("A", "B", "both", "only A", "only B", "neither", "McNemar p")
    rows = []
    for name, counts in (("top-1", comparison.top1), ("top-5", comparison.top5)):
        numbers = (counts.a, counts.b, counts.both, counts.only_a, counts.only_b, counts.neither)
        rows.append((name, *(f"{number:,}" for number in numbers), f"{counts.mcnemar_p:.2g}"))
    print_table(("correct in", *columns), rows, right=columns)


def _print_changed(changed: Sequence[api.ChangedImage]) -> None:
    synsets = api.synsets()
    rows = []
    for each in changed:
        first = (synsets[side[0]] if side and side[0] >= 0 else "-" for side in (each.a, each.b))
        rows.append((_shortened(each.image), synsets[each.label], *first))
    print_table(("image", "label", "A", "B"), rows)


def _shortened(image: str) -> str:
    """The end of a long name, which tells images apart, as it can be printed."""
    name = printable(image)
    return name if len(name) <= _NAME_COLUMNS else "..." + name[3 - _NAME_COLUMNS :]
