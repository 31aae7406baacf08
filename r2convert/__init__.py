"""r2convert: convert Res2Net checkpoints between layouts and verify them against the published numbers.

The whole public API: everything else may change. Nothing is imported before it is used, so that ``import r2convert``
costs nothing and only what runs networks brings in torch. No function prints; every error is an
:class:`R2ConvertError`.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from r2convert.errors import R2ConvertError
from r2convert.version import __version__

if TYPE_CHECKING:
    from r2convert.api import (
        CachedFile,
        CheckpointResult,
        Comparison,
        Conversion,
        compare,
        evaluate,
        fetch,
        load_model,
        map_checkpoint,
        preprocess,
        verify,
    )

__all__ = [
    "CachedFile",
    "CheckpointResult",
    "Comparison",
    "Conversion",
    "R2ConvertError",
    "__version__",
    "compare",
    "evaluate",
    "fetch",
    "load_model",
    "map_checkpoint",
    "preprocess",
    "verify",
]

_HOMES = MappingProxyType(
    {
        "CachedFile": "r2convert.download.cache",
        "CheckpointResult": "r2convert.results.verification",
        "Comparison": "r2convert.results.documents",
        "Conversion": "r2convert.mapping.conversion",
    }
)
"""Classes of results -> the modules they are imported from when they are first used; all else is in the API."""


if not TYPE_CHECKING:  # a type checker would take it to promise every name

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES.get(name, "r2convert.api")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
