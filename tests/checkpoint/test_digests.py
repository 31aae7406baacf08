"""The content hash is what its docstring says, and equal exactly when the networks are."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2convert.checkpoint.digests import DigestedTensor, network_hash, tensor_digest
from r2convert.checkpoint.elements import DType

tensors = st.builds(
    DigestedTensor,
    name=st.text(min_size=1, max_size=8),
    dtype=st.sampled_from(DType),
    shape=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    digest=st.binary(min_size=32, max_size=32),
)
networks = st.lists(tensors, max_size=5, unique_by=lambda tensor: tensor.name)


def test_the_documented_recipe() -> None:
    data = struct.pack("<2f", 1, 2)
    tensor = DigestedTensor("fc.bias", DType.FLOAT32, (2,), tensor_digest([data[:3], data[3:]]))
    leaf = hashlib.sha256(
        b"r2convert tensor 1\0"
        + (b"\x07\0\0\0" + b"fc.bias")
        + (b"\x07\0\0\0" + b"float32")
        + (b"\x01\0\0\0" + b"\x02\0\0\0\0\0\0\0")
        + hashlib.sha256(data).digest()
    ).digest()
    root = hashlib.sha256(b"r2convert network 1\0" + b"\x01\0\0\0\0\0\0\0" + leaf).hexdigest()
    assert network_hash([tensor]) == root


@given(networks, st.randoms())
def test_order_does_not_matter(network: list[DigestedTensor], random: object) -> None:
    shuffled = sorted(network, key=lambda tensor: tensor.digest)
    assert network_hash(network) == network_hash(shuffled) == network_hash(network[::-1])


@given(networks, networks)
def test_equal_exactly_when_the_networks_are(first: list[DigestedTensor], second: list[DigestedTensor]) -> None:
    assert (network_hash(first) == network_hash(second)) == (set(first) == set(second))


@given(tensors, tensors)
def test_no_part_of_a_tensor_runs_into_the_next(first: DigestedTensor, second: DigestedTensor) -> None:
    assert (network_hash([first]) == network_hash([second])) == (first == second)


@given(st.binary(max_size=100), st.integers(1, 10))
def test_chunking_does_not_matter(data: bytes, size: int) -> None:
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    assert tensor_digest(pieces) == hashlib.sha256(data).digest()


def test_two_tensors_of_one_name_are_refused() -> None:
    tensor = DigestedTensor("a", DType.FLOAT32, (), bytes(32))
    with pytest.raises(ValueError, match="two tensors"):
        network_hash([tensor, tensor])
