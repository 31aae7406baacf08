"""PaddleClas and PaddleDetection, answering. Runs in its own interpreter: ``python -m tests.peers.paddle_peer``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tarfile
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np

from tests.peers.serving import serve

ZOO = "paddleclas.ppcls.arch.backbone.model_zoo"
NETWORKS = {
    "res2net200_vd_w26_s4": ("res2net_vd", "Res2Net200_vd_26w_4s"),
    "res2net50_vd_w26_s4": ("res2net_vd", "Res2Net50_vd_26w_4s"),
    "res2net50_paddle_w26_s4": ("res2net", "Res2Net50_26w_4s"),
    "res2net50_paddle_w14_s8": ("res2net", "Res2Net50_14w_8s"),
}
BACKBONES = {"res2net50_paddledet_w26_s4": "d", "backbone of res2net50_paddle_w26_s4": "b"}
"""PaddleDetection's `variant` of each network."""

PACKAGES = ("paddlepaddle", "paddleclas", "paddledet")


class PaddlePeer:
    """Paddle's own network and files; see :class:`tests.peers.serving.Peer` for what its methods promise.

    Args:
        paddle: the package, which is not in the environment that type-checks this file.
        networks: what makes each network: PaddleClas' class, or PaddleDetection's with its options.
    """

    def __init__(self, paddle: Any, networks: Mapping[str, Any]) -> None:
        self.paddle = paddle
        self.networks = networks

    def versions(self) -> dict[str, str]:
        """Package -> its installed version."""
        return {package: version(package) for package in PACKAGES}

    def make(self, variant: str, files: Mapping[str, str], images: str, logits: str) -> None:
        """Draw a network, save it as ``.pdparams`` and as Paddle 1.x did, and write its logits."""
        self.paddle.seed(0)
        network = self._build(variant)
        self._settle_batch_norms(network)
        savers = {"pdparams": self._save_pdparams, "static": self._save_variables}
        for container, path in files.items():
            savers[container](network, Path(path))
        self._write_logits(network, images, logits)

    def read(self, variant: str, path: str, images: str, logits: str) -> None:
        """Load a ``.pdparams`` strictly and write its logits."""
        network = self._build(variant)
        missing, unexpected = network.set_state_dict(self.paddle.load(path))
        if missing or unexpected:
            raise ValueError(f"missing {missing}, unexpected {unexpected}")
        self._write_logits(network, images, logits)

    def _build(self, variant: str) -> Any:
        # Paddle names parameters once a process; the guard forgets the names of the network before.
        with self.paddle.utils.unique_name.guard():
            return self.networks[variant]()

    def _settle_batch_norms(self, network: Any) -> None:
        """As :func:`tests.peers.torch_peer.settle_batch_norms`."""
        for layer in network.sublayers():
            if isinstance(layer, self.paddle.nn.BatchNorm | self.paddle.nn.BatchNorm2D):
                layer.weight.set_value(1 + 0.1 * self.paddle.randn(layer.weight.shape))
                layer.bias.set_value(0.1 * self.paddle.randn(layer.bias.shape))
                layer._momentum = 0.0  # keeps nothing of the statistics before the pass
        network.train()
        with self.paddle.no_grad():
            network(self.paddle.randn([4, 3, 128, 128]))

    def _save_pdparams(self, network: Any, path: Path) -> None:
        self.paddle.save(network.state_dict(), str(path))

    def _save_variables(self, network: Any, path: Path) -> None:
        """One LoDTensor file a variable, under the name PaddleClas gives the variable, in a tar archive."""
        with TemporaryDirectory() as folder, tarfile.open(path, "w") as archive:
            for tensor in network.state_dict().values():
                file = Path(folder, tensor.name)
                self.paddle.save(tensor, str(file), use_binary_format=True)
                archive.add(file, f"{path.stem}/{tensor.name}")

    def _write_logits(self, network: Any, images: str, logits: str) -> None:
        network.to(dtype="float64")
        network.eval()
        with np.load(images) as batches, self.paddle.no_grad():
            computed = {size: network(self.paddle.to_tensor(batches[size])).numpy() for size in batches.files}
        np.savez(logits, allow_pickle=False, **computed)


def import_networks() -> dict[str, Any]:
    """PaddleClas' classes of the networks, without the rest of PaddleClas.

    The packages above the modules import everything that PaddleClas can do, training to serving, with
    dependencies that fit neither today's Python nor each other. Empty packages in their place give the modules
    the few siblings that they import themselves.
    """
    empty_packages(ZOO, "paddleclas.ppcls.utils")
    return {
        variant: getattr(importlib.import_module(f"{ZOO}.{module}"), name)
        for variant, (module, name) in NETWORKS.items()
    }


def import_backbones() -> dict[str, Any]:
    """PaddleDetection's class with the options of each network, without the rest of PaddleDetection.

    It takes a dictionary and gives four feature maps; what is compared is the last one, averaged.
    """
    empty_packages("ppdet.core", "ppdet.modeling.backbones")
    workspace: Any = ModuleType("ppdet.core.workspace")
    workspace.register = workspace.serializable = lambda made: made
    sys.modules[workspace.__name__] = workspace
    res2net: Any = importlib.import_module("ppdet.modeling.backbones.res2net").Res2Net

    class Features(res2net):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return super().forward({"image": x})[-1].mean(axis=[2, 3])

    return {
        name: partial(Features, depth=50, variant=variant, freeze_norm=False) for name, variant in BACKBONES.items()
    }


def empty_packages(*modules: str) -> None:
    """Put empty packages in the place of those above a module, so that nothing of theirs is imported."""
    for module in modules:
        parents = module.split(".")
        found = (
            importlib.util.find_spec(parents[0]) if parents[0] not in sys.modules else sys.modules[parents[0]].__spec__
        )
        if found is None or found.origin is None:
            raise ModuleNotFoundError(f"{parents[0]} is not installed in the environment of PaddlePaddle")
        installed = Path(found.origin).parent.parent
        for depth in range(1, len(parents) + 1):
            package = ModuleType(".".join(parents[:depth]))
            package.__path__ = [str(installed.joinpath(*parents[:depth]))]
            package.__spec__ = found if depth == 1 else None
            sys.modules.setdefault(package.__name__, package)


if __name__ == "__main__":
    serve(PaddlePeer(importlib.import_module("paddle"), import_networks() | import_backbones()))
