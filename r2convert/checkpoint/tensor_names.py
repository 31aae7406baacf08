"""The names in a state dict: prefixes of wrappers, known strays, averages kept among them, what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple, TypeVar

from r2convert.checkpoint.pickles.values import UnreadTensor
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.errors import CorruptCheckpointError, UsageError

Tensor = TensorInfo | UnreadTensor
Named = Mapping[str, Tensor]
Value = TypeVar("Value")

#: Wrappers that stand in front of every name: parallel training and `torch.compile` in any order, then the single
#: attribute in which Lightning modules and timm's wrapper for transformers hold the network.
_PARALLEL: Final = ("module.", "_orig_mod.")
_SINGLE_ATTRIBUTES: Final = ("model.", "net.", "timm_model.")
_COMPILED: Final = "_orig_mod."

#: Buffers that tools leave in a state dict and that belong to no network: the last part of the name, and whose.
_STRAYS: Final = {
    "total_ops": "counter of thop",
    "total_params": "counter of thop",
    "_tmp_running_mean": "scratch of a synchronized batch norm",
    "_tmp_running_var": "scratch of a synchronized batch norm",
    "_running_iter": "scratch of a synchronized batch norm",
}
#: How torch's AveragedModel and mmengine's averages count; every other name then starts with `module.`.
_COUNTERS: Final = ("n_averaged", "steps")

#: Submodules in which training programs keep an average beside the network.
_AVERAGE_MODULES: Final = (
    "ema_model.module.",
    "model_ema.module.",
    "ema.module.",
    "ema_model.",
    "model_ema.",
    "ema.",
    "averaged_model.module.",
    "swa_model.module.",
)
_AVERAGE_BEGINNINGS: Final = ("ema_", *_AVERAGE_MODULES)
#: What may stand in front of the network's own names beside them.
_NETWORK_PREFIXES: Final = ("", "model.", "net.", "network.", "module.", "backbone.")


class LeftOut(NamedTuple):
    """A tensor of the file that is not part of the network.

    Attributes:
        name: its name in the file.
        reason: why it is left out.
    """

    name: str
    reason: str


class SelectedTensors(NamedTuple):
    """The tensors of a network under their own names.

    Attributes:
        named: the tensors by name, in file order.
        prefix_removed: what was removed from every name.
        left_out: what else the state dict holds.
        notes: what was done, in words.
    """

    named: Named
    prefix_removed: str
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]


def patterns_of(leave_out: str | Sequence[str]) -> tuple[str, ...]:
    """The patterns that a caller gave; a string is one pattern and not one a character."""
    return (leave_out,) if isinstance(leave_out, str) else tuple(leave_out)


def select(named: Named, prefix: str, patterns: Sequence[str], *, takes_average: bool, where: str) -> SelectedTensors:
    """Take the network out of a state dict.

    Args:
        named: all tensors by name.
        prefix: take only the names that start with it, with or without what wrappers put before it, and take it off.
        patterns: shell patterns of names to leave out, as they are in the file or without prefixes.
        takes_average: take the average that lies among the tensors instead of the network.
        where: the file, for messages.

    Raises:
        UsageError: no name starts with the prefix, or a pattern matches none.
        CorruptCheckpointError: two names are the same without their prefixes.
    """
    taken = _Taken(named, where)
    taken.leave_out_strays()
    taken.remove_wrappers()
    taken.separate_average(takes_average=takes_average)
    taken.leave_out(patterns)
    taken.remove_wrappers()  # a name that had none may be gone now
    taken.note_partial_wrappers()
    if prefix:
        taken.take_prefix(prefix)
    taken.leave_out(patterns)
    taken.require_matched(patterns)
    return SelectedTensors(taken.named, taken.prefix_removed, tuple(taken.left_out), tuple(taken.notes))


class _Taken:
    """What is left of a state dict, step by step."""

    def __init__(self, named: Named, where: str) -> None:
        self._where = where
        self._matched: set[str] = set()
        self.named = dict(named)
        self.prefix_removed = ""
        self.left_out: list[LeftOut] = []
        self.notes: list[str] = []

    def leave_out_strays(self) -> None:
        """Leave out what is known to be of no network, unless there is nothing else."""
        reasons: dict[str, str] = {
            name: reason for name in self.named if (reason := _STRAYS.get(name.rpartition(".")[2])) is not None
        }
        counters = [name for name in _COUNTERS if name in self.named]
        if counters and all(name.startswith("module.") for name in self.named if name not in counters):
            reasons |= dict.fromkeys(counters, "counter of an averaged model")
        if len(reasons) < len(self.named):
            self._drop(reasons)

    def separate_average(self, *, takes_average: bool) -> None:
        """Separate the network from an average among its tensors, and keep one of the two."""
        average = inner_average(self.named)
        if not average:
            return
        if takes_average:
            for name, original in average.items():
                if name != original:
                    self.named[original] = self.named[name]
            replaced = sum(name != original for name, original in average.items())
            if replaced:
                self.notes.append(f"{replaced} tensors are the moving average; the others are the network's own")
        reason = "taken as the moving average" if takes_average else "moving average of the network: --key ema takes it"
        first = next(iter(average))
        apart = {name for name, original in average.items() if name != original}
        group = next((module for module in _AVERAGE_MODULES if first.startswith(module)), None)
        if apart and group is not None:
            apart |= {name for name in self.named if name.startswith(f"{group.partition('.')[0]}.")}
        self._drop(dict.fromkeys((name for name in self.named if name in apart), reason))
        if apart and not takes_average:
            self.notes.append("the file also holds a moving average among the network's tensors: --key ema takes it")

    def leave_out(self, patterns: Sequence[str]) -> None:
        """Leave out the names that match a pattern."""
        reasons: dict[str, str] = {}
        for pattern in patterns:
            matching = [name for name in self.named if fnmatchcase(name, pattern)]
            reasons |= dict.fromkeys(matching, f"left out by --leave-out {pattern}")
            if matching:
                self._matched.add(pattern)
        self._drop(reasons)

    def require_matched(self, patterns: Sequence[str]) -> None:
        """Raise if a pattern has left out nothing, or all was left out."""
        for pattern in patterns:
            if pattern not in self._matched:
                raise UsageError(
                    f"no tensor's name matches {pattern!r}", where=self._where, expected=_firsts(self.named)
                )
        if not self.named:
            raise UsageError("every tensor is left out", where=self._where, got=", ".join(patterns))

    def remove_wrappers(self) -> None:
        """Remove the prefixes of wrappers."""
        stripped, removed = without_prefixes(self.named)
        if len(stripped) < len(self.named):
            raise CorruptCheckpointError(
                "two tensors have the same name without the prefixes of wrappers", where=self._where, got=removed
            )
        self.named = dict(stripped)
        self.prefix_removed += removed

    def note_partial_wrappers(self) -> None:
        """Note that some names have a wrapper's prefix and others do not."""
        for prefix in _PARALLEL:
            count = sum(name.startswith(prefix) for name in self.named)
            if count:
                self.notes.append(f"{count} of {len(self.named)} names start with {prefix!r}: left as they are")

    def take_prefix(self, prefix: str) -> None:
        """Keep the tensors whose names start with a prefix, and take it off; wrappers' prefixes may stand before it."""
        own = prefix
        if not any(name.startswith(prefix) for name in self.named):
            own = "" if self.prefix_removed.startswith(prefix) else prefix.removeprefix(self.prefix_removed)
        under = {
            name.removeprefix(own): tensor
            for name, tensor in self.named.items()
            if name.startswith(own) and name != own
        }
        if not under:
            raise UsageError(
                f"no tensor's name starts with {prefix!r}", where=self._where, expected=_firsts(self.named)
            )
        outside = len(self.named) - len(under)
        if outside:
            what = "1 tensor outside {!r} is" if outside == 1 else f"{outside} tensors outside {{!r}} are"
            self.notes.append(f"{what.format(prefix)} left out")
        self.named = under
        self.prefix_removed += own

    def _drop(self, reasons: Mapping[str, str]) -> None:
        for name, reason in reasons.items():
            if self.named.pop(name, None) is not None:
                self.left_out.append(LeftOut(name, reason))


def without_prefixes(named: Mapping[str, Value]) -> tuple[dict[str, Value], str]:
    """Remove the prefixes of wrappers from all names.

    Returns:
        The values by their names without prefixes (fewer if two names are then the same), and what was taken off.
    """
    removed = ""
    current = dict(named)
    while prefix := _common_prefix(current):
        current = {name.removeprefix(prefix): value for name, value in current.items()}
        removed += prefix
    compiled = f".{_COMPILED}"
    if any(compiled in name for name in current):
        # A submodule was compiled: its names continue after the wrapper's.
        current = {name.replace(compiled, "."): value for name, value in current.items()}
        removed += _COMPILED
    return current, removed


def _common_prefix(named: Iterable[str]) -> str | None:
    names = list(named)
    for prefix in (*_PARALLEL, *_SINGLE_ATTRIBUTES):
        if names and all(name.startswith(prefix) and name != prefix for name in names):
            return prefix
    return None


def inner_average(named: Iterable[str]) -> dict[str, str]:
    """Find the moving average that some programs keep among the network's own tensors.

    mmcv 1.x registers buffers named `ema_` and the parameter's name with `_` for `.`; latent diffusion's LitEma
    names them without the dots; others keep a second module; torch's AveragedModel holds nothing else.

    Returns:
        Name of the averaged tensor -> name of the network's; empty if there is none.
    """
    names = dict.fromkeys(named)
    if any(counter in names for counter in _COUNTERS) and all(
        name in _COUNTERS or name.startswith("module.") for name in names
    ):
        return {name: name for name in names if name not in _COUNTERS}
    if not any(name.startswith(_AVERAGE_BEGINNINGS) for name in names):
        return {}
    buffers = {f"ema_{name.replace('.', '_')}": name for name in names}
    buffers |= {f"model_ema.{name.removeprefix('model.').replace('.', '')}": name for name in names}
    found = {name: buffers[name] for name in names if name in buffers and name != buffers[name]}
    if found:
        return found
    for module in _AVERAGE_MODULES:
        found = {}
        for name in names:
            if name.startswith(module):
                rest = name.removeprefix(module)
                original = next((prefix + rest for prefix in _NETWORK_PREFIXES if prefix + rest in names), None)
                if original is not None and original != name:
                    found[name] = original
        if found:
            return found
    return {}


def _firsts(names: Iterable[str]) -> str:
    firsts = list(dict.fromkeys(name.split(".")[0] + ("." if "." in name else "") for name in names))
    return f"names start with {', '.join(firsts[:8])}" if firsts else "no name is left"
