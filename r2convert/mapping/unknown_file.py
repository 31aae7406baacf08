"""A file of an unknown code base as modules: which tensors belong together, of what kind, in which roles.

A convolution has four sizes, a BatchNorm four tensors of one size, a linear layer a matrix and a bias. The suffixes of
a kind must be the same throughout the file, since a layout has one set of suffixes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from r2convert.catalog.sections import ROLES
from r2convert.errors import MappingError
from r2convert.mapping.parsing import Shape, Shapes, show_shape

_SHOWN = 5
_MULTIWORD = r"(?:running|moving)_(?:mean|var|variance)|num_batches_tracked"
_COUNTER = "num_batches_tracked"
_ROLE_WORDS: Mapping[str, str] = {
    "running_mean": r"mean|^mu$|avg",
    "running_var": r"var|sigma",
    "bias": r"bias|beta|offset|shift|^b$",
    "weight": r"weight|gamma|scale|^[gw]$",
}
"""Role of a BatchNorm's tensor -> what such tensors are called, looked for in this order."""


class Module(NamedTuple):
    """A module of the file: its kind, its weight's shape as stored, and where in the file it begins."""

    kind: str
    shape: Shape
    position: int


def shortened(lines: Sequence[str]) -> str:
    """The first lines of an error's details, and how many more there are."""
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n            ".join([*lines[:_SHOWN], *more])


class UnknownFile:
    """The tensors of a file as modules, each with the suffixes that its kind has throughout the file."""

    def __init__(self, shapes: Shapes, where: str) -> None:
        self.where = where
        self.modules: dict[str, Module] = {}
        self.suffixes: dict[str, dict[str, str]] = {}
        self.roles_by_order: tuple[str, ...] = ()
        self.same: dict[tuple[str, Shape], list[str]] = defaultdict(list)
        braced = [name for name in shapes if "{" in name or "}" in name]
        if braced:
            raise self._error("names with braces, which tables use for placeholders", braced)
        groups: dict[str, dict[str, Shape]] = defaultdict(dict)
        for name, shape in shapes.items():
            module, suffix = _split(name, _separator(shapes))
            groups[module][suffix] = shape
        order = {module: position for position, module in enumerate(groups)}
        found: dict[str, dict[str, dict[str, Shape]]] = {kind: {} for kind in ROLES}
        for module, tensors in groups.items():
            for kind, part in self._parts(module, tensors):
                found[kind][module] = part
        if found["conv"].keys() & found["bn"].keys():
            raise self._error(
                "a convolution and a BatchNorm share a name, which a table cannot express",
                sorted(found["conv"].keys() & found["bn"].keys()),
            )
        for kind, modules in found.items():
            self._read_kind(kind, modules, order)

    def _parts(self, module: str, tensors: Mapping[str, Shape]) -> Iterator[tuple[str, dict[str, Shape]]]:
        """What a group of tensors of one name is: a convolution, a BatchNorm, a linear layer."""
        by_rank: dict[int, dict[str, Shape]] = defaultdict(dict)
        for suffix, shape in tensors.items():
            by_rank[len(shape)][suffix] = shape
        ranks = {rank: len(group) for rank, group in by_rank.items()}
        if ranks in ({2: 1, 1: 1}, {4: 1, 1: 1}):
            yield "linear", {**tensors}
        elif ranks == {4: 1}:
            yield "conv", {**tensors}
        elif ranks in ({1: 4}, {1: 4, 0: 1}) and len(set(by_rank[1].values())) == 1:
            yield "bn", {**tensors}
        else:
            shown = [f"{module}: {', '.join(f'{suffix} {show_shape(shape)}' for suffix, shape in tensors.items())}"]
            raise self._error("these tensors are not a convolution, BatchNorm or classifier of a Res2Net", shown)

    def _read_kind(self, kind: str, modules: Mapping[str, Mapping[str, Shape]], order: Mapping[str, int]) -> None:
        if not modules:
            self.suffixes[kind] = {role: f".{role}" for role in ROLES[kind] if role != _COUNTER}
            return
        first = next(iter(modules.values()))
        learned = [suffix for suffix, shape in first.items() if len(shape) != 0]
        counter = next((suffix for part in modules.values() for suffix, shape in part.items() if not shape), None)
        for module, part in modules.items():
            if {suffix for suffix, shape in part.items() if shape} != set(learned):
                raise self._error(f"not every {kind} has the same tensors", [f"{module}: {', '.join(part)}"])
        roles = self._roles(kind, learned, first)
        self.suffixes[kind] = roles | ({_COUNTER: counter} if counter is not None else {})
        for module, part in modules.items():
            shape = part[roles["weight"]]
            self.modules[module] = Module(kind, shape, order[module])
            self.same[kind, shape].append(module)

    def _roles(self, kind: str, suffixes: Sequence[str], shapes: Mapping[str, Shape]) -> dict[str, str]:
        """Role -> suffix; what the suffixes of a BatchNorm do not say is decided by their order."""
        if kind != "bn":
            ranked = sorted(suffixes, key=lambda suffix: -len(shapes[suffix]))
            return dict(zip(ROLES[kind], ranked, strict=True))
        roles: dict[str, str] = {}
        for role, words in _ROLE_WORDS.items():
            fitting = [
                each for each in suffixes if re.search(words, each.lower().strip("._/")) and each not in roles.values()
            ]
            if len(fitting) == 1:
                roles[role] = fitting[0]
        told = set(roles)
        rest = [suffix for suffix in suffixes if suffix not in roles.values()]
        roles |= dict(zip([role for role in ROLES["bn"][:4] if role not in told], rest, strict=True))
        # A single one that is left over is identified by the others.
        self.roles_by_order = tuple(role for role in ROLES["bn"][:4] if role not in told) if len(rest) > 1 else ()
        return {role: roles[role] for role in ROLES["bn"][:4]}

    def _error(self, what: str, got: Sequence[str]) -> MappingError:
        return MappingError(
            what,
            where=self.where,
            got=shortened(got),
            next_step="--leave-out PATTERN leaves out what is beside the network, --prefix PREFIX takes what is in it",
        )


def _separator(names: Iterable[str]) -> str:
    """What stands before the last part of most names."""
    counts = {each: sum(each in name for name in names) for each in "./"}
    best = max(counts, key=lambda each: counts[each])
    return best if counts[best] else "_"


def _split(name: str, separator: str) -> tuple[str, str]:
    """A module's name, and the suffix with its separator."""
    match = re.fullmatch(rf"(.+?)({re.escape(separator)}(?:{_MULTIWORD}|[^{separator}]+))", name)
    return (match[1], match[2]) if match else ("", name)
