"""Images made ready from Python are the numbers that torchvision's transforms make of them."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from r2convert import preprocess
from r2convert.catalog.protocol import Protocol
from r2convert.errors import AccessError, UnknownVariantError, UnreadableImageError
from r2convert.evaluation.preprocessor import Preprocessor


def encoded(width: int, height: int, mode: str = "RGB", orientation: int | None = None) -> bytes:
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    file, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(noise).convert(mode).save(file, "JPEG", quality=90, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(("width", "height", "mode"), [(500, 375, "RGB"), (301, 477, "L"), (231, 300, "CMYK")])
def test_files_bytes_and_opened_images_are_what_torchvision_makes(
    tmp_path: Path, width: int, height: int, mode: str
) -> None:
    data = encoded(width, height, mode, orientation=6)
    path = tmp_path / "image.jpg"
    path.write_bytes(data)
    # torchvision's Resize(256), CenterCrop(224), ToTensor, Normalize, in so many words.
    short = min(width, height)
    image = (
        Image.open(path).convert("RGB").resize((256 * width // short, 256 * height // short), Image.Resampling.BILINEAR)
    )
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    pixels = torch.tensor(np.asarray(image.crop((left, top, left + 224, top + 224)))).permute(2, 0, 1)
    mean, std = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = pixels.to(torch.float32).div(255).sub(mean).div(std)
    ready = preprocess("Res2Net-50-14w-8s")
    for given in (path, str(path), data, Image.open(path)):
        found = ready(given)
        assert (found.dtype, found.is_contiguous()) == (torch.float32, True)
        assert torch.equal(found, expected)


def test_weights_that_were_measured_with_opencv_get_its_crops() -> None:
    ready = preprocess("res2net200_vd_w26_s4.ssld")
    assert ready.protocol.pipeline == "opencv"
    data = encoded(500, 375, orientation=6)
    file, opened = ready(data), ready(Image.open(io.BytesIO(data)))
    assert file.shape == (3, 224, 224)
    # Two builds of libjpeg may round otherwise; a picture that is not turned as EXIF says is another picture.
    assert (file - opened).abs().mean() < 0.02 < (file - opened.transpose(1, 2)).abs().mean()


def test_another_protocol_gives_another_size() -> None:
    ready = Preprocessor(Protocol(resize=120, crop=96, mean=(0, 0, 0), std=(1, 1, 1)))
    assert torch.equal(
        ready(Image.new("RGB", (200, 150), (255, 0, 51))), torch.tensor([1, 0, 0.2]).expand(96, 96, 3).permute(2, 0, 1)
    )


def test_workers_get_it_pickled() -> None:
    ready = preprocess("res2net50_w14_s8")
    data = encoded(300, 260)
    assert torch.equal(pickle.loads(pickle.dumps(ready))(data), ready(data))


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    ready = preprocess("res2net50_w14_s8")
    cut = encoded(400, 300)[:2000]
    (tmp_path / "cut.jpg").write_bytes(cut)
    with pytest.raises(AccessError, match=r"none\.jpg"):
        ready(tmp_path / "none.jpg")
    with pytest.raises(UnreadableImageError, match=r"cut\.jpg"):
        ready(tmp_path / "cut.jpg")
    for image in (cut, b"", Image.open(io.BytesIO(cut))):
        with pytest.raises(UnreadableImageError):
            ready(image)
    for pipeline in ("pil", "opencv"):
        with pytest.raises(UnreadableImageError, match="long and thin"):
            Preprocessor(Protocol(pipeline=pipeline))(Image.new("RGB", (1, 6000)))
    with pytest.raises(UnknownVariantError):
        preprocess("res2net51")
