"""Two networks, layer by layer: where do their outputs part, and by how much?

Both compute in float64 on the same drawn image, so that what is left between two implementations of one network is a
few units of 1e-16, and everything larger has a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from r2convert.catalog.variant import DlaArchitecture, Variant

TOLERANCE = 1e-9
"""Outputs are equal up to this share of their largest value: far above what the order of float64 sums changes (4e-16
was measured), far below what one changed weight does."""

# Odd wherever a stride halves them, so that a pool that rounds the other way shows; DLA needs multiples of 32.
_STAGED_SIZE = (129, 97)
_DLA_SIZE = (96, 64)
_SEED = 0

_LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """How far two outputs of one module are apart.

    Args:
        name: the module's path in the reference network.
        max_abs_diff: the largest difference of two elements; infinite for other shapes, or values that are no numbers.
        relative: the same as a share of the largest element.
    """

    name: str
    max_abs_diff: float
    relative: float

    @property
    def differs(self) -> bool:
        """Whether that is more than rounding."""
        return self.relative > TOLERANCE


@dataclass(frozen=True, slots=True)
class ActivationComparison:
    """Two networks' outputs, side by side, in network order.

    Args:
        layers: of every convolution, BatchNorm, pool and linear layer that both have.
        stages: of the stem, every stage, and the classifier.
    """

    layers: tuple[OutputDifference, ...]
    stages: tuple[OutputDifference, ...]

    @property
    def first_layer(self) -> OutputDifference | None:
        """The first layer whose outputs differ."""
        return next((layer for layer in self.layers if layer.differs), None)

    @property
    def first_stage(self) -> OutputDifference | None:
        """The first stage whose outputs differ."""
        return next((stage for stage in self.stages if stage.differs), None)

    @property
    def equal(self) -> bool:
        """Whether all outputs are equal up to rounding."""
        return self.first_layer is None and self.first_stage is None


def drawn_input(variant: Variant) -> Tensor:
    """A float64 image (1, 3, H, W) for a variant, standing for a normalised crop; the same on every machine."""
    size = _DLA_SIZE if isinstance(variant.architecture, DlaArchitecture) else _STAGED_SIZE
    return torch.randn(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(_SEED))


def compare_activations(
    reference: nn.Module, other: nn.Module, image: Tensor, names: Mapping[str, str] | None = None
) -> ActivationComparison:
    """Run two networks and compare the output of every module they share.

    Args:
        reference: a reference network; both are turned to float64 and evaluation mode, and stay so.
        other: the other one.
        image: what to show both, float64 (1, 3, H, W).
        names: the other's module paths -> the reference's; ``None`` where they are the same.
    """
    kept = {name: name for name, module in reference.named_modules() if isinstance(module, _LAYERS)}
    stages = _stages(reference)
    kept |= {name: name for name in stages}
    first = _outputs(reference, image, kept)
    second = _outputs(other, image, kept if names is None else {k: v for k, v in names.items() if v in kept})
    compared = {name: _difference(name, output, second[name]) for name, output in first.items() if name in second}
    return ActivationComparison(
        layers=tuple(found for name, found in compared.items() if name not in stages or name == stages[-1]),
        stages=tuple(compared[name] for name in stages if name in compared),
    )


def _stages(network: nn.Module) -> list[str]:
    """Paths of what the backbone is made of, from the end of the stem on, and of the classifier."""
    children = [name for name, _ in network.get_submodule("backbone").named_children()]
    stages = [name for name in children if name.startswith(("maxpool", "base_layer", "level", "layer"))]
    return [*(f"backbone.{name}" for name in stages), "head.fc"]


def _outputs(network: nn.Module, image: Tensor, names: Mapping[str, str]) -> dict[str, Tensor]:
    """What the named modules put out, in the order they finish, under the names they are given."""
    found: dict[str, Tensor] = {}
    modules = dict(network.double().eval().named_modules())
    hooks = [
        modules[path].register_forward_hook(_keeper(found, name)) for path, name in names.items() if path in modules
    ]
    try:
        with torch.inference_mode():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _keeper(found: dict[str, Tensor], name: str) -> Callable[[nn.Module, object, object], None]:
    def keep(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            # A copy, for the ReLU that follows may work in place.
            found[name] = output.clone()

    return keep


def _difference(name: str, one: Tensor, other: Tensor) -> OutputDifference:
    # A classifier that is a 1x1 convolution answers with (1, classes, 1, 1).
    one, other = one.squeeze(), other.squeeze()
    if one.shape != other.shape or not bool(one.isfinite().all() and other.isfinite().all()):
        return OutputDifference(name, float("inf"), float("inf"))
    largest = float((one - other).abs().max())
    scale = float(one.abs().max())
    return OutputDifference(name, largest, largest / scale if scale else largest)
