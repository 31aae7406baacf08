"""Strided, transposed and reshaped tensors come out in C order, whatever the chunk and gather sizes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2convert.checkpoint import storage
from r2convert.checkpoint import tensor as tensors
from r2convert.checkpoint.elements import DType
from r2convert.checkpoint.open import Checkpoint, open_checkpoint
from r2convert.checkpoint.tensor import TensorInfo
from r2convert.selftest.specimens import dictionary, pickled, storage_id, tensor, torch_zip

ELEMENTS = 4096
VALUES = np.arange(ELEMENTS, dtype="<f4")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("geometry") / "a.pth"
    described = tensor(storage_id("0", ELEMENTS), (ELEMENTS,), (1,))
    path.write_bytes(torch_zip(pickled(dictionary([("a", described)])), {"0": VALUES.tobytes()}))
    return open_checkpoint(path)


@st.composite
def views(draw: st.DrawFn) -> TensorInfo:
    """Any view whose extent fits the storage."""
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=4)))
    strides = tuple(draw(st.integers(0, 200)) for _ in shape)
    last = 0 if 0 in shape else sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    first = draw(st.integers(0, max(ELEMENTS - 1 - last, 0)))
    return TensorInfo("a", DType.FLOAT32, shape, strides, 4 * first, 0)


def expected(view: TensorInfo) -> np.ndarray:
    strides = tuple(4 * stride for stride in view.strides)
    return np.ndarray(view.shape, "<f4", VALUES.tobytes(), offset=view.offset, strides=strides)


@pytest.mark.parametrize(("chunk", "gather"), [(1 << 18, 1 << 24), (16, 64), (8, 8)])
@given(view=views())
@settings(deadline=None, max_examples=150)
def test_any_view(checkpoint: Checkpoint, view: TensorInfo, chunk: int, gather: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "CHUNK_BYTES", chunk)
        patch.setattr(tensors, "GATHER_BYTES", gather)
        patch.setattr(tensors, "_WIDEST_GAP", 16)
        patch.setattr(tensors, "_COLLECTED_ELEMENTS", 50)
        patch.setattr(storage, "CHUNK_BYTES", chunk)
        pieces = [bytes(piece) for piece in checkpoint.chunks(view)]
    assert b"".join(pieces) == expected(view).tobytes()
    assert all(0 < len(piece) <= chunk for piece in pieces)


@given(rows=st.integers(0, 9), columns=st.integers(0, 9))
def test_a_transpose_is_the_matrix_turned(checkpoint: Checkpoint, rows: int, columns: int) -> None:
    matrix = TensorInfo("a", DType.FLOAT32, (rows, columns), (columns, 1), 8, 0)
    np.testing.assert_array_equal(checkpoint.array(matrix.transposed()), checkpoint.array(matrix).T)
    assert matrix.transposed().transposed() == matrix


@given(view=views(), data=st.data())
@settings(deadline=None)
def test_dimensions_of_one_come_and_go(checkpoint: Checkpoint, view: TensorInfo, data: st.DataObject) -> None:
    shape = [length for length in view.shape if length != 1]
    for _ in range(data.draw(st.integers(0, 2))):
        shape.insert(data.draw(st.integers(0, len(shape))), 1)
    reshaped = view.reshaped(tuple(shape))
    assert b"".join(map(bytes, checkpoint.chunks(reshaped))) == expected(view).tobytes()
    assert reshaped.shape == tuple(shape)


def test_a_linear_layer_becomes_a_convolution_and_back() -> None:
    linear = TensorInfo("fc", DType.FLOAT32, (10, 4), (4, 1), 0, 0)
    convolution = linear.reshaped((10, 4, 1, 1))
    assert convolution.is_contiguous
    assert convolution.reshaped((10, 4)) == linear
    turned = linear.transposed().reshaped((4, 10, 1, 1))
    assert (turned.shape, turned.is_contiguous) == ((4, 10, 1, 1), False)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (-1, -40), (5, 8)])
def test_impossible_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="fc"):
        TensorInfo("fc", DType.FLOAT32, (10, 4), (1, 10), 0, 0).reshaped(shape)
    with pytest.raises(ValueError, match="matrix"):
        TensorInfo("fc", DType.FLOAT32, (10,), (1,), 0, 0).transposed()


def test_sizes() -> None:
    view = TensorInfo("a", DType.BFLOAT16, (2, 3), (10, 2), 6, 0)
    assert (view.elements, view.nbytes, view.extent, view.is_contiguous) == (6, 12, 30, False)
    assert [kind.itemsize for kind in DType] == [8, 4, 2, 2, 8, 4, 2, 1, 1, 1]
    assert struct.calcsize("<f") == DType.FLOAT32.numpy.itemsize
