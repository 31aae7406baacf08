"""Where marks go: places in per cent, readable whatever was measured."""

from __future__ import annotations

import pytest

from r2convert.report.charts import Share, Standing, accuracy_chart, claim_strip, class_counts
from r2convert.results.verdicts import Check
from r2convert.results.verification import Accuracy, CheckpointResult

PUBLISHED = (77.3, 78.1, 79.2, 81.2)


def standing(published: float | None, *measured: float, macs: int = 4_000_000_000) -> Standing:
    return Standing("net", "", macs, published, tuple(Share(value, value, value) for value in measured))


def test_one_network_far_off_leaves_the_others_readable() -> None:
    near = accuracy_chart([standing(value, value) for value in PUBLISHED])
    chart = accuracy_chart([standing(PUBLISHED[0], 0.1), *(standing(value, value) for value in PUBLISHED[1:])])
    assert chart.axis.at(0.1) == 0.0
    assert [network.below(chart.axis) for network in chart.networks] == ["0.10", "", "", ""]
    assert chart.axis.begin > 0
    places, before = ([each.axis.at(value) for value in PUBLISHED] for each in (chart, near))
    assert places[-1] - places[0] > 0.75 * (before[-1] - before[0])
    assert all(place > chart.axis.begin for place in places)


def test_networks_come_cheapest_first_and_those_without_accuracy_not_at_all() -> None:
    chart = accuracy_chart([standing(78.0, macs=8), standing(None, macs=1), standing(77.0, macs=2)])
    assert [network.published for network in chart.networks] == [77.0, 78.0]
    assert accuracy_chart([standing(None)]).networks == ()


@pytest.mark.parametrize("values", [(78.0,), (0.0, 100.0), (77.99, 78.01), (5.0, 60.0)])
def test_an_axis_has_a_few_round_labels(values: tuple[float, ...]) -> None:
    chart = accuracy_chart([standing(value) for value in values])
    ticks = chart.axis.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(0 <= tick.at <= 100 and len(tick.label) <= 4 for tick in ticks)


def result(*checks: Check, images: int = 50_000) -> CheckpointResult:
    accuracy = Accuracy(images, checks[0].measured or 0, images, 0, 0)
    return CheckpointResult("res2net50_w14_s8", "/a.pth", None, None, None, checks, accuracy)


def test_a_claim_lies_as_many_images_off_as_it_says() -> None:
    exact = Check("top1", "pass", "a", published="78.14", unit="%", measured=39_070)
    more = Check("top1", "fail", "b", published="79.14", unit="%", measured=39_070)
    strip = claim_strip(result(exact, more))
    assert strip is not None
    first, second = strip.lanes
    assert first.at + first.width / 2 == pytest.approx(50)
    assert second.at + second.width / 2 == pytest.approx(50 + 50 * 500 / strip.reach, abs=0.1)
    assert second.difference == "-500 images"
    assert "39,568 to 39,572 images" in second.says


def test_what_nobody_published_has_no_strip() -> None:
    assert claim_strip(result(Check("names", "pass", measured=3))) is None


def test_every_class_is_counted_once() -> None:
    counts = class_counts([0.0, 4.9, 5.0, 100.0, 99.0])
    assert {5 * index: count for index, count in enumerate(counts) if count} == {0: 2, 5: 1, 95: 2}
