"""timm, answering. Runs in the peers' own interpreter: ``python -m tests.peers.timm_peer``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from tests.peers.serving import serve
from tests.peers.torch_peer import TorchPeer
from tests.peers.torchvision_operators import declare_missing_operators

NAMES = {
    "res2net50_w14_s8": "res2net50_14w_8s",
    "res2net50_w26_s4": "res2net50_26w_4s",
    "res2net50_w26_s6": "res2net50_26w_6s",
    "res2net50_w26_s8": "res2net50_26w_8s",
    "res2net50_w48_s2": "res2net50_48w_2s",
    "res2net101_w26_s4": "res2net101_26w_4s",
    "res2net50_v1b_w26_s4": "res2net50d",
    "res2net101_v1b_w26_s4": "res2net101d",
    "res2next50_w4_s4_c8": "res2next50",
    "res2net_dla60_w28_s4": "dla60_res2net",
    "res2next_dla60_w4_s4_c8": "dla60_res2next",
}


class TimmPeer(TorchPeer):
    """timm's networks, files and loader.

    Args:
        timm: the package, which is not in the environment that type-checks this file.
    """

    def __init__(self, timm: Any) -> None:
        self.timm = timm

    def versions(self) -> dict[str, str]:
        """Package -> its installed version."""
        return {"timm": self.timm.__version__, "torch": torch.__version__}

    def build(self, variant: str) -> nn.Module:
        """timm's network, by timm's name."""
        network: nn.Module = self.timm.create_model(NAMES[variant])
        return network

    def save(self, network: nn.Module, container: str, path: Path) -> None:
        """A plain state dict: as torch wrote it before 1.6 and since, and as timm publishes it today."""
        if container == "safetensors":
            save_file(network.state_dict(), path)
        else:
            torch.save(network.state_dict(), path, _use_new_zipfile_serialization=container == "zip")

    def load(self, network: nn.Module, path: Path) -> None:
        """timm's own loader."""
        self.timm.models.load_checkpoint(network, str(path), strict=True)

    def stages(self, variant: str, network: nn.Module) -> nn.Module:
        """timm's own extractor; its first output is the stem's, which is left out."""
        extractor: nn.Module = self.timm.create_model(NAMES[variant], features_only=True, out_indices=(1, 2, 3, 4))
        missing, _ = extractor.load_state_dict(network.state_dict(), strict=False)
        assert not missing
        return extractor


if __name__ == "__main__":
    declarations = declare_missing_operators()
    serve(TimmPeer(importlib.import_module("timm")))
