"""Finds the state dict in what a file describes: among wrappers, training state and averages, by rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from r2convert.checkpoint import limits
from r2convert.checkpoint.limits import WorkBudget
from r2convert.checkpoint.metadata import summarise
from r2convert.checkpoint.pickles.numpy_names import PickledArray
from r2convert.checkpoint.pickles.values import Opaque, UnreadTensor, describe_briefly
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.checkpoint.tensor_names import (
    LeftOut,
    Named,
    SelectedTensors,
    Tensor,
    inner_average,
    select,
    without_prefixes,
)
from r2convert.errors import CorruptCheckpointError, LimitExceededError, UnsupportedCheckpointError, UsageError
from r2convert.files import counted, first_names

#: Says what a set of tensors is ("res2net50_w26_s4 in the official layout"), or ``None``. The names come without
#: wrappers' prefixes.
Recogniser = Callable[[Mapping[str, tuple[int, ...]]], str | None]

#: Where training programs put the network, in no order: two of them in one file are ambiguous.
_USUAL: Final = frozenset(
    ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "module", "weights", "params")
)
#: Words in the keys under which they put its moving average: another network, which has to be asked for.
_AVERAGE_WORDS: Final = frozenset(("ema", "swa", "averaged", "averaging"))
#: Words in the keys of what belongs to the training and not to the network.
_TRAINING_WORDS: Final = frozenset(
    ("optimizer", "optimizers", "optim", "scheduler", "schedulers", "scaler", "rng", "callbacks", "loops", "criterion")
)
_SAVE_IT: Final = "save the network's state_dict() from the program that made the file"


class Selection(NamedTuple):
    """What the caller wants from a file.

    Attributes:
        key: which of several state dicts to take: its key (dotted if it lies deeper), or ``ema`` for the moving
            average, however the training program keeps it. ``None`` takes the network itself.
        prefix: take only the tensors whose names start with this, and take it off their names.
        leave_out: shell patterns; tensors whose names match one are left out.
        recognise: tells networks apart where a file has several; ``None`` to rank by keys and counts alone.
    """

    key: str | None = None
    prefix: str = ""
    leave_out: tuple[str, ...] = ()
    recognise: Recogniser | None = None


class StateDict(NamedTuple):
    """A state dict without its wrappers.

    Attributes:
        tensors: the tensors by name, in file order.
        unread: those of a kind whose elements are not given out.
        metadata: plain values found around them; small enough to show.
        wrapper: the key or dotted keys it lay under; ``None`` for a bare state dict.
        prefix_removed: what was removed from every name: the prefixes of wrappers, and the requested one.
        left_out: the tensors beside the network that were left out, with the reason.
        warnings: what was odd but harmless.
        other_key: takes the network's other weights: its moving average, or the raw ones.
    """

    tensors: dict[str, TensorInfo]
    unread: dict[str, UnreadTensor]
    metadata: dict[str, object]
    wrapper: str | None
    prefix_removed: str
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]
    other_key: str | None = None


class _Candidate(Struct, frozen=True):
    """A mapping with tensors in it.

    Attributes:
        path: the keys that lead to it.
        entries: its entries; of a whole module, its parameters and buffers under dotted names.
        count: how many of them are tensors.
    """

    path: tuple[str, ...]
    entries: Mapping[object, object]
    count: int

    @property
    def key(self) -> str:
        return ".".join(self.path)

    def has_word(self, words: frozenset[str]) -> bool:
        return any(not words.isdisjoint(_words(name)) for name in self.path)


def find_state_dict(root: object, selection: Selection, budget: WorkBudget, where: str) -> StateDict:
    """Find the state dict in a described object.

    Args:
        root: what the file describes.
        selection: what to take of it.
        budget: what the search is charged to.
        where: the file, for messages.

    Raises:
        UnsupportedCheckpointError: there is no state dict, or several and no key to choose by.
        UsageError: there is nothing under the key or the prefix, or a pattern matches nothing.
        CorruptCheckpointError: a name is unusable.
    """
    candidates = _Search(budget).candidates(root)
    if not candidates:
        raise _nothing_found(root, where)
    choice = _Choice(candidates, selection.recognise, where)
    chosen, takes_average = choice.by_key(selection.key) if selection.key else (choice.network(), False)
    named, others = _split(chosen.entries, where)
    average = inner_average(named) or inner_average(without_prefixes(named)[0])
    if takes_average and not average:
        raise choice.no_average()
    is_beside = any(name != original for name, original in average.items())
    other_key = None if selection.key else choice.other_key or ("ema" if is_beside else None)
    selected = select(named, selection.prefix, selection.leave_out, takes_average=takes_average, where=where)
    metadata = _metadata_around(root, chosen.path) | summarise(others)
    notes = (*choice.notes, *_not_tensors(others))
    return _state_dict(selected, metadata, chosen.key or None, notes, where)._replace(other_key=other_key)


def _state_dict(
    selected: SelectedTensors, metadata: dict[str, object], wrapper: str | None, notes: tuple[str, ...], where: str
) -> StateDict:
    tensors = {name: value for name, value in selected.named.items() if isinstance(value, TensorInfo)}
    unread = {name: value for name, value in selected.named.items() if isinstance(value, UnreadTensor)}
    if unread and not tensors:
        name, value = next(iter(unread.items()))
        raise UnsupportedCheckpointError(
            "none of the tensors is of a kind that is read", where=where, got=f"{name} is a {value.kind}"
        )
    return StateDict(
        {name: tensor.renamed(name) for name, tensor in tensors.items()},
        unread,
        metadata,
        wrapper,
        selected.prefix_removed,
        selected.left_out,
        (*notes, *selected.notes, *_not_read(unread)),
    )


# -- the search ------------------------------------------------------------------------------------------------


class _Search:
    """Walks dictionaries and modules from the outside in; each is opened once however often it is shared."""

    def __init__(self, budget: WorkBudget) -> None:
        self._charge = budget.charge
        self._opened: dict[int, Mapping[object, object]] = {}

    def candidates(self, root: object) -> list[_Candidate]:
        found: list[_Candidate] = []
        level: list[tuple[tuple[str, ...], object]] = [((), root)]
        for _ in range(limits.MAX_WRAPPERS + 1):
            deeper: list[tuple[tuple[str, ...], object]] = []
            for path, value in level:
                is_new = id(value) not in self._opened
                entries = self._entries(value)
                self._charge(len(entries) + 1)
                count = sum(isinstance(inner, (TensorInfo, UnreadTensor)) for inner in entries.values())
                if count:
                    found.append(_Candidate(path, entries, count))
                if is_new:
                    deeper += [
                        ((*path, str(name)), inner)
                        for name, inner in entries.items()
                        if isinstance(name, str) and isinstance(inner, (dict, Opaque))
                    ]
            level = deeper
        return found

    def _entries(self, value: object) -> Mapping[object, object]:
        if id(value) not in self._opened:
            self._opened[id(value)] = self._open(value)
        return self._opened[id(value)]

    def _open(self, value: object) -> Mapping[object, object]:
        if isinstance(value, dict):
            return value
        if not isinstance(value, Opaque):
            return {}
        return dict(self._module(value, "", 0)) if _is_module(value) else value.entries

    def _module(self, module: Opaque, prefix: str, depth: int) -> Iterator[tuple[object, object]]:
        """Yield the parameters and buffers of a module that was saved whole, as its ``state_dict()`` would."""
        self._charge(8)
        if depth > limits.MAX_NESTING:
            raise LimitExceededError("modules nest too deeply", expected=f"at most {limits.MAX_NESTING} levels")
        attributes = module.attributes
        hidden = attributes.get("_non_persistent_buffers_set")
        passing = set(map(str, hidden)) if isinstance(hidden, list) else set()
        for group in ("_parameters", "_buffers"):
            for name, value in _dictionary(attributes.get(group)).items():
                if value is not None and not (group == "_buffers" and str(name) in passing):
                    self._charge(1)
                    yield f"{prefix}{name}", value
        for name, inner in _dictionary(attributes.get("_modules")).items():
            if isinstance(inner, Opaque):
                yield from self._module(inner, f"{prefix}{name}.", depth + 1)


def _is_module(value: Opaque) -> bool:
    return {"_parameters", "_buffers", "_modules"} <= value.attributes.keys()


def _dictionary(value: object) -> Mapping[object, object]:
    return value if isinstance(value, dict) else {}


# -- the choice ------------------------------------------------------------------------------------------------


class _Choice:
    """Chooses one of the state dicts of a file; :attr:`notes` says in words what the others are."""

    def __init__(self, candidates: Sequence[_Candidate], recognise: Recogniser | None, where: str) -> None:
        self._where = where
        self._recognise = recognise
        self._averages = [each for each in candidates if each.has_word(_AVERAGE_WORDS)]
        self._training = [each for each in candidates if each.has_word(_TRAINING_WORDS)]
        self._all = candidates
        self._what: dict[tuple[str, ...], str | None] = {}
        self._swapped = _swapped_by(candidates)
        self.notes: list[str] = []
        self.other_key: str | None = None

    def network(self) -> _Candidate:
        """Choose the network itself."""
        networks = [each for each in self._all if each not in self._averages and each not in self._training]
        if not networks and self._averages:
            raise self._ambiguous("the file holds only a moving average", self._averages)
        chosen = self._ranked(networks or self._all)
        if self._swapped and chosen.path == self._swapped.average:
            self.notes.append(
                f"{chosen.key} holds the moving average: {self._swapped.program} swaps the two on saving; "
                f"take the raw weights with --key {self._swapped.raw}"
            )
            self.other_key = self._swapped.raw
        elif self._averages:
            keys = ", ".join(dict.fromkeys(each.key for each in self._averages))
            self.notes.append(f"the file also holds a moving average of the network under {keys}: --key ema takes it")
            self.other_key = "ema"
        return chosen

    def by_key(self, key: str) -> tuple[_Candidate, bool]:
        """Choose by key; the second value says that the average lies among the tensors of the network itself."""
        under = [each for each in self._all if each.key == key or each.key.startswith(f"{key}.")]
        exact = [each for each in under if each.key == key]
        if exact or under:
            return self._ranked(exact or under), False
        if key != "ema":
            raise self._no_such(f"there is no state dict under the key {key!r}")
        if self._swapped:
            return self.network(), False
        if self._averages:
            chosen = self._ranked(self._averages)
            self.notes.append(f"the moving average under {chosen.key}")
            return chosen, False
        return self.network(), True

    def no_average(self) -> UsageError:
        """Return the error for a file without a moving average."""
        return self._no_such(
            "there is no state dict under the key 'ema': the file holds no moving average of the network"
        )

    def _no_such(self, what: str) -> UsageError:
        known = ", ".join(dict.fromkeys(each.key for each in self._all if each.path))
        return UsageError(
            what,
            where=self._where,
            expected=f"one of: {known}" if known else "a key that holds tensors; there is none",
        )

    def _ranked(self, candidates: Sequence[_Candidate]) -> _Candidate:
        """Recognised networks first, then usual keys, then those of about as many tensors as the largest."""
        left = list(candidates)
        if len(left) > 1:
            most = max(each.count for each in left)
            left = [each for each in left if self._is_known(each)] or [each for each in left if each.count * 10 >= most]
        usual = [each for each in left if not _USUAL.isdisjoint(each.path)]
        left = usual or left
        most = max(each.count for each in left)
        left = [each for each in left if each.count * 4 >= most and not any(_outweighs(other, each) for other in left)]
        if len(left) > 1:
            raise self._ambiguous("the file holds several state dicts", left)
        return left[0]

    def _is_known(self, candidate: _Candidate) -> bool:
        if self._recognise is None or len(self._all) > limits.MAX_STATE_DICTS:
            return False
        if candidate.path not in self._what:
            shapes = {
                str(name): value.shape
                for name, value in candidate.entries.items()
                if isinstance(value, TensorInfo) and isinstance(name, str)
            }
            stripped, _ = without_prefixes(shapes)
            self._what[candidate.path] = self._recognise(stripped)
        return self._what[candidate.path] is not None

    def _ambiguous(self, what: str, candidates: Sequence[_Candidate]) -> UnsupportedCheckpointError:
        shown = []
        for each in candidates[:8]:
            is_what = self._what.get(each.path)
            name = each.key or "the file's own entries"
            shown.append(f"{name}: {counted(each.count, 'tensor')}" + (f", {is_what}" if is_what else ""))
        keys = [each.key for each in candidates if each.path]
        return UnsupportedCheckpointError(
            what,
            where=self._where,
            got="\n            ".join(shown),
            next_step=f"choose one with --key, for example --key {keys[0] if keys else 'KEY'}",
        )


def _outweighs(one: _Candidate, other: _Candidate) -> bool:
    """Whether one of two, of which one lies inside the other, has more tensors: the rest is loose beside it."""
    outer, inner = sorted((one.path, other.path), key=len)
    return inner[: len(outer)] == outer and one.count > other.count


class _Swapped(NamedTuple):
    """Programs that put the average where the network belongs when they save: who, and where the two lie."""

    program: str
    average: tuple[str, ...]
    raw: str


def _swapped_by(candidates: Sequence[_Candidate]) -> _Swapped | None:
    """Recognise mmengine's EMAHook and Lightning's WeightAveraging by what they save beside ``state_dict``."""
    by_path = {each.path: each for each in candidates}
    if ("state_dict",) not in by_path:
        return None
    kept = by_path.get(("ema_state_dict",))
    if kept is not None and "steps" in kept.entries:
        return _Swapped("mmengine's EMAHook", ("state_dict",), "ema_state_dict")
    if ("current_model_state",) in by_path:
        return _Swapped("Lightning's WeightAveraging", ("state_dict",), "current_model_state")
    return None


def _words(key: str) -> frozenset[str]:
    return frozenset(key.lower().replace("-", "_").replace(".", "_").split("_"))


# -- what is around it -----------------------------------------------------------------------------------------


def _split(entries: Mapping[object, object], where: str) -> tuple[Named, dict[object, object]]:
    """Separate the tensors of a state dict from other values in it."""
    named: dict[str, Tensor] = {}
    others: dict[object, object] = {}
    for name, value in entries.items():
        if isinstance(value, PickledArray):
            named[_require_name(name, where)] = UnreadTensor("NumPy array", value.shape)
        elif isinstance(value, (TensorInfo, UnreadTensor)):
            named[_require_name(name, where)] = value
        else:
            others[name] = value
    if len(named) > limits.MAX_TENSORS:
        raise LimitExceededError("too many tensors", where=where, expected=f"at most {limits.MAX_TENSORS}")
    return named, others


def _require_name(name: object, where: str) -> str:
    """Return a tensor's name as plain text; it ends up on terminals and in reports."""
    if not isinstance(name, str) or not name or not name.isprintable() or len(name) > limits.MAX_NAME_LENGTH:
        raise CorruptCheckpointError(
            "a tensor has no usable name",
            where=where,
            expected=f"1 to {limits.MAX_NAME_LENGTH} printable letters",
            got=ascii(name)[:80] if isinstance(name, str) else describe_briefly(name),
        )
    return str(name)


def _metadata_around(root: object, path: Sequence[str]) -> dict[str, object]:
    metadata: dict[str, object] = {}
    for key in path:
        entries = root if isinstance(root, dict) else root.entries if isinstance(root, Opaque) else {}
        metadata.update(summarise({name: value for name, value in entries.items() if name != key}))
        root = entries.get(key)
    return metadata


def _not_tensors(others: Mapping[object, object]) -> tuple[str, ...]:
    shown = [f"{str(name)[:80]!a} is no tensor: left out" for name in list(others)[:_SHOWN]]
    rest = len(others) - len(shown)
    return (*shown, f"{rest} more entries are no tensors: left out") if rest else tuple(shown)


def _not_read(unread: Mapping[str, UnreadTensor]) -> tuple[str, ...]:
    kinds: dict[str, list[str]] = {}
    for name, value in unread.items():
        kinds.setdefault(value.kind, []).append(name)
    return tuple(f"{first_names(names)}: {kind}, which is not read" for kind, names in list(kinds.items())[:_SHOWN])


_SHOWN: Final = 8


def _nothing_found(root: object, where: str) -> UnsupportedCheckpointError:
    return UnsupportedCheckpointError(
        "the file holds no state dict",
        where=where,
        expected="a dictionary of tensors, or a module",
        got=_kind(root),
        next_step=_SAVE_IT,
    )


def _kind(root: object) -> str:
    if isinstance(root, dict):
        names = [ascii(str(name))[:40] for name in list(root)[:8]]
        return f"a dictionary with the keys {', '.join(names)}" if names else "an empty dictionary"
    if isinstance(root, (TensorInfo, UnreadTensor)):
        return "a single tensor without a name"
    if isinstance(root, Opaque):
        return f"an object of the class {root.name}, which is not looked into"
    return {type(None): "nothing", list: "a list", tuple: "a tuple"}.get(type(root), f"a {type(root).__name__}")
