"""`r2convert inspect`: what a file really is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from r2convert.cli.arguments import checkpoint_path, selection_options
from r2convert.cli.commands.completion import complete_checkpoint
from r2convert.cli.console import print_json, stdout_console
from r2convert.files import printable

if TYPE_CHECKING:
    from r2convert.checkpoint.open import Checkpoint
    from r2convert.mapping.identity import Resolution
    from r2convert.mapping.tables import Tables


@click.command(short_help="What a file really is: container, layout, variant, tensors.")
@click.argument("file", shell_complete=complete_checkpoint)
@click.option("--tensors", is_flag=True, help="List every tensor: name, dtype, shape.")
@selection_options
@click.option("--no-digest", is_flag=True, help="Read names and shapes only: no SHA-256, no content hash.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def inspect(file: str, tensors: bool, key: str | None, prefix: str, no_digest: bool, as_json: bool) -> None:
    r"""Say what FILE (or a variant in the cache) really is.

    Container, layout, variant, tensors, dtypes, parameters and digests. Nothing in the file is executed.

    \b
    Example:
      r2convert inspect res2net50_14w_8s-6527dddc.pth
    """
    from r2convert.catalog import load_catalog
    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.tables import Tables

    tables = Tables(load_catalog())
    path, _ = checkpoint_path(tables.catalog, file)
    with open_checkpoint(path, key=key, prefix=prefix) as checkpoint:
        facts = _facts(tables, checkpoint, digest=not no_digest)
        if tensors:
            facts["tensor_list"] = [
                {"name": name, "dtype": tensor.dtype.value, "shape": list(tensor.shape)}
                for name, tensor in checkpoint.tensors.items()
            ]
    if as_json:
        print_json(facts)
    else:
        _print_facts(facts)


def _facts(tables: Tables, checkpoint: Checkpoint, *, digest: bool) -> dict[str, object]:
    from r2convert.mapping.conversion import content_hash_of, content_hash_of_unknown

    resolution, problem = _resolve(tables, checkpoint)
    dtypes: dict[str, int] = {}
    for tensor in checkpoint.tensors.values():
        dtypes[tensor.dtype.value] = dtypes.get(tensor.dtype.value, 0) + 1
    warnings = list(checkpoint.warnings)
    if problem:
        warnings.append(problem)
    content = None
    if digest:
        content = content_hash_of(checkpoint, resolution) if resolution else content_hash_of_unknown(checkpoint)
        warnings += _value_warnings(checkpoint, resolution)
    identity = resolution.identity if resolution else None
    if identity and identity.variant.note:
        warnings.append(identity.variant.note)
    if identity and not identity.has_classifier:
        warnings.append("a backbone: it has no classifier")
    return {
        "path": str(checkpoint.path),
        "size": checkpoint.size,
        "container": checkpoint.container,
        "layout": identity.layout if identity else None,
        "variant": identity.variant.id if identity else None,
        "classes": identity.classes if identity and identity.has_classifier else None,
        "tensors": len(checkpoint.tensors),
        "parameters": _parameters(checkpoint, resolution),
        "dtypes": dtypes,
        "wrapper": checkpoint.wrapper,
        "prefix_removed": checkpoint.prefix_removed or None,
        "metadata": dict(checkpoint.metadata),
        "sha256": checkpoint.sha256() if digest else None,
        "content_hash": content,
        "warnings": warnings,
    }


def _resolve(tables: Tables, checkpoint: Checkpoint) -> tuple[Resolution | None, str | None]:
    from r2convert.errors import MappingError
    from r2convert.mapping.identity import resolve

    try:
        return resolve(tables, checkpoint), None
    except MappingError as error:
        return None, " ".join(str(error).split())


def _value_warnings(checkpoint: Checkpoint, resolution: Resolution | None) -> list[str]:
    from r2convert.mapping.values import value_problems

    return value_problems(checkpoint, resolution)


def _parameters(checkpoint: Checkpoint, resolution: Resolution | None) -> int:
    """Elements that are learned; of an unknown file, those of every floating-point tensor but running statistics."""
    if resolution is not None:
        slots = resolution.expansion.names(resolution.identity.layout)
        return sum(
            tensor.elements for name, tensor in checkpoint.tensors.items() if name in slots and slots[name].is_learned
        )
    statistics = ("running_mean", "running_var", "_mean", "_variance")
    return sum(
        tensor.elements
        for name, tensor in checkpoint.tensors.items()
        if tensor.dtype.is_floating and not name.endswith(statistics)
    )


def _print_facts(facts: dict[str, object]) -> None:
    from rich.markup import escape

    console = stdout_console()
    labels = {"content_hash": "content hash"}
    for name in ("path", "container", "layout", "variant", "classes", "tensors", "parameters", "dtypes", "wrapper"):
        if facts[name] is not None or name in ("layout", "variant"):
            console.print(f"{name:<13} {escape(_show(facts[name]))}", soft_wrap=True)
    for name in ("metadata", "sha256", "content_hash"):
        if facts[name]:
            shown = printable(_show(facts[name]).replace("\n", " "))
            console.print(f"{labels.get(name, name):<13} {escape(shown)}", soft_wrap=True)
    warnings = facts["warnings"]
    for warning in warnings if isinstance(warnings, list) else []:
        console.print(f"[yellow]warning[/]       {escape(warning)}", soft_wrap=True)
    listing = facts.get("tensor_list")
    for tensor in listing if isinstance(listing, list) else []:
        shape = "x".join(map(str, tensor["shape"])) or "scalar"
        console.print(f"  {escape(tensor['name'])}  {tensor['dtype']}  {shape}", soft_wrap=True)


def _show(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
