"""Parity: does an independent implementation compute the same from the same file?

Both networks compute in float64 on the same random input, so that what is left between two implementations of one
network is a few units of 1e-16, and everything larger has a reason.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from r2convert.catalog.variant import DlaArchitecture, PeerName, StagedArchitecture, Variant
from r2convert.errors import UsageError
from r2convert.mapping.identity import Resolution
from r2convert.mapping.tables import Expansion
from r2convert.models.blocks import Classifier
from r2convert.results.verdicts import Check
from r2convert.results.verification import ActivationComparison, OutputDifference, ParityResult

# Odd wherever a stride halves them, so that a pool that rounds the other way shows; DLA needs multiples of 32.
_STAGED_SIZE = (129, 97)
_DLA_SIZE = (96, 64)
_SEED = 0

_LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


def random_input(variant: Variant) -> Tensor:
    """A float64 image (1, 3, H, W) for a variant, standing for a normalised crop; the same on every machine."""
    size = _DLA_SIZE if isinstance(variant.architecture, DlaArchitecture) else _STAGED_SIZE
    return torch.randn(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(_SEED))


def compare_activations(
    reference: nn.Module, other: nn.Module, image: Tensor, names: Mapping[str, str] | None = None
) -> ActivationComparison:
    """Run two networks and compare the output of every module they share.

    Args:
        reference: a reference network; both are switched to float64 and evaluation mode, and stay so.
        other: the other one.
        image: the input of both, float64 (1, 3, H, W).
        names: the other's module paths -> the reference's; ``None`` where they are the same.
    """
    kept = {name: name for name, module in reference.named_modules() if isinstance(module, _LAYERS)}
    stages = _stages(reference)
    kept |= {name: name for name in stages}
    first = _outputs(reference, image, kept)
    second = _outputs(other, image, kept if names is None else {k: v for k, v in names.items() if v in kept})
    compared = {name: _difference(name, output, second[name]) for name, output in first.items() if name in second}
    return ActivationComparison.of(
        tuple(found for name, found in compared.items() if name not in stages or name == stages[-1]),
        tuple(compared[name] for name in stages if name in compared),
    )


def _stages(network: nn.Module) -> list[str]:
    """Paths of what the backbone is made of, from the end of the stem on, and of the classifier."""
    children = [name for name, _ in network.get_submodule("backbone").named_children()]
    stages = [name for name in children if name.startswith(("maxpool", "base_layer", "level", "layer"))]
    return [*(f"backbone.{name}" for name in stages), "head.fc"]


def _outputs(network: nn.Module, image: Tensor, names: Mapping[str, str]) -> dict[str, Tensor]:
    """The outputs of the named modules, in the order they finish, under the given names."""
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
            # A copy, since the ReLU that follows may work in place.
            found[name] = output.clone()

    return keep


def _difference(name: str, one: Tensor, other: Tensor) -> OutputDifference:
    # A classifier that is a 1x1 convolution returns (1, classes, 1, 1).
    one, other = one.squeeze(), other.squeeze()
    if one.shape != other.shape or not bool(one.isfinite().all() and other.isfinite().all()):
        return OutputDifference(name, None, None)
    largest = float((one - other).abs().max())
    scale = float(one.abs().max())
    return OutputDifference(name, largest, largest / scale if scale else largest)


@dataclass(frozen=True, slots=True)
class Peer:
    """An implementation that builds its own networks and reads files by its own rules.

    Args:
        name: its package.
        version: the installed version.
        layout: whose names its networks have.
        build: its network for a variant and a number of classes, with fresh weights; ``None`` if it has none.
        load: reads a file into a network, strictly; raises whatever it raises.
    """

    name: str
    version: str
    layout: str
    build: Callable[[Variant, int], nn.Module | None]
    load: Callable[[nn.Module, Path], object]


def open_peer(name: PeerName) -> Peer:
    """A peer by its package's name.

    Raises:
        UsageError: the package is not installed, or cannot be imported.
    """
    return _timm() if name == "timm" else _mmpretrain()


def _timm() -> Peer:
    """pytorch-image-models: eleven of the twelve networks, by the names that its files are published under."""
    timm = _import("timm", "timm")

    def build(variant: Variant, classes: int) -> nn.Module | None:
        files = [source.file_name for source in variant.sources if source.publisher == "timm"]
        return timm.create_model(files[0].partition(".")[0], num_classes=classes) if files else None

    def load(network: nn.Module, path: Path) -> None:
        timm.models.load_checkpoint(network, str(path), strict=True)

    return Peer("timm", str(timm.__version__), "timm", build, load)


def _mmpretrain() -> Peer:
    """OpenMMLab's mmpretrain: Res2Net v1 and v1b, configured as its own configuration files are."""
    models, runner = _import("mmpretrain.models", "mmpretrain mmcv-lite"), _import("mmengine.runner", "mmengine")

    def build(variant: Variant, classes: int) -> nn.Module | None:
        architecture = variant.architecture
        if not isinstance(architecture, StagedArchitecture) or architecture.family not in ("res2net", "res2net_v1b"):
            return None
        deep = architecture.stem == "deep"
        sizes = {"depth": architecture.depth, "scales": architecture.scales, "base_width": architecture.base_width}
        backbone = {"type": "Res2Net", **sizes, "deep_stem": deep, "avg_down": deep}
        head = {"type": "LinearClsHead", "num_classes": classes, "in_channels": 2048}
        network: nn.Module = models.build_classifier(
            {"type": "ImageClassifier", "backbone": backbone, "neck": {"type": "GlobalAveragePooling"}, "head": head}
        )
        return network

    def load(network: nn.Module, path: Path) -> None:
        runner.load_checkpoint(network, str(path), map_location="cpu", strict=True, logger="silent")

    return Peer("mmpretrain", str(importlib.import_module("mmpretrain").__version__), "mm", build, load)


def _import(module: str, packages: str) -> Any:
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{package} is not installed",
            got=str(error),
            next_step=f"pip install {packages}",
        ) from error
    except Exception as error:
        # Incompatible packages fail to import with errors of every kind.
        raise UsageError(
            f"{package} cannot be imported",
            got=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            next_step=f"make `python -c 'import {module}'` work first: its packages are incompatible",
        ) from error


def run_parity(peer: Peer, resolution: Resolution, path: Path, reference: Classifier) -> ParityResult:
    """Load a file into a peer's network by the peer's own rules, and compare its outputs with ours.

    Args:
        peer: the implementation to compare with.
        resolution: what the file is.
        path: the file; it has been read by this package's own reader before, which refuses unsafe ones.
        reference: the reference network with the file's weights; it is switched to float64.
    """
    identity, expansion = resolution.identity, resolution.expansion
    network = peer.build(identity.variant, identity.classes)
    if network is None:
        return ParityResult(peer.name, peer.version, incomparable=f"{peer.name} has no {identity.variant.id}")
    if not _reads(expansion, peer.layout, identity.layout):
        reason = f"{peer.name} reads the {peer.layout} layout, and this file has {identity.layout} names: "
        return ParityResult(
            peer.name, peer.version, incomparable=f"{reason}`r2convert map --to {peer.layout}` gives a file it reads"
        )
    try:
        peer.load(network, path)
    except Exception as error:
        # Peers raise errors of any class when a file does not fit.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return ParityResult(peer.name, peer.version, refused=" ".join(lines[:2]) or type(error).__name__)
    names = module_names(expansion, peer.layout, network)
    image = random_input(identity.variant)
    return ParityResult.of(peer.name, peer.version, compare_activations(reference, network, image, names))


def parity_check(result: ParityResult) -> Check:
    """The verdict, with the first stage and layer that differ."""
    source = f"{result.peer} {result.version}"
    if result.incomparable:
        return Check("parity", "not-comparable", source, note=result.incomparable)
    if result.comparison is None:
        return Check("parity", "fail", source, note=f"{result.peer} refuses the file: {result.refused}")
    comparison = result.comparison
    equal = sum(not layer.differs for layer in comparison.by_layer)
    if comparison.equal:
        worst = max(layer.relative or 0.0 for layer in (*comparison.by_layer, *comparison.stages))
        note = f"equal up to {worst:.1g} of a layer's largest value" if worst else "equal to the last bit"
        return Check("parity", "pass", source, measured=equal, note=note)
    return Check("parity", "fail", source, measured=equal, note=comparison.parting)


def module_names(expansion: Expansion, layout: str, network: nn.Module) -> dict[str, str]:
    """A peer's module paths -> those of the reference network, from the table of tensor names.

    Modules without tensors of their own, such as pools and whole stages, follow from those around them.
    """
    names: dict[str, str] = {}
    for tensor, slot in expansion.names(layout).items():
        if slot.canonical is not None:
            _match_upwards(names, tensor.rpartition(".")[0], slot.canonical.rpartition(".")[0])
    for path, _ in network.named_modules():
        parent, _, last = path.rpartition(".")
        if path and path not in names and parent in names:
            names[path] = f"{names[parent]}.{last}"
    return names


def _match_upwards(names: dict[str, str], theirs: str, ours: str) -> None:
    """Record two modules, and the modules around them as long as both have the same name."""
    while ours:
        names.setdefault(theirs, ours)
        their_parent, _, their_last = theirs.rpartition(".")
        our_parent, _, our_last = ours.rpartition(".")
        if their_last != our_last or not theirs:
            return
        theirs, ours = their_parent, our_parent


def _reads(expansion: Expansion, peer_layout: str, layout: str) -> bool:
    """Whether two layouts have the same names for this variant."""
    if peer_layout not in expansion.table.layouts:
        return False
    return expansion.names(peer_layout).keys() == expansion.names(layout).keys()
