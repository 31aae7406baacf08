"""Holocron, answering. Runs in the peers' own interpreter: ``python -m tests.peers.holocron_peer``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tests.peers.serving import serve
from tests.peers.torch_peer import TorchPeer
from tests.peers.torchvision_operators import declare_missing_operators

OPTIONS: dict[str, dict[str, bool]] = {
    "res2net50_w26_s4": {},
    "res2net50_v1b_w26_s4": {"deep_stem": True, "avg_downsample": True},
    "res2net50_v1c_w26_s4": {"deep_stem": True},
}
PACKAGES = ("pylocron", "torch")


class HolocronPeer(TorchPeer):
    """Holocron's networks, as its training script saves them.

    Args:
        res2net50: Holocron's function, which is not in the environment that type-checks this file.
    """

    def __init__(self, res2net50: Any) -> None:
        self.res2net50 = res2net50

    def versions(self) -> dict[str, str]:
        """Package -> its installed version."""
        return {package: version(package) for package in PACKAGES}

    def build(self, variant: str) -> nn.Module:
        """Holocron's network with its options for stem and shortcut."""
        network: nn.Module = self.res2net50(num_classes=1000, **OPTIONS[variant])
        return network

    def save(self, network: nn.Module, container: str, path: Path) -> None:
        """The bare state dict, which is what Holocron publishes."""
        torch.save(network.state_dict(), path)

    def load(self, network: nn.Module, path: Path) -> None:
        """As Holocron loads its own files."""
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


def import_network() -> Any:
    """Holocron's function without the package's own imports, which download from hubs."""
    found = importlib.util.find_spec("holocron")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("pylocron is not installed in the peers' environment")
    for name in ("holocron", "holocron.models", "holocron.models.classification"):
        package = ModuleType(name)
        package.__path__ = [str(Path(found.origin).parent.parent.joinpath(*name.split(".")))]
        sys.modules[name] = package
    hub: Any = ModuleType("huggingface_hub")
    hub.DryRunFileInfo = hub.hf_hub_download = None
    sys.modules[hub.__name__] = hub
    return importlib.import_module("holocron.models.classification.res2net").res2net50_26w_4s


if __name__ == "__main__":
    declarations = declare_missing_operators()
    serve(HolocronPeer(import_network()))
