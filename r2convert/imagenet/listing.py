"""Lists what lies in a folder or an archive, without opening any image."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from r2convert.errors import DatasetError
from r2convert.imagenet.validation_set import ImageLocation


@dataclass(frozen=True, slots=True)
class Entry:
    """A file.

    Args:
        name: its path with forward slashes, relative to the folder or as the archive has it.
        location: where its bytes are.
    """

    name: str
    location: ImageLocation

    @property
    def folder(self) -> str:
        """The name of the folder it lies in, or the empty string at the top."""
        return self.name.rpartition("/")[0].rpartition("/")[2]

    @property
    def file_name(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Listing:
    """What there is.

    Args:
        path: the folder or archive.
        entries: its files; of a folder, those at the top and in the folders at the top.
        folders: names of the folders at the top (of an archive: of every folder it has a record for).
        deeper: folders further down, which are not looked into.
    """

    path: Path
    entries: tuple[Entry, ...]
    folders: tuple[str, ...] = ()
    deeper: tuple[str, ...] = ()


def list_folder(path: Path) -> Listing:
    """The files of a folder and of its folders, by name.

    Raises:
        DatasetError: a folder cannot be read.
    """
    entries, folders, deeper = [], [], []
    try:
        for top in sorted(path.iterdir()):
            if not top.is_dir():
                entries.append(Entry(top.name, ImageLocation(top)))
                continue
            folders.append(top.name)
            with os.scandir(top) as inside:
                for item in inside:
                    if item.is_dir():
                        deeper.append(f"{top.name}/{item.name}")
                    else:
                        entries.append(Entry(f"{top.name}/{item.name}", ImageLocation(Path(item.path))))
    except OSError as error:
        raise DatasetError("the folder cannot be listed", where=str(path), got=str(error)) from error
    return Listing(path, tuple(entries), tuple(folders), tuple(deeper))


def list_archive(path: Path) -> Listing:
    """The regular files of an uncompressed tar archive, to be read in place.

    Raises:
        DatasetError: the archive is cut short, damaged or compressed.
    """
    entries, folders = [], []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if member.isreg():
                    entries.append(Entry(name, ImageLocation(path, member.offset_data, member.size)))
                elif member.isdir() and name not in ("", "."):
                    folders.append(name.rstrip("/").rpartition("/")[2])
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DatasetError(
            "the archive cannot be read to its end",
            where=str(path),
            expected="an uncompressed tar archive such as ILSVRC2012_img_val.tar",
            got=str(error),
            next_step="compare the file's size and checksum with the publisher's; unpack compressed archives first",
        ) from error
    return Listing(path, tuple(entries), tuple(folders))
