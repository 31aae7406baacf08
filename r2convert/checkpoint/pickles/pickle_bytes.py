"""A cursor over the bytes of a pickle that never holds more than a small window of them."""

from __future__ import annotations

from r2convert.checkpoint.limits import CHUNK_BYTES
from r2convert.checkpoint.source_file import SourceFile
from r2convert.errors import LimitExceededError


class PickleBytes:
    """Sequential reads from a stretch of a file; large payloads are skipped, not read.

    Args:
        source: the file.
        start: first byte of the stretch.
        end: the byte after its last one.
        label: what messages call it ("data.pkl", "the pickle stream").
    """

    def __init__(self, source: SourceFile, start: int, end: int, label: str) -> None:
        self.source = source
        self.label = label
        self._end = min(end, source.size)
        self._window = b""
        self._window_start = start
        self._cursor = 0

    @property
    def position(self) -> int:
        """Offset in the file of the next byte."""
        return self._window_start + self._cursor

    @property
    def remaining(self) -> int:
        """Bytes left in the stretch."""
        return self._end - self.position

    def where(self, position: int | None = None) -> str:
        """Describe a place in the stretch for a message."""
        return f"{self.source.path}, {self.label}, byte {self.position if position is None else position}"

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes (the caller has checked the count against its cap).

        Raises:
            TruncatedCheckpointError: the stretch ends before.
        """
        cursor = self._cursor
        if cursor + count > len(self._window):
            self._refill(count)
            cursor = 0
        self._cursor = cursor + count
        return self._window[cursor : cursor + count]

    def byte(self) -> int:
        """Return the next byte as a number; raises as :meth:`read` does."""
        cursor = self._cursor
        if cursor >= len(self._window):
            self._refill(1)
            cursor = 0
        self._cursor = cursor + 1
        return self._window[cursor]

    def unsigned(self, width: int) -> int:
        """Return the next ``width`` bytes as a little-endian unsigned number; raises as :meth:`read` does."""
        return self.byte() if width == 1 else int.from_bytes(self.read(width), "little")

    def line(self, cap: int) -> str:
        """Return the text up to the next line feed, and pass over that.

        Raises:
            TruncatedCheckpointError: the stretch ends before.
            LimitExceededError: the line has more than ``cap`` bytes.
        """
        if len(self._window) - self._cursor <= cap:
            self._refill(min(cap + 1, self.remaining))
        end = self._window.find(b"\n", self._cursor, self._cursor + cap + 1)
        if end < 0:
            if self.remaining <= cap:
                raise self._truncated(self.remaining + 1)
            raise LimitExceededError("The pickle names a global with an enormous name", where=self.where())
        line = self._window[self._cursor : end]
        self._cursor = end + 1
        return line.decode("utf-8", "replace")

    def skip(self, count: int) -> int:
        """Pass over ``count`` bytes and return the offset in the file they start at.

        Raises:
            TruncatedCheckpointError: the stretch ends before.
        """
        start = self.position
        if count > self.remaining:
            raise self._truncated(count)
        if self._cursor + count <= len(self._window):
            self._cursor += count
        else:
            self._window, self._window_start, self._cursor = b"", start + count, 0
        return start

    def _refill(self, count: int) -> None:
        position = self.position
        if count > self._end - position:
            raise self._truncated(count)
        length = min(max(count, CHUNK_BYTES), self._end - position)
        self._window = self.source.read(position, length, self.label)
        self._window_start, self._cursor = position, 0

    def _truncated(self, count: int) -> Exception:
        return self.source.truncated(
            self.position, f"{count} more bytes of {self.label}", f"{self.remaining} bytes before its end"
        )
