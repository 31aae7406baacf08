"""How a network is shown images and judged: the four things of which a cause changes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from r2convert.doctor.label_orders import LabelOrder

CropKind = Literal["pillow", "opencv", "not antialiased", "bicubic", "nearest", "squashed", "no margin"]
Feed = Literal[
    "published", "bgr", "0 to 1", "0 to 255", "not divided", "divided twice", "-1 to 1", "caffe"
]  # fmt: skip
NetworkChange = Literal[
    "none", "pool padding", "first block", "first pool", "stem pool", "shortcut pool", "batch statistics",
    "random stem", "tf32", "bf16",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setting:
    """One way of measuring an accuracy.

    Args:
        crop: how a picture becomes 224x224 pixels, see :mod:`r2convert.doctor.crops`.
        feed: how pixels become the network's input, see :mod:`r2convert.doctor.feeds`.
        network: what is changed in the network, see :mod:`r2convert.doctor.network_changes`.
        labels: in which order the classes are counted, see :mod:`r2convert.doctor.label_orders`.
    """

    crop: CropKind = "pillow"
    feed: Feed = "published"
    network: NetworkChange = "none"
    labels: LabelOrder = "as given"

    @property
    def shown(self) -> Shown:
        """The part that decides the network's answers; labels only decide which of them are right."""
        return self.crop, self.feed, self.network


Shown = tuple[CropKind, Feed, NetworkChange]
