"""Published against measured, in words."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from r2convert.catalog.variant import Unit
from r2convert.report.differences import difference, file_name
from r2convert.results.verdicts import Check, Metric, leading_check
from r2convert.results.verification import Accuracy, CheckpointResult


def result(images: int = 50_000) -> CheckpointResult:
    accuracy = Accuracy(images, 0, 0, 0, 0, real_images=images)
    return CheckpointResult("res2net50_w14_s8", None, None, None, None, (), accuracy)


def said(metric: Metric, published: str, unit: Unit, measured: int, images: int = 50_000) -> str:
    return difference(Check(metric, "pass", "a", None, published, unit, measured), result(images))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("top1", "21.86", "error %", 39_070), "0 images"),
        (("top1", "21.86", "error %", 39_071), "+1 image"),
        (("top1", "78.14", "%", 35_070), "-4,000 images"),
        (("top5", "0.9742", "fraction", 48_711), "+1 image"),
        (("top1", "78.14", "%", 1_560, 2_000), "-2.8 images"),
        (("parameters", "25.06", "M", 25_059_816), "matches as printed"),
        (("flops", "4.2", "G", 4_255_166_464), "+1.31 %"),
        (("flops", "3.6", "G", 3_540_000_000), "-1.67 %"),
    ],
)
def test_a_difference_is_in_images_or_in_per_cent(arguments: Any, words: str) -> None:
    assert said(*arguments) == words


def test_what_was_not_measured_has_no_difference() -> None:
    assert difference(Check("top1", "pass", "a", None, "78.14", "%"), result()) == ""


def test_the_worst_published_number_leads_then_the_most_exact() -> None:
    checks = [
        Check("top1", "not-comparable", "a", published="78.123", unit="%"),
        Check("top1", "pass", "b", published="78.1", unit="%"),
        Check("top1", "pass", "c", published="78.14", unit="%"),
        Check("top5", "fail", "d", published="93.8", unit="%"),
    ]
    leading = leading_check(checks, "top1")
    assert leading is not None
    assert leading.source == "c"
    assert leading_check(checks, "flops") is None


@pytest.mark.parametrize(
    ("path", "name"), [("/a/b.pth", "b.pth"), ("C:\\a\\b.pth", "b.pth"), ("a\\nb.pth", "a\\nb.pth"), ("b.pth", "b.pth")]
)
def test_a_file_has_its_name_wherever_it_was_verified(path: str, name: str) -> None:
    assert file_name(replace(result(), checkpoint=path)) == name
