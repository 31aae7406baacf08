"""Files appear whole or not at all, and what a killed run leaves behind is cleared away by the next."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from r2convert.errors import AccessError, NoSpaceError, OutputExistsError
from r2convert.files import (
    PART_SUFFIX,
    atomic_output,
    copy_verified,
    printable,
    read_at,
    require_place,
    sha256_of,
    sync_data,
    sync_folder,
    write_text,
)

WRITER = """
import sys
from pathlib import Path
from r2convert.files import atomic_output
with atomic_output(Path(sys.argv[1]), overwrite=True) as (part, descriptor):
    print(part, flush=True)
    sys.stdin.read()
"""


@contextmanager
def writer(target: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process in the middle of writing ``target``, with the file it writes to; it is killed in the end."""
    command = [sys.executable, "-c", WRITER, str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_run_left_is_swept_by_the_next_that_writes_there(tmp_path: Path) -> None:
    with writer(tmp_path / "a.pth") as (process, part):
        process.kill()
        process.wait()
    assert part.exists()
    write_text(tmp_path / "b.json", "{}")
    assert names(tmp_path) == ["b.json"]


def test_what_a_live_run_is_writing_is_left_alone(tmp_path: Path) -> None:
    with writer(tmp_path / "a.pth") as (process, part):
        write_text(tmp_path / "b.json", "{}")
        assert part.exists()
        process.communicate("")  # the end of its input lets it finish
    assert process.returncode == 0
    assert names(tmp_path) == ["a.pth", "b.json"]


def test_two_writers_in_one_process_leave_each_other_alone(tmp_path: Path) -> None:
    with atomic_output(tmp_path / "a", overwrite=False) as (part, _):
        write_text(tmp_path / "b", "b")
        assert part.exists()
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("name", ["x.part", ".x.part", ".x.0123.part", "x.0123456789abcdef.part"])
def test_files_of_other_programs_are_not_swept(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("somebody's")
    write_text(tmp_path / "b", "b")
    assert names(tmp_path) == sorted([name, "b"])


def test_neither_links_nor_folders_are_swept(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / ".a.0123456789abcdef.part").symlink_to(precious)
    (tmp_path / ".b.0123456789abcdef.part").mkdir()
    write_text(tmp_path / "b", "b")
    assert precious.read_text() == "precious"
    assert len(names(tmp_path)) == 4


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "€" * 85, "a" + "𝄞" * 63])
def test_a_name_of_the_longest_length_can_be_written(name: str, tmp_path: Path) -> None:
    with atomic_output(tmp_path / name, overwrite=False) as (part, descriptor):
        assert len(os.fsencode(part.name)) <= 255
        assert part.name.encode("utf-8")  # no half of a character
        assert part.name.startswith(".")
        assert part.name.endswith(PART_SUFFIX)
        os.write(descriptor, b"data")
    assert (tmp_path / name).read_bytes() == b"data"


def test_a_name_that_is_not_utf_8_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / os.fsdecode(b"caf\xe9.json")
    write_text(target, f'"{target.name}"')
    assert target.read_bytes() == rb'"caf\udce9.json"'


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_a_block_that_fails(failure: type[BaseException], tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(failure), atomic_output(tmp_path / "a", overwrite=True):
        raise failure
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_file_that_appears_while_another_is_written_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError), atomic_output(tmp_path / "a", overwrite=False):
        (tmp_path / "a").write_text("theirs")
    assert (tmp_path / "a").read_text() == "theirs"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("through_link", [False, True])
def test_nothing_is_put_in_the_place_of_a_pipe(through_link: bool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    target = tmp_path / "pipe"
    if through_link:
        target = tmp_path / "link"
        target.symlink_to(tmp_path / "pipe")
    before = names(tmp_path)
    with pytest.raises(AccessError, match="a device or a pipe"), atomic_output(target, overwrite=True):
        pytest.fail("not reached")
    reader = os.open(target, os.O_RDONLY | os.O_NONBLOCK)
    write_text(target, "\udce9t\u00e9\n")
    assert os.read(reader, 100) == b"\\udce9t\xc3\xa9\n"
    os.close(reader)
    assert names(tmp_path) == before
    assert stat.S_ISFIFO(target.stat().st_mode)


def test_what_a_process_has_open_is_written_to(tmp_path: Path) -> None:
    """As ``/dev/stdout`` is a link to it: whoever runs as root could replace the link."""
    with (tmp_path / "out.txt").open("w+b") as file:
        (tmp_path / "stdout").symlink_to(f"/proc/self/fd/{file.fileno()}")
        with pytest.raises(AccessError, match="a device or a pipe"):
            require_place(tmp_path / "stdout", overwrite=True)
        write_text(tmp_path / "stdout", "text")
    assert (tmp_path / "stdout").is_symlink()
    assert (tmp_path / "out.txt").read_text() == "text"


def test_a_full_disk_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(NoSpaceError, match="No space left") as caught, atomic_output(tmp_path / "a", overwrite=False):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.exit_code == 4
    assert names(tmp_path) == []


@pytest.mark.parametrize("missing", ["fcntl", "link", "fdatasync", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC"])
def test_what_a_platform_lacks_is_done_without(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing == "fcntl":
        monkeypatch.setitem(sys.modules, "fcntl", None)
    else:
        monkeypatch.delattr(os, missing)
    target = tmp_path / "a"
    with atomic_output(target, overwrite=False) as (_, descriptor):
        os.write(descriptor, b"data")
        sync_data(descriptor)
    sync_folder(tmp_path)
    with pytest.raises(OutputExistsError):
        write_text(target, "other", overwrite=False)
    assert target.read_bytes() == b"data"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("missing", [None, "preadv"])
def test_bytes_are_read_where_they_lie(missing: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing:
        monkeypatch.delattr(os, missing)
    (tmp_path / "a").write_bytes(b"0123456789")
    buffer = memoryview(bytearray(4))
    with (tmp_path / "a").open("rb") as file:
        assert read_at(file.fileno(), buffer, 3) == 4
        assert bytes(buffer) == b"3456"
        assert read_at(file.fileno(), buffer, 8) == 2
        assert bytes(buffer) == b"8956"


def test_a_verified_copy(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    assert sha256_of(tmp_path / "a") == (digest, len(data))
    copy_verified(tmp_path / "a", tmp_path / "b", sha256=digest)
    assert (tmp_path / "b").read_bytes() == data


def test_a_copy_of_other_bytes_is_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"other")
    with pytest.raises(AccessError, match="changed while it was copied"):
        copy_verified(tmp_path / "a", tmp_path / "b", sha256=hashlib.sha256(b"data").hexdigest())
    with pytest.raises(AccessError, match="cannot be read"):
        copy_verified(tmp_path / "missing", tmp_path / "b", sha256="0" * 64)
    assert names(tmp_path) == ["a"]


def test_what_steers_a_terminal_is_spelled_out() -> None:
    assert printable("conv1.weight é") == "conv1.weight é"
    assert printable("\x1b[31mred\x07\n") == r"\x1b[31mred\x07\n"
    assert printable("a\n\tb", keep_lines=True) == "a\n\\tb"
    assert printable("\u202egpj.exe") == r"\u202egpj.exe"
    assert printable("\udce9") == r"\udce9"
