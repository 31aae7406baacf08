"""Where the modules of a network are, and how large: the numbers that fill a family table's placeholders.

A *scope* is a kind of place that a table row can stand for (the network as a whole, every block, every split
of every block ...). Each place gives the placeholders of its row: indices for names, channel counts for
shapes, and ``order``: where in the network it is. Everything is derived from the variant's facts; the formulas
are those of the paper (arXiv 1904.01169) and of deep layer aggregation (arXiv 1707.06484).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from msgspec import Struct
from msgspec.structs import replace

from r2convert.catalog.variant import Architecture, DlaArchitecture, StagedArchitecture

Place = Mapping[str, str | int]

STAGE_PLANES = (64, 128, 256, 512)
STAGED_EXPANSION = 4
STEM_CHANNELS = 64
PLANES_OF_BASE_WIDTH = 64
"""``base_width`` is the width of a split at this many planes."""

SCOPES_OF_STAGED = ("network", "block", "split", "shortcut")
SCOPES_OF_DLA = ("network", "block", "split", "root", "project", "unreachable")


_PLACEHOLDER = re.compile(r"\{([a-z_0-9]+)\}")
_COUNTED = re.compile(r"(stage|block|scale|order|strided)(_as_letter)?(?:_by_([1-9]\d*))?(?:_from_(\d+))?")
_TEXT_WORDS = ("block_letter", "node", "tree")
"""Words of a place that stand for text; the others stand for digits, or one letter (``scale_as_letter``)."""


class Count(Struct, frozen=True):
    """A word that counts places: ``scale_from_1`` counts splits from 1, ``scale_by_2_from_1`` 1, 3, 5 ...

    Args:
        base: what is counted: ``stage``, ``block`` (within its stage), ``scale``, ``order`` (blocks of the whole
            network) or ``strided`` (0 or 1: whether the block has a stride).
        step: the increment of the number.
        start: the number of the first.
        is_letter: whether the number is written as a letter: a, b, c ...
    """

    base: str
    step: int = 1
    start: int = 0
    is_letter: bool = False

    @property
    def word(self) -> str:
        """The word as a template has it."""
        if self.is_letter:
            return f"{self.base}_as_letter"
        steps = f"_by_{self.step}" if self.step > 1 else ""
        usual = self.start == _FIRST.get(self.base, 0) and not steps
        return f"{self.base}{steps}" + ("" if usual else f"_from_{self.start}")

    def text(self, index: int) -> str:
        """The text for one of those counted; ``index`` is 0 for the first."""
        return chr(ord("a") + index) if self.is_letter else str(index * self.step + self.start)

    def index(self, text: str) -> int:
        """The inverse of :meth:`text`; -1 for what it never writes."""
        index, rest = (ord(text) - ord("a"), 0) if self.is_letter else divmod(int(text) - self.start, self.step)
        return index if rest == 0 else -1


_FIRST = {"stage": 1}
"""Counters that start at another number than 0 unless they say otherwise."""


@cache
def count_of(word: str) -> Count | None:
    """What a word counts; ``None`` for a word that does not count (``in``, ``block_letter``, ``node``)."""
    match = _COUNTED.fullmatch(word)
    if match is None or (match[2] and (match[3] or match[4])):
        return None
    start = int(match[4]) if match[4] else 0 if match[3] else _FIRST.get(match[1], 0)
    return Count(match[1], int(match[3] or 1), start, bool(match[2]))


def fill_template(template: str, place: Place) -> str:
    """A template with its placeholders replaced.

    Raises:
        KeyError: the place has no such placeholder.
    """
    return "".join(
        literal + (str(place[word]) if count is None else count.text(int(place[count.base]))) if word else literal
        for literal, word, count in _parts(template)
    )


@cache
def _parts(template: str) -> tuple[tuple[str, str, Count | None], ...]:
    """A template's literals, each with the word behind it (none behind the last) and what that counts."""
    split = [*_PLACEHOLDER.split(template), ""]
    return tuple((literal, word, count_of(word)) for literal, word in zip(split[::2], split[1::2], strict=True))


def placeholders(template: str) -> frozenset[str]:
    """The placeholder words of a template."""
    return frozenset(_PLACEHOLDER.findall(template))


def unknown_words(template: str, place: Place) -> list[str]:
    """The words of a template that a place cannot fill."""
    bases = {word: count.base if (count := count_of(word)) else word for word in placeholders(template)}
    return sorted(word for word, base in bases.items() if base not in place)


def read_template(template: str, text: str) -> dict[str, str] | None:
    """The words that fill a template to make a text: the inverse of :func:`fill_template`.

    >>> read_template("layer{stage}.{block}.conv1", "layer3.22.conv1")
    {'stage': '3', 'block': '22'}
    """
    return _reader(template)(text)


def counted(words: Mapping[str, str], base: str) -> int | None:
    """The index of what is counted, from the words read off a name; ``None`` if they do not count it."""
    found = _counting(tuple(words), base)
    return found[1].index(words[found[0]]) if found else None


@cache
def _counting(words: tuple[str, ...], base: str) -> tuple[str, Count] | None:
    counts = ((word, count_of(word)) for word in words)
    return next(((word, count) for word, count in counts if count is not None and count.base == base), None)


@cache
def _reader(template: str) -> Callable[[str], dict[str, str] | None]:
    literals = _PLACEHOLDER.split(template)
    first, last = literals[0], literals[-1]
    parts = [
        re.escape(part) if index % 2 == 0 else _group(part, literals[1:index:2]) for index, part in enumerate(literals)
    ]
    pattern = re.compile("".join(parts))

    def read(text: str) -> dict[str, str] | None:
        # Most names of a file belong to other rows: two comparisons rule them out.
        if not (text.startswith(first) and text.endswith(last)):
            return None
        found = pattern.fullmatch(text)
        return found.groupdict() if found else None

    return read


def _group(word: str, before: Sequence[str]) -> str:
    if word in before:
        return f"(?P={word})"
    if word == WITHIN:
        return f"(?P<{word}>(?:.*\\.)?)"
    if word in _TEXT_WORDS:
        return f"(?P<{word}>[a-z][a-z0-9.]*)"
    return f"(?P<{word}>{'[a-z]' if word.endswith('_as_letter') else '[0-9]+'})"


WITHIN = "within"
"""In the name by which another network is recognised: any prefix of its modules, or none."""


class Tree(Struct, frozen=True):
    """One aggregation tree of a DLA network.

    Args:
        path: its module path, e.g. ``level3.tree1``.
        levels: how deep it is; a tree of one level holds two blocks, a deeper one two trees.
        in_channels: channels of its input.
        out_channels: channels of its output.
        root_channels: channels its root concatenates (trees of one level only, else 0).
        stride: by how much it shrinks its input.
        is_level_root: whether its (pooled) input joins the children that its root sees.
    """

    path: str
    levels: int
    in_channels: int
    out_channels: int
    root_channels: int
    stride: int
    is_level_root: bool = False


def split_width(planes: int, base_width: int, cardinality: int) -> int:
    """Channels of one split of a block."""
    return planes * base_width // PLANES_OF_BASE_WIDTH * cardinality


def places(architecture: Architecture, classes: int) -> dict[str, tuple[Place, ...]]:
    """Every scope of a network with its places, in network order.

    Args:
        architecture: the network's facts.
        classes: outputs of the classifier.
    """
    if isinstance(architecture, StagedArchitecture):
        return _staged_places(architecture, classes)
    return _dla_places(architecture, classes)


def _staged_places(architecture: StagedArchitecture, classes: int) -> dict[str, tuple[Place, ...]]:
    blocks = tuple(_staged_blocks(architecture))
    features = STAGE_PLANES[-1] * STAGED_EXPANSION
    return {
        "network": ({"order": 0, "classes": classes, "features": features, "in_channels": architecture.in_channels},),
        "block": blocks,
        "split": _splits(blocks, architecture.scales),
        "shortcut": tuple(block for block in blocks if block["block"] == 0),
    }


def _staged_blocks(architecture: StagedArchitecture) -> Iterator[Place]:
    in_channels = STEM_CHANNELS
    order = 0
    for stage, (planes, count) in enumerate(zip(STAGE_PLANES, architecture.stage_blocks, strict=True)):
        width = split_width(planes, architecture.base_width, architecture.cardinality)
        out_channels = planes * STAGED_EXPANSION
        for block in range(count):
            yield {
                "order": order,
                "stage": stage,
                "block": block,
                "block_letter": _block_letter(architecture.depth, stage, block),
                "in": in_channels,
                "width": width,
                "group": width // architecture.cardinality,
                "split": width * architecture.scales,
                "out": out_channels,
                "stride": 2 if block == 0 and stage > 0 else 1,
                "strided": int(block == 0 and stage > 0),
                "kind": "normal" if block else ("stage" if stage else architecture.first_block),
            }
            in_channels = out_channels
            order += 1


_LONG_DEPTHS = (101, 152, 200)


def _block_letter(depth: int, stage: int, block: int) -> str:
    """A block's letter in the Caffe-style names that Paddle kept: a, b, c ...; a, b1, b2 ... in long stage 3."""
    if depth in _LONG_DEPTHS and stage == 2:
        return "a" if block == 0 else f"b{block}"
    return chr(ord("a") + block)


def _splits(blocks: Sequence[Place], scales: int) -> tuple[Place, ...]:
    return tuple({**block, "scale": scale} for block in blocks for scale in range(scales - 1))


def dla_trees(architecture: DlaArchitecture) -> tuple[Tree, ...]:
    """Every tree of a DLA network, each before the trees inside it."""
    found: list[Tree] = []
    channels = architecture.channels
    for level in range(2, len(channels)):
        # Level 2 has no level root: its input does not join the children.
        _walk(
            found,
            Tree(f"level{level}", architecture.levels[level], channels[level - 1], channels[level], 0, 2, level > 2),
            inherited=channels[level - 1] if level > 2 else 0,
        )
    return tuple(found)


def _walk(found: list[Tree], tree: Tree, inherited: int) -> None:
    """Add a tree and those inside it; ``inherited`` counts the channels of the children handed to its root."""
    out = tree.out_channels
    if tree.levels == 1:
        found.append(replace(tree, root_channels=2 * out + inherited))
        return
    found.append(tree)
    _walk(found, Tree(f"{tree.path}.tree1", tree.levels - 1, tree.in_channels, out, 0, tree.stride), 0)
    _walk(found, Tree(f"{tree.path}.tree2", tree.levels - 1, out, out, 0, 1), inherited + out)


def _dla_places(architecture: DlaArchitecture, classes: int) -> dict[str, tuple[Place, ...]]:
    trees = dla_trees(architecture)
    # A tree's place is followed by those of its two blocks and of its root.
    order = {tree.path: 4 * index for index, tree in enumerate(trees)}
    leaves = tuple(tree for tree in trees if tree.levels == 1)
    projected = tuple(tree for tree in trees if tree.in_channels != tree.out_channels)
    blocks = tuple(block for tree in leaves for block in _dla_blocks(architecture, tree, order[tree.path]))
    channels = {f"channels{level}": count for level, count in enumerate(architecture.channels)}
    return {
        "network": (
            {
                "order": 0,
                "classes": classes,
                "features": architecture.channels[-1],
                "in_channels": architecture.in_channels,
                **channels,
            },
        ),
        "block": blocks,
        "split": _splits(blocks, architecture.scales),
        "root": tuple(_tree_place(tree, order[tree.path] + 3, tree.root_channels) for tree in leaves),
        "project": tuple(_tree_place(tree, order[tree.path]) for tree in projected if tree.levels == 1),
        "unreachable": tuple(_tree_place(tree, order[tree.path]) for tree in projected if tree.levels > 1),
    }


def _dla_blocks(architecture: DlaArchitecture, tree: Tree, order: int) -> Iterator[Place]:
    planes = tree.out_channels // architecture.expansion
    width = split_width(planes, architecture.base_width, architecture.cardinality)
    for index, in_channels, stride in ((1, tree.in_channels, tree.stride), (2, tree.out_channels, 1)):
        yield {
            "order": order + index,
            "node": f"{tree.path}.tree{index}",
            "in": in_channels,
            "width": width,
            "group": width // architecture.cardinality,
            "split": width * architecture.scales,
            "out": tree.out_channels,
            "stride": stride,
            "kind": "stage" if stride > 1 else "normal",
        }


def _tree_place(tree: Tree, order: int, in_channels: int | None = None) -> Place:
    return {"order": order, "tree": tree.path, "in": in_channels or tree.in_channels, "out": tree.out_channels}
