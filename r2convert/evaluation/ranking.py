"""Which classes a network ranks first, and where it ranks the right one: the same answer on every device."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from r2convert.imagenet.labels import TOP


@dataclass(frozen=True, slots=True)
class Ranking:
    """The part of a batch of logits that every score is computed from.

    Equal logits are ranked by class index, the smaller one first, as ``argmax`` does. A row with a NaN in it ranks
    nothing: its classes are -1, its rank is the number of classes and its margins are NaN.

    Args:
        top: int16, shape (images, 5): the five classes ranked first.
        rank: int16, shape (images,): how many classes are ranked before the labelled one.
        margins: float32, shape (images, 2): first logit minus second; and how far the labelled class is from
            changing sides at the cut below the fifth: its logit minus the sixth (positive, if it is among the first
            five) or minus the fifth (negative, if not).
    """

    top: torch.Tensor
    rank: torch.Tensor
    margins: torch.Tensor


def rank_logits(logits: torch.Tensor, labels: torch.Tensor) -> Ranking:
    """Ranks the classes of each image.

    Args:
        logits: float, shape (images, classes), more than five classes.
        labels: int64, shape (images,): class indices.

    Returns:
        The ranking, on the device of the logits.
    """
    class_count = logits.shape[1]
    own = logits.gather(1, labels[:, None])
    before = torch.arange(class_count, device=logits.device)[None, :] < labels[:, None]
    rank = ((logits > own) | ((logits == own) & before)).sum(1)
    values, order = torch.sort(logits, dim=1, descending=True, stable=True)
    at_the_cut = torch.where(rank < TOP, values[:, TOP], values[:, TOP - 1])
    margins = torch.stack((values[:, 0] - values[:, 1], own[:, 0] - at_the_cut), 1)
    not_a_number = logits.isnan().any(1)
    return Ranking(
        top=order[:, :TOP].masked_fill(not_a_number[:, None], -1).to(torch.int16),
        rank=rank.masked_fill(not_a_number, class_count).to(torch.int16),
        margins=margins.masked_fill(not_a_number[:, None], float("nan")).to(torch.float32),
    )
