"""A conversion published the way OpenMMLab's model zoo does it: digest in the file name, model-index entry beside.

Format of the entry: https://github.com/paperswithcode/model-index, as mmpretrain's ``metafile.yml`` files use it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from r2convert.catalog.printed import readable
from r2convert.checkpoint.open import Checkpoint
from r2convert.errors import AccessError, OutputExistsError, UsageError
from r2convert.files import file_beside
from r2convert.mapping.conversion import Conversion, convert
from r2convert.mapping.plan import Plan
from r2convert.mapping.receipt import receipt_path, write_receipt
from r2convert.mapping.tables import CANONICAL

_DIGITS = 8
_SUFFIX = "_3rdparty_8xb32_in1k"


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published.

    Args:
        conversion: the conversion, with the file under its final name.
        entry: the model-index entry beside it.
    """

    conversion: Conversion
    entry: Path


def publish(
    checkpoint: Checkpoint, plan: Plan, folder: Path, *, overwrite: bool = False, **options: Any
) -> Publication:
    """Convert a checkpoint into a folder under the name its own digest gives it, and describe it there.

    Args:
        checkpoint: the open source.
        plan: a clean plan for it, to mm.
        folder: where to publish; made if need be.
        overwrite: whether files of the same names may be replaced.
        options: those of :func:`~r2convert.mapping.conversion.convert`.

    Raises:
        UsageError: the plan does not lead to mm.
        MappingError: the plan has problems.
        AccessError: the folder cannot be written, or the files exist.
    """
    if plan.target_layout != CANONICAL:
        raise UsageError("only mm files are published the OpenMMLab way", expected="--to mm", got=plan.target_layout)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=".publish-", dir=folder))
    except OSError as error:
        raise AccessError("the folder to publish in cannot be made", where=str(folder), got=str(error)) from error
    try:
        with_receipt = options.pop("receipt", True)
        # The name is made of the digest, so that there always is one.
        options["digest"] = True
        draft = convert(checkpoint, plan, workshop / "draft.pth", receipt=False, **options)
        return _place(checkpoint, draft, folder, overwrite=overwrite, receipt=with_receipt, cast=options.get("dtype"))
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _place(
    checkpoint: Checkpoint, draft: Conversion, folder: Path, *, overwrite: bool, receipt: bool, cast: Any
) -> Publication:
    sha256, source_sha256, content = draft.written.sha256, draft.source_sha256, draft.content_hash
    assert sha256 is not None  # noqa: S101 - digests were asked for
    assert source_sha256 is not None  # noqa: S101
    assert content is not None  # noqa: S101
    name = draft.plan.expansion.variant.id.replace("_", "-") + _SUFFIX
    target = folder / f"{name}-{sha256[:_DIGITS]}.pth"
    entry = target.with_suffix(".yml")
    for path in (target, entry):
        if path.exists() and not overwrite:
            raise OutputExistsError("the output exists already", where=str(path), next_step="pass --overwrite")
    draft.written.path.replace(target)
    receipt_path(target).unlink(missing_ok=True)
    written = None
    if receipt:
        written = write_receipt(
            target,
            draft.plan,
            output_sha256=sha256,
            source=checkpoint.path,
            source_sha256=source_sha256,
            content_hash=content,
            cast=cast.value if cast else None,
        )
    conversion = replace(draft, written=replace(draft.written, path=target), receipt=written)
    with file_beside(entry, overwrite=True) as (temporary, _):
        temporary.write_text(model_index_entry(conversion, name, checkpoint.path.name), encoding="utf-8")
    return Publication(conversion, entry)


def model_index_entry(conversion: Conversion, name: str, source_name: str) -> str:
    """The YAML that describes a published file; every scalar is written as JSON, which YAML reads."""
    plan = conversion.plan
    slots = plan.expansion.names(CANONICAL)
    parameters = sum(prod(tensor.shape) for tensor in conversion.written.tensors if slots[tensor.name].is_learned)
    lines = [
        "Models:",
        f"  - Name: {json.dumps(name)}",
        "    In Collection: Res2Net",
        "    Metadata:",
        f"      Parameters: {parameters}",
        *_result_lines(plan),
        f"    Weights: {json.dumps(conversion.written.path.name)}",
        f"    SHA256: {json.dumps(conversion.written.sha256)}",
        "    Converted From:",
        f"      Weights: {json.dumps(source_name)}",
        f"      SHA256: {json.dumps(conversion.source_sha256)}",
        '      Code: "https://github.com/Res2Net/Res2Net-PretrainedModels"',
    ]
    return "\n".join(lines) + "\n"


def _result_lines(plan: Plan) -> list[str]:
    """Accuracies as the README of the weights prints them; what a file really reaches, `verify` measures."""
    claims = {claim.metric: claim for claim in plan.expansion.variant.claims if claim.source == "official README"}
    if "top1" not in claims or "top5" not in claims:
        return []
    values = [readable(claims[metric].printed, claims[metric].unit).removesuffix(" %") for metric in ("top1", "top5")]
    return [
        "    Results:  # as printed in the official README",
        "      - Dataset: ImageNet-1k",
        "        Task: Image Classification",
        "        Metrics:",
        f"          Top 1 Accuracy: {values[0]}",
        f"          Top 5 Accuracy: {values[1]}",
    ]
