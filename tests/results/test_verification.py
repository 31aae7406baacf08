"""The JSON document: plain values, valid for every parser, whatever was measured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from r2convert.results.reading import to_json
from r2convert.results.verification import (
    ActivationComparison,
    CheckpointResult,
    LayerWiring,
    OutputDifference,
    ParityResult,
    WiringResult,
    verification,
)


def strict_json(result: CheckpointResult) -> Any:
    """Through a parser that knows no NaN, as JSON has none."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    (found,) = json.loads(to_json(verification([result])), parse_constant=refuse)["results"]
    return found


def empty(**fields: Any) -> CheckpointResult:
    return CheckpointResult("res2net50_w26_s4", None, None, None, None, (), **fields)


def test_what_was_not_asked_for_is_null() -> None:
    found = strict_json(empty())
    assert (found["accuracy"], found["wiring"], found["parity"], found["operations"]) == (None, None, None, None)
    assert found["verdict"] == "not-comparable"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_null(value: float) -> None:
    wiring = WiringResult(16, None, (LayerWiring("bn1", value, 0.5, value, 1.0, suspect=True),))
    (layer,) = strict_json(empty(wiring=wiring))["wiring"]["layers"]
    assert layer == {
        "name": "bn1",
        "mean_shift": None,
        "log_variance": 0.5,
        "mean_correlation": None,
        "variance_correlation": 1.0,
        "suspect": True,
    }


def test_parity_says_where_two_networks_part() -> None:
    same, other = OutputDifference("a", 0.0, 0.0), OutputDifference("b", float("inf"), float("inf"))
    comparison = ActivationComparison.of((same, other), (other,))
    parity = strict_json(empty(parity=ParityResult.of("timm", "1", comparison)))["parity"]
    assert (parity["peer"], parity["equal"], parity["refused"]) == ("timm", False, None)
    assert parity["first_layer"] == parity["first_stage"] == {"name": "b", "max_abs_diff": None, "relative": None}


def test_a_refusal_is_told() -> None:
    parity = strict_json(empty(parity=ParityResult("timm", "1", refused="Missing key")))["parity"]
    assert parity["refused"] == "Missing key"
    assert "equal" not in parity
