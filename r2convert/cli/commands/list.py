"""`r2convert list`: architectures and their weights, published numbers, what is in the cache, layouts, tensor names."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

import click
from msgspec import to_builtins
from msgspec.structs import asdict

from r2convert import api
from r2convert.cli import options
from r2convert.cli.console import columns, print_json, print_table
from r2convert.errors import UsageError
from r2convert.files import printable

_NUMBERS = ("params", "FLOPs", "top-1", "top-5")
_OF_ARCHITECTURE, _OF_WEIGHTS = ("parameters", "flops"), ("top1", "top5")
_FILES = "layout, * = cached"


@options.command("list", "List architectures and weights: published numbers, files, what is in the cache.")
@options.option(
    "--publisher",
    group=options.CHOICE,
    metavar="NAME",
    shell_complete=options.complete_publisher,
    help="Only weights of this publisher: official, timm, ...",
)
@options.option(
    "--layout", group=options.CHOICE, type=options.SOURCE_LAYOUT, help="Only weights with a file in this layout."
)
@options.option("--cached", group=options.CHOICE, is_flag=True, help="Only weights that are in the cache.")
@options.option("--claims", is_flag=True, help="Every published number, with its source and convention.")
@options.option(
    "--layouts",
    "of_layouts",
    is_flag=True,
    help="Who reads each layout, what it can build and what it computes differently.",
)
@options.option(
    "--tensors",
    metavar="VARIANT",
    shell_complete=options.complete_variant,
    help="The names of a variant's tensors in two layouts, with shapes.",
)
@options.option(
    "--from", "source", type=options.SOURCE_LAYOUT, help="--tensors: first layout; default: the official file's."
)
@options.option("--to", "target", type=options.SOURCE_LAYOUT, help="--tensors: second layout; default: mm.")
@options.json_option
@click.pass_context
def command(
    context: click.Context,
    publisher: api.Publisher | None,
    layout: api.Layout | None,
    cached: bool,
    claims: bool,
    of_layouts: bool,
    tensors: str | None,
    source: api.Layout | None,
    target: api.Layout | None,
    as_json: bool,
) -> None:
    r"""List the architectures with their weights below: sizes and accuracy as published, and what is in the cache.

    \b
    Examples:
      r2convert list
      r2convert list --publisher timm --cached
      r2convert list --layouts
      r2convert list --tensors res2net50_w14_s8 --from official --to mm
    """
    _check_usage(context)
    if tensors is not None:
        _show_names(api.tensor_names(tensors, source=source, target=target or "mm"), as_json)
    elif of_layouts:
        _show_layouts(api.list_layouts(), as_json)
    else:
        rows = api.list_variants(publisher=publisher, layout=layout, cached=cached)
        if as_json:
            print_json({"weights_licence": api.WEIGHTS_LICENCE, "variants": [_describe(row) for row in rows]})
        elif not rows:
            click.echo("(none)")
        elif claims:
            _print_claims(row.variant for row in rows)
        else:
            _print_variants(rows)


def _check_usage(context: click.Context) -> None:
    """Refuse options that were given and would not be used."""
    names = options.given(context)
    lists = [names[each] for each in ("claims", "of_layouts", "tensors") if each in names]
    if len(lists) > 1:
        raise UsageError(f"{' and '.join(lists)} are different lists: ask for one at a time")
    if {"source", "target"} & names.keys() and "tensors" not in names:
        raise UsageError("--from and --to choose the layouts of --tensors", expected="--tensors VARIANT --from ...")
    unused = [names[each] for each in ("publisher", "layout", "cached") if each in names]
    if unused and {"of_layouts", "tensors"} & names.keys():
        raise UsageError(f"{unused[0]} chooses among weights", expected=f"`r2convert list {unused[0]} ...`")


def _print_variants(rows: Sequence[api.ListedVariant]) -> None:
    print_table(("variant", *_NUMBERS, _FILES), list(_cells(rows)), right=_NUMBERS, fold=(_FILES,))
    for row in rows:
        for weights in row.weights:
            for source, file in zip(weights.weights.sources, weights.cached, strict=True):
                if file is not None:
                    click.echo(f"* {printable(source.file_name)}")
                    facts = f"{file.size / 1e6:.1f} MB, hash {file.trust}, from {file.origin}"
                    click.echo(f"    {printable(facts)}")
    example = next((weights.weights.id for row in rows for weights in row.weights[1:]), None)
    _print_text(
        "Sizes as first printed for the architecture (FLOPs: multiply-adds), accuracies as the publisher of the "
        "weights prints them (100 - error). `r2convert list --claims` shows every published number."
    )
    if example is not None:
        _print_text(f"An architecture's name means its first weights; others have names such as {example}.")
    if any(weights.weights.page for row in rows for weights in row.weights):
        _print_text("by hand: `r2convert fetch NAME` says what it is and where to get it.")
    _print_text(f"Official weights: {api.WEIGHTS_LICENCE}.")


def _cells(rows: Sequence[api.ListedVariant]) -> Iterator[tuple[str, ...]]:
    """One line per architecture, and one below it for each of its weights."""
    for row in rows:
        sizes = (row.published.get(metric, "") for metric in _OF_ARCHITECTURE)
        yield (row.variant.id, *sizes, "", "", "")
        for weights in row.weights:
            accuracies = (weights.published.get(metric, "").removesuffix(" %") for metric in _OF_WEIGHTS)
            yield (f"  {weights.tag}", "", "", *accuracies, _layouts(weights))


def _layouts(weights: api.ListedWeights) -> str:
    """The layouts of the files, those in the cache marked."""
    marks: dict[str, str] = {}
    for source, file in zip(weights.weights.sources, weights.cached, strict=True):
        marks[source.layout] = "*" if file else marks.get(source.layout, "")
    return " ".join(layout + mark for layout, mark in marks.items()) or "by hand"


def _print_claims(variants: Iterable[api.Variant]) -> None:
    for variant in variants:
        click.echo(variant.id)
        rows = [
            (
                claim.metric,
                f"{claim.printed} {claim.unit}",
                claim.convention or "",
                claim.where,
                claim.weights.partition(".")[2],
            )
            for claim in variant.claims
        ]
        headings = ("metric", "printed", "counted as", "printed by", "weights")
        print_table(headings, rows, right=("printed",), fold=("printed by",))


def _show_layouts(rows: Sequence[api.ListedLayout], as_json: bool) -> None:
    if as_json:
        print_json({"layouts": [_describe_layout(row) for row in rows]})
        return
    for row in rows:
        _print_text(row.facts.reader, label=f"{row.facts.name}: ")
        _print_fact("written as", " ".join(row.facts.written_as) or "nothing: it is read only")
        _print_fact("without", row.facts.absent)
        _print_fact("builds", ", ".join(row.builds))
        for how, architectures in row.otherwise.items():
            _print_fact("otherwise", f"{', '.join(architectures)}: {how}")
        _print_fact("caution", row.facts.caution)
        _print_fact("cannot", ": ".join(filter(None, (", ".join(row.unbuilt), row.limits))))
    _print_text(
        "otherwise: names and shapes fit, but the reader computes another network with them; `map` warns about it."
    )


def _print_fact(label: str, text: str) -> None:
    if text:
        _print_text(text, label=f"  {label:<11}")


def _print_text(text: str, *, label: str = "") -> None:
    """Print a text, wrapped to the terminal."""
    wrapped = textwrap.fill(
        text, columns(), initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False
    )
    click.echo(wrapped)


def _describe(row: api.ListedVariant) -> dict[str, object]:
    variant = row.variant
    files = [file for weights in row.weights for file in weights.cached]
    return {
        "id": variant.id,
        "name": variant.name,
        "aliases": list(variant.aliases),
        "note": variant.note,
        "architecture": asdict(variant.architecture),
        "sources": [
            {**asdict(source), "cached": None if file is None else {**asdict(file), "path": str(file.path)}}
            for source, file in zip(variant.sources, files, strict=True)
        ],
        "claims": [to_builtins(claim) for claim in variant.claims],
        "weights": [
            {
                "id": each.id,
                "name": each.name,
                "aliases": list(each.aliases),
                "publisher": each.publisher,
                "page": each.page,
                "detector": each.detector,
                "note": each.note,
            }
            for each in variant.weights
        ],
    }


def _describe_layout(row: api.ListedLayout) -> dict[str, object]:
    return {
        "name": row.facts.name,
        "reader": row.facts.reader,
        "written_as": list(row.facts.written_as),
        "limits": row.limits,
        "absent": row.facts.absent,
        "caution": row.facts.caution,
        "builds": list(row.builds),
        "otherwise": [{"how": how, "architectures": list(ids)} for how, ids in row.otherwise.items()],
        "not_built": list(row.unbuilt),
    }


def _show_names(names: api.TensorNames, as_json: bool) -> None:
    if as_json:
        tensors = [{"from": one, "to": other, "shape": list(shape)} for one, other, shape in names.tensors]
        print_json({"variant": names.variant, "from": names.source, "to": names.target, "tensors": tensors})
        return
    lines = [(names.source, names.target, "shape")]
    lines += [(one or "-", other or "-", "x".join(map(str, shape)) or "scalar") for one, other, shape in names.tensors]
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    for line in lines:
        click.echo(f"{line[0]:<{widths[0]}}  {line[1]:<{widths[1]}}  {line[2]}")
