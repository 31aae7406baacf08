"""``r2convert.fetch``: published weights -> a verified file in the cache."""

from __future__ import annotations

from r2convert.catalog.variant import Publisher
from r2convert.download.cache import CachedFile
from r2convert.download.transfer import ProgressSink


def fetch(
    variant: str,
    *,
    publisher: Publisher | None = None,
    offline: bool = False,
    progress: ProgressSink | None = None,
) -> CachedFile:
    """Return a variant's file from the cache; download and verify it first if it is not there.

    An interrupted download is continued by the next call. The environment variables ``R2CONVERT_CACHE`` (the cache
    folder) and ``R2CONVERT_MIRROR`` (a base URL or a folder to try first) count as on the command line.

    Args:
        variant: any name of the variant, e.g. ``res2net50_w14_s8`` or ``Res2Net-50-14w-8s``.
        publisher: whose file: ``official``, ``openmmlab``, ``timm`` or ``paddle``; by default the variant's first.
        offline: use no network: the file is in the cache or in a mirror that is a folder, or this fails.
        progress: told about the transfer, from another thread; nothing is printed.

    Returns:
        Where the file lies, its size in bytes, its SHA-256, and how far the hash is known.

    Raises:
        UnknownVariantError: no variant has this name.
        UsageError: the publisher has no file of the variant.
        FetchError: no address gave the file; the class says why.
        CacheError: the cache cannot be read or written.

    Examples:
        >>> from r2convert import fetch
        >>> file = fetch("res2net50_w14_s8")
        >>> file.path.name
        'res2net50_14w_8s-6527dddc.pth'
    """
    from r2convert.catalog import load_catalog
    from r2convert.download.cache import Cache
    from r2convert.download.download import fetch_variant

    return fetch_variant(
        load_catalog().find(variant), Cache.default(), publisher=publisher, offline=offline, progress=progress
    )
