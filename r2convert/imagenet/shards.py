"""A folder of WebDataset shards: tar archives in which ``<key>.jpg`` lies beside ``<key>.cls``.

The class is a text file with an index of the sorted WordNet ids. Other files of a sample (``.json``) do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r2convert.errors import DatasetError
from r2convert.imagenet.labels import CLASS_COUNT
from r2convert.imagenet.listing import Entry, Listing
from r2convert.imagenet.naming import is_image_name, name_some
from r2convert.imagenet.validation_set import ImageLocation, ValidationImage

LAYOUT = "WebDataset shards"

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
