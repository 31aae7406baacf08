"""Several processes share the images and count like one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from r2convert.imagenet.labels import synsets
from r2convert.imagenet.standin import draw_picture

PROCESS = """
import dataclasses, json, sys
from pathlib import Path
import torch
from r2convert.imagenet.datasets import open_validation_set
from r2convert.verify.accuracy import measure_accuracy
from r2convert.verify.partition import joined_processes
from r2convert.verify.prediction_file import PredictionFile

class ByColour(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(108, 1000, generator=torch.Generator().manual_seed(0)))

    def forward(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 6).flatten(1) @ self.weight

folder, out, precision = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
with joined_processes() as rank:
    result = measure_accuracy(
        {"it": ByColour()}, open_validation_set(folder), batch_size=4, precision=precision,
        predictions=PredictionFile(out / "predictions"),
    )
    (out / f"{rank}.json").write_text(json.dumps(dataclasses.asdict(result["it"])))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(13):
        file = folder / synsets()[number * 70] / f"{number}.JPEG"
        file.parent.mkdir()
        file.write_bytes(draw_picture(number) if number != 5 else b"damaged")
    return folder


def run(processes: int, folder: Path, out: Path, precision: str = "strict") -> None:
    out.mkdir()
    script = out / "process.py"
    script.write_text(PROCESS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    starter = torchrun if processes > 1 else [sys.executable]
    subprocess.run([*starter, str(script), str(folder), str(out), precision], check=True, timeout=120)


@pytest.mark.slow
def test_counts_do_not_depend_on_the_number_of_processes(folder: Path, tmp_path: Path) -> None:
    for count in (1, 2, 3):
        run(count, folder, tmp_path / str(count))
    alone = (tmp_path / "1" / "0.json").read_text()
    assert (json.loads(alone)["images"], json.loads(alone)["unreadable"]) == (13, 1)
    for count in (2, 3):
        assert [(tmp_path / str(count) / f"{rank}.json").read_text() for rank in range(count)] == [alone] * count
        kept = (tmp_path / str(count) / "predictions").read_text()
        assert kept == (tmp_path / "1" / "predictions").read_text()


@pytest.mark.slow
def test_audits_of_all_processes_are_one(folder: Path, tmp_path: Path) -> None:
    for count in (1, 2):
        run(count, folder, tmp_path / str(count), "fast")
    one, two = (json.loads((tmp_path / str(count) / "0.json").read_text()) for count in (1, 2))
    assert one["audit"]["images"] == 12
    assert one == two
