"""Results files come from anybody: what is sound is read whole, everything else is refused in words."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2convert.catalog import Catalog
from r2convert.errors import AccessError, InputError
from r2convert.report.markdown import markdown_table
from r2convert.report.metafile import model_index
from r2convert.results.reading import read_run
from tests.report.conftest import Read

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


def test_everything_that_was_measured_is_read(document: Any, read: Read) -> None:
    run = read(document)
    sound, broken = run.results
    assert (sound.variant, sound.layout, sound.operations and sound.operations.macs) == (
        "res2net50_w14_s8",
        "official",
        4_178_898_944,
    )
    assert run.verification.command == tuple(document["command"])
    assert run.verification.environment.torch == document["environment"]["torch"]
    assert sound.accuracy is not None
    assert sound.accuracy.images == 50_000
    assert len(sound.accuracy.per_class) == 1000
    assert sound.accuracy.confusions[0].count == 31
    assert broken.wiring is not None
    assert [layer.suspect for layer in broken.wiring.layers].count(True) == 2
    assert broken.parity is not None
    assert broken.parity.comparison is not None
    assert len(broken.parity.comparison.by_layer) == document["results"][1]["parity"]["layers"]
    assert [result.verdict for result in run.results] == [result["verdict"] for result in document["results"]]


def test_results_from_before_a_field_was_added_are_read(document: Any, read: Read) -> None:
    older = copy.deepcopy(document)
    del older["command"]
    for result in older["results"]:
        del result["accuracy"]["confusions"], result["parity"]["by_layer"]
    run = read(older)
    assert run.verification.command is None
    assert run.results[0].accuracy is not None
    assert run.results[0].accuracy.confusions == ()


def test_a_verdict_is_told_from_the_checks_and_not_taken_on_trust(document: Any, read: Read) -> None:
    forged = copy.deepcopy(document)
    forged["verdict"] = forged["results"][1]["verdict"] = "pass"
    assert read(forged).results[1].verdict == "fail"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an empty file"),
        ("[]", "JSON that is not an object"),
        ('{"schema": "r2convert.verify/1", "results": [', "line 1, column"),
        ('{"schema": "r2convert.verify/2", "results": []}', "r2convert.verify/2"),
        ('{"results": []}', "schema"),
        ('{"schema": "r2convert.verify/1"}', "missing required field `results`"),
        ('{"schema": "r2convert.verify/1", "results": NaN}', "NaN, which JSON does not have"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_what_is_no_results_file_is_refused_in_words(read: Read, text: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        read(text)
    assert said in str(refused.value)
    assert refused.value.next_step


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("results", 0, "variant"), 5, "results[0].variant"),
        (("results", 0, "checks", 3, "verdict"), "fine", "results[0].checks[3].verdict"),
        (("results", 0, "checks", 5, "published"), "1e999999999", "results[0].checks[5].published"),
        (("results", 0, "checks", 5, "measured"), -1, "results[0].checks[5].measured"),
        (("results", 0, "accuracy", "top1_correct"), 50_001, "results[0].accuracy, `top1_correct`"),
        (("results", 0, "accuracy", "images"), 0, "accuracy.images"),
        (("results", 0, "accuracy", "per_class", "n01440764"), [5, 6], "results[0].accuracy, `per_class.n01440764`"),
        (("results", 0, "wiring", "layers", 2, "suspect"), "no", "wiring.layers[2].suspect"),
        (("results", 0, "parity", "by_layer", 0, "relative"), "0.1", "parity.by_layer[0].relative"),
        (("command",), [1], "command"),
    ],
)
def test_a_refusal_names_the_field(document: Any, read: Read, path: tuple[Any, ...], value: object, where: str) -> None:
    damaged = copy.deepcopy(document)
    *parents, last = path
    place = damaged
    for step in parents:
        place = place[step]
    place[last] = value
    with pytest.raises(InputError) as refused:
        read(damaged)
    assert all(each in str(refused.value) for each in where.split(", "))


def test_a_file_that_is_not_there_is_no_access(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(AccessError):
            read_run(str(path))


def test_text_that_steers_terminals_is_spelled_out(document: Any, read: Read) -> None:
    hostile = copy.deepcopy(document)
    hostile["results"][0]["checkpoint"] = "a\x1b[2Jb\u202egpj\ud800\n.pth"
    assert read(hostile).results[0].checkpoint == "a\\x1b[2Jb\\u202egpj\\ud800\\n.pth"


def places(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a document is."""
    yield above
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*above, key))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@SHARED
@given(data=st.data())
def test_whatever_replaces_a_value_is_read_or_refused(
    document: Any, read: Read, catalog: Catalog, data: st.DataObject
) -> None:
    damaged = json.loads(json.dumps({**document, "results": document["results"][:1]}))
    for name in ("wiring", "parity"):
        damaged["results"][0][name]["layers" if name == "wiring" else "by_layer"][3:] = []
    damaged["results"][0]["accuracy"]["per_class"] = {"n01440764": [50, 40]}
    path = data.draw(st.sampled_from(list(places(damaged))[1:]))
    *parents, last = path
    place = damaged
    for step in parents:
        place = place[step]
    place[last] = data.draw(JSON)
    try:
        run = read(damaged)
    except InputError:
        return
    assert markdown_table([run], catalog).startswith("| Model")
    assert model_index([run]).startswith("Collections:")
