"""Reads results files, schema ``r2convert.verify/1``, that may come from anybody."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any, NoReturn, get_args

from r2convert.catalog.variant import Metric as Published
from r2convert.checks.checks import Check, Metric, Verdict
from r2convert.errors import AccessError, InputError
from r2convert.evaluation.predictions import EXAMPLES, KEPT, Confusion
from r2convert.files import printable
from r2convert.results.fields import Fields
from r2convert.results.recorded import (
    RecordedAccuracy,
    RecordedBatchNorm,
    RecordedDifference,
    RecordedParity,
    RecordedResult,
    RecordedRun,
    RecordedWiring,
)

SCHEMA = "r2convert.verify/1"
STDIN = "-"

_LARGEST_FILE = 256 * 2**20
_MOST_RESULTS = 1_000
_MOST_LAYERS = 10_000
_MOST_CHECKS = 1_000
_MOST_CLASSES = 10_000
_MOST_WORDS = 10_000
_MOST_FACTS = 100
_PRINTED_NUMBER = re.compile(r"\d{1,12}(\.\d{1,12})?", re.ASCII)
_UNITS: tuple[str, ...] = ("M", "G", "%", "error %", "fraction")
_IMAGENET_INPUT = [224, 224]


def read_run(path: str) -> RecordedRun:
    """Read a results file.

    Args:
        path: the file, or ``-`` for standard input.

    Raises:
        AccessError: it cannot be read.
        InputError: it is no results file, or it is damaged.
    """
    data = _read_bytes(path)
    name = "standard input" if path == STDIN else path
    document = Fields(_parse(data, name), name)
    schema = document.text("schema")
    if schema != SCHEMA:
        raise document.refusal("schema", SCHEMA, schema)
    return RecordedRun(
        name="standard input" if path == STDIN else Path(path).name,
        sha256=hashlib.sha256(data).hexdigest(),
        command=document.words("command", most=_MOST_WORDS),
        environment=_environment(document.mapping("environment")),
        results=document.each("results", _result, most=_MOST_RESULTS),
    )


def _read_bytes(path: str) -> bytes:
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(_LARGEST_FILE + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        got = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AccessError("the results cannot be read", where=path, got=got) from error
    if len(data) > _LARGEST_FILE:
        raise InputError("this file is too large for results", where=path, expected=f"at most {_LARGEST_FILE:,} bytes")
    return data


def _parse(data: bytes, name: str) -> dict[str, Any]:
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
        got = "JSON that is no object"
    except json.JSONDecodeError as error:
        document, got = None, f"line {error.lineno}, column {error.colno}: {error.msg}"
    except UnicodeDecodeError:
        document, got = None, "bytes that are no UTF-8"
    except (ValueError, RecursionError) as error:
        document, got = None, str(error)
    if isinstance(document, dict):
        return document
    raise InputError(
        "this is no results file",
        where=name,
        expected=f'a JSON document with "schema": "{SCHEMA}"',
        got="an empty file" if not data.strip() else got,
        next_step="`r2convert verify CHECKPOINT --json FILE` writes one; a file cut short has to be written again",
    )


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant}, which JSON does not have")


def _environment(fields: Fields) -> tuple[tuple[str, str], ...]:
    known: list[tuple[str, str]] = []
    for name, value in fields.values.items():
        if isinstance(value, str | int) and len(known) < _MOST_FACTS:
            known.append((printable(name), fields.text(name) if isinstance(value, str) else str(value)))
    return tuple(known)


def _result(fields: Fields) -> RecordedResult:
    operations = fields.object_or_none("operations")
    if operations is not None and operations.values.get("input_size") != _IMAGENET_INPUT:
        operations = None
    accuracy, wiring, parity = (fields.object_or_none(name) for name in ("accuracy", "wiring", "parity"))
    return RecordedResult(
        variant=fields.text("variant"),
        checkpoint=fields.text_or_none("checkpoint"),
        sha256=fields.text_or_none("sha256"),
        content_hash=fields.text_or_none("content_hash"),
        layout=fields.text_or_none("layout"),
        checks=fields.each("checks", _check, most=_MOST_CHECKS),
        accuracy=_accuracy(accuracy) if accuracy else None,
        macs=operations.count("macs") if operations else None,
        operations=operations.count("mmcv") if operations else None,
        wiring=_wiring(wiring) if wiring else None,
        parity=_parity(parity) if parity else None,
    )


def _check(fields: Fields) -> Check:
    published, unit = fields.text_or_none("published"), fields.text_or_none("unit")
    if published is not None:
        if not _PRINTED_NUMBER.fullmatch(published):
            raise fields.refusal("published", "a number as it was printed", published)
        unit = fields.one_of("unit", _UNITS)
        fields.one_of("metric", get_args(Published))
    return Check(
        metric=fields.one_of("metric", get_args(Metric)),
        verdict=fields.one_of("verdict", get_args(Verdict)),
        source=fields.text_or_none("source"),
        convention=fields.text_or_none("convention"),
        published=published,
        unit=unit,
        measured=fields.count_or_none("measured"),
        note=fields.text_or_none("note") or "",
    )


def _accuracy(fields: Fields) -> RecordedAccuracy:
    images = fields.count("images")
    if images == 0:
        raise fields.refusal("images", "at least one image", images)
    for name in ("top1_correct", "top5_correct"):
        if fields.count(name) > images:
            raise fields.refusal(name, f"at most the {images:,} images", fields.count(name))
    return RecordedAccuracy(
        images=images,
        top1_correct=fields.count("top1_correct"),
        top5_correct=fields.count("top5_correct"),
        missing=fields.count("missing"),
        unreadable=fields.count("unreadable"),
        pipeline=fields.text("pipeline"),
        precision=fields.text("precision"),
        crops_sha256=fields.text("crops_sha256"),
        real_images=fields.count_or_none("real_images") or 0,
        per_class=_per_class(fields.mapping("per_class")),
        confusions=fields.each("confusions", _confusion, most=KEPT, optional=True),
    )


def _per_class(fields: Fields) -> dict[str, tuple[int, int]]:
    found = {}
    for name, value in list(fields.values.items())[:_MOST_CLASSES]:
        whole = isinstance(value, list) and len(value) == 2 and all(type(count) is int for count in value)
        if not whole or not 0 <= value[1] <= value[0] or value[0] == 0:
            raise fields.refusal(name, "[images, those of them that are right]", value)
        found[printable(name)] = (value[0], value[1])
    return found


def _confusion(fields: Fields) -> Confusion:
    images = fields.words("images", most=EXAMPLES)
    return Confusion(fields.text("label"), fields.text("predicted"), fields.count("count"), images)


def _wiring(fields: Fields) -> RecordedWiring:
    layers = fields.each("layers", _batch_norm, most=_MOST_LAYERS)
    return RecordedWiring(fields.count("pictures"), fields.text_or_none("source"), layers)


def _batch_norm(fields: Fields) -> RecordedBatchNorm:
    return RecordedBatchNorm(
        fields.text("name"),
        fields.number_or_none("mean_shift"),
        fields.number_or_none("log_variance"),
        fields.flag("suspect"),
    )


def _parity(fields: Fields) -> RecordedParity:
    return RecordedParity(
        peer=fields.text("peer"),
        version=fields.text("version"),
        why_not=fields.text_or_none("incomparable") or fields.text_or_none("refused") or "",
        stages=fields.each("stages", _difference, most=_MOST_LAYERS, optional=True),
        layers=fields.each("by_layer", _difference, most=_MOST_LAYERS, optional=True),
    )


def _difference(fields: Fields) -> RecordedDifference:
    return RecordedDifference(
        fields.text("name"), fields.number_or_none("max_abs_diff"), fields.number_or_none("relative")
    )
