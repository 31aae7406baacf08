"""Reads WebDataset shards, archives of many images each, and tells validation shards from others; opens no image.

In a shard ``<key>.jpg`` lies beside ``<key>.cls``, a text file with an index of the sorted WordNet ids, or of the
classes that ``classes.txt`` beside the shards names. Other files of a sample (``.json``) do not count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r2convert.errors import DatasetError
from r2convert.files import first_names
from r2convert.imagenet.labels import CLASS_COUNT
from r2convert.imagenet.listings import Entry, Listing, classes_beside
from r2convert.imagenet.validation_set import ImageLocation, ValidationImage, is_image_name, mention

SHARDS = "WebDataset shards"

_CLASS_FILE_LIMIT = 100
_SPLIT_WORDS = {"train": ("train",), "val": ("val", "dev"), "test": ("test",)}


@dataclass(slots=True)
class _Sample:
    image: Entry | None = None
    label: ImageLocation | None = None


def has_samples(listing: Listing) -> bool:
    """Whether an archive holds class files."""
    return any(entry.file_name.endswith(".cls") for entry in listing.entries)


def read_shards(
    path: Path, shards: Sequence[Listing]
) -> tuple[list[ValidationImage], list[str], tuple[str, ...] | None]:
    """The samples of all shards, in no particular order, what is odd about them, and the classes ``classes.txt`` names.

    Args:
        path: the folder, for messages.
        shards: its archives.

    Raises:
        DatasetError: a class file holds no class index, an image has no class file, or a shard has no samples.
    """
    images: list[ValidationImage] = []
    without_image: list[str] = []
    classes = classes_beside(path)
    count = len(classes) if classes else CLASS_COUNT
    for shard in shards:
        samples = _group(shard)
        found = [_read_sample(shard, key, each, count) for key, each in samples.items() if each.image is not None]
        without_image += [key for key, sample in samples.items() if sample.image is None]
        if not found:
            raise DatasetError(
                "a shard holds no images",
                where=str(shard.path),
                expected="samples of an image and a .cls file",
                got=f"{len(shard.entries)} files: {first_names([entry.name for entry in shard.entries])}",
                next_step=f"move what is not a shard of the validation set out of {path}",
            )
        images += found
    if not without_image:
        return images, [], classes
    note = mention(sorted(without_image), "sample has no image, left out", "samples have no image, left out")
    return images, [note], classes


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


def _read_sample(shard: Listing, key: str, sample: _Sample, class_count: int) -> ValidationImage:
    if sample.image is None or sample.label is None:
        raise _bad_sample(shard, key, "no .cls file", class_count)
    if (sample.label.size or 0) > _CLASS_FILE_LIMIT:
        raise _bad_sample(shard, key, f"a .cls file of {sample.label.size} bytes", class_count)
    text = sample.label.read().decode("ascii", "replace").strip()
    if not text.isascii() or not text.isdigit() or int(text) >= class_count:
        raise _bad_sample(shard, key, f"class {text!r}", class_count)
    return ValidationImage(f"{shard.path.name}/{sample.image.name}", int(text), sample.image.location)


def split_of(name: str) -> str:
    """Which part of a data set a shard belongs to, by its name: ``train``, ``val``, ``test``, or nothing known."""
    words = re.split(r"[^a-z]+", name.lower())
    for split, beginnings in _SPLIT_WORDS.items():
        if any(word.startswith(beginnings) for word in words):
            return split
    return ""


def choose_shards(path: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of some shards that are for validation, and a sentence about those that are left out.

    Raises:
        DatasetError: some belong to a split, and nothing says what the others are.
    """
    splits = {name: split_of(name) for name in names}
    if len(set(splits.values())) <= 1:
        return list(names), []
    unknown = [name for name, split in splits.items() if not split]
    if unknown:
        raise DatasetError(
            "it is not clear which of these shards are for validation",
            where=str(path),
            expected="shards whose names say train, val or test",
            got=f"{first_names([name for name in names if splits[name]])} beside {first_names(unknown)}",
            next_step="move the validation shards into a folder of their own",
        )
    wanted = "val" if "val" in splits.values() else "test"
    left_out = [name for name, split in splits.items() if split != wanted]
    chosen = [name for name, split in splits.items() if split == wanted]
    return chosen, [mention(left_out, "shard of another split is left out", "shards of other splits are left out")]


def _bad_sample(shard: Listing, key: str, got: str, class_count: int) -> DatasetError:
    return DatasetError(
        "a sample of a shard has no usable class",
        where=f"{shard.path}: {key}",
        expected=f"a .cls file with a class index from 0 to {class_count - 1}",
        got=got,
    )
