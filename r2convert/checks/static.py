"""What can be checked about a file without running it: its receipt, names, shapes and values."""

from __future__ import annotations

from collections.abc import Iterator

from r2convert.checkpoint.open import Checkpoint
from r2convert.checks.claims import PublishedNumbers
from r2convert.mapping.evidence import variant_named
from r2convert.mapping.identity import Resolution, differ, shapes_of
from r2convert.mapping.receipt import Receipt
from r2convert.mapping.tables import Tables
from r2convert.results.verdicts import Check


def receipt_check(tables: Tables, receipt: Receipt, resolution: Resolution, *, sha256: str, content_hash: str) -> Check:
    """Compare what a receipt says with what the file is.

    Args:
        tables: the tables of the catalogue, which knows former names of a network.
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
        ("variant", variant_named(tables, receipt), identity.variant.id),
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


_SHOWN = 3


def file_numbers(
    tables: Tables, checkpoint: Checkpoint, resolution: Resolution, input_size: tuple[int, int]
) -> PublishedNumbers:
    """The counts of a file, to be compared with what was published.

    Args:
        tables: the tables of the catalogue.
        checkpoint: the open file.
        resolution: what it is.
        input_size: height and width of the image to count operations for.
    """
    slots = resolution.expansion.names(resolution.identity.layout)
    stored = {slot.key: checkpoint.tensors[name].elements for name, slot in slots.items() if name in checkpoint.tensors}
    return PublishedNumbers(tables, resolution.expansion, stored, input_size, resolution.identity.weights)


def file_checks(checkpoint: Checkpoint, resolution: Resolution, problems: list[str]) -> list[Check]:
    """Check a file's own properties: names, shapes, and what was found wrong with its values."""
    return [*_structure_checks(checkpoint, resolution), _value_check(checkpoint, problems)]


def _structure_checks(checkpoint: Checkpoint, resolution: Resolution) -> Iterator[Check]:
    identity = resolution.identity
    difference = differ(
        resolution.expansion, identity.layout, shapes_of(checkpoint), classifier=identity.has_classifier
    )
    counters = sum(
        slot.is_counter and name not in checkpoint.tensors
        for name, slot in resolution.expansion.names(identity.layout).items()
    )
    notes = []
    if counters:
        notes.append(f"{counters} batch counters are missing, which evaluation does not use")
    if not identity.has_classifier:
        notes.append("a backbone: it has no classifier")
    wrong_names = len(difference.missing) + len(difference.unexpected)
    yield Check(
        "names",
        "fail" if wrong_names else "pass",
        measured=len(checkpoint.tensors),
        note="; ".join([*difference.lines(), *notes] if wrong_names else notes),
    )
    yield Check(
        "shapes",
        "fail" if difference.reshaped else "pass",
        measured=len(checkpoint.tensors) - len(difference.reshaped),
        note="; ".join(difference.lines()) if difference.reshaped else "",
    )


def _value_check(checkpoint: Checkpoint, problems: list[str]) -> Check:
    more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return Check(
        "values",
        "fail" if problems else "pass",
        measured=sum(tensor.dtype.is_floating for tensor in checkpoint.tensors.values()),
        note="; ".join(problems[:_SHOWN]) + more,
    )
