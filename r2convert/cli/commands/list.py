"""`r2convert list`: the variants, what is published about them, what is in the cache, names of their tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import click

from r2convert import api
from r2convert.cli import options
from r2convert.cli.console import print_json, print_table, stdout_console
from r2convert.errors import UsageError


@options.command("list", "All variants, what is published about them, and what is in the cache.")
@options.option("--claims", is_flag=True, help="Every published number, with its source and convention.")
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
def command(
    claims: bool, tensors: str | None, source: api.Layout | None, target: api.Layout | None, as_json: bool
) -> None:
    r"""List all variants: parameters, FLOPs and accuracy as published, sources, and what is in the cache.

    \b
    Examples:
      r2convert list
      r2convert list --tensors res2net50_w14_s8 --from official --to mm
    """
    if tensors is not None:
        if claims:
            raise UsageError("--claims and --tensors are two different lists: ask for one at a time")
        _show_names(api.tensor_names(tensors, source=source, target=target or "mm"), as_json)
        return
    if source or target:
        raise UsageError("--from and --to choose the layouts of --tensors", expected="--tensors VARIANT --from ...")
    rows = api.list_variants()
    if as_json:
        print_json({"weights_licence": api.WEIGHTS_LICENCE, "variants": [_describe(row) for row in rows]})
    elif claims:
        _print_claims(row.variant for row in rows)
    else:
        _print_variants(rows)


def _print_variants(rows: Sequence[api.ListedVariant]) -> None:
    numbers, files = ("params", "FLOPs", "top-1", "top-5"), "files, * = cached"
    cells = [
        (
            row.variant.id,
            *(row.published.get(metric, "-").removesuffix(" %") for metric in ("parameters", "flops", "top1", "top5")),
            _files(row),
        )
        for row in rows
    ]
    print_table(("variant", *numbers, files), cells, right=numbers, fold=(files,))
    console = stdout_console()
    for row in rows:
        for source, cached in zip(row.variant.sources, row.cached, strict=True):
            if cached is not None:
                console.print(f"* {source.file_name}", soft_wrap=True, markup=False)
                facts = f"{cached.size / 1e6:.1f} MB, hash {cached.trust}, from {cached.origin}"
                console.print(f"    {facts}", soft_wrap=True, markup=False)
    console.print(
        "As printed in the official README (FLOPs: multiply-adds; accuracy: 100 - error).\n"
        f"Weights: {api.WEIGHTS_LICENCE}. `r2convert list --claims` shows every published number."
    )


def _files(row: api.ListedVariant) -> str:
    """The publishers of the variant's files, those in the cache marked."""
    marked: dict[str, str] = {}
    for source, cached in zip(row.variant.sources, row.cached, strict=True):
        label = source.publisher if source.layout != "mmdet" else "mmdet"
        marked[label] = "*" if cached else marked.get(label, "")
    return " ".join(label + mark for label, mark in marked.items())


def _print_claims(variants: Iterable[api.Variant]) -> None:
    for variant in variants:
        stdout_console().print(variant.id, style="bold", markup=False, soft_wrap=True)
        rows = [
            (claim.metric, f"{claim.printed} {claim.unit}", claim.convention or "", claim.source, claim.publisher)
            for claim in variant.claims
        ]
        print_table(("metric", "printed", "counted as", "printed by", "file of"), rows, right=("printed",))


def _describe(row: api.ListedVariant) -> dict[str, object]:
    variant = row.variant
    return {
        "id": variant.id,
        "name": variant.name,
        "aliases": list(variant.aliases),
        "note": variant.note,
        "architecture": asdict(variant.architecture),
        "sources": [
            {**asdict(source), "cached": None if cached is None else {**asdict(cached), "path": str(cached.path)}}
            for source, cached in zip(variant.sources, row.cached, strict=True)
        ],
        "claims": [asdict(claim) for claim in variant.claims],
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
