"""`r2convert list`: the variants, what is published about them, and what is in the cache."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import click

from r2convert.catalog.licence import WEIGHTS_LICENCE
from r2convert.cli.arguments import SOURCE_LAYOUTS
from r2convert.cli.commands.completion import complete_variant
from r2convert.cli.console import print_json, stdout_console
from r2convert.errors import UsageError

if TYPE_CHECKING:
    from r2convert.catalog import Catalog
    from r2convert.catalog.variant import Variant
    from r2convert.download.cache import Cache


@click.command("list", short_help="All variants, what is published about them, and what is in the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--claims", is_flag=True, help="Every published number, with its source and convention.")
@click.option(
    "--tensors", metavar="VARIANT", shell_complete=complete_variant, help="A variant's tensor names, with shapes."
)
@click.option("--from", "source", type=click.Choice(SOURCE_LAYOUTS), help="With --tensors: the first of two layouts.")
@click.option("--to", "target", type=click.Choice(SOURCE_LAYOUTS), help="With --tensors: the second; default: mm.")
def list_variants(as_json: bool, claims: bool, tensors: str | None, source: str | None, target: str | None) -> None:
    r"""List all variants: parameters, FLOPs and accuracy as published, sources, and what is in the cache.

    \b
    Examples:
      r2convert list
      r2convert list --tensors res2net50_w14_s8 --from official --to mm
    """
    from r2convert.catalog import load_catalog
    from r2convert.download.cache import Cache

    if tensors is None and (source or target):
        raise UsageError("--from and --to choose the layouts of --tensors", expected="--tensors VARIANT")
    catalog = load_catalog()
    variants = catalog.variants.values()
    if tensors is not None:
        _print_tensors(catalog, tensors, source, target or "mm", as_json)
    elif as_json:
        cache = Cache.default()
        print_json({"weights_licence": WEIGHTS_LICENCE, "variants": [_describe(each, cache) for each in variants]})
    elif claims:
        _print_claims(variants)
    else:
        _print_variants(variants, Cache.default())


def _print_variants(variants: Collection[Variant], cache: Cache) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("variant", no_wrap=True)
    for heading in ("params", "FLOPs", "top-1", "top-5"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("files, * = cached")
    for variant in variants:
        table.add_row(variant.id, *_published(variant), _files(variant, cache))
    console = stdout_console()
    console.print(table)
    _print_cached(variants, cache)
    console.print(
        "As printed in the official README (FLOPs: multiply-adds; accuracy: 100 - error).\n"
        f"Weights: {WEIGHTS_LICENCE}. `r2convert list --claims` shows every published number."
    )


def _print_cached(variants: Collection[Variant], cache: Cache) -> None:
    """What is in the cache: file, size, where it came from, and how far its hash is known."""
    from rich.markup import escape

    console = stdout_console()
    for variant in variants:
        for source in variant.sources:
            cached = cache.lookup(source)
            if cached is not None:
                console.print(f"* {escape(source.file_name)}", soft_wrap=True)
                facts = f"{cached.size / 1e6:.1f} MB, hash {cached.trust}, from {cached.origin}"
                console.print(f"    {escape(facts)}", soft_wrap=True)


def _published(variant: Variant) -> list[str]:
    from r2convert.catalog.printed import readable

    official = {claim.metric: claim for claim in variant.claims if claim.source == "official README"}
    return [
        readable(official[metric].printed, official[metric].unit).removesuffix(" %") if metric in official else "-"
        for metric in ("parameters", "flops", "top1", "top5")
    ]


def _files(variant: Variant, cache: Cache) -> str:
    """The publishers of the variant's files, those in the cache marked."""
    marked: dict[str, str] = {}
    for source in variant.sources:
        label = source.publisher if source.layout != "mmdet" else "mmdet"
        mark = "*" if cache.lookup(source) else marked.get(label, "")
        marked[label] = mark
    return " ".join(label + mark for label, mark in marked.items())


def _print_claims(variants: Iterable[Variant]) -> None:
    from rich import box
    from rich.table import Table

    console = stdout_console()
    for variant in variants:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
        for heading in ("printed by", "metric", "printed", "counted as", "file of"):
            table.add_column(heading, no_wrap=True, justify="right" if heading == "printed" else "left")
        for claim in variant.claims:
            printed = f"{claim.printed} {claim.unit}"
            table.add_row(claim.source, claim.metric, printed, claim.convention or "", claim.publisher)
        console.print(f"[bold]{variant.id}[/]", table)


def _describe(variant: Variant, cache: Cache) -> dict[str, object]:
    from dataclasses import asdict

    sources = []
    for source in variant.sources:
        cached = cache.lookup(source)
        sources.append(
            {
                **asdict(source),
                "cached": None
                if cached is None
                else {
                    "path": str(cached.path),
                    "size": cached.size,
                    "sha256": cached.sha256,
                    "trust": cached.trust,
                    "origin": cached.origin,
                },
            }
        )
    return {
        "id": variant.id,
        "name": variant.name,
        "aliases": list(variant.aliases),
        "note": variant.note,
        "architecture": asdict(variant.architecture),
        "sources": sources,
        "claims": [asdict(claim) for claim in variant.claims],
    }


def _print_tensors(catalog: Catalog, name: str, source: str | None, target: str, as_json: bool) -> None:
    from r2convert.mapping.tables import Tables

    tables, variant = Tables(catalog), catalog.find(name)
    expansion = tables.of(variant)
    source = source or ("official" if "official" in expansion.table.layouts else variant.sources[0].layout)
    for layout in (source, target):
        tables.require_layout(variant, layout)
    rows = [
        (slot.names.get(source), slot.names.get(target), expansion.shape_in(source, slot))
        for slot in expansion.slots
        if source in slot.names or target in slot.names
    ]
    if as_json:
        tensors = [{"from": before, "to": after, "shape": list(shape)} for before, after, shape in rows]
        print_json({"variant": variant.id, "from": source, "to": target, "tensors": tensors})
        return
    lines = [(source, target, "shape")]
    lines += [(before or "-", after or "-", "x".join(map(str, shape)) or "scalar") for before, after, shape in rows]
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    for line in lines:
        click.echo(f"{line[0]:<{widths[0]}}  {line[1]:<{widths[1]}}  {line[2]}")
