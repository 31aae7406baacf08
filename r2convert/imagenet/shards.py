"""Reads shards, archives or tables of many images each; no image is opened.

*WebDataset shards*: tar archives in which ``<key>.jpg`` lies beside ``<key>.cls``, a text file with an index of the
sorted WordNet ids. Other files of a sample (``.json``) do not count.

*Parquet shards* as Hugging Face has them: a column ``image`` (``bytes`` and ``path``) and a column ``label``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from r2convert.errors import DatasetError, UsageError
from r2convert.files import first_names
from r2convert.imagenet.labels import CLASS_COUNT
from r2convert.imagenet.listings import Entry, Listing
from r2convert.imagenet.validation_set import ImageLocation, ValidationImage, is_image_name, mention

SHARDS = "WebDataset shards"
PARQUET = "Parquet shards"

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
                got=f"{len(shard.entries)} files: {first_names([entry.name for entry in shard.entries])}",
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
            got=f"{first_names(training)} beside {first_names(other)}",
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
            got=f"{len(outside)} others: {first_names(outside)}",
        )
    return images, []


def _bad_sample(shard: Listing, key: str, got: str) -> DatasetError:
    return DatasetError(
        "a sample of a shard has no usable class",
        where=f"{shard.path}: {key}",
        expected="a .cls file with a class index from 0 to 999",
        got=got,
    )
