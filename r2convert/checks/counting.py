"""Operations of a network, by layer, in the conventions that publishers use.

One network has three "FLOPs". Each publisher's figure is reproduced by its own convention:

``macs``
    Multiply-adds of convolutions and linear layers, without bias: the official README's "MACCs".
``mmcv``
    As ``macs``, plus a bias addition an output element, 2 an input element of a BatchNorm, 1 an output
    element of a ReLU, 1 an input element of a pool: mmcv 1.x, which OpenMMLab's tables were made with.
``fvcore``
    As ``macs``, plus 2 an element of a BatchNorm and 1 an input element of an adaptive pool: fvcore, which
    timm's and PaddleClas' tables were made with.

``activations`` counts the output elements of convolutions and linear layers, as timm's tables do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from r2convert.catalog.variant import IMAGENET_CLASSES, DlaArchitecture, Variant
from r2convert.errors import UsageError
from r2convert.models.build import build_network

IMAGENET_INPUT = (224, 224)
_DLA_STEP = 32


@dataclass(frozen=True, slots=True)
class LayerCount:
    """What one layer costs for one image.

    Args:
        name: its module path.
        kind: its class, e.g. ``Conv2d``.
        macs: multiply-adds.
        mmcv: operations as mmcv 1.x counts them.
        fvcore: operations as fvcore counts them.
        activations: output elements, of convolutions and linear layers.
    """

    name: str
    kind: str
    macs: int
    mmcv: int
    fvcore: int
    activations: int


@dataclass(frozen=True, slots=True)
class OperationCount:
    """What a network costs for one image; the fields are those of :class:`LayerCount`, added up."""

    layers: tuple[LayerCount, ...]

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def mmcv(self) -> int:
        """Operations as mmcv 1.x counts them."""
        return sum(layer.mmcv for layer in self.layers)

    @property
    def fvcore(self) -> int:
        """Operations as fvcore counts them."""
        return sum(layer.fvcore for layer in self.layers)

    @property
    def activations(self) -> int:
        """Output elements of convolutions and linear layers."""
        return sum(layer.activations for layer in self.layers)

    def by_convention(self, convention: str) -> int:
        """The count in ``macs``, ``mmcv`` or ``fvcore``, or the ``activations``."""
        return {
            "macs": self.macs,
            "mmcv": self.mmcv,
            "fvcore": self.fvcore,
            "activations": self.activations,
        }[convention]


def count_operations(
    variant: Variant,
    *,
    input_size: tuple[int, int] = IMAGENET_INPUT,
    classes: int = IMAGENET_CLASSES,
    unreachable: bool = False,
) -> OperationCount:
    """Count a variant's operations for one image, on the meta device: no memory, no arithmetic.

    Args:
        variant: which network.
        input_size: height and width of the image in pixels.
        classes: outputs of the classifier.
        unreachable: count the layers that the official DLA code runs although nothing reads their result.

    Raises:
        UsageError: the network cannot be shown images of this size.
    """
    require_input_size(variant, input_size)
    with torch.device("meta"):
        network = build_network(variant, classes=classes, unreachable=unreachable).eval()
        return count_module(network, torch.empty(1, 3, *input_size))


def require_input_size(variant: Variant, input_size: tuple[int, int]) -> None:
    """Check that a network can be shown images of a size.

    Raises:
        UsageError: it cannot. The trees of DLA add maps that were pooled to maps that were strided, which are of one
            size only where all five halvings come out even.
    """
    if isinstance(variant.architecture, DlaArchitecture) and any(side % _DLA_STEP for side in input_size):
        raise UsageError(
            f"{variant.id} cannot be shown images of this size",
            expected=f"height and width divisible by {_DLA_STEP}, such as 224 or 256",
            got=shown_size(input_size),
        )


def shown_size(input_size: tuple[int, int]) -> str:
    """Height and width as people write them."""
    return "x".join(map(str, input_size))


def count_module(network: nn.Module, image: Tensor) -> OperationCount:
    """Count the operations of any network built from the layers below, in the order they run.

    A layer that runs twice is counted twice.

    Args:
        network: the network; every leaf module must be a kind this module knows.
        image: its input, (1, 3, H, W), on the network's device.

    Raises:
        TypeError: the network has a leaf module of another kind: an operation would go uncounted.
    """
    layers: list[LayerCount] = []
    hooks = []
    for name, module in network.named_modules():
        if next(module.children(), None) is None:
            count = _counter_for(module)
            hooks.append(module.register_forward_hook(_recorder(layers, name, count)))
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return OperationCount(tuple(layers))


Counts = tuple[int, int, int, int]
Counter = Callable[[Any, Tensor, Tensor], Counts]


def _recorder(layers: list[LayerCount], name: str, count: Counter) -> Callable[[nn.Module, Any, Any], None]:
    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        layers.append(LayerCount(name, type(module).__name__, *count(module, inputs[0], output)))

    return record


def _convolution(module: nn.Conv2d, _: Tensor, output: Tensor) -> Counts:
    macs = output.numel() * module.in_channels // module.groups * prod(module.kernel_size)
    bias = output.numel() if module.bias is not None else 0
    return macs, macs + bias, macs, output.numel()


def _linear(module: nn.Linear, _: Tensor, output: Tensor) -> Counts:
    macs = output.numel() * module.in_features
    bias = output.numel() if module.bias is not None else 0
    return macs, macs + bias, macs, output.numel()


def _batch_norm(_: nn.BatchNorm2d, x: Tensor, __: Tensor) -> Counts:
    return 0, 2 * x.numel(), 2 * x.numel(), 0


def _relu(_: nn.ReLU, __: Tensor, output: Tensor) -> Counts:
    return 0, output.numel(), 0, 0


def _pool(_: nn.Module, x: Tensor, __: Tensor) -> Counts:
    return 0, x.numel(), 0, 0


def _adaptive_pool(_: nn.AdaptiveAvgPool2d, x: Tensor, __: Tensor) -> Counts:
    return 0, x.numel(), x.numel(), 0


def _nothing(_: nn.Module, __: Tensor, ___: Tensor) -> Counts:
    return 0, 0, 0, 0


def _counter_for(module: nn.Module) -> Counter:
    counters: dict[type[nn.Module], Counter] = {
        nn.Conv2d: _convolution,
        nn.Linear: _linear,
        nn.BatchNorm2d: _batch_norm,
        nn.ReLU: _relu,
        nn.MaxPool2d: _pool,
        nn.AvgPool2d: _pool,
        nn.AdaptiveAvgPool2d: _adaptive_pool,
        nn.Identity: _nothing,
    }
    if type(module) not in counters:
        raise TypeError(f"no counting rule for {type(module).__name__}")
    return counters[type(module)]
