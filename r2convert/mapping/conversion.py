"""Carries out a clean plan: bytes are streamed from the source into a new file beside the destination."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from functools import cache, partial
from math import prod
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from r2convert.checkpoint.digests import DigestedTensor, OutputTensor, network_hash, tensor_digest
from r2convert.checkpoint.elements import DType, Stream
from r2convert.checkpoint.formats.contents import Wrapper
from r2convert.checkpoint.open import Checkpoint, open_checkpoint
from r2convert.checkpoint.writing import WrittenFile, require_container, write_checkpoint
from r2convert.errors import AccessError, MappingError, UsageError
from r2convert.files import require_place
from r2convert.mapping.plan import Plan, PlanRow, canonical_plan, fill_dtype, fill_value, target_tensor
from r2convert.mapping.receipt import receipt_path, write_receipt
from r2convert.mapping.tables import CANONICAL, Tables
from r2convert.version import __version__

_FILL_CHUNK = 1 << 16
_SHOWN = 10


class Conversion(Struct, frozen=True):
    """What a conversion did.

    Args:
        source: the file that was converted.
        plan: what was planned and done.
        written: the new file.
        source_sha256: digest of the source file; ``None`` without digests.
        content_hash: digest of the network that both files hold; ``None`` without digests.
        receipt: where the receipt is, if one was written.
    """

    source: Path
    plan: Plan
    written: WrittenFile
    source_sha256: str | None
    content_hash: str | None
    receipt: Path | None


def convert(
    checkpoint: Checkpoint,
    plan: Plan,
    destination: Path,
    *,
    overwrite: bool = False,
    receipt: bool = True,
    check: bool = True,
    digest: bool = True,
    dtype: DType | None = None,
    settle: Callable[[str], Plan] | None = None,
) -> Conversion:
    """Write a checkpoint in another layout; nothing is visible at the destination until it is complete.

    Args:
        checkpoint: the open source.
        plan: a clean plan for it.
        destination: where to write; the suffix selects the format.
        overwrite: whether a file there may be replaced, its receipt with it.
        receipt: whether to write a receipt beside the output.
        check: whether to read the output back and compare it before it is moved into place.
        digest: whether to compute digests of both files and of the network; a receipt needs them.
        dtype: cast floating-point tensors to this type, rounding to nearest, ties to even.
        settle: returns the plan with its evidence weighed again, given the SHA-256 of the source.

    Raises:
        MappingError: the plan has problems, or values are not finite or do not fit the type.
        UsageError: the suffix does not suit the target layout.
        CheckpointError: the source's bytes are damaged.
        AccessError: the destination exists or cannot be written.
    """
    plan.require_clean(str(checkpoint.path))
    require_possible(plan, destination, overwrite=overwrite)
    if receipt and not digest:
        raise ValueError("a receipt binds digests")
    settled = cache(lambda: settle(checkpoint.sha256()) if settle else plan)
    streams: dict[str, Stream] = {}
    outputs = [_output(checkpoint, plan, row, dtype, streams) for row in plan.rows if row.target is not None]
    wrapper = plan.expansion.table.facts[plan.target_layout].wrapper
    written = write_checkpoint(
        destination,
        outputs,
        wrapper=Wrapper(*wrapper) if wrapper else None,
        metadata=lambda: _provenance(settled(), checkpoint.sha256(), dtype),
        overwrite=overwrite,
        check=check,
        digest=digest,
        accept=lambda: _require_finite(plan, streams),
    )
    receipt_path(destination).unlink(missing_ok=True)
    if written.sha256 is None:
        return Conversion(checkpoint.path, plan, written, None, None, None)
    conversion = Conversion(checkpoint.path, settled(), written, checkpoint.sha256(), _content_of(plan, written), None)
    return _with_receipt(conversion, dtype) if receipt else conversion


def publish(
    checkpoint: Checkpoint, plan: Plan, folder: Path, *, overwrite: bool = False, receipt: bool = True, **options: Any
) -> Conversion:
    """Convert a checkpoint into a folder, named as OpenMMLab names its files: with the start of the file's digest.

    Args:
        checkpoint: the open source.
        plan: a clean plan for it, to mm.
        folder: where to publish; created if needed.
        overwrite: whether a file of the same name may be replaced.
        receipt: whether to write a receipt beside the output.
        options: the other options of :func:`convert`.

    Raises:
        UsageError: the plan does not lead to mm.
        MappingError: the plan has problems.
        AccessError: the folder cannot be written, or the file exists.
    """
    import shutil
    import tempfile  # these two take longer to import than making a plan

    if plan.target_layout != CANONICAL:
        raise UsageError("only mm files can be published the OpenMMLab way", expected="--to mm", got=plan.target_layout)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".publish-", dir=folder))
    except OSError as error:
        raise AccessError("the folder to publish in cannot be created", where=str(folder), got=str(error)) from error
    try:
        # The name contains the digest, so it is always computed.
        options["digest"] = True
        draft = convert(checkpoint, plan, scratch / "draft.pth", receipt=False, **options)
        target = folder / _published_name(draft)
        require_place(target, overwrite=overwrite)
        draft.written.path.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    receipt_path(target).unlink(missing_ok=True)
    published = replace(draft, written=replace(draft.written, path=target))
    return _with_receipt(published, options.get("dtype")) if receipt else published


def _published_name(conversion: Conversion) -> str:
    variant = conversion.plan.expansion.variant.id.replace("_", "-")
    return f"{variant}_3rdparty_8xb32_in1k-{(conversion.written.sha256 or '')[:8]}.pth"


def _with_receipt(conversion: Conversion, dtype: DType | None) -> Conversion:
    written = conversion.written
    assert written.sha256 and conversion.source_sha256 and conversion.content_hash  # noqa: S101, PT018 - receipts bind digests
    path = write_receipt(
        written.path,
        conversion.plan,
        output_sha256=written.sha256,
        source=conversion.source,
        source_sha256=conversion.source_sha256,
        content_hash=conversion.content_hash,
        cast=dtype.value if dtype else None,
    )
    return replace(conversion, receipt=path)


def require_possible(plan: Plan, destination: Path, *, overwrite: bool) -> None:
    """Check that a conversion could be written, without writing anything.

    Raises:
        UsageError: the suffix does not suit the target layout.
        OutputExistsError: the destination exists and may not be replaced.
        AccessError: there is no such folder, or the destination is a folder.
    """
    require_container(destination)
    _require_fitting_suffix(plan, destination)
    require_place(destination, overwrite=overwrite)
    _require_place_for_receipt(destination)


def require_file(tables: Tables, source: Path, destination: Path, to: str) -> None:
    """Refuse outputs that are given by mistake: a folder, or the source itself.

    Raises:
        UsageError: it is one of these.
    """
    if os.path.isdir(destination):  # noqa: PTH112 - never raises: why it cannot be reached is told later
        stem, _, ending = source.name.partition(".")
        written = tables.catalog.layouts[to].written_as
        suffix = f".{ending}" if f".{ending}" in written else written[0]
        raise UsageError(
            "the output is a folder",
            where=str(destination),
            expected="the path of a file",
            next_step=f"add the file's name: {destination / f'{stem}-{to}{suffix}'}",
        )
    if os.path.exists(destination) and os.path.exists(source) and os.path.samefile(source, destination):  # noqa: PTH110, PTH121
        raise UsageError(
            "the output would replace the source",
            where=str(destination),
            next_step="choose another name: the source is never replaced, not even with --overwrite",
        )


def _require_place_for_receipt(destination: Path) -> None:
    """Before anything is written: a receipt of an earlier output is replaced or removed, a folder cannot be."""
    place = receipt_path(destination)
    if os.path.isdir(place) and not os.path.islink(place):  # noqa: PTH112, PTH114 - these never raise
        raise AccessError("a folder has the name of the receipt", where=str(place), next_step="choose another name")


def _content_of(plan: Plan, written: WrittenFile) -> str:
    """The content hash of the output, from the digests taken while writing; only a transposed tensor is read again."""
    slots = plan.expansion.names(plan.target_layout)
    transposed = [
        tensor.name
        for tensor in written.tensors
        if plan.expansion.form_in(plan.target_layout, slots[tensor.name]) == "transposed"
    ]
    leaves = [
        tensor.renamed(slot.canonical, slot.shape)
        for tensor in written.tensors
        if (slot := slots[tensor.name]).canonical is not None and not slot.is_counter and tensor.name not in transposed
    ]
    if transposed:
        with open_checkpoint(written.path) as output:
            back = canonical_plan(plan.expansion, plan.target_layout, output.tensors)
            leaves += [_digest(output, back, row) for row in back.rows if row.source in transposed]
    return network_hash(leaves)


def _digest(checkpoint: Checkpoint, plan: Plan, row: PlanRow) -> DigestedTensor:
    assert row.source is not None  # noqa: S101 - rows that are renamed have a source
    tensor = target_tensor(plan, row, checkpoint.tensors[row.source])
    return DigestedTensor(tensor.name, tensor.dtype, tensor.shape, tensor_digest(checkpoint.chunks(tensor)))


def _output(
    checkpoint: Checkpoint, plan: Plan, row: PlanRow, dtype: DType | None, streams: dict[str, Stream]
) -> OutputTensor:
    """One tensor to write; its stream can be asked afterwards whether all its values were finite."""
    plain = _plain_output(checkpoint, plan, row)
    target = dtype if dtype is not None and plain.dtype.is_floating else plain.dtype

    def chunks() -> Iterator[memoryview | bytes]:
        streams[plain.name] = Stream(plain.chunks(), plain.dtype, target)
        return iter(streams[plain.name])

    crc32 = plain.crc32 if target is plain.dtype else None
    return OutputTensor(plain.name, target, plain.shape, chunks, crc32)


def _plain_output(checkpoint: Checkpoint, plan: Plan, row: PlanRow) -> OutputTensor:
    if row.source is None:
        return OutputTensor(row.target or "", fill_dtype(row.slot), row.shape, partial(_fill_chunks, row))
    return checkpoint.output(target_tensor(plan, row, checkpoint.tensors[row.source]))


def _require_finite(plan: Plan, streams: dict[str, Stream]) -> None:
    problems = [f"{name}: {stream.problem}" for name, stream in streams.items() if stream.problem]
    if problems:
        more = [f"and {len(problems) - _SHOWN} more tensors"] if len(problems) > _SHOWN else []
        broken = any(stream.not_finite for stream in streams.values())
        raise MappingError(
            f"this {plan.expansion.variant.id} holds values that {'no sound file has' if broken else 'do not fit'}",
            got="\n            ".join([*problems[:_SHOWN], *more]),
            next_step="nothing was written; get the file again, or train again"
            if broken
            else "nothing was written; --dtype bfloat16 has the range of float32",
        )


def _fill_chunks(row: PlanRow) -> Iterator[bytes]:
    """The elements of a filled tensor, in pieces of bounded size."""
    value = fill_value(row.slot)
    element = struct.pack("<q", int(value)) if row.slot.is_counter else struct.pack("<f", value)
    left = prod(row.shape)
    while left > 0:
        count = min(left, _FILL_CHUNK)
        yield element * count
        left -= count


def _provenance(plan: Plan, source_sha256: str, dtype: DType | None) -> dict[str, str]:
    """One key of canonical JSON: several keys would be stored in an order that differs from run to run."""
    facts: dict[str, object] = {
        "from": plan.source_layout,
        "source_sha256": source_sha256,
        "to": plan.target_layout,
        "tool": f"r2convert {__version__}",
        "variant": plan.expansion.variant.id,
    }
    if plan.identity is not None:
        facts["proven"] = plan.identity.proven
        facts["weights"] = plan.identity.weights.id if plan.identity.weights else None
    if dtype is not None:
        facts["cast"] = dtype.value
    return {"r2convert": json.dumps(facts, sort_keys=True, separators=(",", ":"))}


def _require_fitting_suffix(plan: Plan, destination: Path) -> None:
    layout = plan.expansion.table.facts[plan.target_layout]
    if destination.suffix.lower() not in layout.written_as:
        raise UsageError(
            f"the layout {plan.target_layout!r} cannot be written to a {destination.suffix or 'suffix-less'} file",
            where=str(destination),
            expected=" or ".join(layout.written_as) or "another layout: this one is only read",
        )
