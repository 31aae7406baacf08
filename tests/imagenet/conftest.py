"""Small real images and class folders."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EncodePicture = Callable[..., bytes]


@pytest.fixture(scope="session")
def encode_picture() -> EncodePicture:
    def encode(width: int = 300, height: int = 280, *, seed: int = 0, mode: str = "RGB", format: str = "JPEG") -> bytes:  # noqa: A002
        noise = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).resize((width, height)).convert(mode).save(file, format)
        return file.getvalue()

    return encode


@pytest.fixture
def write_picture(encode_picture: EncodePicture) -> Callable[..., Path]:
    def write(path: Path, **options: int | str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_picture(**options))
        return path

    return write


@pytest.fixture(scope="session")
def pictures(encode_picture: EncodePicture) -> dict[int, bytes]:
    """Encoded images for the first twelve of the validation set, by number."""
    return {number: encode_picture(60, 50, seed=number) for number in range(1, 13)}
