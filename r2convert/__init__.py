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
    from r2convert.api.comparing import compare
    from r2convert.api.converting import map_checkpoint
    from r2convert.api.fetching import fetch
    from r2convert.api.loading import load_model
    from r2convert.api.verifying import verify
    from r2convert.checks.run import CheckpointResult
    from r2convert.download.cache import CachedFile
    from r2convert.mapping.comparison import Comparison
    from r2convert.mapping.conversion import Conversion

__all__ = [
    "CachedFile",
    "CheckpointResult",
    "Comparison",
    "Conversion",
    "R2ConvertError",
    "__version__",
    "compare",
    "fetch",
    "load_model",
    "map_checkpoint",
    "verify",
]

_HOMES = MappingProxyType(
    {
        "CachedFile": "r2convert.download.cache",
        "CheckpointResult": "r2convert.checks.run",
        "Comparison": "r2convert.mapping.comparison",
        "Conversion": "r2convert.mapping.conversion",
        "compare": "r2convert.api.comparing",
        "fetch": "r2convert.api.fetching",
        "load_model": "r2convert.api.loading",
        "map_checkpoint": "r2convert.api.converting",
        "verify": "r2convert.api.verifying",
    }
)
"""Public name -> the module it is imported from when it is first used."""


if not TYPE_CHECKING:  # a type checker would take it to promise every name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
