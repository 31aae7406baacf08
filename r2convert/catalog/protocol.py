"""How images are prepared and networks run when the accuracy of weights is measured.

An accuracy means nothing without its protocol: another crop or filter costs tenths of a point, and so
does OpenCV instead of Pillow.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar, get_args

from msgspec import Struct

from r2convert.errors import UsageError

Pipeline = Literal["pil", "opencv"]
Interpolation = Literal["bilinear", "bicubic"]
Precision = Literal["strict", "fast", "fp32", "tf32", "bf16", "fp16"]
ComputePrecision = Literal["strict", "fp32", "tf32", "bf16", "fp16"]
Acceleration = Literal["channels-last", "fold-bn", "compile"]

PIPELINES: tuple[Pipeline, ...] = get_args(Pipeline)
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ACCELERATIONS: tuple[Acceleration, ...] = get_args(Acceleration)
"""What each of these does to a network is documented in :mod:`r2convert.evaluation.precision`."""

Choice = TypeVar("Choice", bound=str)

MEAN = (0.485, 0.456, 0.406)
STANDARD_DEVIATION = (0.229, 0.224, 0.225)

_LARGEST_SIDE = 4096


class Protocol(Struct, frozen=True):
    """How images were prepared: the short side resized, the centre cropped, the pixels normalised.

    The defaults are what all published Res2Net accuracies but PaddleClas' were measured with: torchvision's
    `Resize(256)`, `CenterCrop(224)`, `ToTensor`, `Normalize`.

    Args:
        resize: pixels of the short side after resizing
        crop: pixels of the square that was cut from the centre
        interpolation: the resize filter
        pipeline: `pil`: antialiased, as Pillow, torchvision and timm resize; `opencv`: as PaddleClas does
        mean: of red, green and blue, for pixels from 0 to 1
        std: their standard deviations
    """

    resize: int = 256
    crop: int = 224
    interpolation: Interpolation = "bilinear"
    pipeline: Pipeline = "pil"
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STANDARD_DEVIATION

    def __post_init__(self) -> None:
        """Refuse a protocol that no image can be prepared with.

        Raises:
            UsageError: no image can be prepared like this.
        """
        if not 1 <= self.crop <= self.resize <= _LARGEST_SIDE:
            raise UsageError(
                "images cannot be cropped like this",
                expected=f"a crop of 1 pixel or more, no larger than the resized image, of at most {_LARGEST_SIDE}",
                got=f"a crop of {self.crop} from a short side of {self.resize} pixels",
            )
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise UsageError(
                "pixels cannot be normalised like this",
                expected="finite means and standard deviations above 0 for red, green and blue",
                got=f"mean {self.mean}, standard deviation {self.std}",
            )

    def __str__(self) -> str:
        return f"resize {self.resize} {self.interpolation} ({self.pipeline}), crop {self.crop}"


class ProtocolOptions(Struct, frozen=True):
    """What overrides the protocol of the weights; ``None`` where nothing does.

    Args:
        pipeline: see :class:`Protocol`.
        image_size: side of the crop in pixels.
        crop_pct: the crop's share of the resized short side, as timm's ``crop_pct``; with or without an image size, it
            determines that side. Without it the protocol's own share is kept.
        interpolation: see :class:`Protocol`.
        mean: see :class:`Protocol`.
        std: see :class:`Protocol`.

    Raises:
        UsageError: there is no such pipeline or filter, or no image can be prepared like this.
    """

    pipeline: Pipeline | None = None
    image_size: int | None = None
    crop_pct: float | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.pipeline is not None:
            one_of(PIPELINES, self.pipeline, "pipeline")
        if self.interpolation is not None:
            one_of(INTERPOLATIONS, self.interpolation, "interpolation")
        self.applied_to(Protocol())

    def applied_to(self, protocol: Protocol) -> Protocol:
        """The protocol of some weights with these options applied.

        Raises:
            UsageError: no image can be prepared like this.
        """
        crop = protocol.crop if self.image_size is None else self.image_size
        kept = crop * protocol.resize // protocol.crop
        resize = kept if self.crop_pct is None else resized_side(crop, self.crop_pct)
        return Protocol(
            resize=resize,
            crop=crop,
            interpolation=self.interpolation or protocol.interpolation,
            pipeline=self.pipeline or protocol.pipeline,
            mean=self.mean or protocol.mean,
            std=self.std or protocol.std,
        )


def resized_side(crop: int, crop_share: float) -> int:
    """Short side of the resized image for timm's ``crop_pct``: the crop divided by it, rounded down.

    Raises:
        UsageError: the share is not above 0 and at most 1.
    """
    if not 0 < crop_share <= 1:
        raise UsageError(
            "a crop cannot be this share of the image", expected="above 0 and at most 1", got=f"{crop_share:g}"
        )
    return math.floor(crop / crop_share)


def one_of(choices: tuple[Choice, ...], value: str, what: str) -> Choice:
    """Check that a value is one of the choices: callers need not be type-checked.

    Raises:
        UsageError: it is none of them.
    """
    for choice in choices:
        if choice == value:
            return choice
    raise UsageError(f"there is no {what} {value!r}", expected=" or ".join(choices))
