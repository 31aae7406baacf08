"""mmdetection's backbone, answering. Runs in the peers' own interpreter: ``python -m tests.peers.mmdet_peer``."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from tests.peers.serving import serve
from tests.peers.torch_peer import TorchPeer
from tests.peers.torchvision_operators import declare_missing_operators

DEPTHS = {"res2net50_mmdet_w26_s4": 50, "res2net101_mmdet_w26_s4": 101}
PACKAGES = ("mmdet", "mmengine", "mmcv-lite", "torch")


class Features(nn.Module):
    """A backbone's last feature map, averaged: what a classifier would see.

    Args:
        backbone: returns a tuple of feature maps.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> features (N, 2048)."""
        features: Tensor = self.backbone(x)[-1].mean(dim=(2, 3))
        return features


class MmdetPeer(TorchPeer):
    """mmdetection's Res2Net, with mmengine's loader.

    Args:
        res2net: the class, which is not in the environment that type-checks this file.
        runner: ``mmengine.runner``, likewise.
    """

    def __init__(self, res2net: Any, runner: Any) -> None:
        self.res2net = res2net
        self.runner = runner

    def versions(self) -> dict[str, str]:
        """Package -> its installed version."""
        return {package: version(package) for package in PACKAGES}

    def build(self, variant: str) -> nn.Module:
        """The backbone as detectors configure it."""
        return Features(self.res2net(depth=DEPTHS[variant], scales=4, base_width=26))

    def save(self, network: nn.Module, container: str, path: Path) -> None:
        """A backbone's state dict with the meta record that mmdetection writes."""
        assert isinstance(network, Features)
        torch.save({"meta": {"mmdet_version": "3.3.0"}, "state_dict": network.backbone.state_dict()}, path)

    def load(self, network: nn.Module, path: Path) -> None:
        """mmengine's own loader, strictly."""
        assert isinstance(network, Features)
        self.runner.load_checkpoint(network.backbone, str(path), map_location="cpu", strict=True)


def import_backbone() -> Any:
    """mmdetection's class without the package's own imports, which need operators that only a full mmcv has."""
    spec = find_spec("mmdet")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    for name in ("mmdet", "mmdet.models", "mmdet.models.backbones", "mmdet.models.layers", "mmdet.utils"):
        module: Any = ModuleType(name)
        module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = module
    types, utils = importlib.import_module("mmdet.utils.typing_utils"), sys.modules["mmdet.utils"]
    for name in ("ConfigType", "OptConfigType", "OptMultiConfig"):
        setattr(utils, name, getattr(types, name))
    layers: Any = sys.modules["mmdet.models.layers"]
    layers.ResLayer = importlib.import_module("mmdet.models.layers.res_layer").ResLayer
    return importlib.import_module("mmdet.models.backbones.res2net").Res2Net


if __name__ == "__main__":
    declarations = declare_missing_operators()
    serve(MmdetPeer(import_backbone(), importlib.import_module("mmengine.runner")))
