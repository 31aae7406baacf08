"""How deeply do plain containers nest, and does one contain itself?"""

from __future__ import annotations

from collections.abc import Collection

from r2convert.checkpoint import limits
from r2convert.errors import CorruptCheckpointError, LimitExceededError


def require_bounded_tree(root: object) -> None:
    """Check that plain containers neither contain themselves nor nest too deeply.

    Each container is visited once however often it is shared, so the time is linear in the pickle's size.

    Raises:
        CorruptCheckpointError: a container contains itself.
        LimitExceededError: the nesting is deeper than the cap.
    """
    depths: dict[int, int] = {}
    entered: set[int] = set()
    pending: list[tuple[object, bool]] = [(root, False)]
    while pending:
        value, leaving = pending.pop()
        if id(value) in depths:
            continue
        children = _children(value)
        if leaving:
            depths[id(value)] = depth = 1 + max((depths.get(id(child), 0) for child in children), default=0)
            _require_at_most(depth)
            entered.discard(id(value))
            continue
        if id(value) in entered:
            raise CorruptCheckpointError("A container in the pickle contains itself")
        entered.add(id(value))
        _require_at_most(len(entered))  # the way down is long enough to know, without going all of it
        pending.append((value, True))
        pending.extend((child, False) for child in children if isinstance(child, (dict, list, tuple)))


def _require_at_most(depth: int) -> None:
    if depth > limits.MAX_NESTING:
        raise LimitExceededError("The pickle nests too deeply", expected=f"at most {limits.MAX_NESTING} levels")


def _children(value: object) -> Collection[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()
