"""Reads the names and labels of images in every form a validation set is kept in; no image is opened.

*Class folders*, named by WordNet id (``n01440764/ILSVRC2012_val_00000293.JPEG``): the class index comes from the
folder's name, never from its position, so an empty or absent class folder cannot shift the others.

*Official names* (``ILSVRC2012_val_00000001.JPEG``), all in one folder or archive: their labels are the built-in ones,
found by the number in the name; no development kit is needed.

*A list*, one image a line (``ILSVRC2012_val_00000001.JPEG 65``), as OpenMMLab keeps it in ``meta/val.txt`` beside a
flat ``val`` folder. Fields are separated by blanks, a tab or a comma; the class is an index of the sorted WordNet ids
(0 to 999) or a WordNet id.

*WebDataset shards*: tar archives in which ``<key>.jpg`` lies beside ``<key>.cls``, a text file with an index of the
sorted WordNet ids. Other files of a sample (``.json``) do not count.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r2convert.errors import DatasetError
from r2convert.imagenet.labels import CLASS_COUNT, class_index_by_synset, validation_labels, validation_number
from r2convert.imagenet.validation_set import ImageLocation, ValidationImage, is_image_name, name_some

CLASS_FOLDERS = "class folders"
FLAT_FOLDER = "flat folder"
TAR_ARCHIVE = "tar archive"
LIST_FILE = "list file"
OPENMMLAB_LIST = "OpenMMLab list"
SHARDS = "WebDataset shards"


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


def _describe(empty: list[str], passed_over: list[str]) -> list[str]:
    warnings = []
    if empty:
        warnings.append(f"{len(empty)} class folders hold no image: {name_some(empty)}")
    if passed_over:
        warnings.append(f"{len(passed_over)} entries are no images of a class, left out: {name_some(passed_over)}")
    return warnings


def _refuse_foreign_classes(listing: Listing, names: list[str]) -> None:
    if names:
        raise DatasetError(
            "some class folders are no classes of ImageNet-1k",
            where=str(listing.path),
            expected="folders named by the 1,000 WordNet ids of ImageNet-1k",
            got=f"{len(names)} others: {name_some(names)}",
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
    return images, [f"{len(passed_over)} entries have no official name, left out: {name_some(sorted(passed_over))}"]


def _number(listing: Listing, entry: Entry) -> int | None:
    """The validation number of an entry that is an image and lies where it counts."""
    at_the_top = "/" not in entry.name or listing.path.is_file()
    return validation_number(entry.file_name) if at_the_top and is_image_name(entry.file_name) else None


# The image is everything before the last separator, since file names may hold blanks and commas.
_LINE = re.compile(r"(?P<image>.+?)[ \t,]+(?P<label>\S+?)\s*", re.ASCII)
_LARGEST_LIST = 64 * 2**20


def read_list_file(path: Path, *, image_folder: Path | None = None) -> tuple[list[ValidationImage], list[str]]:
    """The images a list names, in no particular order; those that are not there have no location.

    Args:
        path: the list, UTF-8; empty lines and lines that begin with ``#`` do not count.
        image_folder: what its paths are relative to; by default the first of the list's folder, ``val`` in it, the
            folder above and ``val`` in that one, that has the first image of the list.

    Raises:
        DatasetError: a line cannot be read, a class does not exist, or none of the images is there.
    """
    rows = [_read_line(path, number, line) for number, line in enumerate(_read_lines(path), 1) if _counts(line)]
    _refuse_labels_from_one(path, [label for _, label in rows])
    folder = image_folder or _find_images(path, [name for name, _ in rows])
    images = []
    for name, label in rows:
        file = folder / name
        images.append(ValidationImage(name, label, ImageLocation(file) if _is_file(file) else None))
    missing = [image.id for image in images if image.location is None]
    if len(missing) == len(images):
        raise DatasetError(
            "none of the images in the list is there" if images else "the list names no images",
            where=str(path),
            expected=f"images below {folder}",
            got=name_some(missing) if images else "an empty list",
            next_step="keep the list beside the images, or one folder above or below them",
        )
    if not missing:
        return images, []
    return images, [f"{len(missing)} images of the list are missing and count as wrong: {name_some(missing)}"]


def _read_lines(path: Path) -> list[str]:
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


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _read_line(path: Path, number: int, line: str) -> tuple[str, int]:
    match = _LINE.fullmatch(line.strip())
    label = None if match is None else _class_index(match["label"])
    if match is None or label is None:
        raise DatasetError(
            "a line of the list does not name an image and its class",
            where=f"{path}:{number}",
            expected="a file name and a class index or WordNet id, such as: ILSVRC2012_val_00000001.JPEG 65",
            got=line[:200],
            next_step="correct the line; lines that begin with # do not count",
        )
    return match["image"].removeprefix("./"), label


def _class_index(text: str) -> int | None:
    if text.isascii() and text.isdigit() and int(text) <= CLASS_COUNT:
        return int(text)
    return class_index_by_synset().get(text)


def _refuse_labels_from_one(path: Path, labels: list[int]) -> None:
    if CLASS_COUNT in labels:
        raise DatasetError(
            "the list counts its classes from 1",
            where=str(path),
            expected="class indices from 0 to 999, in the order of the sorted WordNet ids",
            got="class 1000" + ("" if 0 in labels else ", and no class 0"),
            next_step="the development kit's ILSVRC2012_ID is another order: use WordNet ids, or a flat folder, "
            "whose labels are built in",
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A line of nonsense makes a name no file system takes; nothing of that name is there.
        return False


def _find_images(path: Path, names: list[str]) -> Path:
    candidates = (path.parent, path.parent / "val", path.parent.parent, path.parent.parent / "val")
    for name in names:
        for candidate in candidates:
            if _is_file(candidate / name):
                return candidate
    return path.parent


_CLASS_FILE_LIMIT = 100


@dataclass(slots=True)
class _Sample:
    image: Entry | None = None
    label: ImageLocation | None = None


def has_samples(listing: Listing) -> bool:
    """Whether an archive holds class files."""
    return any(entry.file_name.endswith(".cls") for entry in listing.entries)


def read_shards(path: Path, shards: Sequence[Listing]) -> tuple[list[ValidationImage], list[str]]:
    """The samples of all shards, in no particular order, and what is odd about them.

    Args:
        path: the folder, for messages.
        shards: its archives.

    Raises:
        DatasetError: a class file holds no class index, an image has no class file, or a shard has no samples.
    """
    images: list[ValidationImage] = []
    without_image: list[str] = []
    for shard in shards:
        samples = _group(shard)
        found = [_read_sample(shard, key, sample) for key, sample in samples.items() if sample.image is not None]
        without_image += [key for key, sample in samples.items() if sample.image is None]
        if not found:
            raise DatasetError(
                "a shard holds no images",
                where=str(shard.path),
                expected="samples of an image and a .cls file",
                got=f"{len(shard.entries)} files: {name_some([entry.name for entry in shard.entries])}",
                next_step=f"move what is no shard of the validation set out of {path}",
            )
        images += found
    if not without_image:
        return images, []
    return images, [f"{len(without_image)} samples have no image, left out: {name_some(sorted(without_image))}"]


def _group(shard: Listing) -> dict[str, _Sample]:
    """The files of each sample; WebDataset's key is the path up to the first dot of the file name."""
    samples: dict[str, _Sample] = {}
    for entry in shard.entries:
        folder, slash, file_name = entry.name.rpartition("/")
        key, _, extension = file_name.partition(".")
        if extension == "cls":
            samples.setdefault(folder + slash + key, _Sample()).label = entry.location
        elif is_image_name(file_name):
            samples.setdefault(folder + slash + key, _Sample()).image = entry
    return samples


def _read_sample(shard: Listing, key: str, sample: _Sample) -> ValidationImage:
    if sample.image is None or sample.label is None:
        raise _bad_sample(shard, key, "no .cls file")
    if (sample.label.size or 0) > _CLASS_FILE_LIMIT:
        raise _bad_sample(shard, key, f"a .cls file of {sample.label.size} bytes")
    text = sample.label.read().decode("ascii", "replace").strip()
    if not text.isascii() or not text.isdigit() or int(text) >= CLASS_COUNT:
        raise _bad_sample(shard, key, f"class {text!r}")
    return ValidationImage(f"{shard.path.name}/{sample.image.name}", int(text), sample.image.location)


def _bad_sample(shard: Listing, key: str, got: str) -> DatasetError:
    return DatasetError(
        "a sample of a shard has no usable class",
        where=f"{shard.path}: {key}",
        expected="a .cls file with a class index from 0 to 999",
        got=got,
    )
