"""The wiring check of one network as a check among the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from r2convert.checks.checks import Check
from r2convert.checks.pictures import Pictures
from r2convert.checks.wiring import LayerWiring, check_wiring
from r2convert.evaluation.backends import computing_in, normalise

_BATCH = 32
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class WiringResult:
    """What the wiring check found.

    Args:
        pictures: how many were shown.
        source: the folder they are from, or ``None`` for drawn ones.
        layers: every BatchNorm, in network order.
    """

    pictures: int
    source: str | None
    layers: tuple[LayerWiring, ...]

    @property
    def suspects(self) -> tuple[LayerWiring, ...]:
        """The layers that disagree, in network order."""
        return tuple(layer for layer in self.layers if layer.suspect)


def run_wiring(network: nn.Module, pictures: Pictures, device: torch.device) -> WiringResult:
    """Show pictures to a network and compare its BatchNorms' memory with what arrives at them.

    Args:
        network: the network, in evaluation mode; it is moved to the device.
        pictures: what to show it.
        device: where it runs.
    """
    dtype = next(network.parameters()).dtype
    with computing_in("strict", device):
        layers = check_wiring(network.to(device), _batches(pictures, device, dtype))
    return WiringResult(len(pictures.crops), str(pictures.source) if pictures.source else None, layers)


def wiring_check(result: WiringResult) -> Check:
    """The verdict: suspects fail a network on given pictures; drawn ones are too unlike any training to say so."""
    suspects, drawn = result.suspects, result.source is None
    measured = len(result.layers) - len(suspects)
    if not suspects:
        return Check("wiring", "pass", measured=measured, note=f"{result.pictures} {'drawn ' * drawn}pictures")
    named = ", ".join(layer.name for layer in suspects[:_SHOWN])
    more = f" and {len(suspects) - _SHOWN} more" if len(suspects) > _SHOWN else ""
    note = f"what arrives is not what these BatchNorms remember, in network order: {named}{more}"
    if drawn:
        note += "; drawn pictures may do that to a sound network: give photographs with --wiring FOLDER"
    return Check("wiring", "inconclusive" if drawn else "fail", measured=measured, note=note)


def _batches(pictures: Pictures, device: torch.device, dtype: torch.dtype) -> Iterator[Tensor]:
    # Even parts: a last batch of a few pictures would have statistics of its own.
    parts = max(1, len(pictures.crops) // _BATCH)
    for part in torch.from_numpy(pictures.crops).tensor_split(parts):
        yield normalise(part.to(device)).to(dtype).contiguous()
