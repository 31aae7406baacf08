"""Files that are valid and ask for far more work than their tensors need are read or refused within a second."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2convert.checkpoint.open import open_checkpoint
from r2convert.checkpoint.pickles.pickle_output import global_name, text
from r2convert.errors import CheckpointError
from r2convert.selftest.specimens import (
    dictionary,
    lod_tensor,
    pickled,
    storage_id,
    tensor,
    torch_legacy,
    torch_zip,
)

READ = """
import resource, sys, time
from pathlib import Path
from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import CheckpointError
started = time.process_time()
outcome = "read"
try:
    with open_checkpoint(Path(sys.argv[1])) as checkpoint:
        for tensor in checkpoint.tensors.values():
            for piece in checkpoint.chunks(tensor):
                pass
except CheckpointError as error:
    assert error.exit_code == 3 and sys.argv[1] in str(error), error
    outcome = type(error).__name__
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(outcome, time.process_time() - started, int(peak) / 1024)
"""


def beside(value: bytes) -> bytes:
    """A pickled value beside a sound tensor."""
    return torch_zip(pickled(dictionary([("conv.weight", tensor(storage_id("0", 12))), ("other", value)])))


def copies(module: str, name: str) -> bytes:
    """One list of 20,000 pairs, copied by a constructor again and again."""
    pairs = b"](" + b"".join(text(f"k{index}") + b"N\x86" for index in range(20_000)) + b"eq\x09"
    return beside(b"(" + pairs + global_name(module, name) + b"q\x0a" + b"h\x0ah\x09\x85R" * 60_000 + b"t")


def many_entries() -> bytes:
    """100,000 entries beside the tensors, each the same large structure."""
    value = b"(" + b"N" * 64 + b"tq\x01"
    for level in (2, 3, 4):
        value += b"(" + b"h" + bytes([level - 1]) + (b"h" + bytes([level - 1])) * 63 + b"tq" + bytes([level])
    entries = b"".join(text(f"e{index}") + b"h\x04" for index in range(90_000))
    tensors = text("conv.weight") + tensor(storage_id("0", 12))
    return torch_zip(pickled(b"}(" + tensors + text("first") + b"(" + value + b"t" + entries + b"u"))


def shared_modules() -> bytes:
    """Forty modules, each with the next one twice: 2^40 parameters."""

    def module(modules: bytes, parameters: bytes = b"}") -> bytes:
        state = text("_parameters") + parameters + text("_buffers") + b"}" + text("_modules") + modules
        return global_name("m", "M") + b")\x81}(" + state + b"ub"

    value = module(b"}", b"}(" + text("w") + tensor(storage_id("0", 12)) + b"u") + b"q\x00"
    for level in range(40):
        twice = b"}(" + text("a") + value + text("b") + b"h" + bytes([level]) + b"u"
        value = module(twice) + b"q" + bytes([level + 1])
    return torch_zip(pickled(value))


def lists_of(opening: bytes, count: int) -> bytes:
    return beside(b"]" + (b"(" + opening * 1000 + b"e") * (count // 1000))


BOMBS: dict[str, Callable[[], bytes]] = {
    "copied dictionaries": lambda: copies("collections", "OrderedDict"),
    "copied sets": lambda: copies("__builtin__", "set"),
    "entries beside the tensors": many_entries,
    "shared modules": shared_modules,
    "a million dictionaries": lambda: lists_of(b"}", 1_000_000),
    "a million lists": lambda: lists_of(b"]", 1_000_000),
    "a million texts": lambda: lists_of(text("abcdefgh"), 500_000),
    "a million objects": lambda: lists_of(b"cx\ny\n", 1_000_000),
    "names that differ": lambda: beside(b"](" + b"".join(b"cx\ny%d\n" % index for index in range(150_000)) + b"e"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_within_a_second_and_200_megabytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bomb.pth"
    path.write_bytes(BOMBS[name]())
    require_cheap(path)


def require_cheap(path: Path) -> str:
    """Read a file in a process of its own and hold it to a second of work and 200 MB."""
    ran = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    outcome, seconds, megabytes = ran.stdout.split()
    assert float(seconds) < 1.5
    assert float(megabytes) < 200
    return outcome


def scattered(path: Path, tensors: int) -> Path:
    """Tensors of 4 MiB whose elements lie 8,400 apart in both directions."""
    elements = 1023 * (8400 + 8401) + 1
    described = [
        (f"t{index}", tensor(storage_id("0", elements, view=b"N"), (1024, 1024), (8400, 8401)))
        for index in range(tensors)
    ]
    head = torch_legacy(pickled(dictionary(described)), ["0"], [(elements, b"")])
    path.write_bytes(head)
    os.truncate(path, len(head) + 4 * elements)
    return path


def test_elements_far_apart_are_gathered_without_a_read_each(tmp_path: Path) -> None:
    assert require_cheap(scattered(tmp_path / "one.pth", 1)) == "read"
    assert require_cheap(scattered(tmp_path / "many.pth", 64)) == "LimitExceededError"


def test_a_folder_of_a_thousand_variables(tmp_path: Path) -> None:
    for index in range(1000):
        (tmp_path / f"v{index}").write_bytes(lod_tensor())
    assert require_cheap(tmp_path) == "read"


ATOMS = st.sampled_from(
    [b"N", b"K\x01", b"}", b"]", b")", text("a"), b"cx\ny\n", global_name("collections", "OrderedDict")]
)


@st.composite
def programs(draw: st.DrawFn) -> bytes:
    """Pickles that are valid: values are made, kept in the memo, recalled, grouped and called."""
    code = b"("
    kept = 0
    for _ in range(draw(st.integers(1, 12))):
        atom, times = draw(ATOMS), draw(st.integers(1, 3000))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            code += atom * times
        elif kind == 1 and kept < 250:
            code += b"(" + atom * times + b"tq" + bytes([kept])
            kept += 1
        elif kind == 2 and kept:
            code += (b"h" + bytes([draw(st.integers(0, kept - 1))])) * times
        elif kind == 3 and kept:
            code += (b"cx\ny\nh" + bytes([draw(st.integers(0, kept - 1))]) + b"R") * times
        else:
            code += (b"c__builtin__\nset\n](" + b"K\x01" * 50 + b"e\x85R") * (times // 10)
    return code + b"t"


def outcome(path: Path) -> str:
    """How reading ends, in the same process."""
    try:
        with open_checkpoint(path) as checkpoint:
            found = checkpoint.array(checkpoint.tensors["conv.weight"])
            np.testing.assert_array_equal(found.reshape(-1), np.arange(12))
            return "read" if len(str(checkpoint.metadata)) < 500_000 else "too much is shown"
    except CheckpointError as error:
        return error.what


@given(value=programs())
@settings(max_examples=60, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_valid_structure_costs_at_most_the_budget(tmp_path: Path, value: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(beside(value))
    assert outcome(path) in (
        "read",
        "the file takes far more work to read than its tensors need",
        "the pickle piles up too many values",
    )
