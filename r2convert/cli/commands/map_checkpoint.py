"""`r2convert map`: convert a checkpoint into another layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2convert.cli.arguments import LAYOUTS, SOURCE_LAYOUTS, checkpoint_path, selection_options
from r2convert.cli.commands.completion import complete_checkpoint, complete_variant
from r2convert.cli.console import print_json, print_warning
from r2convert.errors import UsageError
from r2convert.files import printable

if TYPE_CHECKING:
    from r2convert.checkpoint.open import Checkpoint
    from r2convert.mapping.conversion import Conversion
    from r2convert.mapping.plan import Plan, PlanRow

DTYPES = ("float32", "float16", "bfloat16")


@click.command("map", short_help="Convert a checkpoint into another layout.")
@click.option(
    "--src",
    "source",
    shell_complete=complete_checkpoint,
    help="The checkpoint, or the name of a variant in the cache.",
)
@click.option("--dst", "destination", type=click.Path(path_type=Path), help="Where to write: .pth, .pt, .safetensors.")
@click.option("--to", "target", type=click.Choice(LAYOUTS), default="mm", show_default=True, help="Target layout.")
@click.option("--from", "layout", type=click.Choice(SOURCE_LAYOUTS), help="Source layout, instead of detecting it.")
@click.option("--variant", shell_complete=complete_variant, help="The variant, instead of detecting it.")
@selection_options
@click.option("--backbone-only", is_flag=True, help="Leave the classifier out.")
@click.option("--dtype", type=click.Choice(DTYPES), help="Cast weights: to nearest, ties to even.")
@click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing.")
@click.option(
    "--publish", type=click.Path(path_type=Path), metavar="DIR", help="Write into DIR as OpenMMLab names its files."
)
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@click.option("--no-receipt", is_flag=True, help="Write no receipt beside the output.")
@click.option(
    "--no-check",
    is_flag=True,
    help="Do not read the output back before it is put in place; with --no-receipt, take no digests either.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def map_checkpoint(
    source: str | None,
    destination: Path | None,
    target: str,
    layout: str | None,
    variant: str | None,
    key: str | None,
    prefix: str,
    backbone_only: bool,
    dtype: str | None,
    dry_run: bool,
    publish: Path | None,
    overwrite: bool,
    no_receipt: bool,
    no_check: bool,
    as_json: bool,
) -> None:
    r"""Convert a checkpoint into another layout, every tensor accounted for.

    Variant and layout of the source are told from its names and shapes. Nothing is written unless every tensor
    is accounted for, and the output is read back and compared before it is put in place.

    \b
    Examples:
      r2convert map --src res2net50_14w_8s-6527dddc.pth --dst mm.pth
      r2convert map --src mm.pth --dst timm.safetensors --to timm
    """
    from r2convert.catalog import load_catalog
    from r2convert.checkpoint.elements import DType
    from r2convert.checkpoint.open import open_checkpoint
    from r2convert.mapping.conversion import require_possible
    from r2convert.mapping.identity import resolve
    from r2convert.mapping.plan import make_plan
    from r2convert.mapping.tables import Tables

    tables = Tables(load_catalog())
    if source is None or not (destination or publish or dry_run) or (destination and publish):
        raise UsageError(
            "map needs a source and one destination",
            expected="--src FILE with --dst FILE, --publish DIR or --dry-run",
        )
    path, named = checkpoint_path(tables.catalog, source)
    wanted = tables.catalog.find(variant) if variant else named
    with open_checkpoint(path, key=key, prefix=prefix) as checkpoint:
        # Whoever wants neither receipt nor check wants no digest either, unless they are to be printed for a script.
        digest = as_json or not (no_receipt and no_check)
        if digest and not dry_run:
            checkpoint.begin_sha256()
        resolution = resolve(tables, checkpoint, wanted, layout)
        identity = resolution.identity
        tables.require_layout(identity.variant, target)
        plan = make_plan(resolution.expansion, identity.layout, target, checkpoint.tensors, backbone_only=backbone_only)
        plan.require_clean(str(path))
        options: dict[str, Any] = {"overwrite": overwrite, "receipt": not no_receipt, "check": not no_check}
        options |= {"digest": digest, "dtype": DType(dtype) if dtype else None}
        if dry_run and destination is not None:
            require_possible(plan, destination, overwrite=overwrite)
        conversion = None if dry_run else _write(checkpoint, plan, destination, publish, options)
        for warning in (*checkpoint.warnings, *plan.warnings):
            print_warning(warning)
        if as_json:
            print_json(_as_json(path, plan, conversion))
        else:
            _print_summary(plan, conversion, dtype)


def _write(
    checkpoint: Checkpoint, plan: Plan, destination: Path | None, publish: Path | None, options: dict[str, Any]
) -> Conversion:
    from r2convert.mapping.conversion import convert
    from r2convert.mapping.conversion import publish as publish_in

    if publish is not None:
        return publish_in(checkpoint, plan, publish, **options)
    assert destination is not None  # noqa: S101 - one of the two was asked for
    return convert(checkpoint, plan, destination, **options)


def _as_json(path: Path, plan: Plan, conversion: Conversion | None) -> dict[str, object]:
    return {
        "src": str(path),
        "dst": str(conversion.written.path) if conversion else None,
        "variant": plan.expansion.variant.id,
        "from": plan.source_layout,
        "to": plan.target_layout,
        "renamed": len(plan.rows_of("rename")),
        "dropped": [{"name": row.source, "reason": row.reason} for row in plan.rows_of("drop")],
        "filled": [{"name": row.target, "reason": row.reason} for row in plan.rows_of("fill")],
        "warnings": list(plan.warnings),
        "src_sha256": conversion.source_sha256 if conversion else None,
        "dst_sha256": conversion.written.sha256 if conversion else None,
        "content_hash": conversion.content_hash if conversion else None,
        "receipt": str(conversion.receipt) if conversion and conversion.receipt else None,
    }


def _print_summary(plan: Plan, conversion: Conversion | None, dtype: str | None) -> None:
    lines = [f"{plan.expansion.variant.id}: {plan.source_layout} -> {plan.target_layout}"]
    lines.append(f"  renamed  {len(plan.rows_of('rename'))}")
    for action in ("drop", "fill"):
        rows = plan.rows_of(action)
        lines.append(f"  {action + ('ped' if action == 'drop' else 'ed'):<8} {len(rows)}")
        for reason, names in _by_reason(rows).items():
            lines.append(f"    {len(names)} x {reason}")
            lines.append(f"      {printable(names[0])}{' ...' if len(names) > 1 else ''}")
    if dtype is not None:
        lines.append(f"  cast     to {dtype}, rounded to nearest, ties to even")
    lines += _written_lines(conversion) if conversion else ["  nothing written: a dry run"]
    click.echo("\n".join(lines))


def _written_lines(conversion: Conversion) -> list[str]:
    written = conversion.written
    lines = [f"  wrote    {printable(str(written.path))} ({written.size / 1e6:.1f} MB)"]
    if written.sha256 and conversion.content_hash:
        lines += [f"  sha256   {written.sha256}", f"  content  {conversion.content_hash}"]
    else:
        lines.append("  sha256   not taken; the file was not read back either")
    if conversion.receipt:
        lines.append(f"  receipt  {printable(str(conversion.receipt))}")
    return lines


def _by_reason(rows: tuple[PlanRow, ...]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for row in rows:
        grouped.setdefault(row.reason, []).append(row.source or row.target or "")
    return grouped
