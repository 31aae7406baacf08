"""Learning a layout from one file: the names of an unknown code base, matched to an architecture.

For every row of the family's table, it tries each way in which numbers and letters in the file's names can count
stages, blocks and splits so that every place gets a module of the right shape. All rows together must use every module
exactly once. If one assignment remains, names and shapes prove it. If several remain, rising numbers decide, or else
the order of the tensors in the file, and exactly these modules are reported.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise, product
from math import prod
from typing import Literal

from msgspec import Struct

from r2convert.catalog.geometry import Count, Place, fill_template, places
from r2convert.catalog.variant import IMAGENET_CLASSES, Variant
from r2convert.errors import MappingError
from r2convert.mapping.parsing import Shape, Shapes, show_shape
from r2convert.mapping.tables import CANONICAL, FamilyTable, Row, Tables, in_network_order
from r2convert.mapping.unknown_file import UnknownFile, shortened

Evidence = Literal["shape", "names", "order"]
"""What identifies a module: a shape that no other has; what its name counts and its shape; an order alone."""

_MOST_WAYS = 2000
_FIELD = re.compile(r"(\{[a-z_]+\}|\d+|(?<![A-Za-z])[a-z](?![A-Za-z]))")


class LearnedRow(Struct, frozen=True):
    """One row of the table with the name that the unknown code base has for it.

    Args:
        row: the row of the family's table.
        name: the module's name as a template.
        evidence: what identifies its modules.
        alternatives: the other templates that names and shapes allow.
        modules: the names it stands for, in network order.
    """

    row: Row
    name: str
    evidence: Evidence
    alternatives: tuple[str, ...]
    modules: tuple[str, ...]


class LearnedNames(Struct, frozen=True):
    """A layout as it was learned.

    Args:
        variant: the architecture it was matched to.
        table: the family's table.
        rows: the rows the file has, in the table's order.
        suffixes: kind -> role -> what is appended to a module's name.
        roles_by_order: roles of BatchNorm tensors whose suffixes say nothing, identified by their order alone.
        form: how the classifier weight is stored, if not as (classes, features).
        doubts: what else could not be determined, in words.
        reordered: how many modules the file has in another order than the network runs them.
    """

    variant: Variant
    table: FamilyTable
    rows: tuple[LearnedRow, ...]
    suffixes: Mapping[str, Mapping[str, str]]
    roles_by_order: tuple[str, ...]
    form: str | None
    doubts: tuple[str, ...]
    reordered: int

    def canonical_modules(self) -> dict[str, str]:
        """Module of the file -> the reference network's name for it."""
        scopes = places(self.variant.architecture, IMAGENET_CLASSES)
        return {
            module: fill_template(row.row.names[CANONICAL], place)
            for row in self.rows
            for module, place in zip(row.modules, scopes[row.row.each], strict=True)
        }

    def undecided(self) -> list[tuple[str, ...]]:
        """The modules that only an order tells apart, of numbers or of the file, in groups that could be exchanged."""
        groups: list[tuple[set[str], set[str]]] = []
        for row in self.rows:
            if row.evidence == "order":
                templates, modules = {row.name, *row.alternatives}, set(row.modules)
                for group in [each for each in groups if each[0] & templates]:
                    groups.remove(group)
                    templates, modules = templates | group[0], modules | group[1]
                groups.append((templates, modules))
        return [tuple(sorted(modules)) for _, modules in groups]


class _Wanted(Struct, frozen=True):
    """A row of the table with its places and the shapes that the file stores there."""

    row: Row
    scope: Sequence[Place]
    shapes: Sequence[Shape]

    @property
    def kinds(self) -> list[tuple[str, Shape]]:
        return [(self.row.kind, shape) for shape in self.shapes]


class _Way(Struct, frozen=True):
    """One way to name a row's modules: the template, and the names in the order of the row's places."""

    template: str
    names: tuple[str, ...]


def learn(tables: Tables, variant: Variant, shapes: Shapes, where: str) -> LearnedNames:
    """Match the names of a file to an architecture.

    Args:
        tables: the tables of the catalogue.
        variant: the architecture that the file's network is said to have.
        shapes: tensor name -> shape, in the order of the file.
        where: the file, for messages.

    Raises:
        MappingError: the file does not have the shapes of this architecture, or its names follow no pattern that a
            table can express.
    """
    file = UnknownFile(shapes, where)
    table = tables.table(variant.architecture.family)
    features = int(places(variant.architecture, 1)["network"][0]["features"])
    classifier = next((module.shape for module in file.modules.values() if module.kind == "linear"), None)
    form = _form(classifier, features) if classifier else None
    wanted = _wanted(table, variant, classifier, form)
    _require_same_shapes(tables, variant, file, wanted)
    ways = [_ways(each, file) for each in wanted]
    solutions = _solutions(wanted, ways, file)
    order = _network_order(wanted)
    best = min(solutions, key=lambda each: (_descents(each), _inversions(_positions(each, order, file))))
    # Where there are too many to try them all, every way that a row has is taken to be possible.
    possible = ways if len(solutions) == _MOST_WAYS else [list(each) for each in zip(*solutions, strict=True)]
    square = classifier is not None and form is None and classifier[0] == classifier[1]
    return LearnedNames(
        variant=variant,
        table=table,
        rows=tuple(_learned(each, way, own, file) for each, way, own in zip(wanted, best, possible, strict=True)),
        suffixes=file.suffixes,
        roles_by_order=file.roles_by_order,
        form=form,
        doubts=("the classifier is square: whether it is stored transposed is not known",) if square else (),
        reordered=sum(later < earlier for earlier, later in pairwise(_positions(best, order, file))),
    )


def _learned(wanted: _Wanted, way: _Way, possible: Sequence[_Way], file: UnknownFile) -> LearnedRow:
    alone = all(len(file.same[key]) == 1 for key in wanted.kinds)
    is_open = len({each.names for each in possible}) > 1
    evidence: Evidence = "order" if is_open else "shape" if alone else "names"
    others = {each.template for each in possible} - {way.template} if is_open else ()
    return LearnedRow(wanted.row, way.template, evidence, tuple(sorted(others)), way.names)


# --- shapes ----------------------------------------------------------------------------------------------------------


def _form(shape: Shape, features: int) -> str | None:
    """How a classifier weight is stored."""
    if len(shape) == 4:
        return "pointwise"
    return "transposed" if shape[0] == features != shape[1] else None


def _wanted(table: FamilyTable, variant: Variant, classifier: Shape | None, form: str | None) -> list[_Wanted]:
    """The rows that the file can have, with the shapes that it stores."""
    classes = 1 if classifier is None else classifier[1] if form == "transposed" else classifier[0]
    scopes = places(variant.architecture, classes)
    rows = [row for row in table.rows if CANONICAL in row.names and (classifier is not None or row.kind != "linear")]
    return [
        _Wanted(row, scopes[row.each], [_stored_shape(row, place, form) for place in scopes[row.each]]) for row in rows
    ]


def _stored_shape(row: Row, place: Place, form: str | None) -> Shape:
    shape = tuple(int(size) for size in fill_template(row.shape, place).split())
    if row.kind == "linear" and form is not None:
        return shape[::-1] if form == "transposed" else (*shape, 1, 1)
    return shape


def _require_same_shapes(tables: Tables, variant: Variant, file: UnknownFile, rows: Sequence[_Wanted]) -> None:
    got = Counter({key: len(names) for key, names in file.same.items()})
    wanted = Counter(key for row in rows for key in row.kinds)
    if got == wanted:
        return
    lines = [
        f"not expected: {count} {kind} of {show_shape(shape)}, such as {file.same[kind, shape][-1]}"
        for (kind, shape), count in (got - wanted).items()
    ] + [f"missing: {count} {kind} of {show_shape(shape)}" for (kind, shape), count in (wanted - got).items()]
    raise MappingError(
        f"this file does not have the shapes of {variant.id}",
        where=file.where,
        got=shortened(lines),
        next_step=_others_that_fit(tables, variant, got)
        or "--like takes any id, such as res2net152_v1b_w26_s4; --leave-out PATTERN leaves out what is beside it",
    )


def _others_that_fit(tables: Tables, said: Variant, got: Counter[tuple[str, Shape]]) -> str | None:
    """The architectures of the catalogue whose convolutions are those of the file, unless they are those said."""
    convolutions = Counter({shape: count for (kind, shape), count in got.items() if kind == "conv"})
    fitting = [
        variant.id
        for variant in tables.catalog.variants.values()
        if Counter(slot.shape for slot in tables.of(variant).slots if slot.canonical and slot.role == "conv.weight")
        == convolutions
    ]
    if said.id in fitting:
        return None
    return f"its convolutions are those of {' or '.join(fitting)}: --like {fitting[0]}" if fitting else None


# --- the ways to name a row ------------------------------------------------------------------------------------------


def _ways(wanted: _Wanted, file: UnknownFile) -> list[_Way]:
    """Every template that gives a module of the right shape at each of a row's places, in the order of the file."""
    found: dict[str, _Way] = {}
    contrasts = _contrasts(wanted.scope)
    for anchor in file.same[wanted.row.kind, wanted.shapes[0]]:
        for template in _templates(wanted, file, anchor, contrasts):
            if template not in found:
                names = _fill(template, wanted, file)
                if names is not None:
                    found[template] = _Way(template, names)
    # `{stage}` and `{order}` can say the same of a network; the names they give are what counts.
    distinct = {way.names: way for way in reversed(found.values())}.values()
    return sorted(distinct, key=lambda way: file.modules[way.names[0]].position)


def _fill(template: str, wanted: _Wanted, file: UnknownFile) -> tuple[str, ...] | None:
    names = []
    for place, shape in zip(wanted.scope, wanted.shapes, strict=True):
        name = fill_template(template, place)
        module = file.modules.get(name)
        if module is None or (module.kind, module.shape) != (wanted.row.kind, shape):
            return None
        names.append(name)
    return tuple(names) if len(set(names)) == len(names) else None


def _contrasts(scope: Sequence[Place]) -> dict[str, int]:
    """What can be counted -> the first place that differs from the first one in nothing else."""
    found: dict[str, int] = {}
    bases = [base for base in ("stage", "block", "scale") if base in scope[0]]
    for index, place in enumerate(scope):
        differing = [base for base in bases if place[base] != scope[0][base]]
        if len(differing) == 1:
            found.setdefault(differing[0], index)
    return found


def _templates(wanted: _Wanted, file: UnknownFile, anchor: str, contrasts: Mapping[str, int]) -> Iterator[str]:
    """What the name of the first place's module may be a template of, from how the names of others differ."""
    for marked in _marked(anchor, wanted.scope[0]):
        parts = _FIELD.split(marked)
        choices: list[list[tuple[int, ...]]] = []
        for index in contrasts.values():
            differences = {
                difference
                for name in file.same[wanted.row.kind, wanted.shapes[index]]
                for other in _marked(name, wanted.scope[index])
                if (difference := _difference(parts, _FIELD.split(other))) is not None
            }
            choices.append(_smallest(differences))
        for chosen in product(*choices):
            by_base = dict(zip(contrasts, chosen, strict=True))
            yield from _counted(parts, by_base, wanted.scope, contrasts)


def _marked(name: str, place: Place) -> Iterator[str]:
    """A name as it is, and with a word of the place that is text (a block's letter, a tree's path) marked in it."""
    yield name
    for word in ("block_letter", "node", "tree"):
        if word in place:
            pattern = rf"(?<![A-Za-z]){re.escape(str(place[word]))}(?![A-Za-z0-9])"
            for match in re.finditer(pattern, name):
                yield f"{name[: match.start()]}{{{word}}}{name[match.end() :]}"


def _difference(one: Sequence[str], other: Sequence[str]) -> tuple[int, ...] | None:
    """By how much the numbers and letters of one name exceed another's; ``None`` if the rest is not the same."""
    if len(one) != len(other) or one[::2] != other[::2]:
        return None
    differences = []
    for first, second in zip(one[1::2], other[1::2], strict=True):
        if first.isdigit() and second.isdigit():
            differences.append(int(second) - int(first))
        elif len(first) == len(second) == 1 and first.isalpha() and second.isalpha():
            differences.append(ord(second) - ord(first))
        elif first == second:
            differences.append(0)
        else:
            return None
    return tuple(differences) if min(differences, default=0) >= 0 else None


def _smallest(differences: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Those that change no field beyond what another changes: the rest count more than one thing."""
    supports = {each: frozenset(index for index, value in enumerate(each) if value) for each in differences}
    return sorted(
        each for each, own in supports.items() if not any(other < own for other in supports.values() if other)
    )


def _counted(
    parts: Sequence[str], by_base: Mapping[str, tuple[int, ...]], scope: Sequence[Place], contrasts: Mapping[str, int]
) -> Iterator[str]:
    """The templates in which every field that differs counts what makes it differ."""
    choices: list[list[str]] = []
    for field, text in enumerate(parts[1::2]):
        steps = {base: steps[field] for base, steps in by_base.items() if steps[field]}
        choices.append(list(_words(text, steps, scope, contrasts)) if steps else [text])
    if prod(map(len, choices)) == 0:
        return
    for chosen in product(*choices):
        yield "".join(part for pair in zip(parts[::2], (*chosen, ""), strict=True) for part in pair)


def _words(text: str, steps: Mapping[str, int], scope: Sequence[Place], contrasts: Mapping[str, int]) -> Iterator[str]:
    """What a field can count that grows by these steps where a stage, a block or a scale follows."""
    is_letter = not text.isdigit()
    first = scope[0]

    def word(base: str, step: int) -> Iterator[str]:
        index = int(first[base])
        start = (ord(text) - ord("a") if is_letter else int(text)) - index * step
        if start >= 0 and (not is_letter or (step, start) == (1, 0)):
            yield "{" + Count(base, step, start, is_letter).word + "}"

    if len(steps) == 1:
        ((base, step),) = steps.items()
        yield from word(base, step)
        if base == "stage" and "strided" in first:
            yield from word("strided", step)
    if "order" in first and "scale" not in steps:
        further = {base: int(scope[contrasts[base]]["order"]) - int(first["order"]) for base in steps}
        rates = {steps[base] / further[base] for base in steps if further[base]}
        if len(rates) == 1 and (rate := rates.pop()) == int(rate) and (len(steps) == 2 or "block" not in contrasts):
            yield from word("order", int(rate))


# --- all rows together -----------------------------------------------------------------------------------------------


def _solutions(wanted: Sequence[_Wanted], ways: Sequence[Sequence[_Way]], file: UnknownFile) -> list[tuple[_Way, ...]]:
    """Every choice of one way per row that uses no module twice, up to a number that is never met in practice."""
    nameless = [each for each, own in zip(wanted, ways, strict=True) if not own]
    if nameless:
        told = {name for own in ways if len(own) == 1 for name in own[0].names}
        raise _no_pattern([_described(each, file, told) for each in nameless], file.where, nameless[0])
    order = sorted(range(len(wanted)), key=lambda index: len(ways[index]))
    found: list[tuple[_Way, ...]] = []
    chosen: dict[int, _Way] = {}

    def choose(depth: int, taken: frozenset[str]) -> None:
        if len(found) == _MOST_WAYS:
            return
        if depth == len(order):
            found.append(tuple(chosen[index] for index in range(len(wanted))))
            return
        for way in ways[order[depth]]:
            if taken.isdisjoint(way.names):
                chosen[order[depth]] = way
                choose(depth + 1, taken | set(way.names))

    choose(0, frozenset())
    if not found:
        lines = ["each row has one, but no choice of them uses every module once"]
        raise _no_pattern(lines, file.where, wanted[0])
    return found


def _described(wanted: _Wanted, file: UnknownFile, told: Collection[str]) -> str:
    """Which modules follow no pattern: what the row is called in ``mm``, and the names that are left for it."""
    left = [name for kind in dict.fromkeys(wanted.kinds) for name in file.same[kind] if name not in told]
    patterns = dict.fromkeys(re.sub(r"\d+", "*", name) for name in left)
    return f"{len(wanted.scope)} {wanted.row.kind}, in mm {wanted.row.names[CANONICAL]}: {', '.join(patterns)}"


def _no_pattern(lines: Sequence[str], where: str, example: _Wanted) -> MappingError:
    first = fill_template(example.row.names[CANONICAL], example.scope[0])
    return MappingError(
        "names of this file follow no pattern that a table can express",
        where=where,
        expected="numbers or letters that count stages, blocks and splits",
        got="\n            ".join(lines),
        next_step="load the file, rename these so that numbers or letters count stages, blocks and splits "
        f"(in mm, the first of them is {first}), and save it again",
    )


def _network_order(wanted: Sequence[_Wanted]) -> list[tuple[int, int]]:
    """Every place in the order in which the network runs: the index of its row, and its index in the row."""
    indices = {id(each.row): index for index, each in enumerate(wanted)}
    scopes = {each.row.each: each.scope for each in wanted}
    seen: Counter[int] = Counter()
    order = []
    for row, _ in in_network_order([each.row for each in wanted], scopes):
        index = indices[id(row)]
        order.append((index, seen[index]))
        seen[index] += 1
    return order


def _positions(solution: Sequence[_Way], order: Sequence[tuple[int, int]], file: UnknownFile) -> list[int]:
    """Where in the file the modules stand, in the order in which the network runs them."""
    return [file.modules[solution[row].names[place]].position for row, place in order]


def _descents(solution: Sequence[_Way]) -> int:
    """How many pairs of rows with one pattern have falling numbers where the network goes on."""
    parts = [_FIELD.split(way.template) for way in solution]
    return sum(any(_difference(later, earlier) or ()) for earlier, later in combinations(parts, 2))


def _inversions(positions: Sequence[int]) -> int:
    """How far a sequence is from being sorted: the number of pairs in the wrong order."""
    seen: list[int] = []
    total = 0
    for position in positions:
        place = bisect(seen, position)
        total += len(seen) - place
        seen.insert(place, position)
    return total
