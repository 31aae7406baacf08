"""What a format's reader finds in a file, before wrappers are taken off."""

from __future__ import annotations

from dataclasses import dataclass

from r2convert.checkpoint.storage import Storage


@dataclass(frozen=True, slots=True)
class Contents:
    """The described contents of a checkpoint file.

    Attributes:
        container: the container's name, as in ``inspect --json``.
        root: the described object: plain values with :class:`TensorReference` where the tensors are.
        storages: what the references' ``source`` counts into.
        metadata: plain values the container itself carries.
        warnings: what is odd about the file but harmless.
    """

    container: str
    root: object
    storages: tuple[Storage, ...]
    metadata: dict[str, object]
    warnings: tuple[str, ...] = ()
