"""Conversions: real files in, real files out, equal tensors, and nothing left behind when something is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from r2convert.catalog import load_catalog
from r2convert.catalog.variant import Variant
from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import AccessError, CorruptCheckpointError, MappingError, OutputExistsError, UsageError
from r2convert.mapping.conversion import Conversion, convert
from r2convert.mapping.identity import resolve
from r2convert.mapping.plan import make_plan
from r2convert.mapping.receipt import read_receipt, receipt_path
from r2convert.mapping.tables import Tables
from r2convert.mapping.values import read_values
from tests.conftest import Standin

SMALLEST = "res2net_dla60_w28_s4"


def run(tables: Tables, source: Path, destination: Path, target: str, **options: Any) -> Conversion:
    with open_checkpoint(source) as checkpoint:
        resolution = resolve(tables, checkpoint)
        plan = make_plan(resolution.expansion, resolution.identity.layout, target, checkpoint.tensors)
        return convert(checkpoint, plan, destination, **options)


def content(tables: Tables, path: Path) -> str:
    with open_checkpoint(path) as checkpoint:
        return read_values(checkpoint, resolve(tables, checkpoint))[0]


@pytest.mark.parametrize("legacy", [False, True])
def test_an_official_file_becomes_an_mm_file_with_equal_tensors(
    tables: Tables, standin: Standin, tmp_path: Path, legacy: bool
) -> None:
    source = standin("res2net50_v1b_w26_s4", legacy=legacy)
    conversion = run(tables, source, tmp_path / "mm.pth", "mm")
    before = torch.load(source, weights_only=True)
    after = torch.load(tmp_path / "mm.pth", weights_only=True, mmap=True)
    renames = {row.source: row.target for row in conversion.plan.rows}
    assert set(renames.values()) == set(after)
    assert len(after) == len(before) == 524
    for name, tensor in before.items():
        assert torch.equal(tensor, after[renames[name]])
        assert tensor.dtype == after[renames[name]].dtype


def test_container_of_the_source_does_not_show_in_the_output(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    for name, legacy in (("zip", False), ("legacy", True)):
        run(tables, standin("res2net50_w14_s8", legacy=legacy), tmp_path / f"{name}.pth", "mm")
    assert (tmp_path / "zip.pth").read_bytes() == (tmp_path / "legacy.pth").read_bytes()


def layouts_with_classifier(tables: Tables, variant: Variant) -> list[str]:
    """Layouts that a whole network can be written in and that its reader can build it from."""
    layouts, programs, names = tables.catalog.layouts, tables.catalog.programs, tables.of(variant).names
    return [
        each
        for each in tables.table(variant.architecture.family).layouts
        if layouts[each].written_as
        and (each == "mm" or programs[layouts[each].program].builds(variant.architecture))
        and any(slot.role == "linear.weight" for slot in names(each).values())
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(load_catalog({}).variants))
def test_a_variant_comes_back_bit_by_bit_from_a_round_through_every_layout(
    tables: Tables, standin: Standin, tmp_path: Path, name: str
) -> None:
    variant = tables.catalog.find(name)
    first = variant.sources[0].layout if variant.sources else "official"
    layouts = layouts_with_classifier(tables, variant)
    if first not in layouts:
        first = "mm"  # its files are backbones
    original = path = standin(variant.id, first)
    hashed = content(tables, original)
    for target in (*(each for each in layouts if each != first), first):
        output = tmp_path / f"{target}{tables.catalog.layouts[target].written_as[0]}"
        conversion = run(tables, path, output, target)
        assert conversion.content_hash == hashed, path
        if path != original:
            path.unlink()
        path = output
    with open_checkpoint(original) as one, open_checkpoint(path) as other:
        assert one.tensors.keys() == other.tensors.keys()
        for each in one.tensors.keys() - {each for each in one.tensors if each.endswith("num_batches_tracked")}:
            unreachable = tables.of(variant).names(first)[each].canonical is None
            assert unreachable or one.array(one.tensors[each]).tobytes() == other.array(other.tensors[each]).tobytes()


def test_what_nothing_reads_comes_back_as_a_layer_that_changes_nothing(
    tables: Tables, standin: Standin, tmp_path: Path
) -> None:
    run(tables, standin(SMALLEST), tmp_path / "mm.pth", "mm")
    run(tables, tmp_path / "mm.pth", tmp_path / "official.pth", "official")
    state = torch.load(tmp_path / "official.pth", weights_only=True)
    assert not state["level3.project.0.weight"].any()
    assert torch.equal(state["level3.project.1.weight"], torch.ones(256))
    assert torch.equal(state["level3.project.1.running_var"], torch.ones(256))
    assert not state["level3.project.1.running_mean"].any()
    assert state["level3.project.1.num_batches_tracked"] == 0
    assert state["fc.weight"].shape == (1000, 1024, 1, 1)


def test_the_receipt_binds_source_output_and_content(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    source, output = standin(SMALLEST), tmp_path / "mm.pth"
    conversion = run(tables, source, output, "mm")
    receipt = read_receipt(output)
    assert receipt is not None
    assert conversion.receipt == receipt_path(output)
    assert receipt.output_sha256 == conversion.written.sha256
    assert receipt.source_sha256 == conversion.source_sha256
    assert receipt.content_hash == content(tables, source) == content(tables, output)
    statement = json.loads(receipt_path(output).read_text())
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"][0]["digest"]["sha256"] == conversion.written.sha256
    assert len(statement["predicate"]["dropped"]) == 18
    assert str(tmp_path) not in receipt_path(output).read_text()


def test_an_old_receipt_does_not_outlive_its_file(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    output = tmp_path / "mm.pth"
    run(tables, standin(SMALLEST), output, "mm")
    run(tables, standin(SMALLEST), output, "timm", overwrite=True, receipt=False)
    assert read_receipt(output) is None


def test_an_existing_output_is_left_alone(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    output = tmp_path / "mm.pth"
    output.write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        run(tables, standin(SMALLEST), output, "mm")
    assert output.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["mm.pth"]


def test_a_damaged_source_leaves_nothing_behind(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    source = tmp_path / "damaged.pth"
    data = bytearray(standin(SMALLEST).read_bytes())
    data[len(data) // 2] ^= 1
    source.write_bytes(data)
    with pytest.raises(CorruptCheckpointError):
        run(tables, source, tmp_path / "mm.pth", "mm")
    assert os.listdir(tmp_path) == ["damaged.pth"]


def test_a_folder_that_cannot_be_written_is_an_access_error(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    with pytest.raises(AccessError):
        run(tables, standin(SMALLEST), tmp_path / "nowhere" / "mm.pth", "mm")


@pytest.mark.parametrize("name", ["mm.pdparams", "mm.bin", "mm"])
def test_a_suffix_that_does_not_suit_the_layout_is_refused(
    tables: Tables, standin: Standin, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError):
        run(tables, standin(SMALLEST), tmp_path / name, "mm")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("classes", [10, 1001])
def test_a_fine_tuned_file_keeps_its_classes(tables: Tables, standin: Standin, tmp_path: Path, classes: int) -> None:
    state = torch.load(standin(SMALLEST), weights_only=True)
    state["fc.weight"], state["fc.bias"] = torch.randn(classes, 1024, 1, 1), torch.randn(classes)
    torch.save(state, tmp_path / "tuned.pth")
    run(tables, tmp_path / "tuned.pth", tmp_path / "mm.pth", "mm")
    after = torch.load(tmp_path / "mm.pth", weights_only=True)
    assert torch.equal(after["head.fc.weight"], state["fc.weight"][:, :, 0, 0])


def test_the_telling_difference_is_named(tables: Tables, standin: Standin) -> None:
    with open_checkpoint(standin("res2net50_v1b_w26_s4")) as checkpoint, pytest.raises(MappingError) as caught:
        resolve(tables, checkpoint, tables.catalog.find("res2net50_w26_s4"))
    text = str(caught.value)
    assert "this file is not res2net50_w26_s4: it is res2net50_v1b_w26_s4 in the official layout" in text
    assert "layer1.0.downsample.1.weight has shape 256x64x1x1, expected 256" in text


def test_a_file_of_another_network_is_refused_for_what_it_is(tables: Tables, tmp_path: Path) -> None:
    torch.save(
        {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv2.weight": torch.zeros(64, 64, 3, 3)},
        tmp_path / "r50.pth",
    )
    with open_checkpoint(tmp_path / "r50.pth") as checkpoint, pytest.raises(MappingError) as caught:
        resolve(tables, checkpoint)
    assert caught.value.exit_code == 3
    assert "a plain ResNet" in str(caught.value)


def test_a_second_architecture_of_equal_names_makes_no_file_ambiguous(tmp_path: Path, standin: Standin) -> None:
    from r2convert.catalog import load_catalog
    from r2convert.catalog.loading import builtin_folder

    text = (builtin_folder() / "architectures" / "res2net50_w48_s2.toml").read_text().replace("res2net50_48w_2s", "t")
    text = text.replace("res2net50_w48_s2", "twin").replace("Res2Net-50-48w-2s", "Twin").replace("program", "# program")
    computed = 'stem = "conv7x7"\nshortcut = "strided-conv"\nfirst_block = "normal"\npool_counts_padding = true\n'
    (tmp_path / "architectures").mkdir()
    (tmp_path / "architectures" / "twin.toml").write_text(text + computed)
    both = Tables(load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)}))
    with open_checkpoint(standin("res2net50_w48_s2")) as checkpoint:
        identity = resolve(both, checkpoint).identity
        assert identity.variant.id == "res2net50_w48_s2"
        assert "twin" in {variant.id for variant in identity.fits}
        said = resolve(both, checkpoint, both.catalog.find("twin")).identity
        assert (said.variant.id, said.evidence) == ("twin", "twin, as specified")
