"""`verify --input-size`, `--by-layer`, `--wiring` and `--peer`: networks without labelled images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from r2convert.catalog import Catalog
from r2convert.checks.standins import synthetic_image
from tests.checks.calibrated import calibrated_network, synthetic_inputs
from tests.cli.conftest import Run
from tests.conftest import Standin

DLA = "res2net_dla60_w28_s4"
V1 = "res2net50_w26_s4"

# A package called timm that answers as the real one does, with networks of our own.
FAKE_TIMM = """
import torch
from tests.checks.test_parity import NamedAsOfficial
from r2convert.catalog import load_catalog
__version__ = "0.0.fake"
class models:
    @staticmethod
    def load_checkpoint(network, path, strict):
        network.load_state_dict(torch.load(path, weights_only=True), strict=strict)
def create_model(name, num_classes):
    variant = next(each for each in load_catalog({{}}).variants.values() if name in each.aliases)
    network = NamedAsOfficial(variant, num_classes)
    {change}
    return network
"""


def fake_timm(folder: Path, change: str = "") -> str:
    (folder / "timm.py").write_text(FAKE_TIMM.format(change=change))
    return f"{folder}:{Path(__file__).parent.parent.parent}"


def test_claims_are_not_compared_at_another_size(run: Run, standin: Standin) -> None:
    (result,) = run("verify", standin(V1), "--input-size", "192x256", "--json", "-").json["results"]
    verdicts = {check["verdict"] for check in result["checks"] if check["metric"] in ("flops", "activations")}
    assert verdicts == {"not-comparable"}
    (macs,) = [check for check in result["checks"] if check["convention"] == "macs"]
    assert macs["measured"] == result["operations"]["macs"] > 0
    assert "counted for 192x256" in macs["note"]
    assert result["operations"]["input_size"] == [192, 256]
    assert {check["verdict"] for check in result["checks"] if check["metric"] == "parameters"} == {"pass"}


def test_dla_says_which_sizes_it_can_be_shown(run: Run, standin: Standin) -> None:
    ran = run("verify", standin(DLA), "--input-size", "225")
    assert ran.code == 2
    assert "divisible by 32" in ran.err
    assert run("verify", standin(DLA), "--input-size", "160x256").code == 0


@pytest.mark.parametrize(
    "size", ["", "x", "224x", "1x1", "224x224x3", "-5", "1e3", "\u0662\u0662\u0664", "31", "9999999"]
)
def test_what_is_no_size_is_wrong_usage(run: Run, size: str) -> None:
    ran = run("verify", "--references", "--input-size", size)
    assert ran.code == 2
    assert "Traceback" not in ran.err


def test_layers_are_listed_with_their_sum(run: Run, standin: Standin) -> None:
    ran = run("verify", standin("res2net50_w14_s8"), "--by-layer")
    assert ran.code == 0
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["conv1", "118,013,952", "118,013,952", "118,013,952", "802,816"] in lines
    assert ["mmcv", "4,218,326,520"] in lines


def test_layers_in_json_add_up(run: Run, standin: Standin) -> None:
    (result,) = run("verify", standin(DLA), "--by-layer", "--json", "-").json["results"]
    operations = result["operations"]
    assert sum(layer["mmcv"] for layer in operations["layers"]) == operations["mmcv"]
    assert operations["layers"][0]["name"] == "backbone.base_layer.0"


def write_pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.JPEG").write_bytes(synthetic_image(number, seed=4))
    return folder


@pytest.mark.slow
def test_the_wiring_check_fails_a_broken_network_and_names_the_place(
    run: Run, catalog: Catalog, tmp_path: Path
) -> None:
    state = calibrated_network(catalog.find(V1), synthetic_inputs(16, seed=3)).state_dict()
    for part in ("weight", "bias", "running_mean", "running_var"):
        one, other = (f"backbone.layer3.3.bns.{scale}.{part}" for scale in (0, 1))
        state[one], state[other] = state[other], state[one]
    torch.save(state, tmp_path / "broken.pth")
    pictures = write_pictures(tmp_path / "pictures", 16)
    (pictures / "17.jpg").write_bytes(b"no picture")
    ran = run("verify", "broken.pth", f"--wiring={pictures}", "--details", "--json", "results.json")
    assert ran.code == 1
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    assert [line.split()[0] for line in ran.out.splitlines() if line.split()[-1:] == ["suspect"]] == [
        "layer3.3.bns.0",
        "layer3.3.bns.1",
    ]
    (result,) = json.loads((tmp_path / "results.json").read_text())["results"]
    (check,) = [check for check in result["checks"] if check["metric"] == "wiring"]
    assert (check["verdict"], check["measured"]) == ("fail", 83)
    assert "backbone.layer3.3.bns.0, backbone.layer3.3.bns.1" in check["note"]
    assert result["wiring"]["pictures"] == 16
    suspects = [layer["name"] for layer in result["wiring"]["layers"] if layer["suspect"]]
    assert suspects == ["backbone.layer3.3.bns.0", "backbone.layer3.3.bns.1"]


@pytest.mark.slow
def test_the_wiring_check_tells_whose_network_a_backbone_is(run: Run, catalog: Catalog, tmp_path: Path) -> None:
    vd, v1b = "res2net50_vd_w26_s4", "res2net50_v1b_w26_s4"
    trained = calibrated_network(catalog.find_architecture(vd), synthetic_inputs(16, seed=3))
    torch.save({name: each for name, each in trained.state_dict().items() if "head" not in name}, tmp_path / "vd.pth")
    assert run("inspect", "vd.pth", "--json").json["variant"] == v1b
    pictures = write_pictures(tmp_path / "pictures", 16)
    (result,) = run("verify", "vd.pth", f"--wiring={pictures}", "--json", "-").json["results"]
    # Its publisher exchanged two rows of a table: a known deviation of the size, and success.
    assert (result["variant"], result["verdict"]) == (vd, "known-deviation")
    assert result["architectures"] == [vd, v1b, "res2net50_mmdet_w26_s4"]
    assert result["evidence"].startswith(f"{vd}, measured on 16 images: unlike {v1b} (the authors' network) and ")
    # The user's word is not overruled, but what it leaves out of line is seen.
    said = run("verify", "vd.pth", "--architecture", v1b, f"--wiring={pictures}", "--json", "-")
    assert said.code == 1
    assert said.json["results"][0]["evidence"] == f"{v1b}, as specified"
    assert "layer1.0.bns.1" in str(said.json["results"][0]["checks"])


@pytest.mark.slow
def test_drawn_pictures_do_not_condemn_a_network(run: Run, standin: Standin) -> None:
    ran = run("verify", standin(DLA), "--wiring")
    assert ran.code == 0
    assert "inconclusive" in ran.out
    assert "--wiring FOLDER" in ran.out


def test_too_few_pictures_are_bad_input(run: Run, standin: Standin, tmp_path: Path) -> None:
    ran = run("verify", standin(DLA), "--wiring", write_pictures(tmp_path / "pictures", 3))
    assert ran.code == 3
    assert "3 of them readable" in ran.err


def test_a_checkpoint_after_wiring_is_explained(run: Run, standin: Standin) -> None:
    ran = run("verify", "--wiring", standin(DLA))
    assert ran.code == 2
    assert "a checkpoint (before --wiring" in ran.err


def test_a_file_given_as_the_folder_of_pictures_is_explained(run: Run, standin: Standin) -> None:
    ran = run("verify", standin(DLA), "--wiring", standin(DLA))
    assert ran.code == 3
    assert "put --wiring after the checkpoints" in ran.err


def test_networks_without_files_cannot_be_probed(run: Run) -> None:
    for option in (("--wiring",), ("--peer", "timm")):
        ran = run("verify", "--references", *option)
        assert ran.code == 2
        assert f"without files or images\n  got:      {option[0]}" in ran.err
        ran = run("verify", *option)
        assert ran.code == 2
        assert "there is no file to check" in ran.err


def test_a_peer_that_is_not_installed_says_how_to_install_it(run: Run, standin: Standin, tmp_path: Path) -> None:
    # A finder that hides the package, whatever is installed.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('timm', 'mmpretrain'):\n    sys.modules[name] = None\n"
    )
    for peer in ("timm", "mmpretrain"):
        ran = run("verify", standin(DLA), "--peer", peer, PYTHONPATH=str(tmp_path))
        assert ran.code == 2
        assert f"pip install {peer}" in ran.err


def test_a_peer_that_does_not_import_is_no_traceback(run: Run, standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    ran = run("verify", standin(DLA), "--peer", "timm", PYTHONPATH=str(tmp_path))
    assert ran.code == 2
    assert "torchvision::nms" in ran.err
    assert "Traceback" not in ran.err


def test_a_peer_that_agrees_passes(run: Run, standin: Standin, tmp_path: Path) -> None:
    ran = run("verify", standin(V1), "--peer", "timm", PYTHONPATH=fake_timm(tmp_path))
    assert ran.code == 0, ran.err
    row = next(line for line in ran.out.splitlines() if line.strip().startswith("parity"))
    assert "pass" in row
    assert "timm 0.0.fake" in row


def test_a_peer_that_differs_is_placed(run: Run, standin: Standin, tmp_path: Path) -> None:
    path = fake_timm(tmp_path, "network.layer2[0].pool.count_include_pad = False")
    ran = run("verify", standin(V1), "--peer", "timm", "--json", "-", PYTHONPATH=path)
    assert ran.code == 1
    parity = ran.json["results"][0]["parity"]
    assert parity["first_layer"]["name"] == "backbone.layer2.0.pool"
    assert parity["first_stage"]["name"] == "backbone.layer2"
    assert [stage["relative"] == 0 for stage in parity["stages"]] == [True, True, False, False, False, False]
