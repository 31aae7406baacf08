"""Classes of images: what they are called, and which came out worst."""

from __future__ import annotations

from collections.abc import Sequence

from r2convert.imagenet.labels import class_index_by_synset, class_names
from r2convert.results.reading import Run
from r2convert.results.verification import Accuracy

_WORST = 10


def class_name(synset: str) -> str:
    """A class as people call it, or the WordNet id of one that is not in ImageNet-1k."""
    index = class_index_by_synset().get(synset)
    return synset if index is None else class_names()[index]


def class_shares(accuracy: Accuracy) -> dict[str, float]:
    """By class, the share of its images that is correct, in per cent."""
    return {name: 100 * right / images for name, (images, right) in accuracy.per_class.items()}


def worst_classes(accuracy: Accuracy) -> list[str]:
    """Those with the smallest share; of equally bad ones the one with more images first, which says more."""
    counts, shares = accuracy.per_class, class_shares(accuracy)
    return sorted(counts, key=lambda name: (shares[name], -counts[name][0], name))[:_WORST]


def names_by_index(runs: Sequence[Run]) -> tuple[str, ...]:
    """Names by class index, if indices of all these runs are those of ImageNet-1k; else nothing says what they are."""
    counted = [result.accuracy.per_class for run in runs for result in run.results if result.accuracy]
    known = set(class_index_by_synset())
    return tuple(class_names()) if all(classes and set(classes) <= known for classes in counted) else ()


def first_class(ranked: Sequence[int], names: Sequence[str]) -> str:
    """The class that is ranked first, in words."""
    if not ranked:
        return "unreadable image"
    if ranked[0] < 0:
        return "not a number"
    return names[ranked[0]] if ranked[0] < len(names) else f"class {ranked[0]}"
