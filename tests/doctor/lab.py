"""A laboratory: quick networks that are right by construction, and pictures that tell the usual mistakes apart.

A network has random weights, BatchNorms that remember the pictures, and a classifier made of what the network computes
for each picture, its own class's mean. So it is right on every picture as long as everything is done as when it was
made. The pictures come in pairs that differ from almost nothing to a lot: the further off a way of measuring is, the
more of them are confused, and every mistake has a score of its own.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from r2convert.catalog import load_catalog
from r2convert.catalog.variant import Variant
from r2convert.imagenet.labels import synsets
from r2convert.mapping.tables import Tables
from r2convert.models.blocks import Classifier
from r2convert.models.build import build_network

DLA = """
id = "lab_dla"
name = "Lab-DLA"
aliases = []
table = "res2net_dla"
[architecture]
family = "res2net_dla"
levels = [1, 1, 1, 1, 1, 1]
channels = [4, 8, 16, 32, 64, 256]
base_width = 28
scales = 4
cardinality = 1
expansion = 2
"""

STAGED = """
id = "lab_v1b"
name = "Lab-v1b"
aliases = []
table = "res2net_v1b"
[architecture]
family = "res2net_v1b"
depth = 14
stage_blocks = [1, 1, 1, 1]
base_width = 4
scales = 3
cardinality = 1
stem = "deep"
shortcut = "pooled"
first_block = "stage"
pool_counts_padding = true
"""

MEAN = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
DEVIATION = torch.tensor((0.229, 0.224, 0.225))[:, None, None]

ToInput = Callable[[Image.Image], Tensor]
"""A picture to a network's input, float32 (3, 224, 224)."""


def lab_tables(folder: Path) -> Tables:
    """The catalogue with the laboratory's two networks."""
    folder.mkdir(exist_ok=True)
    for name, text in (("lab_dla", DLA), ("lab_v1b", STAGED)):
        (folder / f"{name}.toml").write_text(text)
    return Tables(load_catalog({"R2CONVERT_MAPPINGS": str(folder)}))


@dataclass(frozen=True)
class LabSet:
    """Encoded pictures.

    Args:
        pictures: JPEG files.
        classes: what a network made for them answers to each.
        labels: what is said of each; a few are wrong, as in any data set.
    """

    pictures: tuple[bytes, ...]
    classes: tuple[int, ...]
    labels: tuple[int, ...]

    def opened(self) -> list[Image.Image]:
        return [Image.open(io.BytesIO(each)).convert("RGB") for each in self.pictures]

    def write(self, folder: Path, relabel: Callable[[int], int] = lambda label: label) -> Path:
        """As class folders; ``relabel`` puts every class into the folder of another one."""
        for number, (picture, label) in enumerate(zip(self.pictures, self.labels, strict=True)):
            place = folder / synsets()[relabel(label)]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number:04d}.JPEG").write_bytes(picture)
        return folder


def draw_pairs(pairs: int, *, seed: int = 0) -> LabSet:
    """Pairs of pictures; the second is the first with a share of another one, from a two hundredth to nearly all."""
    generator = np.random.default_rng(seed)
    classes = tuple(map(int, generator.permutation(998)[: 2 * pairs] + 1))
    pictures = []
    for share in np.geomspace(0.005, 0.9, pairs):
        first, other = _draw(generator), _draw(generator)
        for picture in (first, (1 - share) * first + share * other):
            file = io.BytesIO()
            Image.fromarray(picture.round().astype(np.uint8)).save(file, "JPEG", quality=97, subsampling=0)
            pictures.append(file.getvalue())
    return LabSet(tuple(pictures), classes, classes)


def _draw(generator: np.random.Generator) -> np.ndarray:
    """Colour that changes slowly, squares of fine texture, and a tint of the whole."""
    width, height = 440, 360
    coarse = Image.fromarray(generator.integers(0, 256, (5, 6, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    picture = np.asarray(coarse, np.float64) * generator.uniform(0.4, 1.0, 3)
    for _ in range(4):
        side = int(generator.integers(60, 160))
        top, left = int(generator.integers(0, height - side)), int(generator.integers(0, width - side))
        cells = Image.fromarray(generator.integers(0, 256, (side // 5, side // 5, 3), np.uint8))
        picture[top : top + side, left : left + side] = np.asarray(cells.resize((side, side), Image.Resampling.NEAREST))
    return picture


def published_input(picture: Image.Image) -> Tensor:
    """As torchvision's transforms on Pillow images do it, written down once more."""
    return (published_pixels(picture) / 255 - MEAN) / DEVIATION


def published_pixels(picture: Image.Image) -> Tensor:
    """float32 (3, 224, 224), 0 to 255."""
    width, height = picture.size
    size = (256, int(256 * height / width)) if width <= height else (int(256 * width / height), 256)
    return centre(picture.resize(size, Image.Resampling.BILINEAR))


def centre(picture: Image.Image) -> Tensor:
    """The central 224x224 as float32 (3, 224, 224)."""
    left, top = round((picture.width - 224) / 2), round((picture.height - 224) / 2)
    pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float()


def trained(variant: Variant, lab_set: LabSet, to_input: ToInput = published_input, *, seed: int = 0) -> Classifier:
    """A network that is right on every picture of the set if it is shown them like that."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        network = build_network(variant)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, module.weight[0].numel() ** -0.5)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.3)
                module.momentum = None  # the mean over all passes, of which there is one
        fit(network, lab_set, to_input)
    return network


def fit(network: Classifier, lab_set: LabSet, to_input: ToInput = published_input) -> None:
    """Have BatchNorms remember the pictures, and make the classifier of what the network computes for each."""
    inputs = torch.stack([to_input(picture) for picture in lab_set.opened()])
    network.backbone.train()(inputs)
    network.eval()
    features = torch.cat([network.backbone(part).mean((2, 3)) for part in batches(inputs)])
    # The nearest picture's class: of -|f - m|^2 / 2 the part that differs between classes, f m - |m|^2 / 2.
    scaled = features / features.var(0).clamp_min(1e-6)
    bias = -(features * scaled).sum(1) / 2
    network.head.fc.weight.data.normal_(0, 1e-3)
    network.head.fc.bias.data.fill_(float(bias.min()) - 1e4)
    network.head.fc.weight.data[list(lab_set.classes)] = scaled
    network.head.fc.bias.data[list(lab_set.classes)] = bias


def add_rivals(network: Classifier, lab_set: LabSet, places: range) -> None:
    """Give some pictures a second class, behind their own by less and less: what rounding less exactly decides."""
    generator = torch.Generator().manual_seed(0)
    unused = sorted(set(range(1, 999)) - set(lab_set.classes) - set(lab_set.labels))
    inputs = torch.stack([published_input(picture) for picture in lab_set.opened()])[places.start : places.stop]
    features = torch.cat([network.backbone(part).mean((2, 3)) for part in batches(inputs)])
    head = network.head.fc
    for feature, place, gap in zip(features, places, torch.logspace(-4.5, -0.5, len(places)), strict=True):
        own = lab_set.classes[place]
        other = head.weight[own] * 0.2 * torch.randn(len(feature), generator=generator)
        lead = float(gap) * float((feature * head.weight[own]).abs().sum()) * 0.1
        # One on either side, so that an error turns to one of them whichever way it goes.
        for weight in (head.weight[own] + other, head.weight[own] - other):
            rival = unused.pop(0)
            head.weight.data[rival] = weight
            head.bias.data[rival] = head.bias[own] + feature @ (head.weight[own] - weight) - lead


def batches(inputs: Tensor) -> tuple[Tensor, ...]:
    return inputs.tensor_split(max(1, len(inputs) // 8))


def save(network: Classifier, path: Path) -> Path:
    """A file of the mm layout."""
    torch.save(network.state_dict(), path)
    return path


def top_five(network: Classifier, lab_set: LabSet, to_input: ToInput = published_input) -> Tensor:
    """The five classes ranked first, (pictures, 5), computed without anything of the doctor's."""
    inputs = torch.stack([to_input(picture) for picture in lab_set.opened()])
    with torch.no_grad():
        return torch.cat(
            [network(part).sort(dim=1, descending=True, stable=True).indices[:, :5] for part in batches(inputs)]
        )
