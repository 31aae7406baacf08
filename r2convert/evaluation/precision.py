"""What a precision means to torch, and what makes networks faster.

Precisions:

``strict``
    float32 products and sums as IEEE has them, deterministic: the reference.
``fast``
    a first pass in what the device is fastest in, with BatchNorms folded and in channels-last order, then ``strict``
    for every image that this could have decided differently: strict's counts.
``fp32``, ``tf32``, ``bf16``, ``fp16``
    all images in that precision, with what it changes measured on a sample. ``fp32`` is ``strict`` until it is
    accelerated.

Accelerations change the order in which a network adds up, and with it the last bits of its logits. So none of them is
ever used for ``strict``; with any other precision, what they and it change together is counted on a sample that is
shown in ``strict`` as well:

``channels-last``
    images and weights in the memory order that tensor cores read. On a CPU every precision has it, ``strict`` too.
``fold-bn``
    each BatchNorm multiplied into the convolution before it: fewer layers, other roundings.
``compile``
    ``torch.compile``: layers that follow each other become one kernel. Needs a C++ compiler on a CPU.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from r2convert.catalog.protocol import ACCELERATIONS, Acceleration, ComputePrecision, Precision
from r2convert.errors import UsageError
from r2convert.evaluation.processes import local_device
from r2convert.imagenet.device_resize import is_out_of_memory

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_PART_OF_FAST: tuple[Acceleration, ...] = ("channels-last", "fold-bn")


def choose_device(name: str | None) -> torch.device:
    """The requested device, or by default a GPU if there is one; of several processes each has its own.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        UsageError: the device cannot be used.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = local_device(torch.device(name))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device {name!r} cannot be used", got=str(error).splitlines()[0]) from error
    return device


def device_name(device: str) -> str:
    """The name of a device: the GPU's model, or the device's own."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def first_precision(device: torch.device) -> ComputePrecision:
    """What a first pass is run in, before ``strict`` settles the doubtful images: the fastest the device has."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        # torch 2.9 does not tell: float32 then, which only costs time.
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return "bf16" if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else "fp32"
    return "fp16"


def accelerations_for(
    precision: Precision, asked: Iterable[Acceleration], device: torch.device
) -> tuple[Acceleration, ...]:
    """What networks run with in a precision: what was asked for, and for ``fast`` what is part of it.

    Raises:
        UsageError: the device does not have this precision, or ``strict`` was to be accelerated.
    """
    require_precision(precision, device)
    chosen = {*asked, *(_PART_OF_FAST if precision == "fast" else ())}
    if chosen and precision == "strict":
        raise UsageError(
            "strict is the reference and takes no shortcut",
            expected="--precision fast (strict's counts), or fp32, bf16, ... with --accelerate",
            got=f"strict with {', '.join(sorted(chosen))}",
        )
    return tuple(each for each in ACCELERATIONS if each in chosen)


def require_precision(precision: Precision, device: torch.device) -> None:
    """Raises ``UsageError`` if a device does not have a precision."""
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(
            "TF32 exists on CUDA devices only",
            expected="--precision strict, fast, fp32, bf16 or fp16",
            got=f"tf32 on {device}",
        )


@contextmanager
def computing_in(precision: ComputePrecision, device: torch.device) -> Iterator[None]:
    """Runs networks in a precision; the settings that were found are put back at the end.

    TF32 alone moves logits by 1e-2, a thousand times the rounding of float32: enough to make a sound conversion
    look wrong. So it is off unless it is asked for.

    Raises:
        UsageError: the device does not have this precision.
    """
    require_precision(precision, device)
    with ExitStack() as settings:
        settings.enter_context(_float32_products(tf32=precision == "tf32"))
        if precision in _AUTOCAST:
            settings.enter_context(torch.autocast(device.type, dtype=_AUTOCAST[precision]))
        yield


def without_gradients(precision: ComputePrecision) -> AbstractContextManager[None]:
    """The mode to run networks in: inference mode, unless autocast would round all weights for every batch in it."""
    return torch.no_grad() if precision in _AUTOCAST else torch.inference_mode()


@contextmanager
def _float32_products(*, tf32: bool) -> Iterator[None]:
    """Sets what float32 products are computed in.

    torch has two sets of switches for this, and reading one raises where the other was set to something it cannot
    say. Compilers read the older ones, and setting those sets both, but leaves convolutions to follow the newer
    switch for all of torch: so they are told for themselves, and recurrent layers too, as the older ones cannot
    tell the two apart. What was found is put back through those it can be read from.
    """
    backends: Any = torch.backends  # torch adds some of the settings below at run time
    convolutions = (backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.conv)
    newer = (backends.cuda.matmul, backends.mkldnn.matmul, *convolutions)
    found_newer = [(each, each.fp32_precision) for each in newer]
    found_older: tuple[bool, str] | None = None
    with suppress(RuntimeError):  # the caller used the newer ones
        found_older = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    deterministic, benchmark = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        torch.backends.cudnn.allow_tf32 = tf32
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        for each in convolutions:
            each.fp32_precision = "tf32" if tf32 else "ieee"
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        yield
    finally:
        if found_older is not None:
            torch.backends.cudnn.allow_tf32 = found_older[0]
            torch.set_float32_matmul_precision(found_older[1])
        for setting, value in found_newer:
            setting.fp32_precision = value
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, benchmark


def accelerated(network: nn.Module, accelerations: Iterable[Acceleration], device: torch.device) -> nn.Module:
    """A copy of a network that runs faster.

    Args:
        network: in evaluation mode, on the device; it is left as it is.
        accelerations: which of the ways to take.
        device: where it runs.

    Raises:
        UsageError: a way does not exist on this device, or not for this network.
    """
    chosen = set(accelerations)
    if not chosen:
        return network
    faster = copy.deepcopy(network)
    if "fold-bn" in chosen:
        faster = fold_batch_norms(faster)
    if "channels-last" in chosen or device.type == "cpu":
        faster = faster.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if "compile" in chosen:
        faster = _Compiled(faster)
    return faster


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Multiplies each BatchNorm into the convolution before it, where nothing else reads that convolution.

    Args:
        network: in evaluation mode; its convolutions are replaced.

    Returns:
        A network that computes the same function with fewer layers.

    Raises:
        UsageError: what the network does depends on its input, so that its layers cannot be told beforehand.
    """
    try:
        graph_network = fx.symbolic_trace(network)
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise UsageError("BatchNorms of this network cannot be folded", got=str(error).partition("\n")[0]) from error
    layers = dict(graph_network.named_modules())
    uses = Counter(node.target for node in graph_network.graph.nodes)
    for node in list(graph_network.graph.nodes):
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        if len(source.users) > 1 or uses[source.target] > 1:
            continue
        convolution, norm = layers.get(str(source.target)), layers.get(str(node.target))
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            graph_network.set_submodule(str(source.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(source)
            graph_network.graph.erase_node(node)
    graph_network.delete_all_unused_submodules()
    graph_network.recompile()
    return graph_network.eval()


class _Compiled(nn.Module):
    """A network compiled for the one batch size it is shown; a failure says what is missing."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # Networks of one class share a cache of code that holds eight: from the ninth on none would be compiled.
        torch.compiler.reset()
        self._run = torch.compile(network, dynamic=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        try:
            logits: torch.Tensor = self._run(images)
        except (RuntimeError, OSError) as error:
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise
            raise UsageError(
                "the network cannot be compiled on this machine",
                got=str(error).strip().partition("\n")[0],
                next_step="install a C++ compiler, or leave compile out of --accelerate",
            ) from error
        return logits


def prepacked(network: nn.Module) -> nn.Module:
    """A copy of a network for the processor, its convolutions' weights in the order that oneDNN computes in.

    By itself oneDNN brings them into that order again for every batch. The products are the same ones.

    Args:
        network: in evaluation mode, float32; it is left as it is, and the copy reads its tensors.
    """
    backends: Any = torch.backends  # without type hints
    if not backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_reorder_convolution_weight"):
        return network
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    packed = copy.deepcopy(network, shared)
    for layer in packed.modules():
        # Only what it computes with is exchanged: a network may look at its layers' weights.
        if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and isinstance(layer.padding, tuple):
            layer.forward = _packed_convolution(layer)  # type: ignore[assignment, method-assign]
    return packed


def _packed_convolution(layer: nn.Conv2d) -> Callable[[torch.Tensor], torch.Tensor]:
    """A convolution whose weights are brought into order by the first batch."""
    geometry = list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups
    packed: list[torch.Tensor] = []

    def forward(images: torch.Tensor) -> torch.Tensor:
        if not packed:
            packed.append(torch.ops.mkldnn._reorder_convolution_weight(layer.weight, *geometry, list(images.shape)))
        result: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            images, packed[0], layer.bias, *geometry, "none", [], ""
        )
        return result

    return forward
