"""A network's geometry, read off the names and shapes of a file with a family's table.

Depth, width, scales, cardinality and channels of the input are read; nothing is checked here: whoever reads expands the
network and compares it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from r2convert.catalog.catalog import Catalog
from r2convert.catalog.geometry import counted, read_template
from r2convert.catalog.variant import STANDARD_STAGES, Architecture, DlaArchitecture, StagedArchitecture
from r2convert.mapping.tables import FamilyTable

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_STAGES = 4
_MOST_BLOCKS = 500
_MOST_SCALES = 64


def show_shape(shape: Shape) -> str:
    """A shape as people write it."""
    return "x".join(map(str, shape)) or "scalar"


def read_architecture(catalog: Catalog, table: FamilyTable, layout: str, shapes: Shapes) -> Architecture | None:
    """Read a network's geometry off names and shapes; ``None`` if they are not those of the table's layout."""
    splits = _read_rows(table, layout, "split", shapes)
    if not splits:
        return None
    channels = _input_channels(table, layout, shapes)
    width, group = splits[0][1][:2] if len(splits[0][1]) == 4 else (0, 0)
    if channels is None or not group or width % group:
        return None
    numbers = [counted(words, "scale") for words, _ in splits]
    scales = 2 + max(number or 0 for number in numbers)
    if scales > _MOST_SCALES or -1 in numbers:
        return None
    if any(row.each == "root" for row in table.rows):
        return _read_dla(table, layout, shapes, splits, scales, channels)
    stages = _stages(splits)
    if len(stages) != _STAGES or max(len(blocks) for blocks, _ in stages) > _MOST_BLOCKS:
        return None
    width, group = stages[0][1][:2]
    counts = tuple(len(blocks) for blocks, _ in stages)
    semantics = next(
        (each.families[table.family] for each in catalog.programs.values() if table.family in each.families), None
    )
    if semantics is None:
        return _declared(catalog, table.family, (counts, scales, width, group, channels))
    return StagedArchitecture(
        family=table.family,
        depth=_depth(counts),
        stage_blocks=counts,  # type: ignore[arg-type]
        base_width=width // (width // group),
        scales=scales,
        cardinality=width // group,
        in_channels=channels,
        **semantics.computed,  # type: ignore[arg-type]
    )


def _stages(splits: Sequence[tuple[Mapping[str, str], Shape]]) -> list[tuple[set[str], Shape]]:
    """For each stage, what its blocks are called and how large its splits are.

    Names that count blocks through the whole network do not say where a stage begins: the splits' size does.
    """
    stages: dict[int, tuple[set[str], Shape]] = {}
    by_order = sorted(splits, key=lambda split: counted(split[0], "order") or 0)
    current, before = -1, None
    for words, shape in by_order:
        block = words.get("block_letter") or f"{counted(words, 'block')} {counted(words, 'order')}"
        current += shape != before
        before = shape
        number = counted(words, "stage")
        stages.setdefault(current if number is None else number, (set(), shape))[0].add(block)
    return [stages[number] for number in sorted(stages)] if set(stages) == set(range(len(stages))) else []


def _declared(catalog: Catalog, family: str, read: tuple[object, ...]) -> Architecture | None:
    """The architecture of a mapping file in a family that no program is said to build."""
    for variant in catalog.variants.values():
        each = variant.architecture
        if isinstance(each, StagedArchitecture) and each.family == family:
            width = each.base_width * each.cardinality
            if read == (each.stage_blocks, each.scales, width, each.base_width, each.in_channels):
                return each
    return None


def _read_dla(
    table: FamilyTable,
    layout: str,
    shapes: Shapes,
    splits: list[tuple[dict[str, str], Shape]],
    scales: int,
    in_channels: int,
) -> DlaArchitecture | None:
    """Read the geometry of a network of trees: a block's path says how deep its level's tree is."""
    levels, channels = [1, 1], [0, 0]
    for row in table.rows:
        name = tensor_name(table, row.names.get(layout), row.kind, layout)
        for level in (0, 1):
            if row.kind == "conv" and row.shape.startswith(f"{{channels{level}}} ") and name in shapes:
                channels[level] = shapes[name][0]
    for words, shape in _read_rows(table, layout, "root", shapes):
        parts = words["tree"].split(".")
        level = int(parts[0].removeprefix("level")) if parts[0].removeprefix("level").isdigit() else 0
        if level == len(levels):
            levels.append(len(parts))
            channels.append(shape[0])
        elif level == len(levels) - 1 and level > 1:
            levels[level] = max(levels[level], len(parts))
    if len(levels) != 6 or 0 in channels:
        return None
    # Of the widest level: a narrow one rounds its width down.
    width, group = max(shape for _, shape in splits)[:2]
    cardinality, expansion = width // group, 2
    planes = channels[-1] // expansion
    return DlaArchitecture(
        family=table.family,
        levels=tuple(levels),  # type: ignore[arg-type]
        channels=tuple(channels),  # type: ignore[arg-type]
        base_width=64 * group // planes if planes else 0,
        scales=scales,
        cardinality=cardinality,
        expansion=expansion,
        in_channels=in_channels,
    )


def _read_rows(table: FamilyTable, layout: str, scope: str, shapes: Shapes) -> list[tuple[dict[str, str], Shape]]:
    """The words that a scope's convolution fills its row with, and the shapes, in the order of the file."""
    for row in table.rows:
        template = tensor_name(table, row.names.get(layout), row.kind, layout)
        if row.each == scope and row.kind == "conv" and template:
            return [
                (words, shape) for name, shape in shapes.items() if (words := read_template(template, name)) is not None
            ]
    return []


def _input_channels(table: FamilyTable, layout: str, shapes: Shapes) -> int | None:
    for row in table.rows:
        name = tensor_name(table, row.names.get(layout), row.kind, layout)
        if "{in_channels}" in row.shape:
            shape = shapes.get(name, ())
            return shape[1] if len(shape) == 4 else None
    return None


def tensor_name(table: FamilyTable, module: str | None, kind: str, layout: str) -> str:
    """The template of a module's weight in a layout; empty where the layout has no such module."""
    return f"{module}{table.facts[layout].suffixes[kind]['weight']}" if module else ""


def _depth(stage_blocks: tuple[int, ...]) -> int:
    """The depth in a network's name: three convolutions a block, the stem and the classifier."""
    for depth, usual in STANDARD_STAGES.items():
        if usual == stage_blocks:
            return depth
    return 3 * sum(stage_blocks) + 2
