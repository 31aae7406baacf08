"""The receipt of a conversion: an in-toto Statement v1 beside the output, binding the output to its source.

Format: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md. It holds no time and no path, so
the same conversion gives the same receipt everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from r2convert.errors import InputError
from r2convert.files import write_text
from r2convert.mapping.plan import Plan
from r2convert.version import __version__

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:r2convert:conversion:1"
_MAX_BYTES = 16 << 20


class Receipt(Struct, frozen=True):
    """What a receipt says.

    Args:
        output_sha256: digest of the file that was written.
        source_sha256: digest of the file it was made from.
        content_hash: digest of the network both hold.
        variant: the network.
        source_layout: whose names the source had.
        target_layout: whose names the output has.
        table_sha256: digest of the family table that was used.
        version: the r2convert that wrote it.
        proven: whether the network was proven then, or presumed from the source's names.
        weights: whose weights it holds, where that was proven.
    """

    output_sha256: str
    source_sha256: str
    content_hash: str
    variant: str
    source_layout: str
    target_layout: str
    table_sha256: str
    version: str
    proven: bool = True
    weights: str | None = None


def receipt_path(output: Path) -> Path:
    """Where the receipt of a file lies."""
    return output.with_name(output.name + ".receipt.json")


def write_receipt(
    output: Path,
    plan: Plan,
    *,
    output_sha256: str,
    source: Path,
    source_sha256: str,
    content_hash: str,
    cast: str | None = None,
) -> Path:
    """Write the receipt of a finished conversion beside its output.

    Raises:
        AccessError: it cannot be written.
    """
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": output.name, "digest": {"sha256": output_sha256}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "tool": {"name": "r2convert", "version": __version__},
            "source": {"name": source.name, "digest": {"sha256": source_sha256}},
            "variant": plan.expansion.variant.id,
            "from": plan.source_layout,
            "to": plan.target_layout,
            "table": {"family": plan.expansion.table.family, "digest": {"sha256": plan.expansion.table.digest}},
            "evidence": _evidence(plan),
            "contentHash": content_hash,
            "cast": cast and {"dtype": cast, "rounding": "to nearest, ties to even"},
            "renamed": len(plan.rows_of("rename")),
            "dropped": [{"name": name, "reason": reason} for name, reason in plan.dropped],
            "filled": [{"name": row.target, "reason": row.reason} for row in plan.rows_of("fill")],
            "warnings": list(plan.warnings),
        },
    }
    path = receipt_path(output)
    write_text(path, json.dumps(statement, indent=2, sort_keys=True) + "\n")
    return path


def _evidence(plan: Plan) -> dict[str, object]:
    identity = plan.identity
    if identity is None:
        return {"architecture": "presumed", "weights": None, "text": ""}
    return {
        "architecture": "proven" if identity.proven else "presumed",
        "alsoFits": [variant.id for variant in identity.fits[1:]],
        "weights": identity.weights.id if identity.weights else None,
        "text": identity.evidence,
    }


def read_receipt(output: Path) -> Receipt | None:
    """Read the receipt beside a file, if there is one.

    Raises:
        InputError: it is not a receipt of r2convert.
    """
    path = receipt_path(output)
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES:,} bytes")
        return _parse(json.loads(path.read_bytes()))
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise InputError(
            "this receipt cannot be read",
            where=str(path),
            expected=f"an in-toto statement with the predicate {PREDICATE_TYPE}",
            got=f"{type(error).__name__}: {error}",
            next_step="convert the source again, or delete the receipt",
        ) from error


def _parse(statement: Mapping[str, Any]) -> Receipt:
    if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
        raise ValueError(f"predicate {statement['predicateType']!r}")
    predicate = statement["predicate"]
    values = {
        "output_sha256": statement["subject"][0]["digest"]["sha256"],
        "source_sha256": predicate["source"]["digest"]["sha256"],
        "content_hash": predicate["contentHash"],
        "variant": predicate["variant"],
        "source_layout": predicate["from"],
        "target_layout": predicate["to"],
        "table_sha256": predicate["table"]["digest"]["sha256"],
        "version": predicate["tool"]["version"],
    }
    if not all(isinstance(value, str) for value in values.values()):
        raise TypeError("a field is not a text")
    evidence = predicate.get("evidence", {})
    weights = evidence.get("weights")
    return Receipt(
        **values,
        proven=evidence.get("architecture", "proven") == "proven",
        weights=weights if isinstance(weights, str) else None,
    )
