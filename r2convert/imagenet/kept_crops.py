"""Keeps the crops of a set on the device, so that an image that is shown again is not decoded again."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

import torch

from r2convert.imagenet.crop_source import CropSource, DeviceBatch, known_batch
from r2convert.imagenet.loading import LoadedImage
from r2convert.imagenet.pipeline import CROP_SIDE
from r2convert.imagenet.uploads import on_device
from r2convert.imagenet.validation_set import ValidationImage


class KeptCrops:
    """Keeps all crops on the device if they fit, so that no image is decoded twice.

    Args:
        source: where crops come from the first time.
        device: where they are kept.
        images: the whole set.
        most_bytes: memory they may take; by default half of what is free.
    """

    def __init__(
        self, source: CropSource, device: torch.device, images: Sequence[ValidationImage], most_bytes: int | None = None
    ) -> None:
        self._source = source
        self._rows = {image: row for row, image in enumerate(images)}
        self._outcomes: dict[ValidationImage, tuple[Callable[[], tuple[LoadedImage, ...]], int]] = {}
        self._crops: torch.Tensor | None = None
        room = free_memory(device) // 2 if most_bytes is None else most_bytes
        if len(images) * CROP_SIDE * CROP_SIDE * 3 <= room:
            shape = len(images), CROP_SIDE, CROP_SIDE, 3
            self._crops = torch.empty(shape, dtype=torch.uint8, device=device)

    def batches(self, images: Sequence[ValidationImage], batch_size: int) -> Generator[DeviceBatch, None, None]:
        """See :class:`CropSource`."""
        if self._crops is not None and all(image in self._outcomes for image in images):
            yield from self._known_batches(images, batch_size)
            return
        with closing(self._source.batches(images, batch_size)) as batches:
            for batch in batches:
                self._keep(batch)
                yield batch

    def _keep(self, batch: DeviceBatch) -> None:
        if self._crops is None:
            return
        rows = on_device(torch.tensor([self._rows[image] for image in batch.images]), self._crops.device)
        self._crops.index_copy_(0, rows, batch.crops[: len(rows)])
        for place, image in enumerate(batch.images):
            self._outcomes[image] = batch.outcome, place

    def _known_batches(self, images: Sequence[ValidationImage], batch_size: int) -> Iterator[DeviceBatch]:
        assert self._crops is not None  # noqa: S101 - asked for only with crops
        for start in range(0, len(images), batch_size):
            some = images[start : start + batch_size]
            rows = on_device(torch.tensor([self._rows[image] for image in some]), self._crops.device)
            outcomes = (self._outcomes[image] for image in some)
            found = tuple(outcome()[place] for outcome, place in outcomes)
            yield known_batch(found, self._crops.index_select(0, rows))


def free_memory(device: torch.device) -> int:
    """Bytes that are free where a device keeps its tensors; 0 where nothing tells."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    if device.type == "cpu" and "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0
