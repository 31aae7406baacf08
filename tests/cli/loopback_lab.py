"""A laboratory's own variants on a loopback server, for commands that run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.download.server import CERTIFICATE, Fault, LoopbackServer
from tests.download.support import ARCHITECTURE, sha256

_VARIANT = """
id = "{id}"
name = "{name}"
table = "res2net"

{architecture}
[[sources]]
publisher = "{publisher}"
layout = "{publisher}"
format = "{format}"
file_name = "{file_name}"
{prefix}
urls = [{urls}]
"""


@dataclass
class Lab:
    """Variants whose files the test makes, and a way to run commands that know them."""

    server: LoopbackServer
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mappings.mkdir()

    @property
    def mappings(self) -> Path:
        return self.folder / "mappings"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def publish(self, name: str, data: bytes, *faults: Fault, hashed: bool = True, **how: object) -> Path:
        """Add a variant with one file; return where the cache will keep it."""
        prefix = sha256(data)[:8]
        file_name = f"{name}-{prefix}.safetensors" if hashed else f"{name}.safetensors"
        url = self.server.put(file_name, data, *faults, **how)
        text = _VARIANT.format(
            id=name,
            name=name,
            architecture=ARCHITECTURE,
            publisher="official" if hashed else "timm",
            format="safetensors",
            file_name=file_name,
            prefix=f'sha256_prefix = "{prefix}"' if hashed else "",
            urls=f'"{url}"',
        )
        (self.mappings / f"{name}.toml").write_text(text)
        return self.cache / file_name

    def variables(self) -> dict[str, str]:
        """The environment of a command: nothing of the caller's but the path to programs."""
        return {
            "PATH": os.environ["PATH"],
            "R2CONVERT_CACHE": str(self.cache),
            "R2CONVERT_MAPPINGS": str(self.mappings),
            "REQUESTS_CA_BUNDLE": str(CERTIFICATE),
            **self.environment,
        }

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "r2convert", *map(str, arguments)],
            env=self.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)
