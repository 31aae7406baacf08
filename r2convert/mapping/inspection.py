"""What a file really is, and what else is worth knowing about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import cast

from r2convert.catalog.variant import Source, Variant
from r2convert.checkpoint.open import Checkpoint, open_checkpoint
from r2convert.errors import MappingError, UnsupportedCheckpointError
from r2convert.mapping.identity import Identity, Resolution, match, resolve, shapes_of
from r2convert.mapping.tables import Tables
from r2convert.results.documents import AccountedTensor, Container, Inspection, TensorEntry

_STATISTICS = ("running_mean", "running_var", "_mean", "_variance")
"""Suffixes of names that are not learned parameters, in unknown files."""


def inspect(
    tables: Tables, opened: Checkpoint, said: Variant | None, *, digests: bool, pins: Mapping[str, str]
) -> Inspection:
    """Say what an open file is.

    Args:
        tables: the tables of the catalogue.
        opened: the file.
        said: what the user says it holds, if anything.
        digests: read every byte: SHA-256, content hash, and whether all values are finite.
        pins: file name -> SHA-256 of what was downloaded here.

    Raises:
        MappingError: the file is not what it is said to be.
        CheckpointError: its bytes are damaged.
    """
    resolution, problem = resolve_or_reason(tables, opened, said)
    problems: list[str] = []
    content = None
    if digests:
        # Imported here: without them, reading names and shapes alone takes a third less time.
        from r2convert.mapping.evidence import clues_of, weigh
        from r2convert.mapping.values import read_values

        content, problems = read_values(opened, resolution)
        if resolution is not None:
            clues = clues_of(opened, sha256=opened.sha256(), content_hash=content, pins=pins)
            resolution = weigh(tables, resolution, clues)
    identity = resolution.identity if resolution else None
    warnings = [*warnings_about(tables, opened, identity), *([problem] if problem else []), *problems]
    if identity is not None:
        warnings += [identity.variant.note] if identity.variant.note else []
        warnings += [] if identity.has_classifier else ["a backbone: it has no classifier"]
    return Inspection(
        path=str(opened.path),
        size=opened.size,
        container=cast("Container", opened.container),
        layout=identity.layout if identity else None,
        variant=identity.variant.id if identity else None,
        architectures=tuple(each.id for each in identity.fits) if identity else (),
        weights=identity.weights.id if identity and identity.weights else None,
        evidence=identity.evidence if identity else None,
        classes=identity.classes if identity and identity.has_classifier else None,
        tensors=len(opened.tensors),
        dtypes=dict(Counter(tensor.dtype.value for tensor in opened.tensors.values())),
        parameters=_parameters(opened, resolution),
        wrapper=opened.wrapper,
        prefix_removed=opened.prefix_removed or None,
        left_out=tuple(AccountedTensor(each.name, each.reason) for each in opened.left_out),
        unread={name: each.kind for name, each in opened.unread.items()},
        metadata=dict(opened.metadata),
        opaque=opened.opaque,
        sha256=opened.sha256() if digests else None,
        content_hash=content,
        warnings=tuple(warnings),
        tensor_list=tuple(
            TensorEntry(name, tensor.dtype.value, tensor.shape) for name, tensor in opened.tensors.items()
        ),
    )


def warnings_about(tables: Tables, opened: Checkpoint, identity: Identity | None) -> list[str]:
    """What users of a file should know: what else it holds, and what its program may compute differently."""
    if identity is None:
        return [*opened.warnings]
    doubt = tables.catalog.layouts[identity.layout].doubt
    return [*opened.warnings, *([doubt] if doubt else []), *_misnamed(tables, opened.path.name, identity)]


def _misnamed(tables: Tables, name: str, identity: Identity) -> Iterator[str]:
    """A warning if a file has the name of another network's published file."""
    fitting = {each.architecture for each in identity.fits}
    for variant in tables.catalog.variants.values():
        for weights in variant.weights if variant.architecture not in fitting else ():
            if any(source.file_name == name for source in weights.sources):
                yield f"{name} is the name of {weights.id}; this is another network"


def resolve_or_reason(
    tables: Tables, checkpoint: Checkpoint, said: Variant | None
) -> tuple[Resolution | None, str | None]:
    """What a file is, or why that is unknown; if the user says what it is, a mismatch is an error.

    Raises:
        MappingError, UnsupportedCheckpointError: the file is not what it is said to be.
    """
    try:
        return resolve(tables, checkpoint, said), None
    except (MappingError, UnsupportedCheckpointError) as error:
        if said is not None:
            raise
        return None, error.as_sentence()


def recogniser_of_files(tables: Tables) -> Callable[[Path, Variant, Source], bool]:
    """What tells whether a file has the names, shapes and classes of a published one; it reads a file once."""

    @cache
    def shapes(file: Path) -> Mapping[str, tuple[int, ...]]:
        with open_checkpoint(file) as checkpoint:
            return shapes_of(checkpoint)

    def fits(file: Path, variant: Variant, source: Source) -> bool:
        found, weights = match(tables, (variant,), source.layout, shapes(file)), variant.weights_called(source.weights)
        if found is None or weights is None:
            return False
        return (found.has_classifier and found.classes == weights.classes) or weights.detector

    return fits


def _parameters(checkpoint: Checkpoint, resolution: Resolution | None) -> int:
    if resolution is not None:
        slots = resolution.expansion.names(resolution.identity.layout)
        learned = [tensor for name, tensor in checkpoint.tensors.items() if name in slots and slots[name].is_learned]
        return sum(tensor.elements for tensor in learned)
    return sum(
        tensor.elements
        for name, tensor in checkpoint.tensors.items()
        if tensor.dtype.is_floating and not name.endswith(_STATISTICS)
    )
