"""Opens a validation set: finds out by itself what lies at a path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from r2convert.errors import DatasetError
from r2convert.imagenet import class_folders, list_file, official_names, shards
from r2convert.imagenet.cross_check import check_against_built_in_labels, restore_missing_images
from r2convert.imagenet.listing import Listing, list_archive, list_folder
from r2convert.imagenet.naming import name_some
from r2convert.imagenet.validation_set import ValidationImage, ValidationSet, in_reading_order

_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar")

Found = tuple[str, list[ValidationImage], list[str]]


def open_validation_set(path: Path) -> ValidationSet:
    """Reads the names and labels of all images at ``path``; no image is opened.

    Recognised, in this order: a folder with OpenMMLab's ``meta/val.txt``; class folders named by WordNet id; a flat
    folder of official names; a folder of WebDataset shards; ``ILSVRC2012_img_val.tar`` or another uncompressed tar
    of any of these; a text file that lists images and classes. A folder is also searched for any of these in its
    ``val`` folder, and for ``ILSVRC2012_img_val.tar``.

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
            return _assemble(candidate, *found)
    raise _nothing_to_score(path)


def _candidates(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir():
        inside = (path / "val", path / "ILSVRC2012_img_val", path / "ILSVRC2012_img_val.tar")
        yield from (place for place in inside if place.exists())


def _read_folder(path: Path) -> Found | None:
    openmmlab_list = path / "meta" / "val.txt"
    if openmmlab_list.is_file():
        return list_file.OPENMMLAB_LAYOUT, *list_file.read_list_file(openmmlab_list, image_folder=path / "val")
    listing = list_folder(path)
    if class_folders.has_class_folders(listing):
        return class_folders.LAYOUT, *class_folders.read_class_folders(listing)
    if official_names.has_official_names(listing):
        return official_names.FOLDER_LAYOUT, *official_names.read_official_names(listing)
    archives = [list_archive(path / name) for name in _top_level_archives(listing)]
    if any(shards.has_samples(archive) for archive in archives):
        return shards.LAYOUT, *shards.read_shards(path, archives)
    return None


def _top_level_archives(listing: Listing) -> list[str]:
    """The tar files of a folder, unless it is the folder the published archives were downloaded to."""
    names = [entry.name for entry in listing.entries if "/" not in entry.name and entry.name.endswith(".tar")]
    return [name for name in names if not name.startswith("ILSVRC2012_")]


def _read_file(path: Path) -> Found | None:
    if path.name.lower().endswith(_COMPRESSED):
        raise DatasetError(
            "compressed archives are not read in place",
            where=str(path),
            expected="a folder, an uncompressed tar archive or a list file",
            got=path.name,
            next_step="unpack it and point --imagenet at the folder",
        )
    if path.suffix.lower() != ".tar":
        return list_file.LAYOUT, *list_file.read_list_file(path)
    archive = list_archive(path)
    if shards.has_samples(archive):
        return shards.LAYOUT, *shards.read_shards(path.parent, [archive])
    if class_folders.has_class_folders(archive):
        return official_names.ARCHIVE_LAYOUT, *class_folders.read_class_folders(archive)
    if official_names.has_official_names(archive):
        return official_names.ARCHIVE_LAYOUT, *official_names.read_official_names(archive)
    return None


def _assemble(path: Path, layout: str, images: list[ValidationImage], warnings: list[str]) -> ValidationSet:
    images, restored = restore_missing_images(images)
    ordered = in_reading_order(images)
    return ValidationSet(path, layout, ordered, (*warnings, *restored, *check_against_built_in_labels(path, ordered)))


def _nothing_to_score(path: Path) -> DatasetError:
    if path.is_file():
        got = "an archive without images of known class"
    else:
        names = sorted(entry.name for entry in path.iterdir())
        got = f"{len(names)} entries: {name_some(names)}" if names else "an empty folder"
    return DatasetError(
        "this is no ImageNet-1k validation set",
        where=str(path),
        expected="folders named by WordNet id such as n01440764, files named as ILSVRC2012_val_00000001.JPEG, "
        "WebDataset shards, or meta/val.txt beside val",
        got=got,
        next_step="class names or numbers do not say which of several class orders they follow: "
        "name the folders by WordNet id, or write a list file",
    )
