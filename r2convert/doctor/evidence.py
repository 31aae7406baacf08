"""What can be seen in the file and in the images, whatever the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from r2convert.checks.wiring import FEWEST, check_wiring
from r2convert.doctor.answers import Network
from r2convert.doctor.feeds import feed_pixels
from r2convert.doctor.finding import Finding
from r2convert.doctor.network_changes import changed_network
from r2convert.doctor.setting import Setting
from r2convert.doctor.untouched import untouched_layers
from r2convert.evaluation.backends import computing_in
from r2convert.imagenet.preprocessing import Crop

_SHOWN = 6
_MANY_LOST = 0.01
"""Share of images from which on their loss is a cause of its own."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen.

    Args:
        untouched: layers whose values are still those they started with.
        suspects: BatchNorms at which arrives what they do not remember.
        suspects_left: those that are left with the best remedy in place (all of them, where there is none).
        lost: names of images that are missing or cannot be read.
        images: images of the sample, those included.
        bad_values: what no training gives: NaN, negative variances, layers of zeros.
    """

    untouched: tuple[str, ...]
    suspects: tuple[str, ...]
    suspects_left: tuple[str, ...]
    lost: tuple[str, ...]
    images: int
    bad_values: tuple[str, ...] = ()

    @property
    def is_certain(self) -> bool:
        """Whether the file is wrong whatever its score."""
        return bool(self.untouched or self.bad_values)

    def findings(self, *, blamed: bool, mended: bool) -> list[Finding]:
        """What was seen, as findings, the most certain one first.

        Args:
            blamed: whether there is a low score to be blamed on suspects, or at least none that clears them.
            mended: whether a remedy leaves nothing to explain.
        """
        found = []
        if self.bad_values:
            found.append(
                Finding(
                    "bad-values",
                    "values that no training gives",
                    "get the file again from its source: it was damaged before it was saved",
                    "file",
                    explains=True,
                    evidence=self.bad_values,
                )
            )
        if self.untouched:
            found.append(
                Finding(
                    "untouched-layers",
                    "layers that were never loaded",
                    "these layers are as they were before any training: convert the file again from its source "
                    "(`r2convert map` takes every tensor or none)",
                    "file",
                    explains=True,
                    evidence=(f"{len(self.untouched)} layers still at their start: {_names(self.untouched)}",),
                )
            )
        if self.suspects_left:
            found.append(
                Finding(
                    "wiring",
                    "tensors swapped, or from another network",
                    "compare these layers with the file's source (`r2convert compare A B` names what differs)",
                    "file",
                    explains=blamed and not mended,
                    evidence=self.sentences(),
                )
            )
        if len(self.lost) > _MANY_LOST * self.images:
            found.append(
                Finding(
                    "lost-images",
                    "images missing or unreadable",
                    "unpack or download the images again: those that are lost count as wrong",
                    "images",
                    explains=blamed and not mended,
                    evidence=(f"{len(self.lost)} of {self.images} images lost: {_names(self.lost)}",),
                )
            )
        return found

    def sentences(self) -> tuple[str, ...]:
        """What the wiring check says."""
        if not self.suspects_left:
            return ()
        return (f"what arrives is not what these BatchNorms remember, in network order: {_names(self.suspects_left)}",)


def gather_evidence(
    network: Network,
    crops: Crop,
    sound: Setting,
    remedy: Setting | None,
    lost: Sequence[str],
    images: int,
    bad_values: tuple[str, ...] = (),
) -> Evidence:
    """Look at the file's values, and show its network a few images.

    Args:
        network: the network.
        crops: images as the sound setting crops them; with fewer than 16 the wiring check says nothing.
        sound: how the published number was measured.
        remedy: the setting that raises the score most, if one does.
        lost: names of images that are missing or cannot be read.
        images: images of the sample, those included.
        bad_values: what is wrong with the file's values.
    """
    untouched = tuple(name.removeprefix("backbone.") for name in untouched_layers(network.network))
    suspects = _suspects(network, crops, sound)
    left = suspects if remedy is None or not suspects else _suspects(network, crops, remedy)
    return Evidence(untouched, suspects, left, tuple(lost), images, bad_values)


def _suspects(network: Network, crops: Crop, setting: Setting) -> tuple[str, ...]:
    if len(crops) < FEWEST:
        return ()
    pixels = torch.from_numpy(crops).tensor_split(max(1, len(crops) // 32))
    batches = (feed_pixels(part.to(network.device), setting.feed) for part in pixels)
    # Batch statistics are what the check goes by in any case.
    change = "none" if setting.network == "batch statistics" else setting.network
    with computing_in("strict", network.device), changed_network(network.network, change):
        layers = check_wiring(network.network, batches)
    return tuple(layer.name.removeprefix("backbone.") for layer in layers if layer.suspect)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
