"""`r2convert.toml`: settings that would otherwise be repeated: data sets, the device, the cache folder.

The first of these that exists is used: the file that ``R2CONVERT_CONFIG`` names, ``r2convert.toml`` in the working
folder, ``r2convert/r2convert.toml`` in the user's configuration folder. Options and environment variables override it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from r2convert.errors import AccessError, InputError
from r2convert.files import parse_toml

NAME = "r2convert.toml"
VARIABLE = "R2CONVERT_CONFIG"
CACHE_VARIABLE = "R2CONVERT_CACHE"


class Config(Struct, frozen=True):
    """What a configuration file says; paths in it are relative to its folder.

    Args:
        path: the file; ``None`` if there is none.
        cache: the cache folder.
        device: where networks run.
        datasets: name -> path of validation images.
    """

    path: Path | None = None
    cache: Path | None = None
    device: str | None = None
    datasets: Mapping[str, Path] = {}


def load_config() -> Config:
    """Read the configuration, if there is one.

    Raises:
        AccessError: the file that the variable names is not there, or a file cannot be read.
        InputError: it is not valid TOML, or has a key or value that r2convert does not know.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return _read(Path(named).expanduser())
    users = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "r2convert" / NAME
    for path in (Path(NAME), users):
        if os.path.isfile(path):  # noqa: PTH113 - never raises
            return _read(path)
    return Config()


def _read(path: Path) -> Config:
    try:
        document = parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AccessError("the configuration cannot be read", where=str(path), got=error.strerror) from error
    except ValueError as error:
        raise InputError("the configuration is not valid TOML", where=str(path), got=str(error)) from error
    unknown = sorted(document.keys() - {"cache", "device", "datasets"})
    if unknown:
        raise _refusal(path, "cache, device and [datasets]", ", ".join(unknown))
    folder = path.absolute().parent
    datasets = document.get("datasets", {})
    if not isinstance(datasets, dict):
        raise _refusal(path, "[datasets] with lines NAME = PATH", f"datasets = {datasets!r}")
    cache = _text(path, document, "cache")
    return Config(
        path=path,
        cache=folder / Path(cache).expanduser() if cache else None,
        device=_text(path, document, "device"),
        datasets={name: folder / Path(_text(path, datasets, name) or "").expanduser() for name in datasets},
    )


def _text(path: Path, document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise _refusal(path, f'{name} = "..."', f"{name} = {value!r}")
    return value


def _refusal(path: Path, expected: str, got: str) -> InputError:
    return InputError("the configuration cannot be used", where=str(path), expected=expected, got=got)
