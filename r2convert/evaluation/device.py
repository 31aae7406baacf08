"""Where networks run."""

from __future__ import annotations

import torch

from r2convert.errors import UsageError


def choose_device(name: str | None) -> torch.device:
    """The device that was asked for, or by default a GPU where there is one.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        UsageError: the device cannot be used.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device {name!r} cannot be used", got=str(error).splitlines()[0]) from error
    return torch.device(name)
