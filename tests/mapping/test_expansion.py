"""Tables: each variant and layout is a bijection onto the recorded names, and damage is found with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2convert.catalog import load_catalog
from r2convert.catalog.loading import builtin_folder
from r2convert.errors import CatalogError
from r2convert.mapping.tables import Expansion, FamilyTable, Tables, expand, load_table
from tests.conftest import DATA
from tests.mapping.manifests import recorded

ALL = Tables(load_catalog({}))
EXPANSIONS = [ALL.of(variant) for variant in ALL.catalog.variants.values()]
PAIRS = [
    (expansion, source, target)
    for expansion in EXPANSIONS
    for source in expansion.table.layouts
    for target in expansion.table.layouts
]


def test_every_recorded_layout_is_reproduced_name_by_name_and_shape_by_shape() -> None:
    problems = []
    manifests = recorded(DATA)
    for variant, layout, shapes in manifests:
        expansion = ALL.of(ALL.catalog.find(variant))
        expanded = {name: expansion.shape_in(layout, slot) for name, slot in expansion.names(layout).items()}
        problems += [
            f"{variant} {layout} {name}: {shapes.get(name)} != {expanded.get(name)}"
            for name in shapes.keys() | expanded.keys()
            if shapes.get(name) != expanded.get(name)
        ]
    assert problems == []
    assert len(manifests) == 34


def renaming(expansion: Expansion, source: str, target: str) -> dict[str, str]:
    return {
        slot.names[source]: slot.names[target]
        for slot in expansion.slots
        if source in slot.names and target in slot.names
    }


@given(st.sampled_from(PAIRS))
@settings(deadline=None)
def test_the_way_back_is_the_inverse(pair: tuple[Expansion, str, str]) -> None:
    expansion, source, target = pair
    there = renaming(expansion, source, target)
    back = renaming(expansion, target, source)
    assert {new: old for old, new in there.items()} == back
    assert len(set(there.values())) == len(there)


@given(st.sampled_from(PAIRS), st.data())
@settings(deadline=None)
def test_two_steps_are_one(pair: tuple[Expansion, str, str], drawn: st.DataObject) -> None:
    expansion, source, target = pair
    middle = drawn.draw(st.sampled_from(expansion.table.layouts))
    first, second = renaming(expansion, source, middle), renaming(expansion, middle, target)
    direct = renaming(expansion, source, target)
    composed = {name: second[first[name]] for name in first if first[name] in second}
    assert composed.items() <= direct.items()


def builtin(name: str) -> FamilyTable:
    """A table that comes with the package."""
    return load_table([builtin_folder() / "families" / f"{name}.toml"], ALL.catalog.layouts)


@pytest.mark.parametrize("name", ["res2net", "res2net_v1b", "res2net_dla"])
def test_every_gap_in_a_table_has_its_reason(name: str) -> None:
    table = builtin(name)
    for layout in table.layouts:
        stored = table.facts[layout].suffixes["bn"]
        if "num_batches_tracked" not in stored or any(layout not in row.names for row in table.rows):
            assert table.absent[layout]


def damaged(folder: Path, name: str, old: str, new: str) -> tuple[Path, int]:
    text = (builtin_folder() / "families" / f"{name}.toml").read_text()
    assert old in text
    number = next(index for index, line in enumerate(text.splitlines(), start=1) if old in line)
    path = folder / f"{name}.toml"
    path.write_text(text.replace(old, new, 1))
    return path, number


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '["network",  "bn",     "64", ',
            '["network",  "bn",     "sixty-four", ',
            "'sixty-four' is not the shape of a bn",
        ),
        ('["network",  "conv", ', '["everywhere",  "conv", ', "unknown scope 'everywhere'"),
        ('["network",  "bn", ', '["network",  "batch", ', "unknown kind 'batch'"),
        ('["network",  "bn",     "64",', '["network", ', "a row must be a list of 12 strings"),
        ('"mm", "official", "timm"', '"mm", "offical", "timm"', "unknown layout 'offical'"),
        ('"head.fc",                                     "fc", ', '"head.fc", "", ', "'official' leaves out tensors"),
        ('num_batches_tracked = "0', 'tracked = "0', "unknown name 'tracked'"),
    ],
)
def test_a_damaged_table_is_refused_with_file_and_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    first_line = old.split("\n")[-1]
    text = (builtin_folder() / "families" / "res2net.toml").read_text()
    assert old in text
    path = tmp_path / "res2net.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(CatalogError) as caught:
        load_table([path], ALL.catalog.layouts)
    problem = next(line for line in str(caught.value).splitlines() if message in line)
    assert f"{path}:" in problem
    if message.startswith(("unknown scope", "unknown kind", "'sixty")):
        number = next(index for index, line in enumerate(text.splitlines(), start=1) if first_line in line)
        assert f"{path}:{number}:" in problem


def test_two_rows_with_one_name_are_refused_with_both_lines(tmp_path: Path) -> None:
    path, number = damaged(tmp_path, "res2net", '"layer{stage}.{block}.bn3"', '"layer{stage}.{block}.bn1"')
    with pytest.raises(CatalogError, match=r"calls two tensors 'layer1\.0\.bn1\.weight'") as caught:
        expand(ALL.catalog.find("res2net50"), load_table([path], ALL.catalog.layouts))
    assert f"{path}:{number}" in str(caught.value)


def test_a_word_that_a_scope_does_not_know_is_refused(tmp_path: Path) -> None:
    path, number = damaged(tmp_path, "res2net", "backbone.layer{stage}.{block}.conv3", "backbone.layer{level}.conv3")
    with pytest.raises(CatalogError, match=f":{number}: 'level' is not known for each 'block'"):
        expand(ALL.catalog.find("res2net50"), load_table([path], ALL.catalog.layouts))


def test_a_table_of_another_family_does_not_fit() -> None:
    table = builtin("res2net_dla")
    with pytest.raises(CatalogError, match="does not fit res2net50_w26_s4"):
        expand(ALL.catalog.find("res2net50"), table)


@given(st.integers(min_value=1, max_value=5000))
@settings(max_examples=20, deadline=None)
def test_only_the_classifier_depends_on_the_number_of_classes(classes: int) -> None:
    variant = ALL.catalog.find("res2net50_w48_s2")
    expansion = expand(variant, builtin("res2net"), classes)
    changed = {
        slot.canonical: slot.shape
        for slot, usual in zip(expansion.slots, ALL.of(variant).slots, strict=True)
        if slot.shape != usual.shape
    }
    expected = {"head.fc.weight": (classes, 2048), "head.fc.bias": (classes,)}
    assert changed == (expected if classes != 1000 else {})
