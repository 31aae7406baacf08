"""Where the modules of a network are, and how large: the numbers that fill a family table's placeholders.

A *scope* is a kind of place that a table row can stand for (the network as a whole, every block, every split
of every block ...). Each place gives the placeholders of its row: indices for names, channel counts for
shapes, and ``order``: where in the network it is. Everything is derived from the variant's facts; the formulas
are those of the paper (arXiv 1904.01169) and of deep layer aggregation (arXiv 1707.06484).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

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
_TEXT_WORDS = ("block_letter", "node", "tree")
"""Words that stand for text; all others stand for digits."""


def fill_template(template: str, place: Mapping[str, str | int]) -> str:
    """A template with its placeholders replaced.

    Raises:
        KeyError: the place has no such placeholder.
    """
    return _PLACEHOLDER.sub(lambda match: str(place[match.group(1)]), template)


def placeholders(template: str) -> frozenset[str]:
    """The placeholder words of a template."""
    return frozenset(_PLACEHOLDER.findall(template))


def read_template(template: str, text: str) -> dict[str, str] | None:
    """The words that fill a template to make a text: the way back from :func:`fill_template`.

    >>> read_template("layer{stage}.{block}.conv1", "layer3.22.conv1")
    {'stage': '3', 'block': '22'}
    """
    return _reader(template)(text)


@cache
def _reader(template: str) -> Callable[[str], dict[str, str] | None]:
    literals = _PLACEHOLDER.split(template)
    first, last = literals[0], literals[-1]
    parts = [
        re.escape(part) if index % 2 == 0 else _group(part, literals[1:index:2]) for index, part in enumerate(literals)
    ]
    pattern = re.compile("".join(parts))

    def read(text: str) -> dict[str, str] | None:
        # Most names of a file are not of this row: two comparisons say so.
        if not (text.startswith(first) and text.endswith(last)):
            return None
        found = pattern.fullmatch(text)
        return found.groupdict() if found else None

    return read


def _group(word: str, before: Sequence[str]) -> str:
    if word in before:
        return f"(?P={word})"
    return f"(?P<{word}>{'[a-z][a-z0-9.]*' if word in _TEXT_WORDS else '[0-9]+'})"


@dataclass(frozen=True, slots=True)
class Tree:
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
    for stage, (planes, count) in enumerate(zip(STAGE_PLANES, architecture.stage_blocks, strict=True), start=1):
        width = split_width(planes, architecture.base_width, architecture.cardinality)
        out_channels = planes * STAGED_EXPANSION
        for block in range(count):
            yield {
                "order": order,
                "stage": stage,
                "stage_from_0": stage - 1,
                "stage_from_2": stage + 1,
                "block": block,
                "block_letter": _block_letter(architecture.depth, stage, block),
                "in": in_channels,
                "width": width,
                "group": width // architecture.cardinality,
                "split": width * architecture.scales,
                "out": out_channels,
                "stride": 2 if block == 0 and stage > 1 else 1,
                "kind": "normal" if block else (architecture.first_block if stage == 1 else "stage"),
            }
            in_channels = out_channels
            order += 1


_LONG_DEPTHS = (101, 152, 200)


def _block_letter(depth: int, stage: int, block: int) -> str:
    """A block's letter in the Caffe-style names that Paddle kept: a, b, c ...; a, b1, b2 ... in long stage 3."""
    if depth in _LONG_DEPTHS and stage == 3:
        return "a" if block == 0 else f"b{block}"
    return chr(ord("a") + block)


def _splits(blocks: Sequence[Place], scales: int) -> tuple[Place, ...]:
    return tuple(
        {**block, "scale": scale, "scale_from_1": scale + 1} for block in blocks for scale in range(scales - 1)
    )


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
