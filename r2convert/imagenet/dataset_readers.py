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

*Parquet shards* as Hugging Face has them: a column ``image`` (``bytes`` and ``path``) and a column ``label``.

*Own classes*: one folder a class, of any name. Folders named by numbers are class indices (ImageNet-V2 has the 1,000
of ImageNet so); other names are the classes in their sorted order, as torchvision's ``ImageFolder`` counts them,
unless a file ``classes.txt`` beside them names them in another, one a line.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from r2convert.errors import DatasetError, UsageError
from r2convert.imagenet.labels import (
    CLASS_COUNT,
    class_index_by_synset,
    class_names,
    synsets,
    validation_labels,
    validation_number,
)
from r2convert.imagenet.validation_set import ImageLocation, ValidationImage, is_image_name, mention, name_some

CLASS_FOLDERS = "class folders"
FLAT_FOLDER = "flat folder"
TAR_ARCHIVE = "tar archive"
LIST_FILE = "list file"
OPENMMLAB_LIST = "OpenMMLab list"
SHARDS = "WebDataset shards"
PARQUET = "Parquet shards"
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
    """Whether images lie in two folders or more, and nowhere else."""
    folders = {entry.folder for entry in listing.entries if is_image_name(entry.file_name)}
    return len(folders) > 1 and "" not in folders and not {name.lower() for name in listing.folders} & set(_SPLITS)


def read_own_classes(listing: Listing) -> tuple[list[ValidationImage], list[str], tuple[str, ...]]:
    """The images of all folders, in no particular order, what is odd about the listing, and the classes by index.

    Raises:
        DatasetError: the names do not say which class of ImageNet a folder is, or contradict ``classes.txt``.
    """
    entries = [entry for entry in listing.entries if "/" in entry.name and is_image_name(entry.file_name)]
    folders = sorted({entry.folder for entry in entries})
    classes = _own_classes(listing.path, sorted({*folders, *listing.folders}))
    index_of = {name: index for index, name in enumerate(classes)}
    if classes == synsets():
        index_of = {str(index): index for index in range(CLASS_COUNT)}
    images = [ValidationImage(entry.name, index_of[entry.folder], entry.location) for entry in entries]
    empty = sorted(set(listing.folders) - set(folders))
    return images, _describe(empty, sorted(listing.deeper)), classes


def _own_classes(path: Path, folders: list[str]) -> tuple[str, ...]:
    """The classes that folders stand for, by class index."""
    named = path / "classes.txt"
    if named.is_file():
        classes = tuple(line.strip() for line in _read_lines(named) if line.strip())
        unknown = [name for name in folders if name not in classes]
        if unknown or len(set(classes)) < len(classes):
            raise DatasetError(
                "classes.txt does not fit the folders",
                where=str(named),
                expected="the name of every class folder, one a line, in the order of the class indices",
                got=f"not in it: {name_some(unknown)}" if unknown else "a class twice",
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
            got=f"{len(folders)} folders: {name_some(folders)}",
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
        one, many = "entry is no image of a class, left out", "entries are no images of a class, left out"
        warnings.append(mention(passed_over, one, many))
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
    return images, [
        mention(sorted(passed_over), "entry has no official name, left out", "entries have no official name, left out")
    ]


def _number(listing: Listing, entry: Entry) -> int | None:
    """The validation number of an entry that is an image and lies where it counts."""
    at_the_top = "/" not in entry.name or listing.path.is_file()
    return validation_number(entry.file_name) if at_the_top and is_image_name(entry.file_name) else None


# The image is everything before the last separator, since file names may hold blanks and commas.
_LINE = re.compile(r"(?P<image>.+?)[ \t,]+(?P<label>\S+?)\s*", re.ASCII)
_LARGEST_LIST = 64 * 2**20


def read_list_file(
    path: Path, *, image_folder: Path | None = None
) -> tuple[list[ValidationImage], list[str], tuple[str, ...] | None]:
    """The images a list names, in no particular order; those that are not there have no location.

    A file ``classes.txt`` beside the list names classes that are not those of ImageNet, one a line; the list has
    their names or their indices then.

    Args:
        path: the list, UTF-8; empty lines and lines that begin with ``#`` do not count.
        image_folder: what its paths are relative to; by default the first of the list's folder, ``val`` in it, the
            folder above and ``val`` in that one, that has the first image of the list.

    Returns:
        The images, what is odd about them, and the classes by index, if they are not those of ImageNet.

    Raises:
        DatasetError: a line cannot be read, a class does not exist, or none of the images is there.
    """
    lines = [(number, line) for number, line in enumerate(_read_lines(path), 1) if _counts(line)]
    classes = _classes_beside(path)
    rows = [_read_line(path, number, line, classes) for number, line in lines]
    if classes is None:
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
        return images, [], classes
    return (
        images,
        [
            mention(
                missing,
                "image of the list is missing and counts as wrong",
                "images of the list are missing and count as wrong",
            )
        ],
        classes,
    )


def list_has_images(path: Path, image_folder: Path) -> bool:
    """Whether any of the images that a list names lies in a folder."""
    matches = (_LINE.fullmatch(line.strip()) for line in _read_lines(path) if _counts(line))
    return any(_is_file(image_folder / match["image"].removeprefix("./")) for match in matches if match)


def _classes_beside(path: Path) -> tuple[str, ...] | None:
    """The classes that ``classes.txt`` beside a list names, by class index."""
    named = path.with_name("classes.txt")
    if named == path or not named.is_file():
        return None
    return tuple(line.strip() for line in _read_lines(named) if line.strip())


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


def _read_line(path: Path, number: int, line: str, classes: tuple[str, ...] | None) -> tuple[str, int]:
    match = _LINE.fullmatch(line.strip())
    label = None if match is None else _class_index(match["label"], classes)
    if match is None or label is None:
        raise DatasetError(
            "a line of the list does not name an image and its class",
            where=f"{path}:{number}",
            expected="a file name and a class index or WordNet id, such as: ILSVRC2012_val_00000001.JPEG 65"
            if classes is None
            else f"a file name and one of the {len(classes)} classes of classes.txt, or its index",
            got=line[:200],
            next_step="correct the line; lines that begin with # do not count",
        )
    return match["image"].removeprefix("./"), label


def _class_index(text: str, classes: tuple[str, ...] | None) -> int | None:
    if classes is not None:
        if text in classes:
            return classes.index(text)
        return int(text) if text.isascii() and text.isdigit() and int(text) < len(classes) else None
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
    return images, [mention(sorted(without_image), "sample has no image, left out", "samples have no image, left out")]


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


def split_of(name: str) -> str:
    """Which part of a data set a shard belongs to, by its name: ``train``, ``val``, or nothing that is known."""
    words = re.split(r"[^a-z]+", name.lower())
    if any(word.startswith("train") for word in words):
        return "train"
    return "val" if any(word.startswith(("val", "test", "dev")) for word in words) else ""


def choose_shards(path: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of some shards that are for validation, and a sentence about those that are left out.

    Raises:
        DatasetError: there are training shards, and others of which nothing says what they are.
    """
    splits = {name: split_of(name) for name in names}
    training = [name for name, split in splits.items() if split == "train"]
    if not training or len(training) == len(names):
        return list(names), []
    chosen = [name for name, split in splits.items() if split == "val"]
    if len(chosen) + len(training) < len(names):
        other = [name for name, split in splits.items() if not split]
        raise DatasetError(
            "it is not clear which of these shards are for validation",
            where=str(path),
            expected="shards whose names say train or val",
            got=f"{name_some(training)} beside {name_some(other)}",
            next_step="move the validation shards into a folder of their own",
        )
    return chosen, [mention(training, "training shard is left out", "training shards are left out")]


@dataclass(frozen=True, slots=True)
class ParquetLocation(ImageLocation):
    """A row of a parquet file: ``offset`` is the row group, ``size`` the row in it."""

    def read(self) -> bytes:
        """The encoded image.

        Raises:
            OSError: the file cannot be read, or its row holds no image.
        """
        image = _image_column(self.path, self.offset)[self.size or 0]["bytes"].as_py()
        if not image:
            raise OSError("the row holds no image")
        return bytes(image)


# Images are read about in their order, by several threads, so a row group is decoded once.
@lru_cache(maxsize=8)
def _image_column(path: Path, group: int) -> Any:
    from pyarrow import ArrowException, parquet

    try:
        return parquet.ParquetFile(path).read_row_group(group, columns=["image"]).column("image")
    except ArrowException as error:
        raise OSError(f"row group {group} of {path.name} cannot be read: {error}") from error


def read_parquet(path: Path, names: Sequence[str]) -> tuple[list[ValidationImage], list[str]]:
    """The images of parquet shards, in no particular order.

    Args:
        path: their folder.
        names: their file names.

    Raises:
        UsageError: pyarrow is not installed.
        DatasetError: a file is damaged, or has no column ``label`` with class indices, or no column ``image``.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UsageError("parquet files need pyarrow", got=str(error), next_step="pip install pyarrow") from error
    images: list[ValidationImage] = []
    for name in names:
        try:
            file = parquet.ParquetFile(path / name)
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group, columns=["image.path", "label"])
                labels, paths = rows.column("label").to_pylist(), rows.column("image").to_pylist()
                for row, (label, image) in enumerate(zip(labels, paths, strict=True)):
                    location = ParquetLocation(path / name, group, row)
                    file_name = (image or {}).get("path") or f"{group:05d}_{row:07d}"
                    images.append(ValidationImage(f"{name}/{Path(file_name).name}", int(label), location))
        except (ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                "this parquet file holds no labelled images",
                where=str(path / name),
                expected="a column image with bytes and path, and a column label with class indices",
                got=str(error).partition("\n")[0],
                next_step="point --imagenet at the folder of the data set's validation files",
            ) from error
    outside = [image.id for image in images if not 0 <= image.label < CLASS_COUNT]
    if outside:
        raise DatasetError(
            "some images of the parquet files have no class",
            where=str(path),
            expected=f"class indices from 0 to {CLASS_COUNT - 1}; a test split has none",
            got=f"{len(outside)} others: {name_some(outside)}",
        )
    return images, []


def _bad_sample(shard: Listing, key: str, got: str) -> DatasetError:
    return DatasetError(
        "a sample of a shard has no usable class",
        where=f"{shard.path}: {key}",
        expected="a .cls file with a class index from 0 to 999",
        got=got,
    )
