"""Stratified samples."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2convert.errors import UsageError
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet, stratified_sample

WHOLE = ValidationSet(
    Path("set"),
    "class folders",
    tuple(ValidationImage(f"{label}/{i}", label, None) for label in range(9) for i in range(7)),
)


@settings(deadline=None)
@given(count=st.integers(1, 70), seed=st.integers(0, 3))
def test_every_class_has_its_share(count: int, seed: int) -> None:
    sample = stratified_sample(WHOLE, count, seed=seed).images
    assert len(sample) == min(count, 63)
    shares = Counter(image.label for image in sample)
    assert max(shares.values()) - min(shares[label] for label in range(9)) <= 1
    assert list(sample) == sorted(sample, key=lambda image: WHOLE.images.index(image))


@settings(deadline=None)
@given(count=st.integers(1, 62), seed=st.integers(0, 3))
def test_a_larger_sample_contains_the_smaller(count: int, seed: int) -> None:
    smaller, larger = (stratified_sample(WHOLE, size, seed=seed).images for size in (count, count + 1))
    assert set(smaller) < set(larger)


def test_another_seed_draws_others() -> None:
    assert stratified_sample(WHOLE, 18, seed=0) != stratified_sample(WHOLE, 18, seed=1)


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(UsageError):
        stratified_sample(WHOLE, 0)
