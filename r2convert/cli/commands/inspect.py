"""`r2convert inspect`: what a file really is."""

from __future__ import annotations

from collections import Counter

import click

from r2convert import api
from r2convert.cli import options
from r2convert.cli.console import print_json, stdout_console
from r2convert.files import printable


@options.command("inspect", "What a file really is: container, layout, variant, tensors.")
@click.argument("file", type=options.Checkpoint())
@options.part_options
@options.fetch_option
@options.option(
    "--no-digest", is_flag=True, group=options.OUTPUT, help="Names and shapes only: no SHA-256, no content hash."
)
@options.option("--tensors", is_flag=True, group=options.OUTPUT, help="List every tensor: name, dtype, shape.")
@options.json_option
def command(
    file: str, key: str | None, prefix: str, fetch: bool, no_digest: bool, tensors: bool, as_json: bool
) -> None:
    r"""Say what FILE really is: a path, a folder with one checkpoint, a variant in the cache, or - for stdin.

    Container, layout, variant, tensors, dtypes, parameters and digests. Nothing in the file is executed.

    \b
    Example:
      r2convert inspect res2net50_14w_8s-6527dddc.pth
    """
    (located,) = options.locate(file, fetch=fetch)
    found = api.inspect(located, key=key, prefix=prefix, digests=not no_digest)
    if as_json:
        print_json(_document(found, tensors=tensors))
    else:
        _print(found, tensors=tensors)


def _dtypes(found: api.Inspection) -> dict[str, int]:
    return dict(Counter(dtype for dtype, _ in found.tensors.values()))


def _document(found: api.Inspection, *, tensors: bool) -> dict[str, object]:
    document: dict[str, object] = {
        "path": str(found.path),
        "size": found.size,
        "container": found.container,
        "layout": found.layout,
        "variant": found.variant,
        "classes": found.classes,
        "tensors": len(found.tensors),
        "parameters": found.parameters,
        "dtypes": _dtypes(found),
        "wrapper": found.wrapper,
        "prefix_removed": found.prefix_removed,
        "metadata": dict(found.metadata),
        "sha256": found.sha256,
        "content_hash": found.content_hash,
        "warnings": list(found.warnings),
    }
    if tensors:
        document["tensor_list"] = [
            {"name": name, "dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in found.tensors.items()
        ]
    return document


def _print(found: api.Inspection, *, tensors: bool) -> None:
    facts = {
        "path": str(found.path),
        "container": found.container,
        "layout": found.layout or "unknown",
        "variant": found.variant or "unknown",
        "classes": None if found.classes is None else f"{found.classes:,}",
        "tensors": f"{len(found.tensors):,}",
        "parameters": f"{found.parameters:,}",
        "dtypes": ", ".join(f"{dtype} {count}" for dtype, count in _dtypes(found).items()),
        "wrapper": found.wrapper,
        "metadata": ", ".join(f"{name} {value}" for name, value in found.metadata.items()),
        "sha256": found.sha256,
        "content hash": found.content_hash,
    }
    console = stdout_console()
    for name, value in facts.items():
        if value:
            console.print(f"{name:<13} {printable(value)}", soft_wrap=True, markup=False)
    for warning in found.warnings:
        console.print("[yellow]warning[/]      ", end=" ")
        console.print(printable(warning), soft_wrap=True, markup=False)
    for name, (dtype, shape) in found.tensors.items() if tensors else ():
        size = "x".join(map(str, shape)) or "scalar"
        console.print(f"  {printable(name)}  {dtype}  {size}", soft_wrap=True, markup=False)
