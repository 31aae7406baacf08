"""Opens a validation set, recognising automatically what kind of set is at a path.

What it says about itself is held against what is known about the 50,000 validation images.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2convert.catalog.variant import DATASETS, Dataset
from r2convert.errors import DatasetError
from r2convert.files import first_names
from r2convert.imagenet.labels import (
    CLASS_COUNT,
    VALIDATION_IMAGE_COUNT,
    class_subsets,
    synsets,
    validation_labels,
    validation_name,
)
from r2convert.imagenet.list_files import LIST_FILE, OPENMMLAB_LIST, list_has_images, read_list_file
from r2convert.imagenet.listings import (
    CLASS_FOLDERS,
    FLAT_FOLDER,
    OWN_CLASSES,
    TAR_ARCHIVE,
    Listing,
    has_class_folders,
    has_official_names,
    has_own_classes,
    list_archive,
    list_folder,
    read_class_folders,
    read_official_names,
    read_own_classes,
)
from r2convert.imagenet.parquet import PARQUET, read_parquet
from r2convert.imagenet.shards import SHARDS, choose_shards, has_samples, read_shards
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet, in_reading_order, mention

_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar")


@dataclass(frozen=True, slots=True)
class _Found:
    """What lies at a path.

    Args:
        layout: what that is, in words.
        images: in no particular order.
        warnings: what is odd about it.
        classes: by index, if they are not those of ImageNet.
    """

    layout: str
    images: list[ValidationImage]
    warnings: list[str]
    classes: tuple[str, ...] | None = None


def open_validation_set(path: Path) -> ValidationSet:
    """Reads the names and labels of all images at ``path``; no image is opened.

    Recognised, in this order: a folder with OpenMMLab's ``meta/val.txt``; class folders named by WordNet id; a flat
    folder of official names; a folder of WebDataset or parquet shards; folders of own classes;
    ``ILSVRC2012_img_val.tar`` or another uncompressed tar of any of these; a text file that lists images and classes.
    A folder is also searched for any of these in its ``val``, ``data``, ``validation``, ``valid`` and ``test`` folders,
    in that of Kaggle's copy, and for ``ILSVRC2012_img_val.tar``.

    Returns:
        The set, in the order of :class:`ValidationSet`, with everything odd about it in ``warnings``.

    Raises:
        DatasetError: there is nothing at ``path`` that can be scored.
    """
    if not path.exists():
        raise DatasetError(
            "there is no validation set at this path",
            where=str(path),
            expected="the ImageNet-1k validation images: a folder, a tar archive or a list file",
            got="nothing of that name",
            next_step="check the spelling of the path given to --imagenet",
        )
    for candidate in _candidates(path):
        found = _read_folder(candidate) if candidate.is_dir() else _read_file(candidate)
        if found is not None:
            return _assemble(candidate, found)
    raise _nothing_to_score(path)


# Where people keep validation images: torchvision, the published archive, Hugging Face, Kaggle, Keras.
_INSIDE = (
    *("val", "ILSVRC2012_img_val", "ILSVRC2012_img_val.tar", "data", "ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val"),
    *("validation", "valid", "test"),
)


def _candidates(path: Path) -> Iterator[Path]:
    yield path
    yield from (path / name for name in _INSIDE if (path / name).exists())


def _read_folder(path: Path) -> _Found | None:
    openmmlab_list = path / "meta" / "val.txt"
    if openmmlab_list.is_file() and list_has_images(openmmlab_list, path / "val"):
        return _Found(OPENMMLAB_LIST, *read_list_file(openmmlab_list, image_folder=path / "val"))
    listing = list_folder(path)
    if has_class_folders(listing):
        return _Found(CLASS_FOLDERS, *read_class_folders(listing))
    if has_official_names(listing):
        return _Found(FLAT_FOLDER, *read_official_names(listing))
    return _read_shards(path, listing) or _read_own_classes(listing)


def _read_own_classes(listing: Listing) -> _Found | None:
    if not has_own_classes(listing):
        return None
    return _Found(OWN_CLASSES, *read_own_classes(listing))


def _read_shards(path: Path, listing: Listing) -> _Found | None:
    """Shards of either kind at the top of a folder; Hugging Face keeps its own in ``data``."""
    tables = [entry.name for entry in listing.entries if entry.name.endswith(".parquet")]
    if tables:
        chosen, left_out = choose_shards(path, sorted(tables))
        images, warnings, classes = read_parquet(path, chosen)
        return _Found(PARQUET, images, left_out + warnings, classes)
    chosen, left_out = choose_shards(path, _top_level_archives(listing))
    archives = [list_archive(path / name) for name in chosen]
    if not any(has_samples(archive) for archive in archives):
        return None
    images, warnings, classes = read_shards(path, archives)
    return _Found(SHARDS, images, left_out + warnings, classes)


def _top_level_archives(listing: Listing) -> list[str]:
    """The tar files of a folder, unless it is the folder the published archives were downloaded to."""
    names = [entry.name for entry in listing.entries if "/" not in entry.name and entry.name.endswith(".tar")]
    return [name for name in names if not name.startswith("ILSVRC2012_")]


def _read_file(path: Path) -> _Found | None:
    if path.name.lower().endswith(_COMPRESSED):
        raise DatasetError(
            "compressed archives are not read in place",
            where=str(path),
            expected="a folder, an uncompressed tar archive or a list file",
            got=path.name,
            next_step="unpack it and point --imagenet at the folder",
        )
    if path.suffix.lower() == ".parquet":
        return _Found(PARQUET, *read_parquet(path.parent, [path.name]))
    if path.suffix.lower() != ".tar":
        return _Found(LIST_FILE, *read_list_file(path))
    archive = list_archive(path)
    if has_samples(archive):
        return _Found(SHARDS, *read_shards(path.parent, [archive]))
    if has_class_folders(archive):
        return _Found(TAR_ARCHIVE, *read_class_folders(archive))
    if has_official_names(archive):
        return _Found(TAR_ARCHIVE, *read_official_names(archive))
    return _Found(TAR_ARCHIVE, *read_own_classes(archive)) if has_own_classes(archive) else None


def _assemble(path: Path, found: _Found) -> ValidationSet:
    if found.classes is not None and found.classes != synsets():
        ordered = in_reading_order(found.images)
        note = mention(found.classes, "class, by index", "classes, by index")
        return ValidationSet(path, found.layout, ordered, (note, *found.warnings), found.classes)
    images, restored = restore_missing_images(found.images)
    ordered = in_reading_order(images)
    warnings = (*found.warnings, *restored, *check_against_built_in_labels(path, ordered))
    labels = frozenset(image.label for image in images)
    for dataset, subset in class_subsets().items():
        if labels == subset and not any(image.number for image in images):
            name, size = DATASETS[dataset]
            note = f"these are the {len(subset)} classes of {name}: predictions are ranked among them only"
            whole = dataset if len(images) == size else None
            layout = f"{found.layout} of {name}"
            return ValidationSet(path, layout, ordered, (*warnings, note), ranked=tuple(sorted(subset)), dataset=whole)
    return ValidationSet(path, found.layout, ordered, warnings, dataset=_dataset_of_all_classes(path, ordered))


_V2 = "matched-frequency"
_SKETCH = re.compile(r"sketch_[0-9]+\.[A-Za-z]+")


def _dataset_of_all_classes(path: Path, images: Sequence[ValidationImage]) -> Dataset | None:
    """The complete published set of all 1,000 classes that these are.

    ImageNet-1k is told by its images' numbers, ImageNet-Sketch by their names. Nothing inside ImageNet-V2 tells its
    three sets of 10,000 images apart: the name of the folder does, which they are published with.
    """
    sizes = Counter(image.label for image in images)
    if len(sizes) < CLASS_COUNT:
        return None
    if len(images) == DATASETS["imagenet"].images and _is_numbered(images):
        return "imagenet"
    if len(images) == DATASETS["imagenet-sketch"].images and all(_SKETCH.fullmatch(each.file_name) for each in images):
        return "imagenet-sketch"
    is_v2 = len(images) == DATASETS["imagenet-v2"].images and len(set(sizes.values())) == 1
    return "imagenet-v2" if is_v2 and any(_V2 in part for part in path.resolve().parts) else None


def _is_numbered(images: Sequence[ValidationImage]) -> bool:
    """Whether every image has a number of its own, and the label that ILSVRC 2012 gives it."""
    labels, numbers = validation_labels(), {image.number for image in images}
    return len(numbers) == len(images) and all(
        image.number is not None and labels[image.number - 1] == image.label for image in images
    )


def _nothing_to_score(path: Path) -> DatasetError:
    if path.is_file():
        got = "an archive without images of known class"
    else:
        names = sorted(entry.name for entry in path.iterdir())
        got = mention(names, "entry", "entries") if names else "an empty folder"
    return DatasetError(
        "this is not a labelled set of images",
        where=str(path),
        expected="folders named by WordNet id such as n01440764, files named as ILSVRC2012_val_00000001.JPEG, "
        "WebDataset or parquet shards, meta/val.txt beside val, or one folder per class",
        got=got,
        next_step="class names or numbers do not say which of several class orders they follow: "
        "name the folders by WordNet id, or write a list file",
    )


# From this share of the 50,000 names on, a folder is taken for the whole set with images lost, not for a subset.
_NEARLY_ALL = 0.9
_ENOUGH_EVIDENCE = 10


def restore_missing_images(images: list[ValidationImage]) -> tuple[list[ValidationImage], list[str]]:
    """Puts back what a nearly complete set has lost, without a location, so that it is counted as wrong.

    A set with at least 90 % of the 50,000 official names is the whole set with images lost; a smaller one is a
    subset somebody chose.

    Returns:
        The images with the lost ones added, and a sentence that names them.
    """
    present = {image.number for image in images if image.number is not None}
    if not _NEARLY_ALL * VALIDATION_IMAGE_COUNT <= len(present) < VALIDATION_IMAGE_COUNT:
        return images, []
    labels = validation_labels()
    lost = [number for number in range(1, VALIDATION_IMAGE_COUNT + 1) if number not in present]
    names = [validation_name(number) for number in lost]
    restored = [ValidationImage(name, labels[number - 1], None) for number, name in zip(lost, names, strict=True)]
    note = mention(names, "image is missing and counts as wrong", "images are missing and count as wrong")
    return images + restored, [note]


def check_against_built_in_labels(path: Path, images: Sequence[ValidationImage]) -> list[str]:
    """Sentences about images that are there twice, or in another class than ILSVRC 2012 gives them.

    Raises:
        DatasetError: the labels count the classes in another order, as the development kit does.
    """
    labels = validation_labels()
    numbered = [(labels[image.number - 1], image) for image in images if image.number is not None]
    differing = [(official, image) for official, image in numbered if official != image.label]
    if len(differing) > len(numbered) / 2:
        _refuse_another_class_order(path, numbered)
    warnings = _describe_class_sizes(images)
    if differing:
        warnings.append(
            f"{len(differing)} of {len(numbered)} images are not in the class that ILSVRC 2012 gives to their name: "
            f"{first_names([image.id for _, image in differing])}"
        )
    counts = Counter(validation_name(image.number) if image.number else image.id for image in images)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        warnings.append(mention(repeated, "image is there more than once", "images are there more than once"))
    return warnings


def _describe_class_sizes(images: Sequence[ValidationImage]) -> list[str]:
    """A sentence about classes that do not have 50 images, in a set of about the size of the whole."""
    if len(images) < _NEARLY_ALL * VALIDATION_IMAGE_COUNT:
        return []
    sizes = Counter(image.label for image in images)
    each = VALIDATION_IMAGE_COUNT // CLASS_COUNT
    uneven = [f"{synset} ({sizes[label]})" for label, synset in enumerate(synsets()) if sizes[label] != each]
    if not uneven:
        return []
    return [mention(uneven, f"class does not have {each} images", f"classes do not have {each} images")]


def _refuse_another_class_order(path: Path, numbered: Sequence[tuple[int, ValidationImage]]) -> None:
    """Raises if every class has been given one other index: a renumbering, not a number of mistakes."""
    renumbered = {(official, image.label) for official, image in numbered}
    one_to_one = (
        len({given for _, given in renumbered}) == len({official for official, _ in renumbered}) == len(renumbered)
    )
    # A class seen twice with the same other index is evidence; a class seen once is not.
    if one_to_one and len(numbered) - len(renumbered) >= _ENOUGH_EVIDENCE:
        official, given = next(pair for pair in sorted(renumbered) if pair[0] != pair[1])
        raise DatasetError(
            "the labels count the classes in another order",
            where=str(path),
            expected=f"the order of the sorted WordNet ids, in which {synsets()[official]} is class {official}",
            got=f"class {given} for {synsets()[official]}; the development kit's ILSVRC2012_ID is such an order",
            next_step="write WordNet ids instead of numbers, or point --imagenet at the flat folder of images, "
            "whose labels are built in",
        )
