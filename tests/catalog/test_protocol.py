"""How images are prepared, and what may be asked for instead."""

import pytest

from r2convert.catalog.protocol import Protocol, ProtocolOptions, resized_side
from r2convert.errors import UsageError


@pytest.mark.parametrize(
    ("options", "resize", "crop"),
    [
        (ProtocolOptions(), 256, 224),
        (ProtocolOptions(image_size=288), 329, 288),
        (ProtocolOptions(image_size=288, crop_pct=1.0), 288, 288),
        (ProtocolOptions(crop_pct=0.95), 235, 224),
        (ProtocolOptions(image_size=160, crop_pct=0.875), 182, 160),
    ],
)
def test_sizes_are_those_of_timm(options: ProtocolOptions, resize: int, crop: int) -> None:
    # timm 1.0.31, create_transform(crop, crop_pct=...).transforms[0].size; its own crop_pct is 224 / 256.
    used = options.applied_to(Protocol())
    assert (used.resize, used.crop) == (resize, crop)


def test_what_was_asked_for_replaces_what_the_weights_have() -> None:
    paddle = Protocol(pipeline="opencv", mean=(0.1, 0.2, 0.3))
    assert ProtocolOptions().applied_to(paddle) == paddle
    used = ProtocolOptions("pil", interpolation="bicubic", std=(1, 1, 1)).applied_to(paddle)
    assert used == Protocol(interpolation="bicubic", mean=(0.1, 0.2, 0.3), std=(1, 1, 1))


@pytest.mark.parametrize("share", [0, -1, 1.01, float("nan")])
def test_impossible_shares_are_refused(share: float) -> None:
    with pytest.raises(UsageError, match="share of the image"):
        resized_side(224, share)


@pytest.mark.parametrize("options", [{"std": (0, 1, 1)}, {"mean": (float("inf"), 0, 0)}, {"std": (1, -1, 1)}])
def test_impossible_normalisations_are_refused(options: dict[str, tuple[float, float, float]]) -> None:
    with pytest.raises(UsageError, match="normalised like this"):
        Protocol(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("resize", "crop"), [(200, 224), (224, 0), (5000, 224)])
def test_impossible_crops_are_refused(resize: int, crop: int) -> None:
    with pytest.raises(UsageError, match="cropped like this"):
        Protocol(resize, crop)
