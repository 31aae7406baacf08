"""Which of the networks with equal names and shapes a file is: the one that reproduces its running statistics.

Every network that fits runs the same images. Where two of them give a BatchNorm inputs of different mean or variance,
its running statistics lie near those of one of the two. Brightness, contrast and number of the images move both alike,
so that they disturb this far less than the wiring check, which judges a network by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from r2convert.catalog.variant import Variant
from r2convert.checks.wiring import LayerStatistics, WiringImages, measure_on, wiring_result
from r2convert.mapping.identity import Identity, Resolution, listed
from r2convert.mapping.tables import Tables
from r2convert.results.verification import WiringResult

LEAST_DISTANCE = 0.2
"""How far apart two networks' statistics must be at a layer to distinguish them: root mean square over its channels,
of means in running standard deviations, or of the logarithms of variances."""
TIMES_NOISE = 2.0
"""How many times further apart they must be than the running statistics are from the nearer of the two."""
FURTHEST = 0.25
"""How far from one of the two, in units of their distance, running statistics still count as its own.
All three were set on networks trained by ``scripts/wiring_false_alarms.py``, which counts how often they err."""


class Comparison(NamedTuple):
    """Two networks' statistics compared with the running ones.

    Args:
        position: where between the first network (0) and the second (1) the running statistics lie.
        layer: the first BatchNorm that distinguishes them.
    """

    position: float
    layer: str

    @property
    def decides_for_first(self) -> bool:
        """Whether the first network reproduces the running statistics, and the second does not."""
        return abs(self.position) <= FURTHEST


def compare_statistics(one: Sequence[LayerStatistics], other: Sequence[LayerStatistics]) -> Comparison | None:
    """Tell which of two networks with the same weights reproduces their running statistics.

    Args:
        one: what was measured on the first.
        other: what was measured on the second, on the same images.

    Returns:
        Where the running statistics lie between them, in the first block that distinguishes them; ``None`` if none
        does.
    """
    along, length, first = 0.0, 0.0, ""
    for layer, rival in zip(one, other, strict=True):
        name = layer.name.removeprefix("backbone.")
        if first and not name.startswith(_block_of(first)):
            # Later differences merely follow from the first ones.
            break
        for remaining, way in _ways(layer, rival):
            noise = min(_size(remaining), _size(remaining - way))
            if _size(way) < max(LEAST_DISTANCE, TIMES_NOISE * noise):
                continue
            weight = 1 / max(noise, 1e-6) ** 2
            along += weight * float((remaining * way).mean())
            length += weight * float(way.square().mean())
            first = first or name
    return Comparison(along / length, first) if length else None


def _block_of(name: str) -> str:
    """The path of the block that a BatchNorm is in, such as ``layer1.0.``; the layer itself in a stem."""
    block, found, _ = name.partition(".bn")
    return f"{block}." if found else name


def _ways(layer: LayerStatistics, rival: LayerStatistics) -> tuple[tuple[Tensor, Tensor], ...]:
    """For means and variances: the differences of the running statistics and of the other network from this one."""
    deviation = layer.running_variance.sqrt()
    return (
        ((layer.running_mean - layer.mean) / deviation, (rival.mean - layer.mean) / deviation),
        ((layer.running_variance / layer.variance).log(), (rival.variance / layer.variance).log()),
    )


def _size(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def weigh_wiring(
    tables: Tables,
    resolution: Resolution,
    load: Callable[[Resolution], nn.Module],
    images: WiringImages,
    device: torch.device,
) -> tuple[Resolution, WiringResult]:
    """Run the wiring check; where a network is only presumed, let it decide among all that fit.

    Args:
        tables: the tables of the catalogue.
        resolution: what the file is, with all other evidence weighed: nothing that is proven is overruled.
        load: builds the network of a resolution with the file's weights.
        images: what to run the networks on.
        device: where they run.

    Returns:
        The resolution with what was measured weighed, and the wiring check of its network.
    """
    identity = resolution.identity
    # Synthetic images are unlike what a network was trained on: they decide nothing.
    rivals = identity.fits if not identity.proven and images.source else (identity.variant,)
    measured = {
        variant.id: measure_on(load(_taken_for(tables, resolution, variant)), images, device) for variant in rivals
    }
    settled = _settle(tables, identity, measured, len(images.crops)) if len(rivals) > 1 else identity
    statistics = measured[settled.variant.id]
    return Resolution(tables.of(settled.variant, settled.classes), settled), wiring_result(statistics, images)


def _taken_for(tables: Tables, resolution: Resolution, variant: Variant) -> Resolution:
    identity = replace(resolution.identity, variant=variant)
    return Resolution(tables.of(variant, identity.classes), identity)


def _settle(
    tables: Tables, identity: Identity, measured: Mapping[str, Sequence[LayerStatistics]], images: int
) -> Identity:
    """The identity without the networks that the statistics rule out, or with a note that they are inconclusive."""
    beaten: dict[str, str] = {}
    for one, other in permutations(identity.fits, 2):
        found = compare_statistics(measured[one.id], measured[other.id])
        if found is not None and found.decides_for_first:
            beaten.setdefault(other.id, found.layer)
    left = tuple(each for each in identity.fits if each.id not in beaten)
    lost = tuple(each for each in identity.fits if each.id in beaten)
    if not lost or not left:
        return replace(identity, evidence=f"{identity.evidence}; {images} images do not tell them apart")
    unlike, layer = listed(tables.catalog, lost), beaten[lost[0].id]
    evidence = (
        f"{left[0].id}, measured on {images} images: unlike {unlike} it matches the running statistics of {layer}"
    )
    if len(left) > 1:
        evidence += f"; {listed(tables.catalog, left[1:])} cannot be told from it by images"
    return replace(identity, variant=left[0], fits=(*left, *lost), evidence=evidence)
