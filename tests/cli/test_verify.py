"""`verify`: verdicts, JSON and exit codes."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from r2convert.cli.commands.verify import advice
from r2convert.mapping.tables import Tables
from r2convert.results.verdicts import Check, Metric, Verdict
from r2convert.results.verification import CheckpointResult
from tests.cli.conftest import Run
from tests.conftest import Standin

DLA = "res2net_dla60_w28_s4"


def test_an_empty_cache_checks_the_reference_networks(run: Run) -> None:
    ran = run("verify")
    assert ran.code == 0
    assert "none is in the cache" in ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    rows = {line[0]: (line[1:], below) for line, below in pairwise(lines) if line and line[0].startswith("res2ne")}
    assert rows["res2net50_w14_s8"] == (["25.06/25.06", "4.22/4.22", "13.28/13.28"], ["pass"] * 4)
    assert rows["res2net50_w26_s8"] == (["48.40/48.40", "8.39/8.39", "17.95/17.95"], ["pass"] * 4)
    assert rows["res2net101_w26_s4"] == (["45.21/45.21", "8.12/8.12", "18.45/18.45"], ["pass"] * 4)
    assert rows["res2net200_vd_w26_s4"][1] == ["known-deviation", "deviates", "deviates"]
    assert "cuts the digits" in " ".join(ran.out.split())
    assert all(len(line) <= 80 for line in ran.out.splitlines())


def test_a_sound_file_is_shown_claim_by_claim(run: Run, standin: Standin) -> None:
    ran = run("verify", standin("res2net50_w14_s8"))
    assert ran.code == 0
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    assert "…" not in ran.out
    row = ["FLOPs", "(mmcv)", "OpenMMLab", "metafile", "4.22", "G", "4,218,326,520", "pass"]
    assert row in [line.split() for line in ran.out.splitlines()]


def test_json_on_stdout_is_alone_there(run: Run, standin: Standin) -> None:
    document = run("verify", standin(DLA), "--json", "-").json
    assert document["schema"] == "r2convert.verify/1"
    assert document["results"][0]["variant"] == DLA
    assert document["verdict"] == "pass"


def test_json_goes_to_a_file(run: Run, standin: Standin, tmp_path: Path) -> None:
    ran = run("verify", standin(DLA), "--json", tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["results"][0]["checkpoint"] == str(standin(DLA))
    assert "pass" in ran.out


def test_a_failing_check_is_exit_code_1(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin(DLA), weights_only=True)
    state["level5.root.bn.running_var"] *= -1
    torch.save(state, tmp_path / "bad.pth")
    ran = run("verify", tmp_path / "bad.pth")
    assert ran.code == 1
    assert "level5.root.bn.running_var: 1,024 variances are negative" in " ".join(ran.out.split())


def test_a_file_that_is_something_else_is_exit_code_3(run: Run, standin: Standin) -> None:
    ran = run("verify", standin(DLA), "--variant", "res2net50")
    assert ran.code == 3
    assert "it is res2net_dla60_w28_s4" in ran.err


def test_a_folder_that_is_no_validation_set_is_exit_code_3(run: Run, standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "val" / "cats").mkdir(parents=True)
    ran = run("verify", standin(DLA), "--imagenet", tmp_path / "val")
    assert ran.code == 3
    assert "Traceback" not in ran.err


def test_a_device_that_is_not_there_is_wrong_usage(run: Run, standin: Standin, tmp_path: Path) -> None:
    folder = tmp_path / "val" / "n01440764"
    folder.mkdir(parents=True)
    from PIL import Image

    Image.new("RGB", (300, 260)).save(folder / "a.JPEG")
    ran = run("verify", standin(DLA), "--imagenet", tmp_path / "val", "--device", "cuda:7")
    assert ran.code == 2
    assert "cuda:7" in ran.err


@pytest.mark.slow
def test_the_demo_fetches_maps_and_verifies(run: Run, tmp_path: Path) -> None:
    ran = run("demo", "--keep", tmp_path / "kept")
    assert ran.code == 0, ran.out + ran.err
    assert "Measured:        40 images, 25 right at top-1, 33 at top-5." in ran.out
    for step in ("r2convert fetch", "r2convert map", "r2convert verify"):
        assert f"$ {step}" in ran.out
    assert "stand-in" in ran.out
    assert "25,059,816" in ran.out
    assert "4,218,326,520" in ran.out
    kept = {path.name for path in (tmp_path / "kept").iterdir()}
    assert {"mm.pth", "mm.pth.receipt.json", "results.json", "val", "cache"} <= kept


@pytest.mark.slow
def test_images_are_counted_kept_and_compared_with_care(
    run: Run, standin: Standin, tables: Tables, tmp_path: Path
) -> None:
    from r2convert.checks.standins import write_images_for

    source = standin("res2net50_w48_s2")
    write_images_for(tables, source, tmp_path / "val", images=12, top1_correct=5, top5_correct=9)
    options = ("--imagenet", tmp_path / "val", "--predictions", tmp_path / "kept", "--crop-cache", tmp_path / "crops")
    document = run("verify", source, *options, "--json", "-").json
    accuracy = document["results"][0]["accuracy"]
    assert (accuracy["images"], accuracy["top1_correct"], accuracy["top5_correct"]) == (12, 5, 9)
    assert (tmp_path / "kept").is_file()
    again = run("verify", source, *options)
    assert again.code == 4
    assert "--overwrite" in again.err or "--resume" in again.err
    some = run("verify", source, "--imagenet", tmp_path / "val", "--limit", 7, "--json", "-").json
    assert some["results"][0]["accuracy"]["images"] == 7


def test_images_are_prepared_as_asked_for(run: Run, standin: Standin, tmp_path: Path) -> None:
    from r2convert.checks.standins import synthetic_image

    (tmp_path / "n01440764").mkdir()
    (tmp_path / "n01440764" / "a.JPEG").write_bytes(synthetic_image(0))
    command = ("verify", standin(DLA), "--imagenet", tmp_path, "--json", "-")
    sizes = ("--image-size", 64, "--crop-pct", 0.8, "--interpolation", "bicubic")
    accuracy = run(*command, *sizes, "--mean", 0.5, "--std", "0.2,0.3,0.4").json["results"][0]["accuracy"]
    assert accuracy["protocol"] == {
        "resize": 80,
        "crop": 64,
        "interpolation": "bicubic",
        "pipeline": "pil",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.3, 0.4],
    }
    assert accuracy["speed"]["images"] == 1
    for wrong in (("--mean", "a"), ("--std", "1,2"), ("--crop-pct", "1.5"), ("--std", "0")):
        assert run(*command, *wrong).code == 2


def test_resume_needs_a_file_to_resume(run: Run, standin: Standin, tmp_path: Path) -> None:
    ran = run("verify", standin(DLA), "--imagenet", tmp_path, "--resume")
    assert ran.code == 2
    assert "--resume is not used without --predictions" in ran.err


@pytest.mark.parametrize(
    "option",
    [
        ("--limit", "5"),
        ("--mean", "0"),
        ("--image-size", "64"),
        ("--predictions", "p"),
        ("--crop-cache", "c"),
        ("--fail-fast",),
    ],
)
def test_an_option_about_images_needs_images(run: Run, standin: Standin, option: tuple[str, ...]) -> None:
    ran = run("verify", standin(DLA), *option)
    assert ran.code == 2
    assert f"{option[0]} is not used without --imagenet" in ran.err


def test_a_place_that_cannot_take_the_results_is_refused_first(run: Run, standin: Standin, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere" / "results.json"):
        ran = run("verify", standin(DLA), "--json", place)
        assert ran.code == 4
        assert ran.out == ""


def test_a_path_that_is_not_utf8_does_not_keep_results_from_being_written(
    run: Run, standin: Standin, tmp_path: Path
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.pth"))
    path.symlink_to(standin("res2net50_w14_s8"))
    assert run("verify", path, "--json", tmp_path / "results.json").code == 0
    (result,) = json.loads((tmp_path / "results.json").read_bytes())["results"]
    assert result["checkpoint"] == str(path)


def test_one_bad_file_among_several_is_one_row_and_the_others_are_checked(
    run: Run, standin: Standin, tmp_path: Path
) -> None:
    bad = tmp_path / "cut.pth"
    bad.write_bytes(standin(DLA).read_bytes()[:5000])
    ran = run("verify", standin(DLA), bad, tmp_path / "gone.pth", "--json", tmp_path / "results.json")
    assert ran.code == 4
    assert f"{bad}: not checked: " in ran.out
    assert f"{tmp_path / 'gone.pth'}: not checked: there is no such file" in ran.out
    document = json.loads((tmp_path / "results.json").read_text())
    assert [Path(result["checkpoint"]).name for result in document["results"]] == [standin(DLA).name]
    assert [(Path(each["checkpoint"]).name, each["kind"]) for each in document["unchecked"]] == [
        ("cut.pth", "TruncatedCheckpointError"),
        ("gone.pth", "AccessError"),
    ]
    assert document["verdict"] == "fail"
    # Alone it is an error as of any command.
    assert (run("verify", bad).code, run("verify", bad).out) == (3, "")


def test_what_else_a_file_holds_is_said(run: Run, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin("res2net_dla60_w28_s4"), weights_only=True)
    raw = {"steps": torch.tensor(5), **{f"module.{name}": value * 2 for name, value in state.items()}}
    torch.save({"state_dict": state, "ema_state_dict": raw}, tmp_path / "epoch_9.pth")
    said = (
        "state_dict holds the moving average: mmengine's EMAHook swaps the two on saving; "
        "take the raw weights with --key ema_state_dict"
    )
    assert f"warning: {tmp_path / 'epoch_9.pth'}: {said}" in run("verify", tmp_path / "epoch_9.pth").err
    (result,) = run("verify", tmp_path / "epoch_9.pth", "--json", "-").json["results"]
    assert result["warnings"] == [said]


def test_half_precision_is_said(run: Run, standin: Standin, tmp_path: Path) -> None:
    run("map", standin(DLA), tmp_path / "half.pth", "--dtype", "float16")
    assert "half.pth, mm layout, float16: half precision" in run("verify", tmp_path / "half.pth").out
    assert "half precision" not in run("verify", standin(DLA)).out
    both = run("verify", standin(DLA), tmp_path / "half.pth").out
    assert f"{tmp_path / 'half.pth'} is float16: half precision" in both


def test_an_accuracy_that_is_off_leads_to_the_doctor() -> None:
    def result(metric: Metric, verdict: Verdict) -> CheckpointResult:
        return CheckpointResult("res2net50_w14_s8", "my weights.pth", None, None, "mm", (Check(metric, verdict),))

    off = list(advice([result("top1", "fail"), result("flops", "fail"), result("top5", "inconclusive")], "/data/val"))
    assert off == ["Accuracy is off. To find out why: r2convert doctor 'my weights.pth' --imagenet /data/val"]
    assert not list(advice([result("wiring", "fail")], None))


@pytest.mark.parametrize("option", ["--json", "--predictions"])
@pytest.mark.parametrize("spelling", ["model.pth", "./folder/../model.pth", "link.pth"])
def test_a_checkpoint_is_never_written_over(
    run: Run, standin: Standin, option: str, spelling: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.pth").write_bytes(standin(DLA).read_bytes())
    (tmp_path / "link.pth").symlink_to("model.pth")
    ran = run("verify", "model.pth", "--imagenet", "folder", option, spelling)
    assert ran.code == 2
    assert f"{option} would replace a file that the command reads" in ran.err
    assert (tmp_path / "model.pth").read_bytes() == standin(DLA).read_bytes()


def test_a_size_of_crops_that_the_network_does_not_take_is_said_before_images_are_read(
    run: Run, standin: Standin, tmp_path: Path
) -> None:
    (tmp_path / "n01440764").mkdir()
    (tmp_path / "n01440764" / "a.JPEG").touch()
    ran = run("verify", standin(DLA), "--imagenet", tmp_path, "--image-size", "225")
    assert ran.code == 2
    assert "divisible by 32" in ran.err
