"""``hf://ORG/REPO[@REVISION][/FILE]``: a file on the Hugging Face hub, kept in the cache like any other download.

The hub is asked for one JSON document, of what is in a repository with size and SHA-256, and then for the file itself:
https://huggingface.co/docs/hub/api. That is little enough to need no library for it, and so the deadlines, resuming
and the record of first sights are those of every download. ``HF_ENDPOINT`` names another hub, as it does for
``huggingface_hub``. Repositories that need a login are not read.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from r2convert.catalog.variant import FileFormat, Source
from r2convert.download.addresses import Address
from r2convert.download.cache import Cache, CachedFile
from r2convert.download.download import fetch_source
from r2convert.download.locating import HUB, USUAL
from r2convert.download.transfer import FetchSettings, ProgressSink
from r2convert.download.transport import Patience, Transport
from r2convert.errors import FetchError, OfflineError, ServerRefusedError, UsageError

_REFERENCE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/\s]+))?(?:/(?P<path>.+))?")
_FORMATS: dict[str, FileFormat] = {
    ".safetensors": "safetensors",
    ".bin": "pth",
    ".ckpt": "pth",
    ".pdparams": "pdparams",
    ".pt": "pth",
    ".pth": "pth",
}
_LARGEST_ANSWER = 16 << 20
_LISTED = 20


@dataclass(frozen=True, slots=True)
class HubReference:
    """A file on the hub as a person names it.

    Args:
        repo: ``ORG/REPO``.
        revision: branch, tag or commit.
        path: of the file in the repository; ``None``: the one checkpoint there is.
    """

    repo: str
    revision: str
    path: str | None

    @classmethod
    def of(cls, text: str) -> HubReference:
        """Take ``hf://ORG/REPO[@REVISION][/FILE]`` apart.

        Raises:
            UsageError: it is not of this form.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None or {"", ".", ".."} & set((match["path"] or "x").split("/")):
            raise UsageError("this names no file on the hub", expected="hf://ORG/REPO[@REVISION][/FILE]", got=text)
        return cls(match["repo"], match["revision"] or "main", match["path"])

    def file_name(self, path: str = "") -> str:
        """Return the name in the cache of a file of this repository, or what all of these begin with."""
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return "--".join(("hf", *f"{self.repo}{revision}".split("/"), *path.split("/")))


def cached_hub_file(text: str, cache: Cache) -> CachedFile | None:
    """Return a file of the hub that is in the cache and sound, without asking the hub.

    Raises:
        UsageError: ``text`` names no file, or several that are in the cache.
        CacheError: the cache cannot be read.
    """
    reference = HubReference.of(text)
    if reference.path is not None:
        return cache.lookup(_hub_file(reference, reference.path))
    start = reference.file_name()
    found = [entry for entry in cache.entries() if entry.state == "file" and entry.path.name.startswith(start)]
    if len(found) > 1:
        raise _several(text, [entry.path.name.removeprefix(start).replace("--", "/") for entry in found])
    return cache.lookup(_hub_file(reference, found[0].path.name.removeprefix(start))) if found else None


def fetch_hub_file(
    text: str,
    cache: Cache,
    *,
    offline: bool = False,
    progress: ProgressSink | None = None,
    settings: FetchSettings | None = None,
) -> CachedFile:
    """Return a file of the hub from the cache; download and verify it first if it is not there.

    Arguments are those of :func:`~r2convert.download.download.fetch_source`.

    Raises:
        UsageError: it is not ``hf://ORG/REPO[@REVISION][/FILE]``, or the repository holds several checkpoints, or none.
        OfflineError: it is not in the cache and ``offline`` is set.
        FetchError: the hub did not give it, or another file than the one first seen here.
        CacheError: the cache cannot be read or written.
    """
    found = cached_hub_file(text, cache)
    if found is not None:
        return found
    if offline:
        raise OfflineError(f"{text} is not in the cache, and the network may not be used", where=str(cache.folder))
    settings = settings or FetchSettings()
    reference = HubReference.of(text)
    files = _files(reference, settings.patience)
    path = reference.path or _the_checkpoint(text, list(files))
    if path not in files:
        raise UsageError("the repository has no such file", where=text, got=_listed(list(files)))
    return fetch_source(_hub_file(reference, path, files[path]), cache, progress=progress, settings=settings)


class _Stored(Struct):
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None


class _File(Struct):
    rfilename: str
    size: int | None = None
    lfs: _Stored | None = None


class _Repository(Struct):
    """What of the hub's description of a repository is read."""

    siblings: list[_File]


def _hub_file(reference: HubReference, path: str, described: _File | None = None) -> Source:
    """Never pinned, since a branch moves: the hub gives the hash that the file must have when it is first seen."""
    return Source(
        publisher=HUB,
        layout="",
        format=_FORMATS.get(PurePosixPath(path.lower()).suffix, "pth"),
        file_name=reference.file_name(path),
        urls=(f"{_endpoint()}/{reference.repo}/resolve/{quote(reference.revision, safe='')}/{quote(path)}",),
        sha256_prefix=described.lfs.sha256 if described and described.lfs else None,
        size=described.size if described else None,
    )


def _the_checkpoint(text: str, paths: list[str]) -> str:
    """Choose the file that is loaded where none is named."""
    for usual in USUAL:
        if usual in paths:
            return usual
    found = [path for path in paths if PurePosixPath(path.lower()).suffix in _FORMATS]
    if len(found) == 1:
        return found[0]
    if found:
        raise _several(text, found)
    raise UsageError("the repository holds no checkpoint", where=text, got=_listed(paths))


def _several(text: str, paths: list[str]) -> UsageError:
    return UsageError(
        "there are several checkpoints", where=text, got=_listed(paths), next_step=f"name one: {text}/FILE"
    )


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    return (", ".join(paths[:_LISTED]) or "no files") + more


def _files(reference: HubReference, patience: Patience) -> dict[str, _File]:
    """Ask the hub what a repository holds: a description with size and SHA-256 for every path."""
    revision = quote(reference.revision, safe="")
    address = Address.of(f"{_endpoint()}/api/models/{reference.repo}/revision/{revision}?blobs=true")
    try:
        repository = msgspec.json.decode(_read(address, patience), type=_Repository)
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        raise ServerRefusedError(
            "the hub's answer cannot be read", where=address.text, expected="a JSON description of a repository"
        ) from problem
    return {file.rfilename: file for file in repository.siblings}


def _read(address: Address, patience: Patience) -> bytes:
    failures = 0
    while True:
        failures += 1
        try:
            return _read_once(address, patience)
        except FetchError as error:
            wait = patience.wait_after(error, failures)
            if wait is None:
                if (error.got or "").startswith(("401", "403", "404")):
                    error.next_step = (
                        "check the name; a repository that needs a login is not read: download the file with "
                        "`hf download` and give its path"
                    )
                raise
            time.sleep(wait)


def _read_once(address: Address, patience: Patience) -> bytes:
    data = bytearray()
    with Transport(patience) as transport, transport.ask(address) as answer:
        for chunk in answer.chunks():
            data += chunk
            if len(data) > _LARGEST_ANSWER:
                raise ServerRefusedError("the hub's answer is too long", where=address.text)
    return bytes(data)


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
