"""Running the real command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.loopback_lab import Lab
from tests.download.server import LoopbackServer


@dataclass(frozen=True)
class Ran:
    """What a run left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A catalogue of a user's own variants, served over https."""
    with LoopbackServer(tls=True) as server:
        yield Lab(server, tmp_path)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The cache folder that :func:`run` uses."""
    return tmp_path / "cache"


@pytest.fixture
def run(tmp_path: Path, cache: Path) -> Run:
    """Run ``r2convert`` with arguments, away from the source tree, the user's cache and the user's configuration."""

    def call(*arguments: object, cwd: Path | None = None, **environment: str) -> Ran:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("R2CONVERT_")}
        done = subprocess.run(
            [sys.executable, "-m", "r2convert", *map(str, arguments)],
            cwd=cwd or tmp_path,
            env={**inherited, "R2CONVERT_CACHE": str(cache), "XDG_CONFIG_HOME": "/nowhere", **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return call
