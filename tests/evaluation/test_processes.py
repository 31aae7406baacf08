"""Several processes share the images and count like one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from r2convert.checks.standins import synthetic_image
from r2convert.evaluation.processes import local_device
from r2convert.imagenet.labels import synsets

PROCESS = """
import json, os, signal, sys
from pathlib import Path
import msgspec
import torch
from r2convert.imagenet.datasets import open_validation_set
from r2convert.evaluation.engine import measure_accuracy
from r2convert.evaluation.processes import joined_processes
from r2convert.evaluation.prediction_store import PredictionFile

class ByColour(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(108, 1000, generator=torch.Generator().manual_seed(0)))

    def forward(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 6).flatten(1) @ self.weight

folder, out, precision, killed_at = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
with joined_processes() as rank:
    def die(progress):
        # The first process dies after some of its images; torchrun ends the others, wherever they are.
        if killed_at and rank == 0 and progress.done >= killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    result = measure_accuracy(
        {"it": ByColour()}, open_validation_set(folder), batch_size=2, precision=precision, progress=die,
        predictions=PredictionFile(out / "predictions", resume=True),
    )
    found = msgspec.structs.replace(result["it"], speed=None)
    (out / f"{rank}.images").write_text(str(result["it"].speed.images))
    (out / f"{rank}.json").write_text(json.dumps(msgspec.to_builtins(found)))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(13):
        file = folder / synsets()[number * 70] / f"{number}.JPEG"
        file.parent.mkdir()
        file.write_bytes(synthetic_image(number) if number != 5 else b"damaged")
    return folder


def run(processes: int, folder: Path, out: Path, precision: str = "strict", killed_at: int = 0) -> None:
    out.mkdir(exist_ok=True)
    script = out / "process.py"
    script.write_text(PROCESS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    starter = torchrun if processes > 1 else [sys.executable]
    arguments = [str(script), str(folder), str(out), precision, str(killed_at)]
    done = subprocess.run([*starter, *arguments], check=False, timeout=120, capture_output=True, text=True)
    assert bool(done.returncode) == bool(killed_at), done.stderr


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process finds."""
    out = tmp_path_factory.mktemp("alone")
    run(1, folder, out)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_counts_do_not_depend_on_the_number_of_processes(folder: Path, alone: Path, tmp_path: Path, count: int) -> None:
    found = (alone / "0.json").read_text()
    assert (json.loads(found)["images"], json.loads(found)["unreadable"]) == (13, 1)
    run(count, folder, tmp_path)
    assert [(tmp_path / f"{rank}.json").read_text() for rank in range(count)] == [found] * count
    assert (tmp_path / "predictions").read_text() == (alone / "predictions").read_text()
    assert [(tmp_path / f"{rank}.images").read_text() for rank in range(count)] == ["13"] * count


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(3, 2), (1, 3)])
def test_killed_processes_are_continued_by_any_number(
    folder: Path, alone: Path, tmp_path: Path, before: int, after: int
) -> None:
    run(before, folder, tmp_path / "shared", killed_at=2)
    parts = sorted(path.name for path in (tmp_path / "shared").glob("predictions.partial*"))
    kept = [line for part in parts for line in (tmp_path / "shared" / part).read_text().splitlines() if "image" in line]
    assert len(kept) >= 3  # a question, and the two images that the first process had finished
    assert not (tmp_path / "shared" / "predictions").exists()
    run(after, folder, tmp_path / "shared")
    assert (tmp_path / "shared" / "predictions").read_text() == (alone / "predictions").read_text()
    assert (tmp_path / "shared" / "0.json").read_text() == (alone / "0.json").read_text()
    assert not list((tmp_path / "shared").glob("predictions.*"))


@pytest.mark.slow
def test_audits_of_all_processes_are_one(folder: Path, tmp_path: Path) -> None:
    for count in (1, 2):
        run(count, folder, tmp_path / str(count), "fast")
    one, two = (json.loads((tmp_path / str(count) / "0.json").read_text()) for count in (1, 2))
    assert one["audit"]["images"] == 12
    assert one == two


def test_a_device_without_a_number_is_the_current_one_or_one_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    chosen: list[int] = []
    index_of = torch.cuda._utils._get_device_index  # as torch's own set_device reads it: no number is an error
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append(index_of(device)))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert local_device(torch.device("cuda")) == torch.device("cuda:2")
    assert local_device(torch.device("cuda:3")) == torch.device("cuda:3")
    monkeypatch.setenv("LOCAL_RANK", "5")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert local_device(torch.device("cuda")) == torch.device("cuda:5")
    # Some schedulers show each process its own device only; and two processes may share one.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert local_device(torch.device("cuda")) == torch.device("cuda:0")
    assert local_device(torch.device("cpu")) == torch.device("cpu")
    assert chosen == [2, 3, 5, 0]
