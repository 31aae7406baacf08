"""Every cap of the checkpoint reader, in one place.

A checkpoint is untrusted input. Each number below is far above what any published Res2Net file needs and low
enough that a hostile file can neither fill the memory nor keep the reader busy for longer than about a second.
"""

from __future__ import annotations

from typing import Final

from r2convert.errors import LimitExceededError

KIBIBYTE: Final = 1024
MEBIBYTE: Final = 1024 * KIBIBYTE

#: Size of one piece of tensor data in flight. Small enough to stay in a core's second-level cache while the
#: same bytes are read, checked, hashed and written.
CHUNK_BYTES: Final = 512 * KIBIBYTE

#: A thread that hashes a file beside other work reads this much at a time: between two pieces it may have to wait some
#: milliseconds for the interpreter, about as long as it takes to hash one.
HASHED_BYTES: Final = 4 * MEBIBYTE

#: While a file is written, its bytes are sent to the disk every time this many have been completed.
SYNC_BYTES: Final = 8 * MEBIBYTE

#: A strided tensor whose bytes span at most this much is read whole and rearranged in memory.
GATHER_BYTES: Final = 16 * MEBIBYTE

#: What reading one checkpoint may cost, in units of about half a microsecond and fifty bytes: an opcode of a pickle,
#: an entry copied or shown, a KiB read that belongs to no tensor. A state dict needs about 40 a tensor.
WORK_UNITS: Final = 1_000_000

#: The units that one member in an archive's directory costs, and the bytes of a JSON header that cost one unit.
MEMBER_UNITS: Final = 8
JSON_BYTES_PER_UNIT: Final = 16

#: Objects on the stack of one pickle, and marks within it.
MAX_PICKLE_STACK: Final = 200_000
MAX_PICKLE_MARKS: Final = 1_000

#: Containers within containers in one pickle, and braces within braces in one JSON header.
MAX_NESTING: Final = 64

#: Text kept in memory: one string, and all strings of one pickle together. Longer text is only described.
MAX_TEXT_BYTES: Final = 4 * KIBIBYTE
MAX_TOTAL_TEXT_BYTES: Final = 16 * MEBIBYTE

#: Bytes of one pickled integer. Nine hold every 64-bit number; states of random generators take thousands.
MAX_INTEGER_BYTES: Final = 4 * KIBIBYTE

#: Tensors, and storages, of one checkpoint.
MAX_TENSORS: Final = 50_000

#: Dimensions of one tensor, and elements along them.
MAX_DIMENSIONS: Final = 16
MAX_ELEMENTS: Final = 1 << 40

#: Characters of one tensor name.
MAX_NAME_LENGTH: Final = 1_024

#: Tensors may overlap in their storage (tied weights, expanded biases), so that together they may hold more
#: bytes than the file: this many times its size, and a little more for small files.
MAX_EXPANSION: Final = 4
EXPANSION_ALLOWANCE_BYTES: Final = 64 * MEBIBYTE

#: Members of an archive (zip, tar) or files of a folder, and the bytes of a zip's directory.
MAX_MEMBERS: Final = 50_000
MAX_DIRECTORY_BYTES: Final = 16 * MEBIBYTE

#: Files an index of shards may name: all of them are open at the same time.
MAX_SHARDS: Final = 256

#: Bytes of a pickle that lies in an archive member of its own (torch's data.pkl): about 100 a tensor.
MAX_PICKLE_RECORD_BYTES: Final = 8 * MEBIBYTE

#: Bytes of a safetensors header: about 100 a tensor. The library itself allows 100 MB, but parsed JSON can take
#: thirty times the memory of its text.
MAX_HEADER_BYTES: Final = 2 * MEBIBYTE

#: Bytes of a LoDTensor's level-of-detail tables and of its description.
MAX_LOD_LEVELS: Final = 8
MAX_LOD_BYTES: Final = 64 * KIBIBYTE
MAX_DESCRIPTION_BYTES: Final = 4 * KIBIBYTE

#: Empty bytes after the end of a tar archive, which is padded to its record size (10 KiB, unless chosen otherwise).
MAX_TAR_PADDING_BYTES: Final = MEBIBYTE

#: Bytes of a tar member's extended header.
MAX_EXTENDED_HEADER_BYTES: Final = 64 * KIBIBYTE

#: What is shown of the values around a state dict: values in all, entries of a mapping, letters of a text, levels.
METADATA_VALUES: Final = 1_000
METADATA_ENTRIES: Final = 64
METADATA_TEXT: Final = 256
METADATA_LEVELS: Final = 4

#: Wrappers within wrappers around a state dict.
MAX_WRAPPERS: Final = 6

#: State dicts of one file that are considered.
MAX_STATE_DICTS: Final = 16


class WorkBudget:
    """What reading one checkpoint may cost; charged by everything that parses, copies, shows or gathers."""

    def __init__(self) -> None:
        self._left = WORK_UNITS

    def charge(self, units: int) -> None:
        """Take units off the budget.

        Raises:
            LimitExceededError: it is used up.
        """
        self._left -= units
        if self._left < 0:
            raise LimitExceededError(
                "the file takes far more work to read than its tensors need",
                expected="a checkpoint, whose description costs some thousand steps",
                got=f"more than {WORK_UNITS} steps",
                next_step="save only the state dict from the program that wrote it",
            )
