"""All tries at one address: bytes into the partial file, with retries, resuming where that is safe."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from r2convert.download.addresses import Address, HostMemory
from r2convert.download.partial import Origin, PartialFile, ResumePlan, objection_to_rest, plan_resume
from r2convert.download.pins import Expectation
from r2convert.download.transport import Answer, MirrorFaultError, Patience, Transport, in_brief
from r2convert.errors import ServerRefusedError, UnreachableError, WrongFileError
from r2convert.files import open_regular


class ProgressSink(Protocol):
    """What a caller implements to show transfers. Calls may come from several threads at once."""

    def started(self, name: str, total: int | None, done: int) -> None:
        """File ``name`` begins (again) at byte ``done`` of ``total`` (``None``: length not announced)."""

    def advanced(self, name: str, amount: int) -> None:
        """``amount`` more bytes of ``name`` have arrived."""

    def finished(self, name: str) -> None:
        """No more bytes of ``name`` will come in this run, whether it went well or not."""

    def message(self, text: str) -> None:
        """Something a person should know: a retry, a clean start, a wait, a bad file put aside."""


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


_PROGRESS = 1 << 20
"""Bytes beyond the furthest point so far that make a failed try count as progress."""

_BLOCK = 1 << 20

LARGEST_FILE = 4 << 30
"""No Res2Net file comes near: a server that sends more is not sending one."""


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """How a run fetches.

    Args:
        patience: time limits and retries.
        largest_file: bytes; a file of unknown size may not be larger.
        hosts: hosts that failed; share one settings object over a run and no file waits for them again.
        cancelled: set from another thread to end waits and transfers.
    """

    patience: Patience = field(default_factory=Patience)
    largest_file: int = LARGEST_FILE
    hosts: HostMemory = field(default_factory=HostMemory)
    cancelled: threading.Event = field(default_factory=threading.Event)


class Transfer:
    """Fills a partial file from one address.

    Args:
        address: the URL.
        partial: the file to fill; it may already hold bytes.
        wanted: what the file must be.
        settings: limits.
        progress: told about every step.
    """

    def __init__(
        self,
        address: Address,
        partial: PartialFile,
        wanted: Expectation,
        settings: FetchSettings,
        progress: ProgressSink,
    ) -> None:
        self._address = address
        self._url = address.text
        self._partial = partial
        self._wanted = wanted
        self._settings = settings
        self._progress = progress
        self._furthest = partial.size

    def run(self) -> None:
        """Bring the partial file to its full length. Its hash is not judged here.

        Raises:
            MirrorFaultError: the address does not give the file.
            CacheError: the disk refuses (retrying elsewhere would not help).
        """
        failures = 0
        patience = self._settings.patience
        with Transport(patience) as transport:
            while True:
                try:
                    self._try_once(transport)
                except MirrorFaultError as fault:
                    failures = 1 if self._partial.size >= self._furthest + _PROGRESS else failures + 1
                    self._furthest = max(self._furthest, self._partial.size)
                    if not fault.retry or failures >= patience.attempts:
                        raise
                    self._wait(fault, failures)
                else:
                    return

    def _wait(self, fault: MirrorFaultError, failures: int) -> None:
        patience = self._settings.patience
        wait = patience.backoff(failures) if fault.wait is None else fault.wait
        if wait > patience.longest_wait:
            self._tell(f"the server asks for {wait:,.0f} s of patience: not waiting")
            raise fault
        self._tell(f"{in_brief(fault.error)}: trying again in {wait:.1f} s")
        if self._settings.cancelled.wait(wait):
            raise fault

    def _try_once(self, transport: Transport) -> None:
        plan = plan_resume(self._partial.origin, self._partial.size, self._url, self._wanted)
        if plan.complete:
            return
        why_not: str | None = plan.why_not
        if plan.offset:
            why_not = self._continue(transport, plan)
            if why_not is None:
                return
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
            why_not = objection_to_rest(self._partial.origin, plan, answer.start, answer.origin, self._wanted)
            if why_not is None:
                self._check_announcement(answer)
                self._tell(f"continuing at {plan.offset:,} bytes")
                self._partial.resume()
                self._copy(answer)
            return why_not

    def _take_whole(self, answer: Answer, why_not: str | None) -> None:
        """Start at the first byte; what is there is dropped only now, when something better is on its way."""
        self._check_announcement(answer)
        if why_not:
            self._tell(f"starting over: {why_not}")
        self._partial.begin(answer.origin)
        self._copy(answer)

    def _copy(self, answer: Answer) -> None:
        partial, progress = self._partial, self._progress
        name = self._wanted.file_name
        progress.started(name, answer.total or self._wanted.size, partial.size)
        limit = self._limit(answer)
        for chunk in answer.body.chunks():
            if partial.size + len(chunk) > limit:
                raise self._too_long(limit)
            partial.write(chunk)
            progress.advanced(name, len(chunk))
            if self._settings.cancelled.is_set():
                raise MirrorFaultError(UnreachableError("the transfer was stopped", where=self._url))
        known = partial.origin.total if partial.origin is not None else None
        total = answer.total or self._wanted.size or known
        if total is not None and partial.size < total:
            error = UnreachableError(
                "the transfer broke off",
                where=self._url,
                expected=f"{total:,} bytes",
                got=f"{partial.size:,} of {total:,} bytes",
            )
            raise MirrorFaultError(error, retry=True)

    def _limit(self, answer: Answer) -> int:
        if self._wanted.size is not None:
            return self._wanted.size
        return answer.total if answer.total is not None else self._settings.largest_file

    def _check_announcement(self, answer: Answer) -> None:
        """Refuse before the first byte what the headers already rule out."""
        total = answer.total
        if total is not None and self._wanted.size is not None and total != self._wanted.size:
            raise MirrorFaultError(
                WrongFileError(
                    "the server has a file of another size under this name",
                    where=self._url,
                    expected=f"{self._wanted.size:,} bytes",
                    got=f"{total:,} bytes",
                )
            )
        if total is not None and total > self._settings.largest_file:
            raise self._too_long(self._settings.largest_file)
        if total is None and not answer.delimited and not self._wanted.hash_decides:
            raise MirrorFaultError(
                ServerRefusedError(
                    "the server does not say how long the file is, and no hash is known to judge it by",
                    where=self._url,
                    expected="a Content-Length",
                    got="a body that may end anywhere",
                )
            )
        expected = total if total is not None else self._wanted.size
        if expected is not None:
            self._partial.require_space(expected)

    def _too_long(self, limit: int) -> MirrorFaultError:
        self._partial.discard()  # whatever it is, it is not the file
        return MirrorFaultError(
            WrongFileError(
                "the server sends more than the file can be", where=self._url, expected=f"at most {limit:,} bytes"
            )
        )

    def _tell(self, text: str) -> None:
        self._progress.message(f"{self._wanted.file_name}: {text}")


def copy_into(partial: PartialFile, path: Path, wanted: Expectation, largest_file: int, progress: ProgressSink) -> None:
    """Copy a file from a folder on this machine, or on a mounted share, into the partial file, hashing it on the way.

    Raises:
        MirrorFaultError: the folder does not have it, it has another size or grows, or it is no regular file.
        CacheError: the disk refuses.
    """
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            _check_size(path, size, wanted, largest_file)
            partial.require_space(size)
            partial.begin(Origin(url=str(path), total=size))
            progress.started(wanted.file_name, size, 0)
            # One byte more than there were shows a file that somebody is still writing to.
            while block := stream.read(min(_BLOCK, size + 1 - partial.size)):
                partial.write(block)
                progress.advanced(wanted.file_name, len(block))
                if partial.size > size:
                    break
    except OSError as problem:
        raise _no_mirror_file(path, problem.strerror or str(problem)) from problem
    if partial.size != size:
        partial.discard()
        raise _no_mirror_file(path, "its size changes while it is copied")


def _check_size(path: Path, size: int, wanted: Expectation, limit: int) -> None:
    if (wanted.size is not None and size != wanted.size) or size > limit:
        error = WrongFileError(
            "the mirror folder has a file of another size under this name",
            where=str(path),
            expected=f"{wanted.size:,} bytes" if wanted.size is not None else f"at most {limit:,} bytes",
            got=f"{size:,} bytes",
        )
        raise MirrorFaultError(error)


def _no_mirror_file(path: Path, reason: str) -> MirrorFaultError:
    return MirrorFaultError(ServerRefusedError("the mirror folder does not give the file", where=str(path), got=reason))
