"""The faster JPEG decoder gives Pillow's pixels or steps back."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from r2convert.errors import UnreadableImageError
from r2convert.imagenet.preprocessing import Pixels, agrees_with_pillow, crop_image, decode_jpeg, fast_crop_function

Encode = Callable[..., bytes]


@settings(deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    progressive=st.booleans(),
    restart=st.sampled_from([0, 1, 7]),
    mode=st.sampled_from(["RGB", "L"]),
)
def test_pixels_are_those_of_pillow(
    width: int, height: int, quality: int, subsampling: str, progressive: bool, restart: int, mode: str
) -> None:
    noise = np.random.default_rng(width * 100 + height).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    options = {"subsampling": subsampling} if mode == "RGB" else {}
    Image.fromarray(noise).convert(mode).save(
        file, "JPEG", quality=quality, progressive=progressive, restart_marker_blocks=restart, **options
    )
    pixels = decode_jpeg(file.getvalue())
    assert pixels is not None
    assert np.array_equal(pixels, np.asarray(Image.open(file).convert("RGB")))


@pytest.mark.parametrize(("mode", "format"), [("CMYK", "JPEG"), ("RGB", "PNG"), ("RGB", "GIF")])
def test_other_pictures_are_left_to_pillow(encode_picture: Encode, mode: str, format: str) -> None:  # noqa: A002
    data = encode_picture(300, 260, mode=mode, format=format)
    assert decode_jpeg(data) is None
    assert np.array_equal(fast_crop_function()(data), crop_image(data))


@settings(deadline=None)
@given(position=st.integers(0, 5000), value=st.binary(min_size=1, max_size=3), cut=st.integers(0, 400))
def test_damaged_pictures_are_read_as_pillow_reads_them(
    encode_picture: Encode, position: int, value: bytes, cut: int
) -> None:
    data = bytearray(encode_picture(90, 70))
    position %= len(data)
    data[position : position + len(value)] = value
    damaged = bytes(data[: len(data) - max(0, cut - 200)])
    try:
        expected = crop_image(damaged)
    except UnreadableImageError:
        with pytest.raises(UnreadableImageError):
            fast_crop_function()(damaged)
    else:
        assert np.array_equal(fast_crop_function()(damaged), expected)


def test_a_decoder_with_other_pixels_is_found_out() -> None:
    def one_off(data: bytes) -> Pixels | None:
        pixels = decode_jpeg(data)
        return None if pixels is None else pixels ^ (np.arange(pixels.size).reshape(pixels.shape) == 7)

    assert agrees_with_pillow()
    assert not agrees_with_pillow(one_off)
    assert not agrees_with_pillow(lambda data: None)
