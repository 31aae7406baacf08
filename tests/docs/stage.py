"""Where examples run: a folder and an environment that last for one page, and the files a page takes for granted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.examples import Command
from tests.published import Published

IMAGES, WEIGHTS = "/data/imagenet/val", "/data/weights"
"""Where the pages say that the images and the publishers' files are."""


@dataclass
class Stage:
    """One page's folder; what a command exports or where it goes is there for the next one."""

    folder: Path
    published: Published
    variables: dict[str, str] = field(init=False)
    where: Path = field(init=False)

    def __post_init__(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("R2CONVERT_")}
        # The commands of this environment, not of another that may be installed.
        path = os.pathsep.join([str(Path(sys.executable).parent), inherited["PATH"]])
        here = self.published.environment(self.folder.parent / "cache")
        # Threads that wait for each other do not spin: on a busy machine that takes three times as long.
        self.variables = {**inherited, **here, "PATH": path, "COLUMNS": "80", "OMP_WAIT_POLICY": "PASSIVE"}
        self.where = self.folder

    def run(self, command: Command) -> tuple[int, str]:
        """Run a command in the shell; return its exit code and what it printed on stdout and stderr."""
        state = self.folder.parent / "state"
        script = f"{self.places(command.text)}\ncode=$?; {{ pwd; env -0; }} > {state}; exit $code"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.where,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        self._remember(state)
        return done.returncode, done.stdout

    def places(self, text: str) -> str:
        """The text with the folders of this machine for those that the pages use as examples."""
        return text.replace(IMAGES, str(self.published.images)).replace(WEIGHTS, str(self.published.mirror))

    def take(self, source: Path, name: str) -> None:
        """Put a file into the folder under the name that the page has for it."""
        shutil.copy(source, self.folder / name)

    def _remember(self, state: Path) -> None:
        if not state.exists():
            return
        where, _, variables = state.read_text().partition("\n")
        self.where = Path(where)
        self.variables = dict(line.split("=", 1) for line in variables.split("\0") if "=" in line)
        state.unlink()
