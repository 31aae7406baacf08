"""Reads the names and labels of images in folders and archives of files; no image is opened.

*Class folders*, named by WordNet id (``n01440764/ILSVRC2012_val_00000293.JPEG``): the class index comes from the
folder's name, never from its position, so an empty or absent class folder cannot shift the others.

*Official names* (``ILSVRC2012_val_00000001.JPEG``), all in one folder or archive: their labels are the built-in ones,
found by the number in the name; no development kit is needed.

*Own classes*: one folder per class, of any name. Folders named by numbers are class indices (ImageNet-V2 has the 1,000
of ImageNet so); other names are the classes in their sorted order, as torchvision's ``ImageFolder`` counts them,
unless a file ``classes.txt`` beside them names them in another, one per line.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from r2convert.errors import DatasetError
from r2convert.files import first_names
from r2convert.imagenet.labels import (
    CLASS_COUNT,
    class_index_by_synset,
    class_names,
    synsets,
    validation_labels,
    validation_number,
)
from r2convert.imagenet.validation_set import ImageLocation, ValidationImage, is_image_name, mention

CLASS_FOLDERS = "class folders"
FLAT_FOLDER = "flat folder"
TAR_ARCHIVE = "tar archive"
OWN_CLASSES = "folders of own classes"

_SPLITS = ("train", "val", "valid", "validation", "test", "dev")


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
                for item in sorted(inside, key=lambda each: each.name):
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


_LARGEST_LIST = 64 * 2**20


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        DatasetError: it cannot be read, is too large, or is no text.
    """
    try:
        if path.stat().st_size > _LARGEST_LIST:
            raise DatasetError(
                "the file is too large for a list of images",
                where=str(path),
                expected=f"at most {_LARGEST_LIST} bytes of text",
                got=f"{path.stat().st_size} bytes",
                next_step="point --imagenet at the folder of images or at an uncompressed .tar archive",
            )
        return path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise DatasetError("the list cannot be read", where=str(path), got=str(error)) from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            "this file is neither a list of images nor an archive",
            where=str(path),
            expected="a folder, an uncompressed tar archive, or a text file with an image and a class in each line",
            got=str(error),
            next_step="point --imagenet at the folder of images",
        ) from error


CLASSES_FILE = "classes.txt"


def classes_beside(folder: Path) -> tuple[str, ...] | None:
    """The classes that ``classes.txt`` in a folder names, by class index; ``None`` if there is no such file.

    Raises:
        DatasetError: it cannot be read, or names a class twice.
    """
    named = folder / CLASSES_FILE
    if not named.is_file():
        return None
    classes = tuple(line.strip() for line in read_lines(named) if line.strip())
    twice = sorted(name for name, count in Counter(classes).items() if count > 1)
    if twice:
        raise DatasetError(
            "a class is named twice",
            where=str(named),
            expected="the name of every class once, one per line, in the order of the class indices",
            got=first_names(twice),
        )
    return classes


_WORDNET_ID = re.compile(r"n\d{8}", re.ASCII)


def has_class_folders(listing: Listing) -> bool:
    """Whether any folder is named by a WordNet id, of ImageNet-1k or not."""
    return any(map(_WORDNET_ID.fullmatch, _folder_names(listing)))


def read_class_folders(listing: Listing) -> tuple[list[ValidationImage], list[str]]:
    """The images of all class folders, in no particular order, and what is odd about the listing.

    Any subset of the 1,000 classes will do.

    Raises:
        DatasetError: a folder carries a WordNet id that is no class of ImageNet-1k, or there is no image at all.
    """
    index_by_synset = class_index_by_synset()
    class_folders = {name for name in _folder_names(listing) if _WORDNET_ID.fullmatch(name)}
    _refuse_foreign_classes(listing, sorted(class_folders - index_by_synset.keys()))
    images: list[ValidationImage] = []
    passed_over = list(listing.deeper)
    if listing.path.is_dir():
        passed_over += [name for name in listing.folders if name not in class_folders]
    for entry in listing.entries:
        if entry.folder in class_folders and is_image_name(entry.file_name):
            images.append(ValidationImage(entry.name, index_by_synset[entry.folder], entry.location))
        elif entry.folder in class_folders or "/" not in entry.name:
            passed_over.append(entry.name)
    if not images:
        raise DatasetError(
            "the class folders hold no images",
            where=str(listing.path),
            expected="JPEG files inside folders such as n01440764",
            got=f"{len(class_folders)} class folders, all without images",
            next_step="check that the validation images were unpacked and moved into the class folders",
        )
    filled = {image.id.rpartition("/")[0].rpartition("/")[2] for image in images}
    return images, _describe(sorted(class_folders - filled), sorted(passed_over))


def _folder_names(listing: Listing) -> set[str]:
    return {*listing.folders, *(entry.folder for entry in listing.entries)}


def has_own_classes(listing: Listing) -> bool:
    """Whether images lie in two folders or more of one place, and nowhere else."""
    folders = {entry.name.rpartition("/")[0] for entry in listing.entries if is_image_name(entry.file_name)}
    names = {folder.rpartition("/")[2] for folder in folders}
    places = {folder.rpartition("/")[0] for folder in folders}
    beside = {name.lower() for name in (*names, *_empty_folders(listing, names))}
    return len(places) == 1 and len(folders) > 1 and "" not in names and not beside & set(_SPLITS)


def read_own_classes(listing: Listing) -> tuple[list[ValidationImage], list[str], tuple[str, ...]]:
    """The images of all folders, in no particular order, what is odd about the listing, and the classes by index.

    Raises:
        DatasetError: the names do not say which class of ImageNet a folder is, or contradict ``classes.txt``.
    """
    entries = [entry for entry in listing.entries if "/" in entry.name and is_image_name(entry.file_name)]
    folders = sorted({entry.folder for entry in entries})
    empty = _empty_folders(listing, folders)
    classes = _own_classes(listing.path, sorted({*folders, *empty}))
    index_of = {name: index for index, name in enumerate(classes)}
    if classes == synsets():
        index_of = {str(index): index for index in range(CLASS_COUNT)}
    images = [ValidationImage(entry.name, index_of[entry.folder], entry.location) for entry in entries]
    others = [entry.name for entry in listing.entries if "/" in entry.name and not is_image_name(entry.file_name)]
    return images, _describe(empty, sorted([*listing.deeper, *others])), classes


def _empty_folders(listing: Listing, filled: Iterable[str]) -> list[str]:
    """Folders without images; of an archive none, since it may have a record of the folders above the classes."""
    return sorted(set(listing.folders) - set(filled)) if listing.path.is_dir() else []


def _own_classes(path: Path, folders: list[str]) -> tuple[str, ...]:
    """The classes that folders stand for, by class index."""
    classes = classes_beside(path)
    if classes is not None:
        unknown = [name for name in folders if name not in classes]
        if unknown:
            raise DatasetError(
                "classes.txt does not fit the folders",
                where=str(path / CLASSES_FILE),
                expected="the name of every class folder, one per line, in the order of the class indices",
                got=f"not in it: {first_names(unknown)}",
                next_step="add the missing names, or remove the file to take the folders in their sorted order",
            )
        return classes
    if all(name.isascii() and name.isdigit() and str(int(name)) == name for name in folders):
        count = max(map(int, folders)) + 1
        return synsets() if count == CLASS_COUNT else tuple(map(str, range(count)))
    known = {_plain(name.partition(",")[0]) for name in class_names()}
    if len(folders) == CLASS_COUNT or all(name.isdigit() or _plain(name) in known for name in folders):
        raise DatasetError(
            "the names of these folders do not say which classes of ImageNet they are",
            where=str(path),
            expected="folders named by WordNet id such as n01440764",
            got=f"{len(folders)} folders: {first_names(folders)}",
            next_step="name them by WordNet id, or list them in classes.txt in the order of the network's classes",
        )
    return tuple(folders)


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _describe(empty: list[str], passed_over: list[str]) -> list[str]:
    warnings = []
    if empty:
        warnings.append(mention(empty, "class folder holds no image", "class folders hold no image"))
    if passed_over:
        one, many = "entry is not an image of a class, left out", "entries are not images of a class, left out"
        warnings.append(mention(passed_over, one, many))
    return warnings


def _refuse_foreign_classes(listing: Listing, names: list[str]) -> None:
    if names:
        raise DatasetError(
            "some class folders are not classes of ImageNet-1k",
            where=str(listing.path),
            expected="folders named by the 1,000 WordNet ids of ImageNet-1k",
            got=mention(names, "other", "others"),
            next_step="point --imagenet at the ImageNet-1k validation images, or move the other folders away",
        )


def has_official_names(listing: Listing) -> bool:
    """Whether any image at the top of a folder, or anywhere in an archive, has an official name."""
    return any(_number(listing, entry) is not None for entry in listing.entries)


def read_official_names(listing: Listing) -> tuple[list[ValidationImage], list[str]]:
    """The images with official names, in no particular order, and a sentence about whatever lies beside them."""
    labels = validation_labels()
    images: list[ValidationImage] = []
    passed_over = [f"{name}/" for name in listing.folders] if listing.path.is_dir() else []
    for entry in listing.entries:
        number = _number(listing, entry)
        if number is not None:
            images.append(ValidationImage(entry.name, labels[number - 1], entry.location))
        elif "/" not in entry.name or listing.path.is_file():
            passed_over.append(entry.name)
    if not passed_over:
        return images, []
    return images, [
        mention(sorted(passed_over), "entry has no official name, left out", "entries have no official name, left out")
    ]


def _number(listing: Listing, entry: Entry) -> int | None:
    """The validation number of an entry that is an image and lies where it counts."""
    at_the_top = "/" not in entry.name or listing.path.is_file()
    return validation_number(entry.file_name) if at_the_top and is_image_name(entry.file_name) else None
