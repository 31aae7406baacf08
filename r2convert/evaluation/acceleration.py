"""Ways to run a network faster that change the order in which it adds up, and with it the last bits of its logits.

``channels-last``
    images and weights in the memory order that tensor cores read. On a CPU every precision has it, ``strict`` too.
``fold-bn``
    each BatchNorm multiplied into the convolution before it: fewer layers, other roundings.
``compile``
    ``torch.compile``: layers that follow each other become one kernel. Needs a C++ compiler on a CPU.
``cuda-graphs``
    the whole network is handed to a CUDA device at once instead of layer by layer.

None of them is ever used for ``strict``, which is the reference; with any other precision, what they and it change
together is counted on a sample that is shown in ``strict`` as well.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, cast, get_args

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from r2convert.errors import UsageError

Acceleration = Literal["channels-last", "fold-bn", "compile", "cuda-graphs"]

ACCELERATIONS: tuple[Acceleration, ...] = get_args(Acceleration)

_WARM_UPS = 3


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
    require_accelerations(chosen, device)
    faster = copy.deepcopy(network)
    if "fold-bn" in chosen:
        faster = fold_batch_norms(faster)
    if "channels-last" in chosen or device.type == "cpu":
        faster = faster.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if "compile" in chosen:
        faster = _Compiled(faster)
    return GraphedNetwork(faster) if "cuda-graphs" in chosen else faster


def require_accelerations(accelerations: Iterable[Acceleration], device: torch.device) -> None:
    """Raises ``UsageError`` if a device does not have an acceleration."""
    if "cuda-graphs" in accelerations and device.type != "cuda":
        raise UsageError("CUDA graphs exist on CUDA devices only", expected="--device cuda", got=str(device))


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
        self._run = torch.compile(network, dynamic=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        try:
            answer: torch.Tensor = self._run(images)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, OSError) as error:
            raise UsageError(
                "the network cannot be compiled on this machine",
                got=str(error).strip().partition("\n")[0],
                next_step="install a C++ compiler, or leave compile out of --accelerate",
            ) from error
        return answer


class GraphedNetwork(nn.Module):
    """A network recorded as a CUDA graph: one launch a batch instead of one a layer.

    A graph reads and writes fixed memory. So a batch is copied into it first, and the answer out of it; another batch
    size or precision is recorded anew.

    Args:
        network: on a CUDA device, without anything that depends on the values it is shown.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._recorded: tuple[Any, torch.Tensor, torch.Tensor] | None = None
        self._key: tuple[object, ...] = ()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        autocast = torch.is_autocast_enabled("cuda")
        key = tuple(images.shape), images.dtype, autocast, torch.get_autocast_dtype("cuda")
        if self._recorded is None or self._key != key:
            self._recorded = None
            self._recorded, self._key = self._record(images), key
        graph, source, answer = self._recorded
        source.copy_(images)
        graph.replay()
        return answer.clone()

    def _record(self, images: torch.Tensor) -> tuple[Any, torch.Tensor, torch.Tensor]:
        cuda: Any = torch.cuda  # whose streams and graphs have no type hints
        source = images.clone(memory_format=torch.preserve_format)
        # Weights that autocast keeps from one batch to the next would lie outside of the graph's memory.
        kept = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)
        try:
            beside = cuda.Stream(images.device)
            beside.wait_stream(cuda.current_stream(images.device))
            with cuda.stream(beside):
                for _ in range(_WARM_UPS):
                    self.network(source)
            cuda.current_stream(images.device).wait_stream(beside)
            graph = cuda.CUDAGraph()
            # Other threads wait for their uploads meanwhile; what they call is none of this recording's business.
            with cuda.graph(graph, capture_error_mode="thread_local"):
                answer = self.network(source)
        finally:
            torch.set_autocast_cache_enabled(kept)
        return graph, source, cast("torch.Tensor", answer)
