"""Bad files, and trials of the reader on them: is each refused, in the right words and in good time?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import R2ConvertError


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that must be refused, and how.

    Attributes:
        name: what is wrong with it.
        suffix: what such a file is usually called.
        expected: the error the reader must raise: exactly this class.
        make: makes its bytes.
    """

    name: str
    suffix: str
    expected: type[R2ConvertError]
    make: Callable[[], bytes]


#: What a trial gives for the error when the file was read.
READ = "read"


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one bad file.

    Attributes:
        bad_file: the entry of the catalogue.
        path: the file that was made of it.
        got: the name of the error's class, or :data:`READ`.
        message: the error's text.
    """

    bad_file: BadFile
    path: Path
    got: str
    message: str

    @property
    def is_as_expected(self) -> bool:
        """Whether the file was refused with exactly the expected error."""
        return self.got == self.bad_file.expected.__name__


def try_bad_file(bad_file: BadFile, path: Path) -> Trial:
    """Make a bad file and read it as a user's command would: descriptions, checksums and every element.

    Args:
        bad_file: the entry of the catalogue.
        path: where to make it.
    """
    path.write_bytes(bad_file.make())
    got, message = READ, ""
    try:
        with open_checkpoint(path) as checkpoint:
            checkpoint.verify_records()
            for tensor in checkpoint.tensors.values():
                for _ in checkpoint.chunks(tensor):
                    pass
    except R2ConvertError as error:
        got, message = type(error).__name__, str(error)
    except Exception as error:
        got, message = f"{type(error).__module__}.{type(error).__name__}", str(error)
    return Trial(bad_file, path, got, message)
