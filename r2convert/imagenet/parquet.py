"""Reads parquet shards as Hugging Face has them; no image is opened.

A column holds the images, ``bytes`` and ``path`` or bytes alone, another one the classes: ``image`` and ``label`` as a
rule, ``img`` or ``labels`` in some sets. What Hugging Face's ``datasets`` writes into a file says which columns these
are and what the classes are called; in other files the types and names of the columns tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from r2convert.errors import DatasetError, UsageError
from r2convert.files import first_names
from r2convert.imagenet.labels import CLASS_COUNT, class_index_by_synset, class_names
from r2convert.imagenet.listings import classes_beside
from r2convert.imagenet.validation_set import ImageLocation, ValidationImage, mention

PARQUET = "Parquet shards"

_IMAGE_COLUMNS = ("image", "img", "jpg")
_LABEL_COLUMNS = ("label", "labels", "cls")


@dataclass(frozen=True, slots=True)
class ParquetLocation(ImageLocation):
    """A row of a parquet file: ``offset`` is the row group, ``size`` the row in it, ``column`` where images are."""

    column: str = ""

    def read(self) -> bytes:
        """The encoded image.

        Raises:
            OSError: the file cannot be read, or its row holds no image.
        """
        cell = _image_column(self.path, self.offset, self.column)[self.size or 0].as_py()
        image = cell["bytes"] if isinstance(cell, dict) else cell
        if not image:
            raise OSError("the row holds no image")
        return bytes(image)


# Images are read about in their order, by several threads, so a row group is decoded once.
@lru_cache(maxsize=8)
def _image_column(path: Path, group: int, column: str) -> Any:
    from pyarrow import ArrowException, parquet

    try:
        return parquet.ParquetFile(path).read_row_group(group, columns=[column]).column(column)
    except ArrowException as error:
        raise OSError(f"row group {group} of {path.name} cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where a file has its images and classes.

    Args:
        image: the name of the column.
        paths: what is read to learn the images' file names; ``None`` if they have none.
        label: the name of the column.
        classes: what the file says its classes are called, by the values of that column.
    """

    image: str
    paths: str | None
    label: str
    classes: tuple[str, ...] | None


def read_parquet(path: Path, names: Sequence[str]) -> tuple[list[ValidationImage], list[str], tuple[str, ...] | None]:
    """The images of parquet shards, in no particular order.

    Args:
        path: their folder.
        names: their file names.

    Returns:
        The images, what is odd about them, and the classes by index, if they are not those of ImageNet: those that
        ``classes.txt`` beside the shards names, or else the files themselves.

    Raises:
        UsageError: pyarrow is not installed.
        DatasetError: a file is damaged, or has no column of images or none of classes.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UsageError("parquet files need pyarrow", got=str(error), next_step="pip install pyarrow") from error
    images: list[ValidationImage] = []
    said: set[tuple[str, ...] | None] = set()
    for name in names:
        try:
            file = parquet.ParquetFile(path / name)
            columns = _columns(file.schema_arrow)
            said.add(columns.classes)
            images += _read_rows(path, name, file, columns, classes_beside(path) or columns.classes)
        except (ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                "this parquet file holds no labelled images",
                where=str(path / name),
                expected="a column of images, such as image, with bytes and path, and a column of class indices, "
                "such as label",
                got=str(error).partition("\n")[0],
                next_step="point --imagenet at the validation files of a data set with one column of each",
            ) from error
    if len(said) > 1:
        raise DatasetError("the parquet files do not have the same classes", where=str(path), got=first_names(names))
    return _with_classes(path, images, classes_beside(path) or next(iter(said), None))


def _columns(schema: Any) -> _Columns:
    """Where the images and classes are.

    Raises:
        ValueError: a column is missing, or it is not clear which one is meant.
    """
    from pyarrow import types

    features = _features(schema.metadata or {})
    kinds = {name: feature.get("_type") for name, feature in features.items()}

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def has_bytes(kind: Any) -> bool:
        return bool(types.is_struct(kind) and kind.get_field_index("bytes") >= 0)

    def is_class(kind: Any) -> bool:
        return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))

    def choose(what: str, said: str, usual: Sequence[str], fits: Callable[[Any], bool]) -> str:
        found = [field.name for field in schema if fits(field.type)]
        for some in ([name for name in found if kinds.get(name) == said], [name for name in usual if name in found]):
            named = [name for name in some if name in usual] or some
            if len(named) == 1:
                return named[0]
            if named:
                raise ValueError(f"several columns of {what}: {first_names(named)}")
        raise ValueError(f"no column of {what} among {first_names(schema.names)}")

    image = choose("images", "Image", _IMAGE_COLUMNS, lambda kind: is_bytes(kind) or has_bytes(kind))
    label = choose("classes", "ClassLabel", _LABEL_COLUMNS, is_class)
    kind = schema.field(image).type
    paths = f"{image}.path" if has_bytes(kind) and kind.get_field_index("path") >= 0 else None
    classes = features[label].get("names") if kinds.get(label) == "ClassLabel" else None
    return _Columns(image, paths, label, tuple(classes) if classes else None)


def _features(metadata: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    """What Hugging Face's ``datasets`` says of each column; nothing, if another program wrote the file."""
    try:
        described = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in described.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _read_rows(
    path: Path, name: str, file: Any, columns: _Columns, classes: Sequence[str] | None
) -> Iterable[ValidationImage]:
    index_of = {each: index for index, each in enumerate(classes)} if classes else class_index_by_synset()
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group, columns=[columns.label] + ([columns.paths] if columns.paths else []))
        labels = rows.column(columns.label).to_pylist()
        cells = rows.column(columns.image).to_pylist() if columns.paths else [None] * len(labels)
        for row, (label, cell) in enumerate(zip(labels, cells, strict=True)):
            location = ParquetLocation(path / name, group, row, columns.image)
            file_name = (cell or {}).get("path") or f"{group:05d}_{row:07d}"
            index = index_of.get(label, -1) if isinstance(label, str) else -1 if label is None else label
            yield ValidationImage(f"{name}/{Path(file_name).name}", index, location)


def _with_classes(
    path: Path, images: list[ValidationImage], classes: tuple[str, ...] | None
) -> tuple[list[ValidationImage], list[str], tuple[str, ...] | None]:
    """Images with class indices of ImageNet, or of the set's own classes."""
    count = len(classes) if classes else CLASS_COUNT
    outside = [image.id for image in images if not 0 <= image.label < count]
    if outside:
        raise DatasetError(
            "some images of the parquet files have no class",
            where=str(path),
            expected=f"class indices from 0 to {count - 1}; a test split has none",
            got=mention(outside, "image without", "images without"),
        )
    if classes is None:
        return images, [], None
    index_of = class_index_by_synset()
    if all(name in index_of for name in classes):
        return [ValidationImage(each.id, index_of[classes[each.label]], each.location) for each in images], [], None
    return images, [], None if _are_those_of_imagenet(path, classes) else classes


def _are_those_of_imagenet(path: Path, classes: tuple[str, ...]) -> bool:
    """Whether these are the names of ImageNet's classes, in the order of their indices.

    Raises:
        DatasetError: they are, in another order.
    """
    if len(classes) != CLASS_COUNT:
        return False
    given, known = ([name.partition(",")[0].strip().lower() for name in names] for names in (classes, class_names()))
    if sum(one == other for one, other in zip(given, known, strict=True)) > CLASS_COUNT / 2:
        return True
    if len(set(given) & set(known)) > CLASS_COUNT / 2:
        raise DatasetError(
            "the parquet files count the classes of ImageNet in another order",
            where=str(path),
            expected=f"the order of the sorted WordNet ids, in which {known[0]} is class 0",
            got=f"{given[0]} as class 0",
            next_step="write a file classes.txt beside them, with the WordNet ids of their classes, one per line",
        )
    return False
