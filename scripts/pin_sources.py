"""Write full SHA-256 hashes and sizes of published files into mappings/, for maintainers.

A file is pinned only when two mirrors on different hosts give the same bytes, and these begin as published. Every
mirror is downloaded in full, into a temporary folder; nothing is taken from the cache or from R2CONVERT_MIRROR.
The files of weights/ are edited line by line, so that comments stay.

Example:
    python scripts/pin_sources.py res2net50_w14_s8.official
    python scripts/pin_sources.py --all --dry-run

Exit code: 0 if nothing spoke against a pin, 1 if mirrors disagreed with each other or with an existing pin.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from msgspec.structs import replace

from r2convert.catalog.loading import builtin_folder, load_weights
from r2convert.catalog.variant import Source
from r2convert.download.cache import Cache, CachedFile
from r2convert.download.download import fetch_source
from r2convert.errors import R2ConvertError
from r2convert.files import parse_toml, write_text


@dataclass(frozen=True)
class Verdict:
    """What the mirrors of one file say.

    Args:
        word: ``pinned``, ``confirmed``, ``skipped`` or ``CONFLICT``.
        reason: why, for people.
        sha256: what to write, if anything.
        size: what to write, if anything.
    """

    word: str
    reason: str
    sha256: str | None = None
    size: int | None = None


class Tell:
    """Prints what the fetch room has to say; shows no bars."""

    def started(self, name: str, total: int | None, done: int) -> None:
        """Ignore the start."""

    def advanced(self, name: str, amount: int) -> None:
        """Ignore arriving bytes."""

    def finished(self, name: str) -> None:
        """Ignore the end."""

    def message(self, text: str) -> None:
        """Print a message."""
        print(f"  {text}", file=sys.stderr)


def download_each(source: Source, folder: Path) -> tuple[dict[str, CachedFile], list[str]]:
    """Return the file from every host that gives it, and what went wrong at the others.

    Each address gets a cache of its own, so that none can lean on what another sent.
    """
    files: dict[str, CachedFile] = {}
    problems: list[str] = []
    for index, url in enumerate(source.urls):
        host = urlsplit(url).hostname or url
        if host in files:
            continue
        alone = replace(source, urls=(url,), sha256=None, size=None)
        try:
            files[host] = fetch_source(alone, Cache(folder / str(index)), mirror="", progress=Tell())
        except R2ConvertError as error:
            problems.append(f"{host}: {error.what} ({error.got})")
    return files, problems


def judge(source: Source, files: dict[str, CachedFile], problems: list[str]) -> Verdict:
    """Compare what the mirrors gave."""
    found = {(file.sha256, file.size) for file in files.values()}
    if len(found) > 1:
        each = ", ".join(f"{host}: {file.sha256}" for host, file in files.items())
        return Verdict("CONFLICT", f"the mirrors disagree: {each}")
    if len(files) < 2:
        why = f" ({'; '.join(problems)})" if problems else ""
        return Verdict("skipped", f"{len(files)} of the 2 independent mirrors that it takes gave the file{why}")
    ((sha256, size),) = found
    if source.sha256 is None:
        return Verdict("pinned", " and ".join(files), sha256, size)
    if (source.sha256, source.size or size) == (sha256, size):
        return Verdict("confirmed", " and ".join(files), sha256, size)
    return Verdict("CONFLICT", f"pinned as {source.sha256}, but {' and '.join(files)} have {sha256}")


def with_pin(text: str, file_name: str, sha256: str, size: int) -> str:
    """Return the text of a weights file with hash and size of one source written in, all else unchanged.

    Raises:
        ValueError: the source is not found exactly once, or the result does not read as intended.
    """
    intended = parse_toml(text)
    entries = [entry for entry in intended["files"] if entry["file_name"] == file_name]
    lines = text.splitlines(keepends=True)
    places = [index for index, line in enumerate(lines) if line.split("#")[0].strip() == f'file_name = "{file_name}"']
    if len(entries) != 1 or len(places) != 1:
        raise ValueError(f"{file_name} is not named exactly once")
    pin = {"sha256": sha256, "size": size}
    missing = [
        f'{key} = "{value}"\n' if key == "sha256" else f"{key} = {value}\n"
        for key, value in pin.items()
        if key not in entries[0]
    ]
    entries[0].update(pin)
    result = "".join([*lines[: places[0] + 1], *missing, *lines[places[0] + 1 :]])
    if parse_toml(result) != intended:
        raise ValueError(f"{file_name} could not be pinned without changing something else")
    return result


def pin_weights(path: Path, *, dry_run: bool) -> bool:
    """Pin the files of one set of weights; false if something disagreed."""
    agreed = True
    for source in load_weights(path).sources:
        with tempfile.TemporaryDirectory() as folder:
            verdict = judge(source, *download_each(source, Path(folder)))
        print(f"{verdict.word:<10}{source.file_name}: {verdict.reason}", flush=True)
        agreed = agreed and verdict.word != "CONFLICT"
        if verdict.sha256 is not None and verdict.size is not None and not dry_run:
            text = path.read_text(encoding="utf-8")
            changed = with_pin(text, source.file_name, verdict.sha256, verdict.size)
            if changed != text:
                write_text(path, changed)
    return agreed


def main() -> int:
    """Pin what the command line names; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", help="ids of weights")
    parser.add_argument("--all", action="store_true", help="all weights")
    parser.add_argument("--dry-run", action="store_true", help="download and compare, write nothing")
    parser.add_argument("--mappings", type=Path, default=builtin_folder(), help="folder of mappings")
    options = parser.parse_args()
    if bool(options.variants) == options.all:
        parser.error("name weights, or say --all")
    names = (
        sorted(path.name.removesuffix(".toml") for path in (options.mappings / "weights").glob("*.toml"))
        if options.all
        else options.variants
    )
    try:
        # All weights are looked at, also after one that disagreed.
        results = [
            pin_weights(options.mappings / "weights" / f"{name}.toml", dry_run=options.dry_run) for name in names
        ]
        return 0 if all(results) else 1
    except R2ConvertError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
