"""The catalogue: every variant is there, every name finds it, and every damage is reported with file and line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from r2convert.catalog import Catalog, load_catalog, load_layouts
from r2convert.catalog.loading import builtin_folder, load_weights
from r2convert.catalog.variant import StagedArchitecture
from r2convert.errors import CatalogError, UnknownVariantError
from r2convert.mapping.identity import identify
from r2convert.mapping.tables import Tables
from tests.mapping.manifests import read_manifest

OFFICIAL_NAMES = {
    "Res2Net-50-48w-2s", "Res2Net-50-26w-4s", "Res2Net-50-14w-8s", "Res2Net-50-26w-6s", "Res2Net-50-26w-8s",
    "Res2Net-101-26w-4s", "Res2NeXt-50", "Res2Net-DLA-60", "Res2NeXt-DLA-60", "Res2Net-v1b-50", "Res2Net-v1b-101",
    "Res2Net-v1d-200-SSLD",
}  # fmt: skip


def test_holds_the_twelve_variants_of_the_official_table(catalog: Catalog, data: Path) -> None:
    measured = json.loads((data / "measured.json").read_text())
    listed = {
        variant.id
        for variant in catalog.variants.values()
        if any(claim.source == "official README" for claim in variant.claims)
    }
    assert listed == {catalog.find(name).id for name in measured}
    assert listed == {catalog.find(name).id for name in OFFICIAL_NAMES}


def test_the_name_of_an_architecture_means_the_weights_of_the_official_table(catalog: Catalog) -> None:
    for name in OFFICIAL_NAMES:
        assert any(claim.source == "official README" for claim in catalog.find(name).weights[0].claims), name


@pytest.mark.parametrize(
    "name",
    [
        "res2net101_w26_s4",
        "res2net101_26w_4s",
        "Res2Net-101-26w-4s",
        "res2net101-w26-s4_3rdparty_8xb32_in1k",
        "RES2NET101 W26 S4",
    ],
)
def test_finds_a_variant_by_every_alias(catalog: Catalog, name: str) -> None:
    assert catalog.find(name).id == "res2net101_w26_s4"


def test_reads_the_same_where_the_compiled_parser_is_missing(catalog: Catalog) -> None:
    code = "import sys; sys.modules['tomli'] = None; from r2convert.catalog import load_catalog; print(load_catalog())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip("\n") == str(catalog)


def test_an_unknown_name_is_refused_with_close_ones(catalog: Catalog) -> None:
    with pytest.raises(UnknownVariantError, match=r"res2net50_w26_s4") as caught:
        catalog.find("res2net50_w26_s5")
    assert caught.value.exit_code == 2


def test_claims_of_the_seed_table_are_the_printed_strings(catalog: Catalog) -> None:
    printed = {
        name: {
            claim.metric: claim.printed for claim in catalog.find(name).claims if claim.source == "OpenMMLab metafile"
        }
        for name in ("Res2Net-50-14w-8s", "Res2Net-50-26w-8s", "Res2Net-101-26w-4s")
    }
    assert printed == {
        "Res2Net-50-14w-8s": {"parameters": "25.06", "flops": "4.22", "top1": "78.14", "top5": "93.85"},
        "Res2Net-50-26w-8s": {"parameters": "48.40", "flops": "8.39", "top1": "79.20", "top5": "94.36"},
        "Res2Net-101-26w-4s": {"parameters": "45.21", "flops": "8.12", "top1": "79.19", "top5": "94.44"},
    }


def test_every_file_name_is_unique_and_carries_its_hash_prefix(catalog: Catalog) -> None:
    sources = [source for variant in catalog.variants.values() for source in variant.sources]
    assert all(source.weights.startswith(source.weights.partition(".")[0]) for source in sources)
    names = [source.file_name for source in sources]
    assert len(set(names)) == len(names)
    assert all(source.sha256_prefix in source.file_name for source in sources if source.sha256_prefix)


def damaged(folder: Path, kind: str, name: str, old: str, new: str) -> tuple[dict[str, str], str]:
    """A folder laid over the built-in one in which one line of one file is another; the place of that line."""
    lines = (builtin_folder() / kind / name).read_text().splitlines()
    number = next(index for index, line in enumerate(lines) if old in line)
    lines[number] = lines[number].replace(old, new)
    (folder / kind).mkdir()
    (folder / kind / name).write_text("\n".join(lines))
    return {"R2CONVERT_MAPPINGS": str(folder)}, f"{folder / kind / name}:{number + 1}:"


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        ("architectures", 'id = "res2net50_w14_s8"', 'id = "other"', "id is 'other', but the file is called"),
        ("architectures", "scales = 8", "scales = 1", "'scales' must be at least 2"),
        ("architectures", "scales = 8", 'scales = "8"', "'scales' must be a positive integer"),
        ("architectures", "scales = 8", "scales = 1000000000000", "'scales' is 1000000000000: more than 64"),
        ("architectures", "[3, 4, 6, 3]", "[3, 4, 600000000, 3]", "'stage_blocks' is 600000000: more than"),
        ("architectures", "base_width = 14", "base_width = 9999999999999999", "'base_width' is 9999999999999999: more"),
        ("architectures", "scales = 8", "scalez = 8", "unknown field 'scalez'"),
        ("architectures", "[3, 4, 6, 3]", "[3, 4, 6]", "'stage_blocks' must be a list of 4"),
        ("architectures", 'family = "res2net"', 'family = "resnet"', "'family' is 'resnet': expected one of res2net"),
        ("architectures", 'program = "authors"', 'program = "mine"', "'program' is 'mine': expected one of authors"),
        ("weights", 'sha256_prefix = "6527dddc"', 'sha256_prefix = "x"', "'sha256_prefix' must be 8 lower-case hex"),
        ("weights", 'layout = "official"', 'layout = "tim"', "'layout' is 'tim': expected one of mm, official"),
        ("weights", 'metric = "top5"', 'metric = "top9"', "'metric' is 'top9'"),
        ("weights", 'printed = "6.14"', 'printed = "about 6"', "'printed' must be a number as printed"),
        ("weights", 'publisher = "official"', "protocol = { crop = 300 }", "images cannot be cropped like this"),
        ("weights", 'source = "official README"', 'sauce = "official README"', "unknown field 'sauce'"),
    ],
)
def test_damage_is_reported_with_file_and_line(tmp_path: Path, kind: str, old: str, new: str, message: str) -> None:
    name = "res2net50_w14_s8.toml" if kind == "architectures" else "res2net50_w14_s8.official.toml"
    environment, place = damaged(tmp_path, kind, name, old, new)
    with pytest.raises(CatalogError) as caught:
        load_catalog(environment)
    problem = next(problem for problem in str(caught.value).splitlines() if message in problem)
    assert place in problem


def test_all_problems_of_a_file_are_reported_together(tmp_path: Path) -> None:
    text = (builtin_folder() / "weights" / "res2net50_w14_s8.official.toml").read_text()
    path = tmp_path / "res2net50_w14_s8.official.toml"
    path.write_text(text.replace("6527dddc", "x").replace('metric = "flops"', 'metric = "flop"'))
    with pytest.raises(CatalogError) as caught:
        load_weights(path)
    assert "'sha256_prefix'" in str(caught.value)
    assert "'metric' is 'flop'" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"), [("depth = 50\n", 'depth = "x"\n'), ("depth = 50\n", ""), ("scales = 8\n", "")]
)
def test_one_mistake_is_one_problem(tmp_path: Path, old: str, new: str) -> None:
    text = (builtin_folder() / "architectures" / "res2net50_w14_s8.toml").read_text()
    (tmp_path / "architectures").mkdir()
    path = tmp_path / "architectures" / "res2net50_w14_s8.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(CatalogError) as caught:
        load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)})
    assert str(caught.value).count(f"{path}:") == 1


def test_toml_that_does_not_parse_is_a_catalogue_error(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("id = ")
    with pytest.raises(CatalogError, match="not valid TOML"):
        load_weights(path)


def test_particular_weights_are_found_by_their_id(catalog: Catalog) -> None:
    timm = catalog.find("res2net50_w26_s8.timm")
    assert (timm.id, [each.id for each in timm.weights]) == ("res2net50_w26_s8", ["res2net50_w26_s8.timm"])
    ssld = catalog.find("Res2Net-v1d-200-SSLD")
    assert (ssld.id, ssld.weights[0].id) == ("res2net200_vd_w26_s4", "res2net200_vd_w26_s4.ssld")
    assert ssld.weights[0].protocol.pipeline == "opencv"
    assert catalog.find("res2net101_w26_s4").weights[0].publisher == "official"


def test_an_architecture_that_no_file_lists_is_found_by_the_pattern_of_its_program(catalog: Catalog) -> None:
    found = catalog.find_architecture("res2net152_v1b_w26_s4").architecture
    assert isinstance(found, StagedArchitecture)
    assert (found.stage_blocks, found.stem, found.first_block) == ((3, 8, 36, 3), "deep", "stage")
    assert catalog.find_architecture("res2net50_vd_w26_s4").architecture.first_block == "normal"  # type: ignore[union-attr]


SINGLE = """
id = "lab50"
name = "Lab-50"
aliases = ["our net"]
table = "res2net_vd"

[architecture]
family = "res2net_vd"
depth = 50
stage_blocks = [3, 4, 6, 3]
base_width = 26
scales = 4
cardinality = 1
stem = "deep"
shortcut = "pooled-if-strided"
first_block = "normal"
pool_counts_padding = false

[[sources]]
publisher = "lab"
layout = "paddle"
format = "pdparams"
file_name = "ours.pdparams"
urls = ["https://example.org/ours.pdparams"]

[published]
claims = [{ source = "our page", publisher = "lab", metric = "top1", printed = "80.1", unit = "%" }]
"""


def test_a_network_in_a_single_file_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "lab50.toml").write_text(SINGLE)
    found = load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)})
    assert found.variants.keys() - load_catalog({}).variants.keys() == {"lab50"}
    variant = found.find("Our Net")
    assert (variant.architecture.family, variant.weights[0].id) == ("res2net_v1b", "lab50.lab")
    assert variant.claims[0].weights == variant.sources[0].weights == "lab50.lab"


def test_a_folder_of_tables_is_refused_with_the_way_to_change_it(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    with pytest.raises(CatalogError, match=r"families/<family>\.toml"):
        load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)})


def test_a_users_file_replaces_the_built_in_one_of_its_name(tmp_path: Path) -> None:
    text = (builtin_folder() / "architectures" / "res2net50_w26_s4.toml").read_text()
    (tmp_path / "architectures").mkdir()
    (tmp_path / "architectures" / "res2net50_w26_s4.toml").write_text(text.replace('"res2net50"]', '"mine"]'))
    found = load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)})
    assert found.variants.keys() == load_catalog({}).variants.keys()
    assert found.find("mine").id == "res2net50_w26_s4"
    assert found.find("mine").weights[0].id == "res2net50_w26_s4.official"


LAYOUTS = """
[suffixes.lab]
conv = { weight = ".kernel" }
bn = { weight = ".gamma", bias = ".beta", running_mean = ".mean", running_var = ".var" }
linear = { weight = ".kernel", bias = ".bias" }

[layouts.lab]
reader = "our own code"
program = "authors"
suffixes = "lab"
linear = "transposed"
written_as = [".pth"]
absent = "our code keeps no count of batches"
"""

WEIGHTS = """
id = "res2net50_w26_s4.lab"
publisher = "lab"
protocol = { resize = 288, crop = 256, interpolation = "bicubic", pipeline = "pil" }

[[files]]
layout = "lab"
format = "pth"
file_name = "lab-res2net50.pth"
sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
urls = ["https://example.org/lab-res2net50.pth"]

[published]
claims = [{ source = "our page", metric = "top1", printed = "79.0", unit = "%" }]
"""


def lab_columns() -> str:
    """A column for every module of Res2Net v1: the official names with another separator."""
    rows = [
        ("backbone.conv1", "stem"),
        ("backbone.bn1", "stem_bn"),
        *(
            (f"backbone.layer{{stage}}.{{block}}.{name}", f"s{{stage}}/b{{block}}/{name.replace('.', '/')}")
            for name in ("conv1", "bn1", "convs.{scale}", "bns.{scale}", "conv3", "bn3", "downsample.0", "downsample.1")
        ),
        ("head.fc", "classifier"),
    ]
    listed = "\n".join(f'    ["{canonical}", "{ours}"],' for canonical, ours in rows)
    return f'family = "res2net"\n\n[modules]\ncolumns = ["mm", "lab"]\nrows = [\n{listed}\n]\n'


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder with a new publisher, a new layout and second weights for a known architecture."""
    for kind in ("families", "weights"):
        (tmp_path / kind).mkdir()
    (tmp_path / "layouts.toml").write_text(LAYOUTS)
    (tmp_path / "families" / "res2net.toml").write_text(lab_columns())
    (tmp_path / "weights" / "res2net50_w26_s4.lab.toml").write_text(WEIGHTS)
    return tmp_path


def test_a_publisher_a_layout_and_second_weights_need_no_code(lab: Path, data: Path) -> None:
    found = load_catalog({"R2CONVERT_MAPPINGS": str(lab)})
    assert "lab" in found.publishers
    assert "lab" in [layout.name for layout in load_layouts({"R2CONVERT_MAPPINGS": str(lab)}) if layout.written_as]
    variant = found.find("res2net50_w26_s4")
    known = [each.publisher for each in load_catalog({}).find("res2net50_w26_s4").weights]
    assert [each.publisher for each in variant.weights] == [*known, "lab"]
    assert known[0] == "official"
    assert variant.weights[-1].protocol.resize == 288
    tables = Tables(found)
    names = tables.of(variant).names("lab")
    assert len(names) == 427
    assert names["s3/b2/convs/1.kernel"].canonical == "backbone.layer3.2.convs.1.weight"
    shapes = {name: tables.of(variant).shape_in("lab", slot) for name, slot in names.items()}
    assert shapes["classifier.kernel"] == (2048, 1000)
    identity = identify(tables, shapes)
    assert identity is not None
    assert (identity.variant.id, identity.layout) == ("res2net50_w26_s4", "lab")
    # What was there before is as it was.
    official = identify(tables, read_manifest(data / "manifests" / "res2net50_w26_s4.official.txt"))
    assert official is not None
    assert (official.variant.id, official.layout) == ("res2net50_w26_s4", "official")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"head.fc"', '"head.fcc"', "'head.fcc' is not the mm name of one row of the table in"),
        ('columns = ["mm", "lab"]', 'columns = ["mm", "lob"]', "unknown layout 'lob'"),
        ('    ["head.fc", "classifier"],', '    ["head.fc"],', "a row must be a list of 2 strings"),
    ],
)
def test_a_damaged_column_is_refused_with_file_and_line(lab: Path, old: str, new: str, message: str) -> None:
    path = lab / "families" / "res2net.toml"
    lines = path.read_text().splitlines()
    number = next(index for index, line in enumerate(lines) if old in line)
    lines[number] = lines[number].replace(old, new)
    path.write_text("\n".join(lines))
    catalog = load_catalog({"R2CONVERT_MAPPINGS": str(lab)})
    with pytest.raises(CatalogError) as caught:
        Tables(catalog).of(catalog.find("res2net50"))
    assert f"{path}:{number + 1}: {message}" in str(caught.value)


def test_weights_of_an_unknown_architecture_are_refused_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / "nothing.lab.toml"
    path.write_text('id = "nothing.lab"\npublisher = "lab"\n')
    with pytest.raises(CatalogError, match=f"{path}:1") as caught:
        load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)})
    assert "there is no architecture 'nothing'" in str(caught.value)


def test_two_variants_may_not_share_a_name(tmp_path: Path) -> None:
    text = (builtin_folder() / "architectures" / "res2net50_w26_s4.toml").read_text()
    (tmp_path / "architectures").mkdir()
    twin = tmp_path / "architectures" / "twin.toml"
    twin.write_text(text.replace('id = "res2net50_w26_s4"', 'id = "twin"'))
    with pytest.raises(CatalogError, match="claimed by two variants") as caught:
        load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)})
    line = 1 + next(number for number, line in enumerate(text.splitlines()) if line.startswith("name ="))
    assert caught.value.where is not None
    places = caught.value.where.split()
    assert sorted(places) == sorted(
        [f"{builtin_folder()}/architectures/res2net50_w26_s4.toml:{line}", f"{twin}:{line}"]
    )


def test_a_users_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="R2CONVERT_MAPPINGS must name a folder"):
        load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path / "nowhere")})


def test_a_single_file_with_an_unknown_table_is_refused_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "lab50.toml").write_text(SINGLE.replace('"res2net_vd"\n\n', '"resnet"\n\n'))
    with pytest.raises(CatalogError, match=r"lab50\.toml:5: there is no family 'resnet'"):
        load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)})
