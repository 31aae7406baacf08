"""Casting: bit by bit what torch does, and values that do not fit are counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from r2convert.checkpoint.elements import CASTS, DType, Stream

FLOATS = arrays.arrays(np.uint32, st.integers(1, 64)).map(lambda bits: bits.view(np.float32))


@pytest.mark.parametrize("target", CASTS)
@given(values=FLOATS)
def test_every_float32_is_rounded_as_torch_rounds_it(target: DType, values: np.ndarray) -> None:
    stream = Stream([values.tobytes()], DType.FLOAT32, target)
    cast = torch.frombuffer(bytearray(b"".join(stream)), dtype=getattr(torch, target.value))
    expected = torch.from_numpy(values.copy()).to(getattr(torch, target.value))
    assert torch.equal(cast.isnan(), expected.isnan())
    known = ~expected.isnan()
    integers = torch.int32 if target is DType.FLOAT32 else torch.int16
    assert torch.equal(cast.view(integers)[known], expected.view(integers)[known])


@given(values=FLOATS)
def test_what_is_not_finite_is_counted(values: np.ndarray) -> None:
    stream = Stream([values.tobytes()], DType.FLOAT32, DType.FLOAT32)
    assert b"".join(stream) == values.tobytes()
    assert stream.not_finite == int((~np.isfinite(values)).sum())
    assert (stream.problem is None) == bool(np.isfinite(values).all())


def test_large_finite_values_are_not_taken_for_infinite() -> None:
    values = np.full(10, 3e38, dtype=np.float32)
    stream = Stream([values.tobytes()], DType.FLOAT32, DType.FLOAT32)
    list(stream)
    assert stream.problem is None


def test_overflow_is_told_from_infinity() -> None:
    values = np.array([1e5, 2.0, -1e6], dtype=np.float32)
    stream = Stream([values.tobytes()], DType.FLOAT32, DType.FLOAT16)
    list(stream)
    assert stream.problem == "2 values are too large for float16"


def test_integers_go_by_untouched() -> None:
    values = np.arange(5, dtype=np.int64)
    stream = Stream([values.tobytes()], DType.INT64, DType.INT64)
    assert b"".join(stream) == values.tobytes()


@given(bits=arrays.arrays(np.uint16, 16))
def test_bfloat16_widens_exactly(bits: np.ndarray) -> None:
    stream = Stream([bits.tobytes()], DType.BFLOAT16, DType.FLOAT32)
    wide = np.frombuffer(b"".join(stream), np.uint32)
    finite = np.isfinite((bits.astype(np.uint32) << 16).view(np.float32))
    assert np.array_equal(wide[finite], bits.astype(np.uint32)[finite] << 16)
