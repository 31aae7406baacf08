"""Learning a layout: the names are right, or it is said exactly which modules could not be told apart."""

from __future__ import annotations

import pytest

from r2convert.errors import MappingError
from r2convert.mapping.learning import LearnedNames, LearnedRow, learn
from r2convert.mapping.tables import Tables

Shapes = dict[str, tuple[int, ...]]

LIKE = [
    "res2net50_w26_s4",
    "res2net50_w48_s2",
    "res2net50_w14_s8",
    "res2next50_w4_s4_c8",
    "res2net101_v1b_w26_s4",
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


@pytest.mark.parametrize("names", INVENTED)
@pytest.mark.parametrize("like", ["res2net50_w26_s4", "res2net101_v1b_w26_s4", "res2net50_w14_s8"])
def test_an_invented_code_base_is_learned(tables: Tables, like: str, names: str) -> None:
    shapes, meaning = invented(tables, like, names, SUFFIXES["plain"])
    learned = learn(tables, tables.catalog.find(like), shapes, "file")
    assert meant(learned) == meaning
    assert learned.roles_by_order == ()


@pytest.mark.parametrize("suffixes", SUFFIXES)
def test_what_suffixes_do_not_say_is_said_to_rest_on_their_order(tables: Tables, suffixes: str) -> None:
    shapes, meaning = invented(tables, "res2net50_w26_s4", "numbers", SUFFIXES[suffixes])
    learned = learn(tables, tables.catalog.find("res2net50_w26_s4"), shapes, "file")
    assert meant(learned) == meaning
    told = suffixes != "that say nothing"
    assert learned.roles_by_order == (() if told else ("weight", "bias", "running_mean", "running_var"))


def official(tables: Tables, like: str) -> Shapes:
    """Names and shapes of a network in official names, without counters."""
    slots = tables.of(tables.catalog.find_architecture(like)).names("official").items()
    return {name: slot.shape for name, slot in slots if not slot.is_counter}


@pytest.mark.parametrize("is_reversed", [False, True])
def test_modules_that_only_their_order_tells_apart_are_all_named(tables: Tables, is_reversed: bool) -> None:
    # With 64 channels a split, both BatchNorms around the splits have as many channels as the block's output.
    words = {"bn1": "alpha", "bn3": "omega"}
    shapes = {}
    for name, shape in official(tables, "res2net50_w64_s4").items():
        parts = name.split(".")
        shapes[".".join(words.get(part, part) if len(parts) > 2 else part for part in parts)] = shape
    if is_reversed:
        shapes = dict(reversed(shapes.items()))
    learned = learn(tables, tables.catalog.find_architecture("res2net50_w64_s4"), shapes, "file")
    (group,) = learned.undecided()
    assert set(group) == {
        name.removesuffix(".weight") for name in shapes if name.endswith(("alpha.weight", "omega.weight"))
    }
    told = {row.row.names["official"]: (row.name, row.evidence) for row in learned.rows}
    assert told["layer{stage}.{block}.conv1"] == ("layer{stage}.{block}.conv1", "names")
    guessed = [told[f"layer{{stage}}.{{block}}.{part}"] for part in ("bn1", "bn3")]
    expected = ["layer{stage}.{block}.alpha", "layer{stage}.{block}.omega"]
    assert guessed == [(name, "order") for name in (reversed(expected) if is_reversed else expected)]


def test_rising_numbers_weigh_more_than_the_order_of_the_file(tables: Tables) -> None:
    like = tables.catalog.find("res2net50_v1b_w26_s4")
    learned = learn(tables, like, dict(reversed(official(tables, like.id).items())), "file")
    assert [row.name for row in learned.rows] == [
        row.row.names["official"].replace("{block}.downsample", "0.downsample") for row in learned.rows
    ]
    assert learned.undecided() == [("conv1.1", "conv1.4")]


def test_names_that_count_nothing_are_named_and_refused(tables: Tables) -> None:
    words = {"0": "left", "1": "middle", "2": "right"}
    shapes = {}
    for name, shape in official(tables, "res2net50_w26_s4").items():
        parts = name.split(".")
        shapes[".".join([*parts[:3], words.get(parts[3], parts[3]), *parts[4:]]) if len(parts) > 4 else name] = shape
    with pytest.raises(MappingError, match="follow no pattern that a table can express") as caught:
        learn(tables, tables.catalog.find("res2net50_w26_s4"), shapes, "file")
    assert [line.strip() for line in (caught.value.got or "").splitlines()] == [
        f"48 {kind}, in mm backbone.layer{{stage}}.{{block}}.{name}.{{scale}}: "
        f"layer*.*.{name}.left, layer*.*.{name}.middle, layer*.*.{name}.right"
        for kind, name in (("conv", "convs"), ("bn", "bns"))
    ]
    assert "rename these so that numbers or letters count stages, blocks and splits" in (caught.value.next_step or "")
    # And if that is done, it is learned: any three numbers that rise do.
    counted = {word: str(7 + index) for index, word in enumerate(words.values())}
    renamed = {".".join(counted.get(part, part) for part in name.split(".")): shape for name, shape in shapes.items()}
    learned = learn(tables, tables.catalog.find("res2net50_w26_s4"), renamed, "file")
    assert "layer{stage}.{block}.convs.{scale_from_7}" in [row.name for row in learned.rows]


@pytest.mark.parametrize("form", ["transposed", "pointwise"])
def test_how_the_classifier_is_stored_is_told_by_its_shape(tables: Tables, form: str) -> None:
    shapes = official(tables, "res2net50_w26_s4")
    shapes["fc.weight"] = (2048, 7) if form == "transposed" else (7, 2048, 1, 1)
    shapes["fc.bias"] = (7,)
    assert learn(tables, tables.catalog.find("res2net50_w26_s4"), shapes, "file").form == form
    del shapes["fc.weight"], shapes["fc.bias"]
    assert learn(tables, tables.catalog.find("res2net50_w26_s4"), shapes, "file").form is None


def test_a_square_classifier_is_a_doubt(tables: Tables) -> None:
    shapes = official(tables, "res2net50_w26_s4")
    shapes["fc.weight"], shapes["fc.bias"] = (2048, 2048), (2048,)
    (doubt,) = learn(tables, tables.catalog.find("res2net50_w26_s4"), shapes, "file").doubts
    assert doubt == "the classifier is square: whether it is stored transposed is not known"


def test_what_lies_beside_the_network_is_to_be_left_out(tables: Tables) -> None:
    shapes = official(tables, "res2net50_w26_s4") | {"classifier.weight": (10, 2048), "classifier.bias": (10,)}
    with pytest.raises(MappingError) as caught:
        learn(tables, tables.catalog.find("res2net50_w26_s4"), shapes, "file")
    assert "--leave-out PATTERN leaves out what is beside it" in str(caught.value.next_step)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"se.fc.weight": (16, 256)}, "not a convolution, BatchNorm or classifier"),
        ({"neck.weight": (256, 256, 1, 1)}, "not expected: 1 conv of 256x256x1x1"),
        ({"layer2.0.conv1.weight": (208, 256, 3, 3)}, "missing: 1 conv of 208x256x1x1"),
        ({"layer2.0.bn1.more": (208,)}, "not a convolution, BatchNorm or classifier"),
        ({"layer{stage}.weight": (64, 3, 7, 7)}, "names with braces"),
    ],
)
def test_what_does_not_belong_is_named(tables: Tables, change: Shapes, message: str) -> None:
    shapes = official(tables, "res2net50_w26_s4") | change
    with pytest.raises(MappingError) as caught:
        learn(tables, tables.catalog.find("res2net50_w26_s4"), shapes, "file")
    assert message in str(caught.value)
