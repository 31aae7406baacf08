"""Which of the networks with equal names a file is, and whose weights it holds: what proves or overrules a presumption.

In this order: the user's word for the architecture, the digest of a published file, a receipt (beside the file, or
inside a safetensors file), a known content hash, metadata that only one program writes. None of it is needed to rename
tensors, which is the same for all networks that fit; only what is *said* of a file depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from r2convert.catalog.variant import Source, Variant, Weights
from r2convert.checkpoint.open import Checkpoint
from r2convert.errors import InputError, UnknownVariantError
from r2convert.mapping.identity import Identity, Resolution, have_the_same, resolve
from r2convert.mapping.receipt import Receipt, read_receipt
from r2convert.mapping.tables import Tables


class Clues(Struct, frozen=True):
    """What is known of a file besides its names.

    Args:
        sha256: digest of the file.
        content_hash: digest of the network in it.
        receipt: the receipt beside it, which speaks for it only if it is about these bytes.
        metadata: plain values found beside the tensors.
        pins: file name -> the SHA-256 that a published file had when it was first downloaded here.
    """

    sha256: str | None = None
    content_hash: str | None = None
    receipt: Receipt | None = None
    metadata: Mapping[str, object] = {}
    pins: Mapping[str, str] = {}


class _Finding(Struct, frozen=True):
    """One piece of evidence: the network, why, whether that proves it, and the weights if they are known too."""

    variant: Variant
    reason: str
    proven: bool
    weights: Weights | None = None


def clues_of(
    checkpoint: Checkpoint,
    *,
    sha256: str | None = None,
    content_hash: str | None = None,
    pins: Mapping[str, str] | None = None,
) -> Clues:
    """Gather what is known of an open file; a receipt that cannot be read is ignored."""
    try:
        receipt = read_receipt(checkpoint.path)
    except InputError:
        receipt = None
    return Clues(sha256, content_hash, receipt, checkpoint.metadata, pins or {})


def recognise(
    tables: Tables,
    checkpoint: Checkpoint,
    variant: Variant | None = None,
    layout: str | None = None,
    *,
    pins: Mapping[str, str] | None = None,
) -> Resolution:
    """Identify a checkpoint with all evidence weighed: the whole file is read for its SHA-256.

    Args:
        tables: the tables of the catalogue.
        checkpoint: the open file.
        variant: what the user says it holds, if anything.
        layout: whose names the user says it has, if anything.
        pins: file name -> the SHA-256 that a published file had when it was first downloaded here.

    Raises:
        MappingError: it is not a Res2Net of a known family, or not what the user says.
        UsageError: the variant does not exist in that layout.
        CheckpointError: the file's bytes are damaged.
    """
    resolution = resolve(tables, checkpoint, variant, layout)
    return weigh(tables, resolution, clues_of(checkpoint, sha256=checkpoint.sha256(), pins=pins))


def weigh(tables: Tables, resolution: Resolution, clues: Clues) -> Resolution:
    """A resolution with all evidence weighed: the network proven or presumed, and the weights if they are proven."""
    identity = resolution.identity
    said = identity.proven and len(identity.fits) > 1
    findings = (
        _by_digest(tables, identity, clues),
        _by_receipt(tables, identity, _receipt_of(clues)),
        _by_content(identity, clues),
        _by_metadata(tables, identity, clues),
    )
    for finding in findings:
        if finding is None or (said and finding.variant.architecture != identity.variant.architecture):
            continue
        others = tuple(each for each in identity.fits if each.architecture != finding.variant.architecture)
        proven = finding.proven or said or not others
        evidence = f"{finding.variant.id}, {finding.reason}"
        settled = replace(
            identity,
            variant=finding.variant,
            fits=(finding.variant, *others),
            evidence=evidence if proven else f"{evidence}; {have_the_same(tables.catalog, others)}",
            proven=proven,
            weights=finding.weights,
        )
        return Resolution(tables.of(finding.variant, identity.classes), settled)
    return resolution


def _by_digest(tables: Tables, identity: Identity, clues: Clues) -> _Finding | None:
    """The digest of the file, or of the file it was converted from, is that of a published file."""
    if clues.sha256 is None:
        return None
    receipt = _receipt_of(clues)
    digests = {clues.sha256: "its SHA-256 is that of"}
    if receipt is not None:
        digests[receipt.source_sha256] = "converted, by its receipt, from"
    for variant in tables.catalog.variants.values():
        fitting = _fitting(identity, variant)
        for weights in variant.weights if fitting else ():
            for source in weights.sources:
                for digest, words in digests.items():
                    if _is_digest_of(digest, source, clues.pins):
                        return _Finding(variant, f"{words} {source.file_name} ({weights.id})", True, weights)
    return None


def _is_digest_of(digest: str, source: Source, pins: Mapping[str, str]) -> bool:
    known = source.sha256 or pins.get(source.file_name) or source.sha256_prefix
    return bool(known) and digest.startswith(known)  # type: ignore[arg-type]


def variant_named(tables: Tables, receipt: Receipt) -> str:
    """The current id of the network that a receipt names, or the receipt's own name for it if it is unknown."""
    try:
        return tables.catalog.find_architecture(receipt.variant).id
    except UnknownVariantError:
        return receipt.variant


def _by_receipt(tables: Tables, identity: Identity, receipt: Receipt | None) -> _Finding | None:
    if receipt is None:
        return None
    named = variant_named(tables, receipt)
    fitting = next((each for each in identity.fits if each.id == named), None)
    if fitting is None:
        return None
    how = "proven" if receipt.proven else "presumed"
    weights = fitting.weights_called(receipt.weights) if receipt.weights else None
    return _Finding(fitting, f"by its receipt, {how} when it was converted", receipt.proven, weights)


def _by_content(identity: Identity, clues: Clues) -> _Finding | None:
    for variant in identity.fits if clues.content_hash else ():
        for weights in variant.weights:
            if any(source.content_hash == clues.content_hash for source in weights.sources):
                return _Finding(variant, f"its content is that of {weights.id}", True, weights)
    return None


def _by_metadata(tables: Tables, identity: Identity, clues: Clues) -> _Finding | None:
    """Metadata that only one program writes: that program trained it."""
    names = set(_names_in(clues.metadata))
    for program in tables.catalog.programs.values():
        written = [name for name in program.metadata if name in names]
        if not written:
            continue
        for variant in identity.fits:
            if program.builds(variant.architecture) and program.as_computed(variant.architecture) == (
                variant.architecture
            ):
                return _Finding(variant, f"by its metadata: {written[0]}", True)
    return None


def _names_in(values: Mapping[str, object]) -> Iterable[str]:
    for name, value in values.items():
        yield name
        if isinstance(value, Mapping):
            yield from _names_in(value)


def _receipt_of(clues: Clues) -> Receipt | None:
    """The receipt beside the file if it is about these bytes, or else the one that r2convert wrote into it."""
    receipt = clues.receipt
    if receipt is not None and clues.sha256 == receipt.output_sha256:
        return receipt
    written = clues.metadata.get("r2convert")
    try:
        facts = json.loads(written) if isinstance(written, str) else {}
        return Receipt(
            output_sha256=clues.sha256 or "",
            source_sha256=facts["source_sha256"],
            content_hash="",
            variant=facts["variant"],
            source_layout=facts["from"],
            target_layout=facts["to"],
            table_sha256="",
            version=facts["tool"],
            proven=facts.get("proven", True) is True,
            weights=facts.get("weights"),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _fitting(identity: Identity, variant: Variant) -> Variant | None:
    return next((each for each in identity.fits if each.architecture == variant.architecture), None)
