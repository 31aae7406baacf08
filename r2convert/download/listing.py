"""What there is to download, by architecture with its weights below, and what of it is in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from r2convert.catalog.catalog import Catalog
from r2convert.catalog.printed import readable
from r2convert.catalog.variant import Claim, Layout, Publisher, Source, Variant, Weights
from r2convert.download.cache import CachedFile
from r2convert.errors import UsageError


class ListedWeights(NamedTuple):
    """Weights as ``r2convert list`` shows them.

    Args:
        weights: the weights.
        cached: the file of each of their sources, in their order; ``None`` where it is not in the cache.
        published: metric -> what their publisher prints, with its unit; accuracies of ImageNet-1k.
    """

    weights: Weights
    cached: tuple[CachedFile | None, ...]
    published: Mapping[str, str]

    @property
    def tag(self) -> str:
        """What tells them from other weights of the architecture: the end of their id."""
        return self.weights.id.partition(".")[2]


class ListedVariant(NamedTuple):
    """An architecture as ``r2convert list`` shows it.

    Args:
        variant: the architecture, with the weights that were asked for.
        weights: these weights.
        published: metric -> what is printed about it first, with its unit.
    """

    variant: Variant
    weights: tuple[ListedWeights, ...]
    published: Mapping[str, str]


def list_variants(
    catalog: Catalog,
    look_up: Callable[[Source], CachedFile | None],
    *,
    publisher: Publisher | None = None,
    layout: Layout | None = None,
    cached: bool = False,
) -> list[ListedVariant]:
    """Return every architecture with its weights, or with those that were asked for.

    Args:
        catalog: what is known.
        look_up: gives the file of a source that is in the cache.
        publisher: only the weights of this publisher.
        layout: only weights of which there is a file in this layout.
        cached: only weights of which a file is in the cache.

    Raises:
        UsageError: nobody publishes under this name.
    """
    _require_publisher(catalog, publisher)

    def wanted(listed: ListedWeights) -> bool:
        return (
            publisher in (None, listed.weights.publisher)
            and (layout is None or any(source.layout == layout for source in listed.weights.sources))
            and (not cached or any(file is not None for file in listed.cached))
        )

    rows = []
    for variant in catalog.variants.values():
        every = [
            ListedWeights(each, tuple(look_up(source) for source in each.sources), _first_printed(each.claims))
            for each in variant.weights
        ]
        kept = tuple(each for each in every if wanted(each))
        if kept or not (publisher or layout or cached):
            shown = replace(variant, weights=tuple(each.weights for each in kept))
            rows.append(ListedVariant(shown, kept, _first_printed(variant.claims)))
    return rows


def _first_printed(claims: Iterable[Claim]) -> dict[str, str]:
    printed: dict[str, str] = {}
    for claim in (each for each in claims if each.dataset == "imagenet"):
        printed.setdefault(claim.metric, readable(claim.printed, claim.unit))
    return printed


def choose_source(variant: Variant, publisher: Publisher | None = None) -> Source:
    """Return a variant's first source, or its first source from one publisher.

    Raises:
        UsageError: there is none.
    """
    for source in variant.sources:
        if publisher is None or source.publisher == publisher:
            return source
    publishers = sorted({source.publisher for source in variant.sources})
    by_hand = (each for each in variant.weights if each.page and publisher in (None, each.publisher))
    raise UsageError(
        f"{variant.name} is not published by {publisher}"
        if publishers
        else f"no file of {variant.name} can be fetched",
        expected=" or ".join(publishers) or None,
        got=publisher,
        next_step=next((f"get it by hand from {each.page}: {each.note}" for each in by_hand), None),
    )


def choose_sources(
    catalog: Catalog, names: Sequence[str], publisher: Publisher | None = None
) -> list[tuple[Variant, Source]]:
    """Return the files of the variants of these names, each once, also if two names mean it.

    Without names, every architecture's first weights, but no detectors; of a publisher, all weights there are.

    Raises:
        UnknownVariantError: no variant has a name.
        UsageError: the publisher has no file of a variant, or none at all.
    """
    _require_publisher(catalog, publisher)
    if names:
        pairs = [(variant, choose_source(variant, publisher)) for variant in map(catalog.find, names)]
    else:
        pairs = [pair for variant in catalog.variants.values() for pair in _all_of(variant, publisher)]
    return list({source.file_name: (variant, source) for variant, source in pairs}.values())


def _all_of(variant: Variant, publisher: Publisher | None) -> list[tuple[Variant, Source]]:
    """What ``--all`` means of an architecture."""
    if publisher is None:
        first = [each for each in variant.weights if each.sources and not each.detector][:1]
    else:
        first = [each for each in variant.weights if each.sources and each.publisher == publisher]
    return [(variant, weights.sources[0]) for weights in first]


def _require_publisher(catalog: Catalog, publisher: Publisher | None) -> None:
    if publisher is not None and publisher not in catalog.publishers:
        raise UsageError("nobody publishes under this name", expected=" or ".join(catalog.publishers), got=publisher)
