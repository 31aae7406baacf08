"""All attempts at one address: bytes into the partial file, with retries, resuming where that is safe."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from r2convert.download.addresses import Address, HostMemory
from r2convert.download.partial import Origin, PartialFile
from r2convert.download.pins import Expectation
from r2convert.download.transport import Answer, Patience, Transport, in_brief
from r2convert.errors import FetchError, ServerRefusedError, UnreachableError, WrongFileError
from r2convert.files import open_regular

_PROGRESS = 1 << 20
"""Bytes beyond the furthest point so far that make a failed attempt count as progress."""

_BLOCK = 1 << 20


class ProgressSink(Protocol):
    """What a caller implements to show transfers. Calls may come from several threads at once."""

    def started(self, name: str, total: int | None, done: int) -> None:
        """File ``name`` begins (again) at byte ``done`` of ``total`` (``None``: length not announced)."""

    def advanced(self, name: str, amount: int) -> None:
        """``amount`` more bytes of ``name`` have arrived."""

    def finished(self, name: str) -> None:
        """No more bytes of ``name`` will come in this run, whether it went well or not."""

    def message(self, text: str) -> None:
        """Something a person should know: a retry, a clean start, a wait, a bad file set aside."""


class SilentProgress:
    """Shows nothing."""

    def started(self, name: str, total: int | None, done: int) -> None:
        """Ignore the start of a file."""

    def advanced(self, name: str, amount: int) -> None:
        """Ignore arriving bytes."""

    def finished(self, name: str) -> None:
        """Ignore the end of a file."""

    def message(self, text: str) -> None:
        """Ignore a message."""


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """How a run fetches.

    Args:
        patience: time limits and retries.
        largest_file: bytes; a file of unknown size may not be larger. No Res2Net file comes near.
        hosts: hosts that failed; share one settings object over a run and no file waits for them again.
        cancelled: set from another thread to end waits and transfers.
    """

    patience: Patience = field(default_factory=Patience)
    largest_file: int = 4 << 30
    hosts: HostMemory = field(default_factory=HostMemory)
    cancelled: threading.Event = field(default_factory=threading.Event)


class Transfer:
    """Fills a partial file, which may already hold bytes, from one URL."""

    def __init__(
        self,
        address: Address,
        partial: PartialFile,
        wanted: Expectation,
        settings: FetchSettings,
        progress: ProgressSink,
    ) -> None:
        self._address = address
        self._partial = partial
        self._wanted = wanted
        self._settings = settings
        self._progress = progress

    def run(self) -> None:
        """Bring the partial file to its full length. Its hash is not judged here.

        Raises:
            FetchError: the address does not give the file.
            CacheError: the disk refuses (retrying elsewhere would not help).
        """
        failures, furthest = 0, self._partial.size
        with Transport(self._settings.patience) as transport:
            while True:
                try:
                    return self._try_once(transport)
                except FetchError as error:
                    failures = 1 if self._partial.size >= furthest + _PROGRESS else failures + 1
                    furthest = max(furthest, self._partial.size)
                    patience = self._settings.patience
                    wait = patience.wait_after(error, failures)
                    if wait is None:
                        if error.wait is not None and error.wait > patience.longest_wait:
                            self._tell(f"the server asks to wait {error.wait:,.0f} s, which is too long")
                        raise
                    self._tell(f"{in_brief(error)}: trying again in {wait:.1f} s")
                    if self._settings.cancelled.wait(wait):
                        raise

    def _try_once(self, transport: Transport) -> None:
        plan = plan_resume(self._partial.origin, self._partial.size, self._address.text, self._wanted)
        if plan.complete:
            return
        why_not: str | None = plan.why_not
        if plan.offset:
            why_not = self._continue(transport, plan)
        if why_not is not None:
            with transport.ask(self._address) as answer:
                self._take_whole(answer, why_not)

    def _continue(self, transport: Transport, plan: ResumePlan) -> str | None:
        """Go on from what is there; return why that cannot be done, ``None`` if it was."""
        with transport.ask(self._address, offset=plan.offset, if_range=plan.if_range) as answer:
            if answer.status == 416:
                complete = answer.total == plan.offset
                return None if complete else "the server says that the file is shorter than what is already here"
            if answer.status == 200:
                self._take_whole(answer, "the server sends the whole file again")
                return None
            why_not = _objection_to_rest(self._partial.origin, plan, answer, self._wanted)
            if why_not is None:
                self._check_announcement(answer)
                self._tell(f"continuing at {plan.offset:,} bytes")
                self._partial.resume()
                self._copy(answer)
            return why_not

    def _take_whole(self, answer: Answer, why_not: str) -> None:
        """Start at the first byte; what is there is dropped only now, when something better is on its way."""
        self._check_announcement(answer)
        if why_not:
            self._tell(f"starting over: {why_not}")
        self._partial.begin(answer.origin)
        self._copy(answer)

    def _check_announcement(self, answer: Answer) -> None:
        """Refuse before the first byte what the headers already rule out."""
        total, size = answer.total, self._wanted.size
        if total is not None and size is not None and total != size:
            raise WrongFileError(
                "the server has a file of another size under this name",
                where=self._address.text,
                expected=f"{size:,} bytes",
                got=f"{total:,} bytes",
            )
        if total is not None and total > self._settings.largest_file:
            raise self._too_long(self._settings.largest_file)
        if total is None and not answer.delimited and not self._wanted.hash_decides:
            raise ServerRefusedError(
                "the server does not say how long the file is, and no hash is known to judge it by",
                where=self._address.text,
                expected="a Content-Length",
                got="a body that may end anywhere",
            )
        expected = total if total is not None else size
        if expected is not None:
            self._partial.require_space(expected)

    def _copy(self, answer: Answer) -> None:
        partial, name = self._partial, self._wanted.file_name
        lengths = (self._wanted.size, answer.total, partial.origin.total if partial.origin else None)
        total = next((length for length in lengths if length is not None), None)
        limit = self._settings.largest_file if total is None else total
        self._progress.started(name, total, partial.size)
        for chunk in answer.chunks():
            if partial.size + len(chunk) > limit:
                raise self._too_long(limit)
            partial.write(chunk)
            self._progress.advanced(name, len(chunk))
            if self._settings.cancelled.is_set():
                raise UnreachableError("the transfer was stopped", where=self._address.text)
        if total is not None and partial.size < total:
            raise UnreachableError(
                "the transfer broke off",
                where=self._address.text,
                expected=f"{total:,} bytes",
                got=f"{partial.size:,} of {total:,} bytes",
                retry=True,
            )

    def _too_long(self, limit: int) -> FetchError:
        self._partial.discard()  # whatever it is, it is not the file
        what, expected = "the server sends more than the file can be", f"at most {limit:,} bytes"
        return WrongFileError(what, where=self._address.text, expected=expected)

    def _tell(self, text: str) -> None:
        self._progress.message(f"{self._wanted.file_name}: {text}")


@dataclass(frozen=True, slots=True)
class ResumePlan:
    """What to do with the bytes that are there.

    Args:
        offset: byte to continue at; 0 for a clean start.
        if_range: condition to send along.
        complete: nothing is missing: no request is needed.
        why_not: why there are bytes but they cannot be used, for people; empty otherwise.
    """

    offset: int = 0
    if_range: str | None = None
    complete: bool = False
    why_not: str = ""


def plan_resume(origin: Origin | None, have: int, url: str, wanted: Expectation) -> ResumePlan:
    """Decide how to go on with ``have`` bytes that came from ``origin``, now asking ``url``.

    A full hash decides in the end whatever the pieces were, so any address of the same file may go on. Without
    one, only the same address may, and something has to speak for the file being the same: an entity tag or,
    where at least eight digits of the hash are published, its date or length.
    """
    if origin is None or have == 0:
        return ResumePlan()
    if origin.total is not None and wanted.size is not None and origin.total != wanted.size:
        return ResumePlan(why_not=f"it belongs to a file of {origin.total:,} bytes, not {wanted.size:,}")
    total = wanted.size if wanted.size is not None else origin.total
    if total is not None and have > total:
        return ResumePlan(why_not=f"it has {have:,} bytes, the file only {total:,}")
    if total is not None and have == total:
        return ResumePlan(offset=have, complete=True)
    if url != origin.url:
        if wanted.sha256 is None:
            return ResumePlan(why_not="it came from another address, and no full hash could tell two files apart")
        return ResumePlan(offset=have)
    if origin.etag is not None:
        return ResumePlan(offset=have, if_range=origin.etag)
    if wanted.hash_decides and (origin.last_modified is not None or total is not None):
        return ResumePlan(offset=have, if_range=origin.last_modified)
    return ResumePlan(why_not="neither the server nor a published hash can tell whether the file is still the same")


def _objection_to_rest(origin: Origin | None, plan: ResumePlan, answer: Answer, wanted: Expectation) -> str | None:
    """Say why a 206 answer is not the rest of the file the first bytes belong to; ``None`` if it is."""
    if origin is None or answer.start != plan.offset:
        return "the server sends another range than the one asked for"
    total = wanted.size if wanted.size is not None else origin.total
    if total is not None and answer.total is not None and answer.total != total:
        return f"the file now has {answer.total:,} bytes instead of {total:,}"
    etag = answer.origin.etag
    if answer.origin.url == origin.url and origin.etag is not None and etag is not None and etag != origin.etag:
        return "the file on the server has changed"
    if not wanted.hash_decides and (etag is None or answer.total is None):
        return "the server no longer tells whether the file is the same"
    return None


def copy_into(partial: PartialFile, path: Path, wanted: Expectation, largest_file: int, progress: ProgressSink) -> None:
    """Copy a file from a folder on this machine, or on a mounted share, into the partial file, hashing it on the way.

    Raises:
        FetchError: the folder does not have it, it has another size or grows, or it is no regular file.
        CacheError: the disk refuses.
    """
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > largest_file or wanted.size not in (None, size):
                raise WrongFileError(
                    "the mirror folder has a file of another size under this name",
                    where=str(path),
                    expected=f"at most {largest_file:,} bytes" if wanted.size is None else f"{wanted.size:,} bytes",
                    got=f"{size:,} bytes",
                )
            partial.require_space(size)
            partial.begin(Origin(url=str(path), total=size))
            progress.started(wanted.file_name, size, 0)
            # One byte more than there were shows a file that somebody is still writing to.
            while block := stream.read(min(_BLOCK, size + 1 - partial.size)):
                partial.write(block)
                progress.advanced(wanted.file_name, len(block))
    except OSError as problem:
        raise _no_mirror_file(path, problem.strerror or str(problem)) from problem
    if partial.size != size:
        partial.discard()
        raise _no_mirror_file(path, "its size changes while it is copied")


def _no_mirror_file(path: Path, reason: str) -> FetchError:
    return ServerRefusedError("the mirror folder does not give the file", where=str(path), got=reason)
