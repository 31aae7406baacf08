"""`r2convert map`: convert a checkpoint into another layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from r2convert import api
from r2convert.cli import options
from r2convert.cli.console import print_json, print_warning
from r2convert.errors import UsageError
from r2convert.files import printable

if TYPE_CHECKING:
    from r2convert.results.documents import ConversionSummary

_CONVERSION = "The conversion"


@options.command("map", "Convert a checkpoint into another layout.")
@click.argument("paths", nargs=-1, metavar="[SRC] [DST]", type=options.Checkpoint())
@options.option(
    "--src",
    "source",
    group=options.CHECKPOINT,
    type=options.Checkpoint(),
    help="The checkpoint, or a variant in the cache: the same as SRC.",
)
@options.identity_options
@options.option(
    "--to",
    type=options.TARGET_LAYOUT,
    group=_CONVERSION,
    default="mm",
    show_default=True,
    help="Target layout.",
)
@options.option("--backbone-only", group=_CONVERSION, is_flag=True, help="Leave the classifier out.")
@options.option(
    "--dtype",
    group=_CONVERSION,
    type=click.Choice(api.CASTS),
    help="Cast weights, rounding to nearest, ties to even.",
)
@options.option(
    "--dst",
    "destination",
    group=options.OUTPUT,
    type=options.FILE,
    help="Output file: .pth, .pt, .safetensors, .pdparams or .pkl, depending on the layout; the same as DST.",
)
@options.option(
    "--publish",
    group=options.OUTPUT,
    type=options.FILE,
    metavar="DIR",
    help="Write into DIR under the file's name in OpenMMLab's model zoo, which includes its hash.",
)
@options.option("--dry-run", group=options.OUTPUT, is_flag=True, help="Show what would be done; write nothing.")
@options.option("--overwrite", group=options.OUTPUT, is_flag=True, help="Replace the output if it exists.")
@options.option("--no-receipt", group=options.OUTPUT, is_flag=True, help="Write no receipt beside the output.")
@options.option(
    "--no-check",
    group=options.OUTPUT,
    is_flag=True,
    help="Do not read the output back before it is put in place; with --no-receipt, compute no digests either.",
)
@options.json_option
def command(
    paths: tuple[str, ...],
    source: str | None,
    destination: str | None,
    publish: str | None,
    dry_run: bool,
    no_receipt: bool,
    no_check: bool,
    as_json: bool,
    fetch: bool,
    **chosen: Any,
) -> None:
    r"""Convert a checkpoint into another layout.

    The source's variant and layout are detected from its names and shapes. Nothing is written unless every tensor is
    accounted for, and the output is read back and compared before it is moved into place.

    \b
    Examples:
      r2convert map res2net50_14w_8s-6527dddc.pth mm.pth
      r2convert map --src mm.pth --dst timm.safetensors --to timm
      r2convert map mm.pth --to official --dry-run
    """
    source, destination = _source_and_destination(paths, source, destination)
    if source is None or not (destination or publish or dry_run) or (destination and publish):
        raise UsageError(
            "map needs a source and one destination",
            expected="SRC DST, or --src FILE with --dst FILE, --publish DIR or --dry-run",
        )
    (located,) = options.locate(source, fetch=fetch)
    dtype, part = chosen["dtype"], chosen.pop("part")
    conversion = None
    if dry_run:
        del chosen["dtype"]
        planned = api.plan_conversion(located, destination, part, **chosen)
    else:
        chosen |= {"receipt": not no_receipt, "check": not no_check}
        # Without receipt and check no digest is needed, unless it is printed for a script.
        digests = as_json or not (no_receipt and no_check)
        conversion = _convert(located, destination, publish, part, chosen, digests=digests)
        planned = api.Planned(conversion.source, conversion.plan)
    for warning in planned.plan.warnings:
        print_warning(warning)
    if as_json:
        from r2convert.results.reading import plain

        print_json(plain(_summary(planned, conversion)))
    else:
        _print(planned.plan, conversion, dtype)


def _source_and_destination(
    paths: tuple[str, ...], source: str | None, destination: str | None
) -> tuple[str | None, str | None]:
    """Merge the arguments and the options that name source and destination."""
    given = list(paths)
    if source is None and given:
        source = given.pop(0)
    if destination is None and given:
        destination = given.pop(0)
    if given:
        raise UsageError(
            "map converts one checkpoint into one file", expected="SRC DST", got=" ".join(paths) or "(nothing)"
        )
    return source, destination


def _convert(
    source: api.Located,
    destination: str | None,
    publish: str | None,
    part: api.Part,
    chosen: dict[str, Any],
    *,
    digests: bool,
) -> api.Conversion:
    if publish is None:
        assert destination is not None  # noqa: S101 - one of the two was given
        return api.map_checkpoint(source, destination, digests=digests, **part._asdict(), **chosen)
    if chosen.pop("to") != "mm":
        raise UsageError("only mm files can be published the OpenMMLab way", expected="--to mm")
    return api.publish(source, publish, part, **chosen)


def _summary(planned: api.Planned, conversion: api.Conversion | None) -> ConversionSummary:
    from r2convert.results.documents import AccountedTensor, ConversionSummary

    plan = planned.plan
    return ConversionSummary(
        src=str(planned.source),
        dst=str(conversion.written.path) if conversion else None,
        variant=plan.expansion.variant.id,
        architectures=tuple(variant.id for variant in plan.identity.fits) if plan.identity else (),
        weights=plan.identity.weights.id if plan.identity and plan.identity.weights else None,
        evidence=plan.identity.evidence if plan.identity else None,
        source_layout=plan.source_layout,
        target_layout=plan.target_layout,
        renamed=len(plan.rows_of("rename")),
        dropped=tuple(AccountedTensor(name, reason) for name, reason in plan.dropped),
        filled=tuple(AccountedTensor(row.target or "", row.reason) for row in plan.rows_of("fill")),
        warnings=plan.warnings,
        src_sha256=conversion.source_sha256 if conversion else None,
        dst_sha256=conversion.written.sha256 if conversion else None,
        content_hash=conversion.content_hash if conversion else None,
        receipt=str(conversion.receipt) if conversion and conversion.receipt else None,
    )


def _print(plan: api.Plan, conversion: api.Conversion | None, dtype: str | None) -> None:
    lines = [f"{plan.expansion.variant.id}: {plan.source_layout} -> {plan.target_layout}"]
    lines += [f"  evidence {plan.identity.evidence}"] if plan.identity else []
    lines.append(f"  renamed  {len(plan.rows_of('rename'))}")
    filled = tuple((row.target or "", row.reason) for row in plan.rows_of("fill"))
    for label, tensors in (("dropped", plan.dropped), ("filled", filled)):
        lines.append(f"  {label:<8} {len(tensors)}")
        for reason, names in _by_reason(tensors).items():
            lines.append(f"    {len(names)} x {reason}")
            lines.append(f"      {printable(names[0])}{' ...' if len(names) > 1 else ''}")
    if dtype is not None:
        lines.append(f"  cast     to {dtype}, rounded to nearest, ties to even")
    lines += _written_lines(conversion) if conversion else ["  nothing written: a dry run"]
    click.echo("\n".join(lines))


def _written_lines(conversion: api.Conversion) -> list[str]:
    written = conversion.written
    lines = [f"  wrote    {printable(str(written.path))} ({written.size / 1e6:.1f} MB)"]
    if written.sha256 and conversion.content_hash:
        lines += [f"  sha256   {written.sha256}", f"  content  {conversion.content_hash}"]
    else:
        lines.append("  sha256   not computed; the file was not read back either")
    if conversion.receipt:
        lines.append(f"  receipt  {printable(str(conversion.receipt))}")
    return lines


def _by_reason(tensors: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, reason in tensors:
        grouped.setdefault(reason, []).append(name)
    return grouped
