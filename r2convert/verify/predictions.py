"""What a network answered to each image, and the scores that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from r2convert.verify.ranking import TOP


@dataclass(frozen=True, slots=True)
class Predictions:
    """One network's answers to a sequence of images; arrays are in the order of the images.

    An image without a crop was not shown to the network: its classes are -1, its rank is the number of classes.

    Args:
        top: int16, shape (images, 5): the classes ranked first, best first.
        rank: int16, shape (images,): how many classes were ranked before the labelled one.
        margins: float32, shape (images, 2): first logit minus second, fifth minus sixth; NaN where there are none.
    """

    top: npt.NDArray[np.int16]
    rank: npt.NDArray[np.int16]
    margins: npt.NDArray[np.float32]

    @property
    def top1_correct(self) -> int:
        """Images whose labelled class is ranked first."""
        return int(np.count_nonzero(self.rank < 1))

    @property
    def top5_correct(self) -> int:
        """Images whose labelled class is among the first five."""
        return int(np.count_nonzero(self.rank < TOP))


def no_predictions(image_count: int, class_count: int) -> Predictions:
    """Arrays to be filled: nothing has been answered yet."""
    return Predictions(
        top=np.full((image_count, TOP), -1, np.int16),
        rank=np.full(image_count, class_count, np.int16),
        margins=np.full((image_count, 2), np.nan, np.float32),
    )
