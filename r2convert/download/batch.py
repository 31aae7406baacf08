"""Several files at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from r2convert.catalog.variant import Source
from r2convert.download.cache import Cache, CachedFile
from r2convert.download.download import FetchSettings, fetch_source
from r2convert.download.progress import ProgressSink
from r2convert.errors import R2ConvertError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one source: a file, or the error that kept it away."""

    source: Source
    file: CachedFile | None = None
    error: R2ConvertError | None = None


def fetch_sources(
    sources: Sequence[Source],
    cache: Cache,
    *,
    at_once: int = 4,
    offline: bool = False,
    mirror: str | None = None,
    progress: ProgressSink | None = None,
    settings: FetchSettings | None = None,
) -> list[Outcome]:
    """Fetch files in parallel; one that fails does not stop the others.

    Args:
        sources: what to fetch.
        cache: where to.
        at_once: transfers at a time.
        offline: use no network.
        mirror: base URL or folder tried first; by default ``R2CONVERT_MIRROR``.
        progress: told about every transfer, from several threads.
        settings: limits; hosts that fail are remembered in it for the files that come later.

    Returns:
        One outcome a source, in the order of ``sources``.

    Raises:
        KeyboardInterrupt: transfers end, what has arrived stays and is continued by the next run.
    """
    settings = settings or FetchSettings()
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Outcome | BaseException]] = queue.SimpleQueue()
    for index in range(len(sources)):
        waiting.put(index)

    def work() -> None:
        while not settings.cancelled.is_set():
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return
            source = sources[index]
            try:
                file = fetch_source(source, cache, offline=offline, mirror=mirror, progress=progress, settings=settings)
                done.put((index, Outcome(source, file=file)))
            except R2ConvertError as error:
                done.put((index, Outcome(source, error=error)))
            except BaseException as mistake:  # it goes to the caller's thread, which raises it
                done.put((index, mistake))

    # Daemons: a thread that waits for a silent server must not delay an interrupted program. What it leaves
    # behind is what a killed process leaves: a partial file that can be continued.
    for _ in range(min(at_once, len(sources))):
        threading.Thread(target=work, daemon=True).start()
    return _collect(done, len(sources), settings)


def _collect(
    done: queue.SimpleQueue[tuple[int, Outcome | BaseException]], count: int, settings: FetchSettings
) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    try:
        while len(outcomes) < count:
            index, outcome = done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            outcomes[index] = outcome
    except BaseException:
        settings.cancelled.set()
        raise
    return [outcomes[index] for index in range(count)]
