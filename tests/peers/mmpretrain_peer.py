"""mmpretrain, answering. Runs in the peers' own interpreter: ``python -m tests.peers.mmpretrain_peer``."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.peers.serving import serve
from tests.peers.torch_peer import TorchPeer
from tests.peers.torchvision_operators import declare_missing_operators

# mmpretrain's own configuration files; v1b is the same backbone with its two options on.
CONFIGURATIONS = {
    "res2net50_w14_s8": "res2net50-w14-s8",
    "res2net50_w26_s4": "res2net50-w26-s4",
    "res2net50_w26_s6": "res2net50-w26-s6",
    "res2net50_w26_s8": "res2net50-w26-s8",
    "res2net50_w48_s2": "res2net50-w48-s2",
    "res2net101_w26_s4": "res2net101-w26-s4",
    "res2net50_v1b_w26_s4": "res2net50-w26-s4",
    "res2net101_v1b_w26_s4": "res2net101-w26-s4",
}
STRIDED_SHORTCUT = {"res2net50_v1c_w26_s4": "res2net50-w26-s4"}
"""With its deep stem alone, which timm has no network of."""

PACKAGES = ("mmpretrain", "mmengine", "mmcv-lite", "torch")


class MmpretrainPeer(TorchPeer):
    """mmpretrain's networks, with mmengine's files and loader.

    Args:
        mmpretrain: the package, which is not in the environment that type-checks this file.
        mmengine: its engine, likewise.
    """

    def __init__(self, mmpretrain: Any, mmengine: Any) -> None:
        self.mmpretrain = mmpretrain
        self.mmengine = mmengine

    def versions(self) -> dict[str, str]:
        """Package -> its installed version."""
        return {package: version(package) for package in PACKAGES}

    def build(self, variant: str) -> nn.Module:
        """mmpretrain's image classifier, from its own configuration file."""
        folder = Path(self.mmpretrain.__file__).parent / ".mim" / "configs" / "_base_" / "models"
        configuration = (CONFIGURATIONS | STRIDED_SHORTCUT)[variant]
        model = self.mmengine.Config.fromfile(folder / f"{configuration}.py").model
        v1b = "_v1b_" in variant
        model.backbone.update(deep_stem=v1b or variant in STRIDED_SHORTCUT, avg_down=v1b)
        network: nn.Module = self.mmpretrain.models.build_classifier(model)
        return network

    def save(self, network: nn.Module, container: str, path: Path) -> None:
        """A state dict with its meta record, as mmengine's runner saves it; or as torch wrote it before 1.6."""
        checkpoint = {
            "meta": {"epoch": 100, "dataset_meta": {"classes": ["tench"]}},
            "state_dict": network.state_dict(),
        }
        if container == "legacy":
            torch.save(checkpoint, path, _use_new_zipfile_serialization=False)
        else:
            self.mmengine.runner.save_checkpoint(checkpoint, str(path))

    def load(self, network: nn.Module, path: Path) -> None:
        """mmengine's own loader."""
        self.mmengine.runner.load_checkpoint(network, str(path), map_location="cpu", strict=True)

    def stages(self, variant: str, network: nn.Module) -> nn.Module:
        """Its backbone, told to give out every stage."""
        backbone = network.get_submodule("backbone")
        vars(backbone)["out_indices"] = (0, 1, 2, 3)
        return backbone


if __name__ == "__main__":
    declarations = declare_missing_operators()
    mmengine = importlib.import_module("mmengine")
    importlib.import_module("mmengine.runner")
    importlib.import_module("mmpretrain.models")
    serve(MmpretrainPeer(importlib.import_module("mmpretrain"), mmengine))
