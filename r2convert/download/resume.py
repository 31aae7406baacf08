"""Whether a partial download may be continued: two different files must never be mixed."""

from __future__ import annotations

from dataclasses import dataclass

from r2convert.download.expectation import Expectation
from r2convert.download.partial import Origin


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
    if not origin.resumable:
        return ResumePlan(why_not="it arrived compressed, so the server cannot tell where it stopped")
    if url != origin.url:
        if wanted.sha256 is None:
            return ResumePlan(why_not="it came from another address, and no full hash could tell two files apart")
        return ResumePlan(offset=have)
    if origin.etag is not None:
        return ResumePlan(offset=have, if_range=origin.etag)
    if wanted.hash_decides and (origin.last_modified is not None or total is not None):
        return ResumePlan(offset=have, if_range=origin.last_modified)
    return ResumePlan(why_not="neither the server nor a published hash can tell whether the file is still the same")


def objection_to_rest(
    origin: Origin | None, plan: ResumePlan, start: int | None, rest: Origin, wanted: Expectation
) -> str | None:
    """Say why a 206 answer is not the rest of the file the first bytes belong to; ``None`` if it is.

    Args:
        origin: where the first bytes came from.
        plan: what was asked.
        start: first byte the answer says it holds.
        rest: what the answer says about its file.
        wanted: what the file must be.
    """
    if origin is None or start != plan.offset:
        return "the server sends another range than the one asked for"
    total = wanted.size if wanted.size is not None else origin.total
    if total is not None and rest.total is not None and rest.total != total:
        return f"the file now has {rest.total:,} bytes instead of {total:,}"
    if not rest.resumable:
        return "the server compresses the rest"
    same_address = rest.url == origin.url
    if same_address and origin.etag is not None and rest.etag is not None and rest.etag != origin.etag:
        return "the file on the server has changed"
    if not wanted.hash_decides and (rest.etag is None or rest.total is None):
        return "the server no longer tells whether the file is the same"
    return None
