"""How often the wiring check raises a false alarm, and what it finds: measured on a network trained here.

A narrow Res2Net is trained for a few minutes to tell from which photograph a patch was cut, its learning rate falling
to 0, on three quarters of the photographs of a folder. Then it is shown folders it ought to be sound on (patches of
the same and of other photographs, brighter and darker, paler, grey, few), and errors are planted in it. All of this is
done twice: thresholds are set on one network, and false alarms are counted on another, which was trained on other
photographs.

Then one network of every program is trained, and shown the same folders beside those of the other programs with the
same names: where between the two do its own statistics lie?

    python scripts/wiring_false_alarms.py PHOTOGRAPHS ILLUSTRATIONS --save tests/data/wiring.json

What every BatchNorm showed is saved, so that thresholds are judged by the tests without any training. The recorded
file was made with the 37 photographs and 15 illustrations of Debian 12's mate-backgrounds, lomiri-wallpapers,
ukui-wallpapers and plasma-workspace-wallpapers.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor, nn

from r2convert.catalog.loading import load_catalog
from r2convert.catalog.variant import StagedArchitecture, Variant
from r2convert.checks.wiring import check_wiring, judge, measure, wiring_check
from r2convert.checks.wiring_evidence import compare_statistics
from r2convert.evaluation.backends import normalise
from r2convert.models.blocks import Classifier
from r2convert.models.build import build_network
from r2convert.results.verification import LayerWiring, WiringResult, number

ARCHITECTURE = StagedArchitecture(
    family="res2net",
    depth=17,
    stage_blocks=(1, 1, 2, 1),
    base_width=8,
    scales=4,
    cardinality=1,
    stem="conv7x7",
    shortcut="strided-conv",
    first_block="stage",
    pool_counts_padding=True,
)
SIDE = 64
PATCHES = 800
BATCH = 32
EPOCHS = 6
FOLDER = 32
FEW = 16

Patch = Image.Image
Change = Callable[[Patch], Patch]

CHANGES: Mapping[str, Change] = {
    "as they are": lambda patch: patch,
    "1.3 times brighter": lambda patch: ImageEnhance.Brightness(patch).enhance(1.3),
    "1.6 times brighter": lambda patch: ImageEnhance.Brightness(patch).enhance(1.6),
    "0.5 times as bright": lambda patch: ImageEnhance.Brightness(patch).enhance(0.5),
    "0.6 of the contrast": lambda patch: ImageEnhance.Contrast(patch).enhance(0.6),
    "0.4 of the contrast": lambda patch: ImageEnhance.Contrast(patch).enhance(0.4),
    "1.6 times the contrast": lambda patch: ImageEnhance.Contrast(patch).enhance(1.6),
    "grey": lambda patch: patch.convert("L").convert("RGB"),
    "half the saturation": lambda patch: ImageEnhance.Color(patch).enhance(0.5),
    "blurred": lambda patch: patch.filter(ImageFilter.GaussianBlur(1)),
    "in a warm light": lambda patch: Image.merge(
        "RGB",
        [
            channel.point([min(255, round(factor * value)) for value in range(256)])
            for channel, factor in zip(map(patch.getchannel, "RGB"), (1.15, 1.0, 0.75), strict=True)
        ],
    ),
}


def main() -> None:
    """Measure two networks, print a line a folder and a planted error, and save what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("illustrations", type=Path, help="a folder of pictures that are no photographs")
    parser.add_argument("--save", type=Path, required=True, help="where to write what was measured, as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    photographs, illustrations = _opened(arguments.photographs), _opened(arguments.illustrations)
    networks = [_trained(ARCHITECTURE, _training(photographs, seed), seed) for seed in (0, 1)]
    measured = {
        purpose: _measurements(networks[seed], networks[1 - seed], photographs, illustrations, seed)
        for seed, purpose in enumerate(("thresholds set on", "false alarms counted on"))
    }
    names = [layer.name for layer in check_wiring(networks[0], [torch.zeros(2, 3, SIDE, SIDE)])]
    for purpose, found in measured.items():
        print(purpose)
        for shown, layers in (*found["sound"].items(), *found["planted"].items()):
            judged = judge(map(_layer, names, layers))
            check = wiring_check(WiringResult(FOLDER, "folder", judged))
            print(f"  {check.verdict:12} {shown}: {check.note}")
    pairs = _pairs(photographs, illustrations)
    arguments.save.write_text(json.dumps({"layers": names, **measured, "pairs": pairs}, separators=(",", ":")) + "\n")


def _pairs(photographs: list[Patch], illustrations: list[Patch]) -> dict[str, dict[str, float | None]]:
    """Trained and rival network -> folder -> where between the two the remembered statistics lie, if that is seen."""
    found: dict[str, dict[str, float | None]] = {}
    subjects = _subjects(photographs, illustrations, 0)
    folders = {name: _input(patches) for name, patches in _folders(subjects, 0)}
    programs = load_catalog().programs
    for family in ("res2net", "res2net_v1b", "res2net_v1c"):
        own = replace(ARCHITECTURE, family=family)
        computed: dict[str, StagedArchitecture] = {}
        for name, program in programs.items():
            if family not in program.families:
                continue
            made = program.as_computed(own)
            # Several programs compute the authors' networks: one of them stands for all.
            if isinstance(made, StagedArchitecture) and made not in computed.values():
                computed[name] = made
        for name, architecture in computed.items():
            state = _trained(architecture, _training(photographs, 0), 0).state_dict()
            measured = {
                other: {folder: measure(_loaded(rival, state), [images]) for folder, images in folders.items()}
                for other, rival in computed.items()
            }
            for other in set(computed) - {name}:
                compared = {each: compare_statistics(measured[name][each], measured[other][each]) for each in folders}
                positions = {each: round(seen.position, 3) if seen else None for each, seen in compared.items()}
                found[f"{family} of {name} against {other}"] = positions
                told = [abs(position) for position in positions.values() if position is not None]
                print(f"{family} of {name} against {other}: seen in {len(told)}, at most {max(told, default=0)} off")
    return dict(sorted(found.items()))


def _loaded(architecture: StagedArchitecture, state: Mapping[str, Tensor]) -> Classifier:
    network = build_network(Variant("wiring", "wiring", (), architecture), classes=len(state["head.fc.bias"]))
    network.load_state_dict(state)
    return network.eval()


def _training(photographs: list[Patch], seed: int) -> list[Patch]:
    return [photograph for place, photograph in enumerate(photographs) if place % 4 != seed]


def _measurements(
    network: Classifier, other: Classifier, photographs: list[Patch], illustrations: list[Patch], seed: int
) -> dict[str, dict[str, list[list[float]]]]:
    """What every BatchNorm shows, for folders on which the network is sound, and with errors planted in it."""
    subjects = _subjects(photographs, illustrations, seed)
    shown = _patches(subjects["other photographs"], FOLDER, np.random.default_rng(1000 + seed))
    return {
        "sound": {name: _measured(network, patches) for name, patches in _folders(subjects, seed)},
        "planted": {
            plant.__name__.lstrip("_").replace("_", " "): _measured(_broken(network, other, plant), shown)
            for plant in PLANTED
        },
    }


def _subjects(photographs: list[Patch], illustrations: list[Patch], seed: int) -> dict[str, list[Patch]]:
    return {
        "the same photographs": _training(photographs, seed),
        "other photographs": photographs[seed::4],
        "illustrations": illustrations,
    }


def _opened(folder: Path) -> list[Patch]:
    return [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())]


def _patches(photographs: list[Patch], count: int, generator: np.random.Generator) -> list[Patch]:
    """Patches of all photographs in turn, each from a random place, at a random scale."""
    found = []
    for place in range(count):
        photograph = photographs[place % len(photographs)]
        side = int(generator.integers(SIDE * 2, min(photograph.size)))
        left, top = (int(generator.integers(0, length - side + 1)) for length in photograph.size)
        box = (left, top, left + side, top + side)
        found.append(photograph.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box, reducing_gap=2))
    return found


def _input(patches: list[Patch]) -> Tensor:
    return normalise(torch.from_numpy(np.stack([np.asarray(patch) for patch in patches]))).contiguous()


def _trained(architecture: StagedArchitecture, photographs: list[Patch], seed: int) -> Classifier:
    torch.manual_seed(seed)
    variant = Variant("wiring", "wiring", (), architecture)
    network = build_network(variant, classes=len(photographs))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    images = _input(_patches(photographs, PATCHES, np.random.default_rng(seed)))
    labels = torch.arange(PATCHES) % len(photographs)
    steps = EPOCHS * (PATCHES // BATCH)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=steps)
    for epoch in range(EPOCHS):
        right = 0
        for batch in torch.randperm(PATCHES).tensor_split(PATCHES // BATCH):
            flipped = images[batch].flip(-1) if torch.rand(()) < 0.5 else images[batch]
            logits = network(flipped)
            optimiser.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(logits, labels[batch]))
            optimiser.step()
            schedule.step()
            right += int((logits.argmax(1) == labels[batch]).sum())
        print(f"seed {seed}, epoch {epoch}: {right} of {PATCHES} right", flush=True)
    return network.eval()


def _folders(subjects: Mapping[str, list[Patch]], seed: int) -> Iterator[tuple[str, list[Patch]]]:
    """Every folder the network ought to be sound on: its name, and its images."""
    for place, (subject, photographs) in enumerate(subjects.items()):
        generator = np.random.default_rng((seed, 100 + place))
        for name, change in CHANGES.items():
            yield f"{subject}, {name}", [change(patch) for patch in _patches(photographs, FOLDER, generator)]
        for draw in range(3):
            yield f"{subject}, few ({draw})", _patches(photographs, FEW, generator)


def _measured(network: nn.Module, patches: list[Patch]) -> list[list[float]]:
    """What every BatchNorm shows: the numbers of :class:`LayerWiring`."""
    return [
        [
            round(number(value), 2)
            for value in (layer.mean_shift, layer.log_variance, layer.mean_correlation, layer.variance_correlation)
        ]
        for layer in check_wiring(network, [_input(patches)])
    ]


def _layer(name: str, values: list[float]) -> LayerWiring:
    mean_shift, log_variance, mean_correlation, variance_correlation = values
    return LayerWiring(name, mean_shift, log_variance, mean_correlation, variance_correlation)


def _broken(network: Classifier, other: Classifier, plant: Callable[[Any, Any], None]) -> Classifier:
    broken, donor = copy.deepcopy(network), copy.deepcopy(other)
    with torch.no_grad():
        plant(broken.backbone, donor.backbone)
    return broken


def _swapped_normalisations(backbone: Any, _: Any) -> None:
    norms = backbone.layer3[1].bns
    norms[0], norms[1] = norms[1], norms[0]


def _swapped_convolutions(backbone: Any, _: Any) -> None:
    convolutions = backbone.layer3[1].convs
    convolutions[0], convolutions[1] = convolutions[1], convolutions[0]


def _swapped_first_convolutions_of_two_blocks(backbone: Any, _: Any) -> None:
    one, other = backbone.layer3[0].convs[1].weight, backbone.layer3[1].convs[1].weight
    kept = one.clone()
    one.copy_(other)
    other.copy_(kept)


def _swapped_running_statistics(backbone: Any, _: Any) -> None:
    one, other = backbone.layer2[0].bns[:2]
    for name in ("running_mean", "running_var"):
        kept = getattr(one, name).clone()
        getattr(one, name).copy_(getattr(other, name))
        getattr(other, name).copy_(kept)


def _transposed_convolution(backbone: Any, _: Any) -> None:
    weight = backbone.layer3[1].convs[1].weight
    weight.copy_(weight.transpose(0, 1).clone())


def _foreign_stem_convolution(backbone: Any, donor: Any) -> None:
    backbone.conv1 = donor.conv1


def _foreign_stem(backbone: Any, donor: Any) -> None:
    backbone.conv1, backbone.bn1 = donor.conv1, donor.bn1


def _foreign_stage(backbone: Any, donor: Any) -> None:
    backbone.layer3 = donor.layer3


def _foreign_convolution(backbone: Any, donor: Any) -> None:
    backbone.layer4[0].conv3 = donor.layer4[0].conv3


def _stem_never_loaded(backbone: Any, _: Any) -> None:
    backbone.conv1.reset_parameters()
    backbone.bn1.reset_parameters()


def _hierarchical_additions_in_the_first_block(backbone: Any, _: Any) -> None:
    backbone.layer1[0].kind = "normal"
    backbone.layer1[0].pool = None


PLANTED = (
    _swapped_normalisations,
    _swapped_convolutions,
    _swapped_first_convolutions_of_two_blocks,
    _swapped_running_statistics,
    _transposed_convolution,
    _foreign_stem_convolution,
    _foreign_stem,
    _foreign_stage,
    _foreign_convolution,
    _stem_never_loaded,
    _hierarchical_additions_in_the_first_block,
)


if __name__ == "__main__":
    main()
