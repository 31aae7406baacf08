"""Networks that look like a variant and are not quite: what other implementations and settings compute instead.

Every change leaves names and shapes as they are, so that no loader notices it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import MappingProxyType

import torch
from torch import Tensor, nn

from r2convert.catalog.variant import Architecture, StagedArchitecture
from r2convert.doctor.setting import NetworkChange
from r2convert.models.blocks import Classifier, Res2NetBlock

Change = AbstractContextManager[None]

_TF32_HALF, _TF32_KEPT = 0x1000, ~0x1FFF
"""Of float32's 23 bits of fraction TF32 keeps 10, rounded half away from zero (PTX ISA, ``cvt.rna.tf32.f32``)."""


def changes_of(architecture: Architecture) -> tuple[NetworkChange, ...]:
    """The changes that mean something to an architecture."""
    everywhere: tuple[NetworkChange, ...] = ("pool padding", "batch statistics", "random stem", "tf32", "bf16")
    if not isinstance(architecture, StagedArchitecture):
        return everywhere
    staged: list[NetworkChange] = ["first block", "stem pool"]
    if architecture.first_block == "stage":
        staged.append("first pool")
    if architecture.shortcut != "strided-conv":
        staged.append("shortcut pool")
    return (*everywhere, *staged)


@contextmanager
def changed_network(network: Classifier, change: NetworkChange) -> Iterator[None]:
    """Has a network compute something else for a while; it is put back at the end.

    Args:
        network: the network, in evaluation mode.
        change: one that :func:`changes_of` gives for its architecture.
    """
    with ExitStack() as changes:
        for changed in _CHANGES[change](network):
            changes.enter_context(changed)
        yield


def _pools_pad_otherwise(network: Classifier) -> Iterator[Change]:
    for block in _stage_blocks(network):
        yield _attribute(block.pool, "count_include_pad", not block.pool.count_include_pad)


def _shortcuts_stride(network: Classifier) -> Iterator[Change]:
    # A window of one pixel with the stride is what a convolution with the stride looks at.
    for block in _blocks(network):
        if isinstance(block.downsample, nn.Sequential) and isinstance(block.downsample[0], nn.AvgPool2d):
            yield _attribute(block.downsample[0], "kernel_size", 1)


def _first_block_is_of_the_other_kind(network: Classifier) -> Iterator[Change]:
    block = next(_blocks(network))
    if block.kind == "normal":
        pool = next(_stage_blocks(network)).pool
        yield _attribute(block, "pool", nn.AvgPool2d(3, 1, 1, count_include_pad=pool.count_include_pad))
    yield _attribute(block, "kind", "normal" if block.kind == "stage" else "stage")


def _blocks(network: nn.Module) -> Iterator[Res2NetBlock]:
    return (module for module in network.modules() if isinstance(module, Res2NetBlock))


def _stage_blocks(network: nn.Module) -> Iterator[Res2NetBlock]:
    return (block for block in _blocks(network) if block.kind == "stage")


@contextmanager
def _attribute(module: nn.Module, name: str, value: object) -> Iterator[None]:
    missing = object()
    found = getattr(module, name, missing)
    setattr(module, name, value)
    try:
        yield
    finally:
        if found is missing:
            delattr(module, name)
        else:
            setattr(module, name, found)


@contextmanager
def _with_batch_statistics(network: nn.Module) -> Iterator[None]:
    """Training mode's normalisation, without its update of the running statistics."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm in norms:
            norm.training, norm.track_running_stats = False, True


@contextmanager
def _with_random_stem(network: nn.Module) -> Iterator[None]:
    """The first convolution and its BatchNorm as they are before anything is loaded."""
    conv = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    found = {module: {name: tensor.clone() for name, tensor in module.state_dict().items()} for module in (conv, norm)}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        norm.reset_parameters()
    try:
        yield
    finally:
        for module, state in found.items():
            module.load_state_dict(state)


@contextmanager
def _rounded(network: nn.Module, to_less: Callable[[Tensor], Tensor], *, results: bool) -> Iterator[None]:
    """Rounds what convolutions and linear layers multiply, and, if so asked, what comes of it."""
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    found = [layer.weight.data for layer in layers]
    hooks = [layer.register_forward_pre_hook(lambda _, inputs: (to_less(inputs[0]),)) for layer in layers]
    if results:
        hooks += [layer.register_forward_hook(lambda _, __, output: to_less(output)) for layer in layers]
    for layer in layers:
        layer.weight.data = to_less(layer.weight.data)
    try:
        yield
    finally:
        for layer, weight in zip(layers, found, strict=True):
            layer.weight.data = weight
        for hook in hooks:
            hook.remove()


def _to_tf32(values: Tensor) -> Tensor:
    return ((values.view(torch.int32) + _TF32_HALF) & _TF32_KEPT).view(torch.float32)


def _to_bf16(values: Tensor) -> Tensor:
    return values.to(torch.bfloat16).to(torch.float32)


_CHANGES: Mapping[NetworkChange, Callable[[Classifier], Iterable[Change]]] = MappingProxyType(
    {
        "none": lambda _: (),
        "pool padding": _pools_pad_otherwise,
        "first block": _first_block_is_of_the_other_kind,
        "first pool": lambda network: (_attribute(next(_blocks(network)), "pool", nn.Identity()),),
        "stem pool": lambda network: (_attribute(network.backbone, "maxpool", nn.Identity()),),
        "shortcut pool": _shortcuts_stride,
        "batch statistics": lambda network: (_with_batch_statistics(network),),
        "random stem": lambda network: (_with_random_stem(network),),
        "tf32": lambda network: (_rounded(network, _to_tf32, results=False),),
        "bf16": lambda network: (_rounded(network, _to_bf16, results=True),),
    }
)
