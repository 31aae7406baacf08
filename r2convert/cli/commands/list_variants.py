"""`r2convert list`: the variants, what is published about them, and what is in the cache."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import click

from r2convert.catalog.licence import WEIGHTS_LICENCE
from r2convert.cli.console import print_json, stdout_console

if TYPE_CHECKING:
    from r2convert.catalog.variant import Variant
    from r2convert.download.cache import Cache


@click.command("list", short_help="All variants, what is published about them, and what is in the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--claims", is_flag=True, help="Every published number, with its source and convention.")
def list_variants(as_json: bool, claims: bool) -> None:
    r"""List all variants: parameters, FLOPs and accuracy as published, sources, and what is in the cache.

    \b
    Example:
      r2convert list
    """
    from r2convert.catalog import load_catalog
    from r2convert.download.cache import Cache

    variants = load_catalog().variants.values()
    if as_json:
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
