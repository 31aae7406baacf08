"""Throughput of `r2convert fetch` from the loopback against `curl -o` followed by `sha256sum` of the same file.

Each round measures all of them in turn on the same file, so that a busy machine slows them alike; the table shows
medians and ratios. "transfer" is the time inside a running process, from the request to the file under its final
name, synced to the disk; "command" is the whole process, the start of Python included. curl neither syncs nor checks.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

from r2convert.catalog import load_catalog
from r2convert.catalog.variant import Source
from r2convert.download.cache import Cache
from r2convert.download.download import fetch_source
from scripts.measuring import Figure, parser, tell

NAME = "bench_net"
REMARKS = """\
"transfer" is the time inside a running process, from the request to the file under its final name, synced to the disk;
"command" is the whole process, the start of Python included. `curl` neither syncs nor checks."""


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files with the kernel's sendfile, so that the server is not what is measured."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Stay silent."""

    def copyfile(self, source: object, outputfile: object) -> None:  # noqa: ARG002  # the connection is used
        """Send the open file."""
        self.wfile.flush()
        self.connection.sendfile(source)


def serve(folder: Path, sender: Connection) -> None:
    """Serve a folder for ever, reporting the port first."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    sender.send(server.server_port)
    server.serve_forever()


def timed(job: Callable[[], object]) -> float:
    """Return the seconds a job takes."""
    began = time.perf_counter()
    job()
    return time.perf_counter() - began


def curl_and_sha256sum(url: str, target: Path) -> None:
    """What people do by hand."""
    subprocess.run(["curl", "--silent", "--fail", "--output", str(target), url], check=True)
    subprocess.run(["sha256sum", str(target)], check=True, stdout=subprocess.DEVNULL)


def fetch_command(environment: dict[str, str]) -> None:
    """The command line, in a process of its own."""
    command = [sys.executable, "-m", "r2convert", "fetch", NAME]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def describe_variant(folder: Path, file_name: str) -> None:
    """Write mapping files that name the benchmark's file; the mirror will have it."""
    builtin = Path(load_catalog().folders[0]) / "architectures" / "res2net50_w14_s8.toml"
    geometry = builtin.read_text(encoding="utf-8").split("[geometry]", 1)[1]
    for kind in ("architectures", "weights"):
        (folder / kind).mkdir()
    (folder / "architectures" / f"{NAME}.toml").write_text(
        f'id = "{NAME}"\nname = "{NAME}"\nfamily = "res2net"\nprogram = "authors"\n[geometry]{geometry}',
        encoding="utf-8",
    )
    (folder / "weights" / f"{NAME}.official.toml").write_text(
        f'id = "{NAME}.official"\npublisher = "official"\n[[files]]\n'
        f'layout = "official"\nformat = "pth"\nfile_name = "{file_name}"\n'
        f'sha256_prefix = "{file_name[-12:-4]}"\nurls = ["https://localhost/{file_name}"]\n',
        encoding="utf-8",
    )


def measure(folder: Path, size: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every round for each way to get a file of ``size`` bytes."""
    data = os.urandom(size)
    digest = hashlib.sha256(data).hexdigest()
    file_name = f"bench-{digest[:8]}.pth"
    served = folder / "served"
    served.mkdir()
    (served / file_name).write_bytes(data)
    describe_variant(folder, file_name)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.Process(target=serve, args=(served, sender), daemon=True)
    server.start()
    base = f"http://127.0.0.1:{receiver.recv()}"
    source = Source("official", "official", "pth", file_name, (f"{base}/{file_name}",), sha256_prefix=digest[:8])
    place = folder / "cache"
    environment = {
        **os.environ,
        "R2CONVERT_CACHE": str(place),
        "R2CONVERT_MIRROR": base,
        "R2CONVERT_MAPPINGS": str(folder),
    }
    ways: dict[str, Callable[[], object]] = {
        "curl + sha256sum": lambda: curl_and_sha256sum(f"{base}/{file_name}", folder / "by-curl"),
        "transfer": lambda: fetch_source(source, Cache(place), mirror=""),
        "command": lambda: fetch_command(environment),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, job in ways.items():
            shutil.rmtree(place, ignore_errors=True)
            (folder / "by-curl").unlink(missing_ok=True)
            os.sync()  # nobody pays for the writes of the one before
            took = timed(job)
            if number:  # the first round warms the page cache and the imports
                seconds[name].append(took)
    server.terminate()
    return seconds


def main() -> None:
    """Measure, and print the figures."""
    arguments = parser(__doc__, rounds=11)
    arguments.add_argument("--megabytes", type=int, nargs="+", default=[180, 1000])
    options = arguments.parse_args()
    figures = []
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            runs = measure(Path(folder), megabytes * 10**6, options.rounds)
        for way, goal in (("transfer", "at least 0.8"), ("command", "")):
            ratios = [by_hand / own for by_hand, own in zip(runs["curl + sha256sum"], runs[way], strict=True)]
            note = f"{megabytes / statistics.median(runs[way]):.0f} MB/s"
            name = f"throughput of the {way} / `curl` and `sha256sum`, {megabytes} MB"
            figures.append(Figure(name, goal, round(statistics.median(ratios), 2), note))
    tell(f"Fetching (loopback, median of {options.rounds} rounds)", figures, options, REMARKS)


if __name__ == "__main__":
    main()
