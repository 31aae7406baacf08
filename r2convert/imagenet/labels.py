"""What ImageNet-1k calls its classes and how its 50,000 validation images are labelled.

Four compressed text files lie beside this module:

- ``data/classes.txt.gz``: line ``i`` is ``<WordNet id> <class name>`` of class ``i``. Class indices are the
  positions of the sorted WordNet ids, the order every published Res2Net checkpoint counts in; the ILSVRC
  development kit counts in another one.
- ``data/validation.txt.gz``: line ``n`` is ``<class index>:<ReaL class indices, comma separated>`` of
  ``ILSVRC2012_val_<n, eight digits>.JPEG``. The class is the one of ILSVRC 2012; the ReaL labels are the
  reassessed ones of Beyer et al. 2020, empty for the 3,163 images that have none.
- ``data/devkit.txt.gz``: line ``n`` is the WordNet id of class ``n`` (from 1) in the kit's ``meta.mat``, its
  ``ILSVRC2012_ID``.
- ``data/subsets.txt.gz``: the classes of ImageNet-A and ImageNet-R, 200 each: ``<WordNet id> <a, r or ar>``. Both are
  scored among their own classes only (Hendrycks et al. 2019 and 2020).
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from r2convert.catalog.variant import IMAGENET_CLASSES, IMAGENET_IMAGES, Dataset

CLASS_COUNT = IMAGENET_CLASSES
TOP = 5
"""How many classes an answer may name and still count for top-5."""
VALIDATION_IMAGE_COUNT = IMAGENET_IMAGES

# Hugging Face's copies add the WordNet id: ILSVRC2012_val_00000001_n01751748.JPEG.
_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})(?:_n\d{8})?", re.ASCII)


def synsets() -> tuple[str, ...]:
    """The 1,000 WordNet ids; the position is the class index."""
    return _classes()[0]


def class_names() -> tuple[str, ...]:
    """The 1,000 class names by class index. Two classes share a name (``crane``)."""
    return _classes()[1]


@cache
def class_index_by_synset() -> Mapping[str, int]:
    """Class index of each WordNet id."""
    return MappingProxyType({synset: index for index, synset in enumerate(synsets())})


@cache
def class_subsets() -> Mapping[Dataset, frozenset[int]]:
    """Class indices of the sets that have some of the classes only: ImageNet-A and ImageNet-R."""
    index_of = class_index_by_synset()
    rows = [line.split() for line in _read_lines("subsets.txt.gz")]
    letters_of: Mapping[Dataset, str] = {"imagenet-a": "a", "imagenet-r": "r"}
    return MappingProxyType(
        {
            dataset: frozenset(index_of[synset] for synset, letters in rows if letter in letters)
            for dataset, letter in letters_of.items()
        }
    )


def validation_labels() -> tuple[int, ...]:
    """Class index of each of the 50,000 images; position 0 is ``ILSVRC2012_val_00000001``."""
    return _validation()[0]


def real_labels() -> tuple[frozenset[int], ...]:
    """ReaL class indices of each of the 50,000 images, empty where the image has none (same positions)."""
    return _validation()[1]


def validation_number(file_name: str) -> int | None:
    """The number in a name such as ``ILSVRC2012_val_00000293.JPEG``, or ``None`` for any other name.

    Args:
        file_name: the last part of a path; what follows the eight digits must be an extension or nothing.

    Returns:
        1 to 50,000.
    """
    match = _VALIDATION_NAME.fullmatch(file_name.partition(".")[0])
    if match is None:
        return None
    number = int(match[1])
    return number if 1 <= number <= VALIDATION_IMAGE_COUNT else None


def validation_name(number: int) -> str:
    """The file name of validation image ``number`` (1 to 50,000), as the archive has it."""
    return f"ILSVRC2012_val_{number:08d}.JPEG"


@cache
def _classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    rows = [line.split(" ", 1) for line in _read_lines("classes.txt.gz")]
    return tuple(synset for synset, _ in rows), tuple(name for _, name in rows)


@cache
def _validation() -> tuple[tuple[int, ...], tuple[frozenset[int], ...]]:
    rows = [line.partition(":") for line in _read_lines("validation.txt.gz")]
    labels = tuple(int(label) for label, _, _ in rows)
    return labels, tuple(frozenset(map(int, real.split(","))) if real else frozenset() for _, _, real in rows)


def _read_lines(name: str) -> list[str]:
    packed = (resources.files("r2convert.imagenet") / "data" / name).read_bytes()
    return gzip.decompress(packed).decode("utf-8").splitlines()


@cache
def devkit_order() -> tuple[int, ...]:
    """The class index of each ``ILSVRC2012_ID``; position 0 is the class that the kit calls 1."""
    packed = (resources.files("r2convert.imagenet") / "data" / "devkit.txt.gz").read_bytes()
    index_of = class_index_by_synset()
    return tuple(index_of[synset] for synset in gzip.decompress(packed).decode("ascii").split())
