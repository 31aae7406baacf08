"""`verify --imagenet`: precision, shortcuts, lost images and interrupts, as a user meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r2convert.mapping.tables import Tables
from tests.cli.conftest import Run
from tests.conftest import Standin
from tests.published import VARIANTS, publish_standins

pytestmark = pytest.mark.slow

DLA = "res2net_dla60_w28_s4"
COUNT, TOP1, TOP5 = 10, 4, 7
# Threads of several processes that wait for each other on a busy machine take many times as long.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(standin: Standin, tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A validation set of which the stand-in's answers are known."""
    from r2convert.checks.standins import write_images_for

    made = tmp_path_factory.mktemp("images") / "val"
    write_images_for(tables, standin(DLA), made, images=COUNT, top1_correct=TOP1, top5_correct=TOP5)
    return made


def test_a_faster_precision_says_what_it_changed(run: Run, standin: Standin, folder: Path, tmp_path: Path) -> None:
    options = ("--imagenet", folder, "--precision", "fast", "--accelerate", "fold-bn", "--json", tmp_path / "r.json")
    ran = run("verify", standin(DLA), *options, **ONE_THREAD)
    assert ran.code == 0, ran.err
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    assert "precision fast channels-last fold-bn" in ran.out
    assert "among them: the counts are strict's" in ran.out
    (result,) = json.loads((tmp_path / "r.json").read_text())["results"]
    accuracy = result["accuracy"]
    assert (accuracy["top1_correct"], accuracy["top5_correct"]) == (TOP1, TOP5)
    assert accuracy["accelerations"] == ["channels-last", "fold-bn"]
    assert accuracy["audit"]["images"] == COUNT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--accelerate", "fold-bn"), "takes no shortcut"),
        (("--precision", "fp32", "--accelerate", "fold-bn,magic"), "'magic' is none of"),
        (("--precision", "tf32", "--device", "cpu"), "CUDA devices only"),
    ],
)
def test_what_cannot_be_combined_is_wrong_usage(
    run: Run, standin: Standin, folder: Path, options: tuple[str, ...], message: str
) -> None:
    ran = run("verify", standin(DLA), "--imagenet", folder, *options)
    assert ran.code == 2
    assert message in ran.err
    assert ran.out == ""


def test_an_unreadable_image_is_named_with_the_best_and_the_worst_case(
    run: Run, standin: Standin, folder: Path, tmp_path: Path
) -> None:
    some = tmp_path / "val" / "n01440764"
    some.mkdir(parents=True)
    whole = sorted(folder.glob("*/*.JPEG"))[:2]
    (some / "0.JPEG").write_bytes(whole[0].read_bytes())
    (some / "1.JPEG").write_bytes(whole[1].read_bytes()[:500])
    ran = run("verify", standin(DLA), "--imagenet", tmp_path / "val")
    assert ran.code == 0
    assert "0 missing and 1 unreadable images count as wrong" in ran.out
    assert "at worst" in ran.out
    assert "n01440764/1.JPEG: " in ran.out
    assert all(len(line) <= 80 for line in ran.out.splitlines())


def test_an_interrupt_keeps_what_was_done(
    run: Run, standin: Standin, folder: Path, cache: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.jsonl"
    command = ("verify", standin(DLA), "--imagenet", folder, "--batch-size", 1, "--predictions", kept)
    process = subprocess.Popen(
        [sys.executable, "-m", "r2convert", *map(str, command)],
        env={**os.environ, "R2CONVERT_CACHE": str(cache), **ONE_THREAD},
        stderr=subprocess.PIPE,
        text=True,
    )
    partial = kept.with_name("kept.jsonl.partial")
    while process.poll() is None and (not partial.exists() or partial.read_bytes().count(b"\n") < 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert f"of {COUNT} images measured" in said
    assert "--resume continues it" in said
    assert not kept.exists()
    result = run(*command, "--resume", "--json", "-", **ONE_THREAD).json["results"][0]
    assert (result["accuracy"]["top1_correct"], result["accuracy"]["top5_correct"]) == (TOP1, TOP5)
    assert kept.read_bytes().count(b"\n") == COUNT + 1
    assert not partial.exists()


def test_processes_that_share_the_images_of_every_cached_variant_print_once(
    run: Run, standin: Standin, tables: Tables, cache: Path, tmp_path: Path
) -> None:
    published = publish_standins(tables, standin, tmp_path)
    environment = {**published.environment(cache), **ONE_THREAD}
    assert run("fetch", *VARIANTS, **environment).code == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "r2convert"]
    options = ["verify", "--imagenet", str(published.images), "--limit", "4", "--json", "-"]
    done = subprocess.run(
        [*torchrun, *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shared = json.loads(done.stdout)["results"]
    assert [result["variant"] for result in shared] == [
        variant for variant in tables.catalog.variants if variant in VARIANTS
    ]
    assert {result["accuracy"]["images"] for result in shared} == {4}
    alone = run(*options, **environment).json["results"]
    for result in (*alone, *shared):
        result["accuracy"].pop("speed")  # differs from run to run
    assert [result["accuracy"] for result in alone] == [result["accuracy"] for result in shared]
