"""The receipt beside a converted file, re-derived and compared."""

from __future__ import annotations

from r2convert.checks.checks import Check
from r2convert.mapping.identity import Resolution
from r2convert.mapping.receipt import Receipt


def receipt_check(receipt: Receipt, resolution: Resolution, *, sha256: str, content_hash: str) -> Check:
    """Compare what a receipt says with what the file is.

    Args:
        receipt: the receipt read from beside the file.
        resolution: what the file is.
        sha256: digest of the file.
        content_hash: digest of the network it holds.
    """
    identity = resolution.identity
    problems = []
    for what, said, found in (
        ("sha256", receipt.output_sha256, sha256),
        ("content hash", receipt.content_hash, content_hash),
        ("variant", receipt.variant, identity.variant.id),
    ):
        if said != found:
            problems.append(f"the {what} is {_short(found)}, the receipt says {_short(said)}")
    if problems:
        return Check("receipt", "fail", note="; ".join(problems))
    notes = [f"from {receipt.source_layout} {receipt.source_sha256[:12]} by r2convert {receipt.version}"]
    if receipt.table_sha256 != resolution.expansion.table.digest:
        notes.append("the table has changed since; the content is the same")
    return Check("receipt", "pass", note="; ".join(notes))


def _short(text: str) -> str:
    return f"{text[:12]}..." if len(text) == 64 else text
