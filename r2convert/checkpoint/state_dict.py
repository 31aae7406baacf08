"""Finds the state dict in what a file describes, and takes wrappers and prefixes off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from r2convert.checkpoint import limits
from r2convert.checkpoint.pickles.values import PickledBytes
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.errors import CorruptCheckpointError, LimitExceededError, UnsupportedCheckpointError, UsageError

#: Where training programs put the network, in no order: two of them in one file are ambiguous.
_WRAPPERS: Final = ("state_dict", "model", "model_state_dict", "net", "network", "module")
#: Where they put its moving average: another network, which has to be asked for.
_AVERAGES: Final = ("state_dict_ema", "ema_state_dict", "model_ema", "ema")
_PARALLEL_PREFIX: Final = "module."


@dataclass(frozen=True, slots=True)
class StateDict:
    """A state dict without its wrappers.

    Attributes:
        tensors: the tensors by name, in file order.
        metadata: plain values found around them; small enough to show.
        wrapper: the key or dotted keys it lay under; ``None`` for a bare state dict.
        prefix_removed: what was taken off every name: ``"module."`` and the prefix that was asked for.
        warnings: what was odd but harmless.
    """

    tensors: dict[str, TensorInfo]
    metadata: dict[str, object]
    wrapper: str | None
    prefix_removed: str
    warnings: tuple[str, ...]


def unwrap(root: object, key: str | None, where: str) -> StateDict:
    """Find the state dict in a described object.

    Args:
        root: what the file describes.
        key: which of several state dicts to take: its key, dotted if it lies deeper, or ``ema`` for the
            moving average under any of its usual keys. ``None`` takes the only one.
        where: the file, for messages.

    Raises:
        UnsupportedCheckpointError: there is no state dict, or several and no key to choose by.
        UsageError: there is nothing under the key.
        CorruptCheckpointError: a name is unusable.
    """
    if not isinstance(root, dict):
        raise UnsupportedCheckpointError(
            "The file holds no state dict",
            where=where,
            expected="a dictionary of tensors",
            got=_kind(root),
            next_step="Save the network's state_dict() from the program that made the file.",
        )
    metadata: dict[str, object] = {}
    warnings: list[str] = []
    path: list[str] = []
    mapping = root
    wanted = key.split(".") if key is not None else []
    while wanted or not _has_tensors(mapping):
        if len(path) == limits.MAX_WRAPPERS:
            raise _nothing_found(root, where)
        chosen = _by_key(mapping, wanted.pop(0), where) if wanted else _only_wrapper(mapping, where, warnings)
        metadata.update(summarise({name: value for name, value in mapping.items() if name != chosen}))
        path.append(chosen)
        mapping = mapping[chosen]
    return _state_dict(mapping, metadata, ".".join(path) or None, warnings, where)


def under_prefix(state_dict: StateDict, prefix: str, where: str) -> StateDict:
    """Keep the tensors whose names start with a prefix, and take it off; an empty prefix keeps all.

    Raises:
        UsageError: no name starts with it.
    """
    if not prefix:
        return state_dict
    tensors = {
        name.removeprefix(prefix): tensor.renamed(name.removeprefix(prefix))
        for name, tensor in state_dict.tensors.items()
        if name.startswith(prefix) and name != prefix
    }
    if not tensors:
        firsts = dict.fromkeys(name.split(".")[0] + "." for name in state_dict.tensors)
        raise UsageError(
            f"No tensor's name starts with {prefix!r}",
            where=where,
            expected=f"names start with {', '.join(list(firsts)[:8])}",
        )
    left_out = len(state_dict.tensors) - len(tensors)
    note = (f"{left_out} tensors outside {prefix!r} are left out",) if left_out else ()
    return replace(
        state_dict,
        tensors=tensors,
        prefix_removed=state_dict.prefix_removed + prefix,
        warnings=state_dict.warnings + note,
    )


def _kind(value: object) -> str:
    if isinstance(value, TensorInfo):
        return "a single tensor without a name"
    return {type(None): "nothing", list: "a list", tuple: "a tuple"}.get(type(value), f"a {type(value).__name__}")


def _has_tensors(mapping: Mapping[object, object]) -> bool:
    return any(isinstance(value, TensorInfo) for value in mapping.values())


def _candidates(mapping: Mapping[object, object]) -> list[str]:
    """Return the keys under which a state dict lies, directly or one wrapper deeper."""
    holders: dict[int, bool] = {}  # one dictionary may be shared under very many keys: look at each once
    found = []
    for name, value in mapping.items():
        if isinstance(name, str) and isinstance(value, dict):
            nested = value.values() if name in _WRAPPERS + _AVERAGES else ()
            if any(_holds_tensors(inner, holders) for inner in (value, *nested)):
                found.append(str(name))
    return found


def _holds_tensors(value: object, known: dict[int, bool]) -> bool:
    if not isinstance(value, dict):
        return False
    if id(value) not in known:
        known[id(value)] = _has_tensors(value)
    return known[id(value)]


def _by_key(mapping: Mapping[object, object], key: str, where: str) -> str:
    found = _candidates(mapping)
    if key == "ema" and key not in found:
        averages = [name for name in found if name in _AVERAGES]
        if len(averages) == 1:
            return averages[0]
    if key not in found:
        raise UsageError(
            f"There is no state dict under the key {key!r}",
            where=where,
            expected=f"one of: {', '.join(found)}" if found else "a key that holds tensors; there is none",
        )
    return key


def _only_wrapper(mapping: Mapping[object, object], where: str, warnings: list[str]) -> str:
    found = _candidates(mapping)
    usual = [name for name in found if name in _WRAPPERS]
    averages = [name for name in found if name in _AVERAGES]
    others = [name for name in found if name not in averages]
    chosen = usual or others
    if len(chosen) == 1:
        if averages:
            warnings.append(f"the file also holds a moving average of the network under {', '.join(averages)}")
        return chosen[0]
    if not found:
        raise _nothing_found(mapping, where)
    raise UnsupportedCheckpointError(
        "The file holds several state dicts" if len(found) > 1 else "The file holds only a moving average",
        where=where,
        got=", ".join(found),
        next_step=f"Choose one with --key, for example --key {found[0]}.",
    )


def _nothing_found(mapping: Mapping[object, object], where: str) -> UnsupportedCheckpointError:
    names = [ascii(name)[:40] for name in mapping][:8]
    return UnsupportedCheckpointError(
        "The file holds no state dict",
        where=where,
        expected="a dictionary of tensors",
        got=f"a dictionary with the keys {', '.join(names)}" if names else "an empty dictionary",
        next_step="Save the network's state_dict() from the program that made the file.",
    )


def _state_dict(
    mapping: Mapping[object, object], metadata: dict[str, object], wrapper: str | None, warnings: list[str], where: str
) -> StateDict:
    named: dict[str, TensorInfo] = {}
    for name, value in mapping.items():
        if isinstance(value, TensorInfo):
            named[_require_name(name, where)] = value
        else:
            metadata.update(summarise({name: value}))
            warnings.append(f"{ascii(name)[:80]} is no tensor: left out")
    if len(named) > limits.MAX_TENSORS:
        raise LimitExceededError("Too many tensors", where=where, expected=f"at most {limits.MAX_TENSORS}")
    prefixed = sum(name.startswith(_PARALLEL_PREFIX) for name in named)
    prefix = _PARALLEL_PREFIX if prefixed == len(named) else ""
    if prefixed and not prefix:
        warnings.append(f"{prefixed} of {len(named)} names start with {_PARALLEL_PREFIX!r}: left as they are")
    tensors = {}
    for full_name, reference in named.items():
        name = _require_name(full_name.removeprefix(prefix), where)
        tensors[name] = reference.renamed(name)
    return StateDict(tensors, metadata, wrapper, prefix, tuple(warnings))


def _require_name(name: object, where: str) -> str:
    """Return a tensor's name as plain text; it ends up on terminals and in reports."""
    if not isinstance(name, str) or not name or not name.isprintable() or len(name) > limits.MAX_NAME_LENGTH:
        raise CorruptCheckpointError(
            "A tensor has no usable name",
            where=where,
            expected=f"1 to {limits.MAX_NAME_LENGTH} printable letters",
            got=ascii(name)[:80],
        )
    return str(name)


def summarise(values: Mapping[object, object]) -> dict[str, object]:
    """Return plain values as JSON can hold them, bounded in number, length and depth.

    What does not fit is replaced by its kind and size in angle brackets, as are tensors and byte strings.
    """
    return _Summary().mapping(values, limits.METADATA_LEVELS)


class _Summary:
    """One summary; shared containers count each time they are shown, so the work is bounded by a budget."""

    def __init__(self) -> None:
        self._remaining = limits.METADATA_VALUES

    def mapping(self, values: Mapping[object, object], levels: int) -> dict[str, object]:
        shown: dict[str, object] = {}
        for name, value in values.items():
            if len(shown) == limits.METADATA_ENTRIES:
                break
            shown[_text(str(name))] = self._value(value, levels)
        return shown

    def _value(self, value: object, levels: int) -> object:
        self._remaining -= 1
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int):
            return value if abs(value) < 1 << 63 else f"<number of {value.bit_length()} bits>"
        if isinstance(value, float):
            return value if math.isfinite(value) else repr(value)
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, (dict, list, tuple)):
            return self._container(value, levels)
        return _described(value)

    def _container(self, value: dict[object, object] | list[object] | tuple[object, ...], levels: int) -> object:
        if value and (len(value) > limits.METADATA_ENTRIES or levels == 0 or self._remaining <= 0):
            return f"<{type(value).__name__} of {len(value)}>"
        if isinstance(value, dict):
            return self.mapping(value, levels - 1)
        return [self._value(inner, levels - 1) for inner in value]


def _text(value: str) -> str:
    kept = str(value[: limits.METADATA_TEXT])
    return kept if len(value) <= limits.METADATA_TEXT else kept + "..."


def _described(value: object) -> str:
    if isinstance(value, TensorInfo):
        return f"<{value.dtype.value} tensor of shape {list(value.shape)}>"
    if isinstance(value, PickledBytes):
        return f"<{'text' if value.is_text else 'bytes'} of {value.length} bytes>"
    return f"<{type(value).__name__}>"
