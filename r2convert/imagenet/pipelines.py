"""The ways from an encoded image to a crop, by name.

``pil``
    what torchvision's transforms do with Pillow: what all published Res2Net accuracies but one were measured with.
``opencv``
    what PaddleClas does with OpenCV, for the accuracies it publishes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from r2convert.imagenet.opencv_pipeline import opencv_crop_function
from r2convert.imagenet.pipeline import Crop, fast_crop_function

Pipeline = Literal["pil", "opencv"]

PIPELINES: tuple[Pipeline, ...] = get_args(Pipeline)


def crop_function(pipeline: Pipeline) -> Callable[[bytes], Crop]:
    """The fastest function on a processor that gives exactly the pipeline's crops.

    Raises:
        UsageError: a package that the pipeline needs is not installed.
    """
    return opencv_crop_function() if pipeline == "opencv" else fast_crop_function()
