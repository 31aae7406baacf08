"""What the installed torch does with files, found out in confined processes; torch is never imported here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from r2convert.errors import UnsupportedCheckpointError

#: Runs in a Python of its own: imports torch once, then loads each file in a child with little memory and time.
_PROGRAM: Final = """
import json, os, resource, signal, sys, warnings
warnings.simplefilter("ignore")
try:
    import torch
except ImportError:
    sys.exit(3)
torch.set_num_threads(1)

def load(path, out):
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 26, 1 << 26))
    signal.alarm(20)
    try:
        torch.load(path, map_location="cpu", weights_only=True)
        answer = "loads"
    except BaseException as error:
        answer = type(error).__name__
    os.write(out, answer.encode())

answers = []
for path in json.load(sys.stdin):
    back, out = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        load(path, out)
        os._exit(0)
    os.close(out)
    with os.fdopen(back) as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    answers.append(answer or ("no answer in 20 s" if status == -signal.SIGALRM else f"killed by signal {-status}"))
json.dump([torch.__version__, answers], sys.stdout)
"""


def judge_with_torch(paths: Sequence[Path]) -> list[str]:
    """Load each file with ``torch.load(weights_only=True)`` and say what came of it.

    Returns:
        For each file: ``loads``, the name of the exception, or how the process ended.

    Raises:
        UnsupportedCheckpointError: torch is not installed, or its process failed.
    """
    finished = subprocess.run(  # noqa: S603 - this Python, with a program of our own
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps([str(path) for path in paths]),
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise UnsupportedCheckpointError(
            "torch is needed to compare with it",
            got="torch is not installed" if finished.returncode == 3 else finished.stderr[-300:],
            next_step="install torch, or run without --against torch",
        )
    _, answers = json.loads(finished.stdout)
    return [str(answer) for answer in answers]
