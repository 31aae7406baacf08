"""`r2convert inspect`: what a file really is."""

from __future__ import annotations

from collections import Counter

import click
from msgspec import UNSET
from msgspec.structs import replace

from r2convert import api
from r2convert.cli import options
from r2convert.cli.console import coloured, print_json
from r2convert.files import first_names, printable

_WARNINGS_SHOWN = 10
_VALUE_COLUMNS = 120


@options.command("inspect", "Show what a file really is: container, layout, variant, tensors.")
@click.argument("file", type=options.Checkpoint())
@options.checkpoint_options
@options.option(
    "--no-digest", is_flag=True, group=options.OUTPUT, help="Names and shapes only: no SHA-256, no content hash."
)
@options.option("--tensors", is_flag=True, group=options.OUTPUT, help="List every tensor: name, dtype, shape.")
@options.json_option
def command(file: str, part: api.Part, fetch: bool, no_digest: bool, tensors: bool, as_json: bool) -> None:
    r"""Show what FILE really is: a path, a folder with one checkpoint, a variant in the cache, or - for stdin.

    Container, layout, variant, tensors, dtypes, parameters and digests. Nothing in the file is executed.

    \b
    Example:
      r2convert inspect res2net50_14w_8s-6527dddc.pth
    """
    (located,) = options.locate(file, fetch=fetch)
    found = api.inspect(located, part, digests=not no_digest)
    if as_json:
        from r2convert.results.reading import plain

        print_json(plain(found if tensors else replace(found, tensor_list=UNSET)))
    else:
        _print(found, tensors=tensors)


def _by_reason(found: api.Inspection) -> str:
    """Each reason for leaving tensors out, and how many tensors it concerns."""
    counts = Counter(tensor.reason for tensor in found.left_out)
    return ", ".join(f"{count} x {reason}" for reason, count in counts.items())


def _shortened(text: str) -> str:
    """The beginning of a long value: optimizer state, a whole configuration."""
    return text if len(text) <= _VALUE_COLUMNS else text[: _VALUE_COLUMNS - 3] + "..."


def _print(found: api.Inspection, *, tensors: bool) -> None:
    facts = {
        "path": found.path,
        "container": found.container,
        "layout": found.layout or "unknown",
        "variant": found.variant or "unknown",
        "weights": found.weights,
        "evidence": found.evidence,
        "classes": None if found.classes is None else f"{found.classes:,}",
        "tensors": f"{found.tensors:,}",
        "parameters": f"{found.parameters:,}",
        "dtypes": ", ".join(f"{dtype} {count}" for dtype, count in found.dtypes.items()),
        "wrapper": found.wrapper,
        "prefix": found.prefix_removed and f"{found.prefix_removed} removed from every name",
        "left out": _by_reason(found),
        "not read": first_names([f"{name} ({kind})" for name, kind in found.unread.items()]),
        "opaque": ", ".join(found.opaque),
        "metadata": ", ".join(f"{name} {_shortened(str(value))}" for name, value in found.metadata.items()),
        "sha256": found.sha256,
        "content hash": found.content_hash,
    }
    lines = [f"{name:<13} {printable(value)}" for name, value in facts.items() if value]
    warnings = [*found.warnings[:_WARNINGS_SHOWN]]
    if len(found.warnings) > _WARNINGS_SHOWN:
        warnings.append(f"and {len(found.warnings) - _WARNINGS_SHOWN} more: --json lists all")
    lines += [f"{coloured('warning', 'yellow')}       {printable(warning)}" for warning in warnings]
    for tensor in found.tensor_list or () if tensors else ():
        size = "x".join(map(str, tensor.shape)) or "scalar"
        lines.append(f"  {printable(tensor.name)}  {tensor.dtype}  {size}")
    click.echo("\n".join(lines))
