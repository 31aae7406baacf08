"""The catalogue: every variant is there, every name finds it, and every damage is reported with file and line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from r2convert.catalog import Catalog, load_catalog
from r2convert.catalog.loading import builtin_folder, load_variant
from r2convert.errors import CatalogError, UnknownVariantError

OFFICIAL_NAMES = {
    "Res2Net-50-48w-2s", "Res2Net-50-26w-4s", "Res2Net-50-14w-8s", "Res2Net-50-26w-6s", "Res2Net-50-26w-8s",
    "Res2Net-101-26w-4s", "Res2NeXt-50", "Res2Net-DLA-60", "Res2NeXt-DLA-60", "Res2Net-v1b-50", "Res2Net-v1b-101",
    "Res2Net-v1d-200-SSLD",
}  # fmt: skip


def test_holds_the_twelve_variants_of_the_official_table(catalog: Catalog, data: Path) -> None:
    assert {variant.name for variant in catalog.variants.values()} == OFFICIAL_NAMES
    assert set(catalog.variants) == set(json.loads((data / "measured.json").read_text()))


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
    names = [source.file_name for source in sources]
    assert len(set(names)) == len(names)
    assert all(source.sha256_prefix in source.file_name for source in sources if source.sha256_prefix)


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
    [
        ('id = "res2net50_w14_s8"', 'id = "other"', "id is 'other', but the file is called"),
        ("scales = 8", "scales = 1", "'scales' must be at least 2"),
        ("scales = 8", 'scales = "8"', "'scales' must be a positive integer"),
        ("scales = 8", "", "'scales' is missing"),
        ("scales = 8", "scales = 1000000000000", "'scales' is 1000000000000: more than 64"),
        (
            "stage_blocks = [3, 4, 6, 3]",
            "stage_blocks = [3, 4, 600000000, 3]",
            "'stage_blocks' is 600000000: more than",
        ),
        ("base_width = 14", "base_width = 99999999999999999999", "'base_width' is 99999999999999999999: more than"),
        ("scales = 8", "scalez = 8", "unknown field 'scalez'"),
        ('stem = "conv7x7"', 'stem = "conv5x5"', "'stem' is 'conv5x5': expected one of conv7x7, deep"),
        ("stage_blocks = [3, 4, 6, 3]", "stage_blocks = [3, 4, 6]", "'stage_blocks' must be a list of 4"),
        ('sha256_prefix = "6527dddc"', 'sha256_prefix = "xyz"', "'sha256_prefix' must be 8 lower-case hex digits"),
        ('layout = "timm"', 'layout = "tim"', "'layout' is 'tim': expected one of official, mm"),
    ],
)
def test_damage_is_reported_with_file_and_line(tmp_path: Path, line: str, replacement: str, message: str) -> None:
    text = (builtin_folder() / "res2net50_w14_s8.toml").read_text()
    lines = text.splitlines()
    number = lines.index(line) + 1
    lines[number - 1] = replacement
    path = tmp_path / "res2net50_w14_s8.toml"
    path.write_text("\n".join(lines))
    with pytest.raises(CatalogError) as caught:
        load_variant(path)
    problem = next(problem for problem in str(caught.value).splitlines() if message in problem)
    assert str(path) in problem
    if replacement and "must be at least" not in message:
        assert f"{path}:{number}:" in problem


def test_all_problems_of_a_file_are_reported_together(tmp_path: Path) -> None:
    text = (builtin_folder() / "res2net50_w14_s8.toml").read_text()
    path = tmp_path / "res2net50_w14_s8.toml"
    path.write_text(text.replace("depth = 50", "depth = -1").replace('metric = "flops"', 'metric = "flop"'))
    with pytest.raises(CatalogError) as caught:
        load_variant(path)
    assert "'depth'" in str(caught.value)
    assert str(caught.value).count("'metric' is 'flop'") == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [("depth = 50\n", 'depth = "x"\n'), ("depth = 50\n", ""), ("scales = 8\n", ""), ('table = "res2net"\n', "")],
)
def test_one_mistake_is_one_problem(tmp_path: Path, old: str, new: str) -> None:
    text = (builtin_folder() / "res2net50_w14_s8.toml").read_text()
    path = tmp_path / "res2net50_w14_s8.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(CatalogError) as caught:
        load_variant(path)
    assert str(caught.value).count(f"{path}:") == 1


def test_a_claim_is_placed_at_its_own_line(tmp_path: Path) -> None:
    lines = (builtin_folder() / "res2net50_w14_s8.toml").read_text().splitlines()
    number = next(index for index, line in enumerate(lines, start=1) if 'printed = "93.85"' in line)
    lines[number - 1] = lines[number - 1].replace('"93.85"', '"about 94"')
    path = tmp_path / "res2net50_w14_s8.toml"
    path.write_text("\n".join(lines))
    with pytest.raises(CatalogError, match=f":{number}: 'printed' must be a number"):
        load_variant(path)


def test_toml_that_does_not_parse_is_a_catalogue_error(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("id = ")
    with pytest.raises(CatalogError, match="not valid TOML"):
        load_variant(path)


def test_a_users_folder_is_laid_over_the_built_in_one(tmp_path: Path) -> None:
    text = (builtin_folder() / "res2net50_w26_s4.toml").read_text()
    (tmp_path / "res2net50_w26_s4.toml").write_text(text.replace('"res2net50"]', '"res2net50", "mine"]'))
    added = text.split("[[sources]]")[0].replace("res2net50_w26_s4", "lab50").replace("Res2Net-50-26w-4s", "Lab-50")
    (tmp_path / "lab50.toml").write_text(added.replace('["res2net50_26w_4s", "res2net50"]', "[]"))
    found = load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)})
    assert len(found.variants) == 13
    assert found.find("mine").id == "res2net50_w26_s4"
    assert found.find("Lab-50").architecture == found.find("res2net50").architecture


def test_a_users_table_comes_before_the_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    shutil.copy(builtin_folder() / "tables" / "res2net.toml", tmp_path / "tables")
    found = load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)})
    assert found.table_path("res2net").parent.parent == tmp_path
    assert found.table_path("res2net_dla").parent.parent == builtin_folder()


def test_two_variants_may_not_share_a_name(tmp_path: Path) -> None:
    text = (builtin_folder() / "res2net50_w26_s4.toml").read_text()
    (tmp_path / "twin.toml").write_text(text.replace('id = "res2net50_w26_s4"', 'id = "twin"'))
    with pytest.raises(CatalogError, match="claimed by two variants") as caught:
        load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)})
    line = 1 + next(number for number, line in enumerate(text.splitlines()) if line.startswith("name ="))
    assert caught.value.where is not None
    places = caught.value.where.split()
    assert sorted(places) == sorted(
        [f"{builtin_folder()}/res2net50_w26_s4.toml:{line}", f"{tmp_path}/twin.toml:{line}"]
    )


def test_a_users_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="R2CONVERT_MAPPINGS must name a folder"):
        load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path / "nowhere")})


def test_a_family_table_that_is_not_there_is_reported_with_file_and_line(tmp_path: Path) -> None:
    lines = (builtin_folder() / "res2net50_w26_s4.toml").read_text().splitlines()
    number = lines.index('table = "res2net"') + 1
    lines[number - 1] = 'table = "resnet"'
    path = tmp_path / "res2net50_w26_s4.toml"
    path.write_text("\n".join(lines))
    with pytest.raises(CatalogError, match=f":{number}: there is no family table 'resnet'"):
        load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)})
