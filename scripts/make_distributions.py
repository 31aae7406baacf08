"""Builds the source distribution and the wheel into dist/, twice, and tries the wheel in a clean environment.

    python -m scripts.make_distributions [--output dist] [--build-only]

The wheel is built out of the source distribution, so that neither lacks what the other needs. Both are the same bytes
whenever and wherever they are built from the same sources: their dates are SOURCE_DATE_EPOCH
(https://reproducible-builds.org/specs/source-date-epoch/), by default the date of the last commit.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "constraints.txt"


def copy_sources(folder: Path) -> Path:
    """Copy the working tree without what .gitignore names; return the copy."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split()]
    return Path(shutil.copytree(ROOT, folder / "sources", ignore=shutil.ignore_patterns(".git", *ignored)))


def build(folder: Path, epoch: int) -> tuple[Path, Path]:
    """Build the source distribution, and the wheel out of it.

    Args:
        folder: where they go; nothing else may be in it.
        epoch: the date of every file in them, in seconds since 1970.

    Returns:
        The source distribution and the wheel.
    """
    with tempfile.TemporaryDirectory() as place:
        source = _call_backend("build_sdist", copy_sources(Path(place)), folder, epoch)
        _set_dates(source, epoch)
        with tarfile.open(source) as archive:
            archive.extractall(place, filter="data")
        wheel = _call_backend("build_wheel", Path(place, source.name.removesuffix(".tar.gz")), folder, epoch)
    return source, wheel


def _call_backend(hook: str, tree: Path, folder: Path, epoch: int) -> Path:
    """Call the build backend as PEP 517 describes it, without an environment of its own: its version is pinned."""
    code = f"import sys; from setuptools import build_meta; build_meta.{hook}(sys.argv[1])"
    before = set(folder.iterdir())
    subprocess.run(
        [sys.executable, "-c", code, str(folder.resolve())],
        cwd=tree,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
        umask=0o022,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    (built,) = set(folder.iterdir()) - before
    return built


def _set_dates(archive: Path, epoch: int) -> None:
    """Write a source distribution anew in a fixed order, with one date and no owner: setuptools takes the machine's."""
    plain = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old, key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    archive.write_bytes(gzip.compress(plain.getvalue(), mtime=epoch))


def install(wheel: Path, place: str) -> str:
    """Install the wheel into an environment of its own in a folder; return the environment's Python.

    As for any user, pip compiles what it installs; it does so with PYTHONDONTWRITEBYTECODE set, too.
    """
    venv.create(f"{place}/environment", with_pip=True)
    python = f"{place}/environment/bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", str(CONSTRAINTS), str(wheel.resolve())], cwd=place, check=True)
    return python


def try_out(wheel: Path) -> None:
    """Install the wheel by itself and do the whole job there, outside the tree."""
    with tempfile.TemporaryDirectory() as place:
        python = install(wheel, place)
        # `demo` fetches, maps and verifies a stand-in with the installed commands.
        for arguments in (["list"], ["demo"]):
            print(f"r2convert {' '.join(arguments)}", flush=True)
            subprocess.run([python, "-I", "-m", "r2convert", *arguments], cwd=place, env=bare(place), check=True)


def bare(home: str) -> dict[str, str]:
    """Return an environment in which nothing points at the source tree, and no cache has been used before."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("R2CONVERT_", "PYTHON"))}
    return {**kept, "HOME": home, "R2CONVERT_CACHE": f"{home}/cache"}


def source_date() -> int:
    """Return SOURCE_DATE_EPOCH, or the date of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None:
        return int(given)
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> int:
    """Build, compare, check and try; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--build-only", action="store_true", help="neither build again nor try the wheel")
    options = parser.parse_args()
    shutil.rmtree(options.output, ignore_errors=True)
    options.output.mkdir(parents=True)
    built = build(options.output, source_date())
    if not options.build_only:
        with tempfile.TemporaryDirectory() as place:
            for first, second in zip(built, build(Path(place), source_date()), strict=True):
                if first.read_bytes() != second.read_bytes():
                    print(f"{first.name}: built twice, the bytes differ", file=sys.stderr)
                    return 1
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, built)], check=True)
        try_out(built[1])
    for path in built:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
