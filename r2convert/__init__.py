"""r2convert: convert Res2Net checkpoints between layouts and verify them against the published numbers.

The whole public API: everything else may change. Nothing is imported before it is used, so that ``import r2convert``
costs nothing and only what runs networks brings in torch. No function prints; every error is an
:class:`R2ConvertError`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING

from r2convert.errors import R2ConvertError
from r2convert.version import __version__

if TYPE_CHECKING:
    from r2convert.api.comparing import compare
    from r2convert.api.converting import map_checkpoint
    from r2convert.api.fetching import fetch
    from r2convert.api.loading import load_model
    from r2convert.api.verifying import verify
    from r2convert.fetch.cache import CachedFile
    from r2convert.mapping.comparison import Comparison
    from r2convert.mapping.conversion import Conversion
    from r2convert.verify.results import CheckpointResult

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
        "CachedFile": "r2convert.fetch.cache",
        "CheckpointResult": "r2convert.verify.results",
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


class _Package(ModuleType):
    """This package: ``fetch`` and ``verify`` are functions of the API, whether or not the rooms so called are loaded.

    Importing ``r2convert.fetch.cache`` would put the room in the function's place: Python binds every submodule it has
    loaded to its parent. Rooms are imported by their full names and need no such binding.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


# The way that Python's data model gives for this: https://docs.python.org/3/reference/datamodel.html#module.__class__
sys.modules[__name__].__class__ = _Package
