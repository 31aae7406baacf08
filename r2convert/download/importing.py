"""Files brought by hand, from wherever a browser or a USB stick left them, under any name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from r2convert.catalog.variant import Publisher, Source, Variant
from r2convert.download.cache import Cache, CachedFile
from r2convert.download.download import bring_in, objection_to_content
from r2convert.download.transfer import ProgressSink
from r2convert.errors import AccessError, UnknownFileError, UsageError, WrongFileError
from r2convert.files import sha256_of

Fits = Callable[[Path, Variant, Source], bool]
"""Whether a file's names and shapes are those of a variant in the layout of a source."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A file brought in.

    Args:
        variant: whose weights it holds.
        source: the published file it is.
        file: where it lies now.
        note: how it was recognised, for people.
    """

    variant: Variant
    source: Source
    file: CachedFile
    note: str


def import_file(
    path: Path,
    variants: Iterable[Variant],
    cache: Cache,
    *,
    fits: Fits,
    publisher: Publisher | None = None,
    progress: ProgressSink | None = None,
) -> Imported:
    """Recognise a file by its hash, else by its content, and copy it into the cache.

    Content counts only for published files of which no hash is known: where one is, a file with another hash
    is not that file, whatever it holds.

    Args:
        path: the file.
        variants: what it may be.
        cache: where to.
        fits: looks into the file; called only if no hash settles it.
        publisher: whose file it is, where the content alone cannot tell.
        progress: told about the copy.

    Raises:
        UnknownFileError: it is no published file that is known, or no file at all.
        UsageError: it could be one of several.
        WrongFileError: another file was recorded under its name before.
        AccessError: it cannot be read, or the cache cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            raise UnknownFileError(
                "this is not a regular file", where=str(path), next_step="give the path of the downloaded file"
            )
        sha256, size = sha256_of(path)
    except OSError as problem:
        raise AccessError("the file cannot be read", where=str(path), got=problem.strerror or str(problem)) from problem
    candidates = [
        (variant, source)
        for variant in variants
        for source in variant.sources
        if publisher is None or source.publisher == publisher
    ]
    chosen = _by_hash(candidates, sha256, size, path, cache)
    note = "recognised by its hash"
    if chosen is None:
        chosen = _by_content(candidates, path, sha256, fits, cache)
        note = "recognised by its content only: nobody publishes a hash of this file, so it may not be the original"
    variant, source = chosen
    file = bring_in(source, path, sha256, cache, progress=progress)
    if file.sha256 != sha256:
        note = "not taken: another file is already in the cache under its name"
    return Imported(variant, source, file, note)


def _by_hash(
    candidates: list[tuple[Variant, Source]], sha256: str, size: int, path: Path, cache: Cache
) -> tuple[Variant, Source] | None:
    """Return the published file with this hash or this beginning of it, if there is one."""
    for variant, source in candidates:
        wanted = cache.expectation(source)
        if wanted.sha256 == sha256:
            return variant, source
        begins_so = wanted.sha256_prefix is not None and sha256.startswith(wanted.sha256_prefix.lower())
        objection = wanted.objection(sha256, size) if begins_so else None
        if objection is not None:
            raise WrongFileError(
                f"this is not {source.file_name}: {objection.reason}",
                where=str(path),
                expected=objection.expected,
                got=objection.got,
                next_step="if the recorded file was the wrong one, run "
                f"`r2convert cache --forget {source.file_name}` and import again",
            )
        if begins_so:
            return variant, source
    return None


def _by_content(
    candidates: list[tuple[Variant, Source]], path: Path, sha256: str, fits: Fits, cache: Cache
) -> tuple[Variant, Source]:
    """Return the one published file without a known hash that this file can be."""
    matching = [
        (variant, source)
        for variant, source in candidates
        if not cache.expectation(source).hash_is_known
        and objection_to_content(path, source.format) is None
        and fits(path, variant, source)
    ]
    if not matching:
        raise UnknownFileError(
            "this is none of the published files",
            where=str(path),
            expected="a file whose SHA-256 begins as published, or one whose hash nobody publishes",
            got=f"SHA-256 {sha256}",
            next_step="a file of your own needs no import: give it to `r2convert map --src` or `verify`",
        )
    # Two trainings of one network have equal names and shapes: the name that a browser left tells them apart.
    matching = [pair for pair in matching if pair[1].file_name == path.name] or matching
    if len(matching) > 1:
        raise UsageError(
            "the file's content fits several published files",
            where=str(path),
            expected="one of " + ", ".join(source.file_name for _, source in matching),
            next_step=f"say which weights, such as {matching[0][1].weights}, or the publisher with --from",
        )
    return matching[0]
