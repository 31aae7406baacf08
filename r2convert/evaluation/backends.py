"""Networks on a device: what a precision means to torch, what makes them faster, and how their logits are ranked.

Precisions:

``strict``
    float32 products and sums as IEEE has them, deterministic: the reference.
``fast``
    a first pass in what the device is fastest in, then ``strict`` for every image that this could have decided
    otherwise: strict's counts.
``fp32``, ``tf32``, ``bf16``, ``fp16``
    all images in that precision, with what it changes found out on a sample. ``fp32`` is ``strict`` until it is
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
``cuda-graphs``
    the whole network is handed to a CUDA device at once instead of layer by layer.
"""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from r2convert.errors import AccessError, CheckpointError, UsageError
from r2convert.imagenet.device_resize import on_device
from r2convert.imagenet.labels import CLASS_COUNT, TOP

MEAN = (0.485, 0.456, 0.406)
STANDARD_DEVIATION = (0.229, 0.224, 0.225)

# What torch says of MPS, cuDNN and the processor's own allocator.
_OUT_OF_MEMORY = ("out of memory", "CUDNN_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")


@dataclass(frozen=True, slots=True)
class Asked:
    """A batch that networks have been asked about, perhaps without having answered yet.

    Args:
        rankings: by network; on the processor, but only to be read after :meth:`answers` has waited for them.
    """

    rankings: dict[str, Ranking]
    _arrived: Any = None

    def answers(self) -> dict[str, Ranking]:
        """By network, rankings on the processor, one image a row; waits for them."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self.rankings


class Inference:
    """Networks on a device.

    What runs at once has always the same shape, filled up with zeros if need be, so that an image's logits do not
    depend on how many others there are. When the device's memory runs out, half as many images run at once from
    then on.

    Args:
        networks: by name; each takes float32 (batch, 3, 224, 224), normalised, and returns logits (batch, 1000).
            They are moved to the device, put into evaluation mode and, on a CPU, into channels-last order, which
            runs up to a fifth faster there and multiplies the same numbers.
        device: where they run.
        batch_size: images that run at once, to begin with.
        accelerations: what else makes them run faster in any precision but ``strict``.

    Raises:
        UsageError: an acceleration does not exist on the device, or not for a network.
    """

    def __init__(
        self,
        networks: Mapping[str, torch.nn.Module],
        device: torch.device,
        batch_size: int,
        accelerations: Sequence[Acceleration] = (),
    ) -> None:
        self.device = device
        self.images_at_once = batch_size
        on_cpu = device.type == "cpu"
        self._layout = torch.channels_last if on_cpu else torch.contiguous_format
        self._faster_layout = torch.channels_last if on_cpu or "channels-last" in accelerations else self._layout
        self._networks = {
            name: network.to(device=device, memory_format=self._layout).eval()  # type: ignore[call-overload]
            for name, network in networks.items()
        }
        self._faster = {name: accelerated(each, accelerations, device) for name, each in self._networks.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The networks' names."""
        return tuple(self._networks)

    @property
    def batches_ahead(self) -> int:
        """How many batches to ask about before waiting for the first answer: none, if asking is all the work."""
        return 1 if self.device.type == "cuda" else 0

    def ask(
        self, crops: torch.Tensor, rows: Sequence[int], labels: Sequence[int], precision: ComputePrecision = "strict"
    ) -> Asked:
        """Shows every network a batch of crops, and ranks the answers on the device.

        Args:
            crops: uint8, shape (batch, 224, 224, 3), on the device.
            rows: which of them to rank; the rest is run, too, and ignored.
            labels: the class index of each of these.
            precision: what the settings of torch are now; without ``strict`` the accelerated networks are asked.

        Raises:
            CheckpointError: a network does not return 1,000 logits an image.
            AccessError: the device has no memory for a single image.
        """
        strict = precision == "strict"
        layout = self._layout if strict else self._faster_layout
        inputs = normalise(crops).contiguous(memory_format=layout)
        chosen = on_device(torch.tensor(rows, dtype=torch.int64), self.device)
        classes = on_device(torch.tensor(labels, dtype=torch.int64), self.device)
        beside = self.device.type == "cuda"
        rankings = {}
        for name, network in (self._networks if strict else self._faster).items():
            ranking = rank_logits(self._logits(name, network, inputs, layout)[chosen], classes)
            parts = (ranking.top, ranking.rank, ranking.margins)
            rankings[name] = Ranking(*(part.to("cpu", non_blocking=beside) for part in parts))
        cuda: Any = torch.cuda  # whose streams have no type hints
        return Asked(rankings, cuda.current_stream(self.device).record_event() if beside else None)

    def _logits(
        self, name: str, network: torch.nn.Module, inputs: torch.Tensor, layout: torch.memory_format
    ) -> torch.Tensor:
        while True:
            try:
                parts = [self._answer(name, network, part, layout) for part in torch.split(inputs, self.images_at_once)]
                return torch.cat(parts)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.images_at_once == 1:
                    raise no_memory(f"{name} on {self.device}", error) from error
            # Outside the handler, whose traceback would keep the tensors alive that did not fit.
            self.images_at_once = (self.images_at_once + 1) // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _answer(
        self, name: str, network: torch.nn.Module, part: torch.Tensor, layout: torch.memory_format
    ) -> torch.Tensor:
        count = len(part)
        if count < self.images_at_once:
            filling = part.new_zeros((self.images_at_once - count, *part.shape[1:]))
            part = torch.cat((part, filling)).contiguous(memory_format=layout)
        logits = network(part)
        if tuple(logits.shape) != (len(part), CLASS_COUNT):
            raise CheckpointError(
                "the network does not answer with ImageNet-1k logits",
                where=name,
                expected=f"{CLASS_COUNT} logits an image",
                got=f"an output of shape {tuple(logits.shape)} for {len(part)} images",
                next_step="accuracy is measured for classifiers of the 1,000 ImageNet classes only",
            )
        answer: torch.Tensor = logits[:count].float()
        return answer


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device has run out of memory; not every one has an exception of its own for that."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def no_memory(where: str, error: RuntimeError) -> AccessError:
    """The error for a device that is too small."""
    return AccessError(
        "the device has no memory for a single image",
        where=where,
        got=str(error).partition("\n")[0],
        next_step="free memory on the device, or use --device cpu",
    )


def normalise(crops: torch.Tensor) -> torch.Tensor:
    """Pixels to what the networks were trained on, in the same float32 steps as torchvision takes them.

    Args:
        crops: uint8, shape (images, height, width, 3).

    Returns:
        float32, shape (images, 3, height, width), in the memory order of the crops.
    """
    mean = on_device(torch.tensor(MEAN), crops.device)[:, None, None]
    deviation = on_device(torch.tensor(STANDARD_DEVIATION), crops.device)[:, None, None]
    return crops.permute(0, 3, 1, 2).to(torch.float32).div_(255).sub_(mean).div_(deviation)


Precision = Literal["strict", "fast", "fp32", "tf32", "bf16", "fp16"]
ComputePrecision = Literal["strict", "fp32", "tf32", "bf16", "fp16"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def first_precision(device: torch.device) -> ComputePrecision:
    """What a first pass is run in, before ``strict`` settles the doubtful images: the fastest the device has."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return "bf16" if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else "fp32"
    return "fp16"


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
        settings.enter_context(_float32_products("tf32" if precision == "tf32" else "ieee"))
        if precision in _AUTOCAST:
            settings.enter_context(torch.autocast(device.type, dtype=_AUTOCAST[precision]))
        yield


@contextmanager
def _float32_products(kind: Literal["ieee", "tf32"]) -> Iterator[None]:
    backends: Any = torch.backends  # torch adds the settings below at run time; its type hints know some of them
    on_cuda, on_cpu = (backends.cuda.matmul, backends.cudnn.conv), (backends.mkldnn.matmul, backends.mkldnn.conv)
    found = [(setting, setting.fp32_precision) for setting in on_cuda + on_cpu]
    deterministic, benchmark = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        for setting in on_cuda:
            setting.fp32_precision = kind
        for setting in on_cpu:
            setting.fp32_precision = "ieee"
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        yield
    finally:
        for setting, value in found:
            setting.fp32_precision = value
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, benchmark


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


def network_fingerprint(network: torch.nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and values of all tensors of a network."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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


@dataclass(frozen=True, slots=True)
class Ranking:
    """The part of a batch of logits that every score is computed from.

    Equal logits are ranked by class index, the smaller one first, as ``argmax`` does. A row with a NaN in it ranks
    nothing: its classes are -1, its rank is the number of classes and its margins are NaN.

    Args:
        top: int16, shape (images, 5): the five classes ranked first.
        rank: int16, shape (images,): how many classes are ranked before the labelled one.
        margins: float32, shape (images, 2): first logit minus second; and how far the labelled class is from
            changing sides at the cut below the fifth: its logit minus the sixth (positive, if it is among the first
            five) or minus the fifth (negative, if not).
    """

    top: torch.Tensor
    rank: torch.Tensor
    margins: torch.Tensor


def rank_logits(logits: torch.Tensor, labels: torch.Tensor) -> Ranking:
    """Ranks the classes of each image.

    Args:
        logits: float, shape (images, classes), more than five classes.
        labels: int64, shape (images,): class indices.

    Returns:
        The ranking, on the device of the logits.
    """
    class_count = logits.shape[1]
    own = logits.gather(1, labels[:, None])
    before = torch.arange(class_count, device=logits.device)[None, :] < labels[:, None]
    rank = ((logits > own) | ((logits == own) & before)).sum(1)
    values, order = torch.sort(logits, dim=1, descending=True, stable=True)
    at_the_cut = torch.where(rank < TOP, values[:, TOP], values[:, TOP - 1])
    margins = torch.stack((values[:, 0] - values[:, 1], own[:, 0] - at_the_cut), 1)
    not_a_number = logits.isnan().any(1)
    return Ranking(
        top=order[:, :TOP].masked_fill(not_a_number[:, None], -1).to(torch.int16),
        rank=rank.masked_fill(not_a_number, class_count).to(torch.int16),
        margins=margins.masked_fill(not_a_number[:, None], float("nan")).to(torch.float32),
    )


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


def device_name(device: str) -> str:
    """What a device is called: the name of the GPU, or the device's own."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
