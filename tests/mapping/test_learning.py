"""Learning a layout: the names are right, or it is said exactly which modules could not be told apart."""

from __future__ import annotations

import pytest

from r2convert.mapping.learning import LearnedNames, LearnedRow, learn
from r2convert.mapping.tables import Tables

Shapes = dict[str, tuple[int, ...]]

LIKE = [
    "res2net50_w26_s4",
    "res2net50_w48_s2",
    "res2net50_w14_s8",
    "res2next50_w4_s4_c8",
    "res2net101_v1b_w26_s4",
    "res2net200_vd_w26_s4",
    "res2net152_v1b_w26_s4",
    "res2net50_paddledet_w26_s4",
]

# Reduction, norm of it, splits, their norms, expansion, norm of it, shortcut, norm of it; and the words for them.
INVENTED = {
    "numbers": ("s{stage}.u{block}.", "down", "down_n", "br{scale}.k", "br{scale}.n", "up", "up_n", "skip.k", "skip.n"),
    "letters": ("g{stage}{block_a}/", "c1", "n1", "{scale_a}/c", "{scale_a}/n", "c2", "n2", "p/c", "p/n"),
    "whole network": ("unit_{order}.", "c1", "n1", "mid.{twice}", "mid.{twice_and_1}", "c3", "n3", "id.0", "id.1"),
    "lists": ("body.{stage4}.{block}.", "ops.0", "ops.1", "ops.2.{scale}.0", "ops.2.{scale}.1", "ops.3", "ops.4",
              "ops.5", "ops.6"),
}  # fmt: skip
SUFFIXES = {
    "plain": {"weight": "kernel", "bias": "shift", "running_mean": "mu", "running_var": "sigma2"},
    "in another order": {"running_var": "variance", "running_mean": "mean", "bias": "beta", "weight": "gamma"},
    "that say nothing": {"weight": "p0", "bias": "p1", "running_mean": "p2", "running_var": "p3"},
}


def invented(tables: Tables, like: str, names: str, suffixes: dict[str, str]) -> tuple[Shapes, dict[str, str]]:
    """A file of a code base that nobody has, and what each of its tensors is called by the reference network."""
    separator = "/" if names == "letters" else "."
    prefix, conv1, bn1, convs, bns, conv3, bn3, down, down_bn = INVENTED[names]
    words = {"conv1": conv1, "bn1": bn1, "convs": convs, "bns": bns, "conv3": conv3, "bn3": bn3}
    expansion = tables.of(tables.catalog.find_architecture(like))
    shapes: Shapes = {}
    meaning = {}
    order: dict[tuple[str, str], int] = {}
    for slot in expansion.slots:
        if slot.canonical is None or slot.is_counter:
            continue
        module, _, _ = slot.canonical.rpartition(".")
        kind, role = slot.role.split(".")
        if module.startswith("backbone.layer"):
            stage, block, part, *scale = module.removeprefix("backbone.layer").split(".")
            index = int(scale[0]) if scale else 0
            template = (down if kind == "conv" else down_bn) if part == "downsample" else words[part]
            name = (prefix + template).format(
                stage=stage,
                stage4=int(stage) + 3,
                block=block,
                block_a=chr(ord("a") + int(block)),
                order=order.setdefault((stage, block), len(order)),
                scale=index,
                scale_a=chr(ord("a") + index),
                twice=2 * index,
                twice_and_1=2 * index + 1,
            )
        else:
            name = module.replace("backbone.", "begin.").replace("head.fc", "end")
        name = name.replace(".", separator)
        suffix = suffixes.get(role, role) if kind == "bn" else {"weight": "kernel", "bias": "offset"}[role]
        shapes[f"{name}{separator}{suffix}"] = slot.shape
        meaning[f"{name}{separator}{suffix}"] = slot.canonical
    if list(suffixes) != list(SUFFIXES["plain"]):
        # As a program registers them whose BatchNorms have their statistics first, and all of them at the end.
        ends = tuple(suffixes.values())
        place = {name: ends.index(end) for name in shapes if (end := name.rpartition(separator)[2]) in ends}
        shapes = dict(sorted(shapes.items(), key=lambda each: place.get(each[0], -1)))
    return shapes, meaning


def meant(learned: LearnedNames) -> dict[str, str]:
    """Tensor of the file -> the reference network's name for it, as learned."""
    found = {}
    modules: dict[str, LearnedRow] = {}
    for row in learned.rows:
        modules |= dict.fromkeys(row.modules, row)
    expanded = learned.canonical_modules()
    for module, canonical in expanded.items():
        for role, suffix in learned.suffixes[modules[module].row.kind].items():
            found[module + suffix] = f"{canonical}.{role}"
    return found


@pytest.mark.parametrize("like", LIKE)
def test_the_names_of_every_layout_are_learned_from_one_file(tables: Tables, like: str) -> None:
    expansion = tables.of(tables.catalog.find_architecture(like))
    for layout in expansion.table.layouts:
        names = expansion.names(layout)
        learned = learn(
            tables, expansion.variant, {each: expansion.shape_in(layout, names[each]) for each in names}, "f"
        )
        assert {name: names[name].canonical for name in names} == meant(learned)
        assert learned.form == expansion.table.forms.get(layout)
        stem = [name for name, slot in names.items() if slot.role == "bn.weight" and slot.shape == (32,)]
        # Of all modules, only the two equal BatchNorms of a deep stem are told by nothing but their order.
        assert [len(group) for group in learned.undecided()] == ([2] if len(stem) == 2 else [])
        assert learned.roles_by_order == ()


@pytest.mark.parametrize("suffixes", SUFFIXES)
@pytest.mark.parametrize("names", INVENTED)
@pytest.mark.parametrize("like", ["res2net50_w26_s4", "res2net101_v1b_w26_s4", "res2net50_w14_s8"])
def test_an_invented_code_base_is_learned(tables: Tables, like: str, names: str, suffixes: str) -> None:
    shapes, meaning = invented(tables, like, names, SUFFIXES[suffixes])
    learned = learn(tables, tables.catalog.find(like), shapes, "file")
    assert meant(learned) == meaning
    told = suffixes != "that say nothing"
    assert learned.roles_by_order == (() if told else ("weight", "bias", "running_mean", "running_var"))
