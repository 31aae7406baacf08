"""Fetches in processes of their own, which can be killed, starved of disk or stripped of their rights."""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from r2convert.catalog.variant import Source
from r2convert.download.cache import Cache
from r2convert.errors import R2ConvertError
from tests.download.support import Messages, fetch

NOBODY = 65534


@dataclass(frozen=True)
class Job:
    """What a child does.

    Args:
        sources: what it fetches, in this order.
        folder: the cache folder.
        largest_write: bytes a file of this process may have (the kernel enforces it).
        as_nobody: give up the rights of the super-user first, if it has them.
    """

    sources: Sequence[Source]
    folder: Path
    largest_write: int | None = None
    as_nobody: bool = False


@dataclass(frozen=True)
class Result:
    """What came of it: the hashes of the files, or the error."""

    hashes: tuple[str, ...] = ()
    error: str = ""
    text: str = ""
    messages: tuple[str, ...] = ()


class Child:
    """A running child."""

    def __init__(self, process: ForkServerProcess, receiver: Connection) -> None:
        self._process = process
        self._receiver = receiver

    def result(self, seconds: float = 30.0) -> Result:
        """Wait for the child to finish.

        Raises:
            TimeoutError: it does not.
        """
        if not self._receiver.poll(seconds):
            self.kill()
            raise TimeoutError("the child did not finish")
        result: Result = self._receiver.recv()
        self._end()
        return result

    def kill(self) -> None:
        """Send SIGKILL and wait until the process is gone."""
        self._process.kill()
        self._end()

    def _end(self) -> None:
        self._process.join()
        self._process.close()
        self._receiver.close()


def start(job: Job) -> Child:
    """Start a child: a real process, forked from a server that has the imports done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "filelock", "r2convert.download.download", "r2convert.checkpoint.open"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, sender), daemon=True)
    process.start()
    sender.close()
    return Child(process, receiver)


def _work(job: Job, sender: Connection) -> None:
    if job.largest_write is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.largest_write, job.largest_write))
    if job.as_nobody and os.geteuid() == 0:
        os.setuid(NOBODY)
    messages = Messages()
    try:
        hashes = tuple(fetch(source, Cache(job.folder), messages).sha256 for source in job.sources)
        sender.send(Result(hashes, messages=tuple(messages.texts)))
    except R2ConvertError as error:
        sender.send(Result(error=type(error).__name__, text=str(error), messages=tuple(messages.texts)))
