"""Independent implementations of the same networks, where they are installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from r2convert.catalog.variant import StagedArchitecture, Variant
from r2convert.errors import UsageError


class Peer(Protocol):
    """An implementation that builds its own networks and reads files by its own rules."""

    @property
    def name(self) -> str:
        """Its package."""

    @property
    def version(self) -> str:
        """The installed version."""

    @property
    def layout(self) -> str:
        """Whose names its networks have."""

    def build(self, variant: Variant, classes: int) -> nn.Module | None:
        """Its network for a variant, with fresh weights; ``None`` if it has none."""

    def load(self, network: nn.Module, path: Path) -> None:
        """Read a file into the network, strictly; raises whatever it raises."""


def open_peer(name: str) -> Peer:
    """A peer by its package's name, one of :func:`peer_names`.

    Raises:
        UsageError: the package is not installed, or cannot be imported.
    """
    return _openers()[name]()


def peer_names() -> tuple[str, ...]:
    """The packages that can be asked."""
    return tuple(_openers())


def _openers() -> Mapping[str, Callable[[], Peer]]:
    return {
        "timm": lambda: Timm(_import("timm", "timm")),
        "mmpretrain": lambda: Mmpretrain(
            _import("mmpretrain.models", "mmpretrain mmcv-lite"), _import("mmengine.runner", "mmengine")
        ),
    }


class Timm:
    """pytorch-image-models: eleven of the twelve networks, under the names its published files have.

    Args:
        package: the imported ``timm``.
    """

    name = "timm"
    layout = "timm"

    def __init__(self, package: Any) -> None:
        self._package = package
        self.version = str(package.__version__)

    def build(self, variant: Variant, classes: int) -> nn.Module | None:
        """Timm's network, by the name that its file is published under."""
        files = [source.file_name for source in variant.sources if source.publisher == "timm"]
        if not files:
            return None
        network: nn.Module = self._package.create_model(files[0].partition(".")[0], num_classes=classes)
        return network

    def load(self, network: nn.Module, path: Path) -> None:
        """Timm's own loader."""
        self._package.models.load_checkpoint(network, str(path), strict=True)


class Mmpretrain:
    """OpenMMLab's mmpretrain: Res2Net v1 and v1b.

    Args:
        models: the imported ``mmpretrain.models``.
        runner: the imported ``mmengine.runner``.
    """

    name = "mmpretrain"
    layout = "mm"

    def __init__(self, models: Any, runner: Any) -> None:
        self._models = models
        self._runner = runner
        self.version = str(importlib.import_module("mmpretrain").__version__)

    def build(self, variant: Variant, classes: int) -> nn.Module | None:
        """Mmpretrain's image classifier, configured as its own configuration files are."""
        architecture = variant.architecture
        if not isinstance(architecture, StagedArchitecture) or architecture.family not in ("res2net", "res2net_v1b"):
            return None
        deep = architecture.stem == "deep"
        backbone = {
            "type": "Res2Net",
            "depth": architecture.depth,
            "scales": architecture.scales,
            "base_width": architecture.base_width,
            "deep_stem": deep,
            "avg_down": deep,
        }
        head = {"type": "LinearClsHead", "num_classes": classes, "in_channels": 2048}
        network: nn.Module = self._models.build_classifier(
            {"type": "ImageClassifier", "backbone": backbone, "neck": {"type": "GlobalAveragePooling"}, "head": head}
        )
        return network

    def load(self, network: nn.Module, path: Path) -> None:
        """Mmengine's own loader."""
        self._runner.load_checkpoint(network, str(path), map_location="cpu", strict=True, logger="silent")


def _import(module: str, packages: str) -> Any:
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{package} cannot be asked: it is not installed",
            got=str(error),
            next_step=f"pip install {packages}",
        ) from error
    except Exception as error:
        # Packages that do not fit each other fail to import with errors of every kind.
        raise UsageError(
            f"{package} cannot be asked: it does not import here",
            got=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            next_step=f"make `python -c 'import {module}'` work first: its packages do not fit each other",
        ) from error
