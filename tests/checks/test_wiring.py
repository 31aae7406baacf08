"""The wiring check: planted errors are found at their place, sound networks pass, and its limits are what it says."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from r2convert.catalog import Catalog
from r2convert.checks.standins import synthetic_image
from r2convert.checks.wiring import (
    MOST,
    SYNTHETIC,
    WiringImages,
    beyond_the_stem,
    check_wiring,
    images_from,
    judge,
    measure_on,
    synthetic_images,
    wiring_check,
    wiring_result,
)
from r2convert.errors import DatasetError
from r2convert.imagenet.preprocessing import crop_image
from r2convert.models.blocks import Classifier
from r2convert.results.verification import LayerWiring, WiringResult
from tests.checks.calibrated import calibrated_network, synthetic_inputs
from tests.conftest import DATA

SIDE = 64
VARIANT = "res2net50_w26_s4"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Layers this small are computed sooner than threads on busy cores have met."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def seen() -> Tensor:
    return synthetic_inputs(48, seed=1, side=SIDE)


@pytest.fixture(scope="module")
def unseen() -> Tensor:
    return synthetic_inputs(24, seed=2, side=SIDE)


@pytest.fixture(scope="module")
def sound(catalog: Catalog, seen: Tensor) -> Classifier:
    return calibrated_network(catalog.find(VARIANT), seen)


@pytest.fixture(scope="module")
def other(catalog: Catalog, seen: Tensor) -> Any:
    """The backbone of another network, trained on the same pictures."""
    return calibrated_network(catalog.find(VARIANT), seen, seed=5).backbone


def suspects(network: nn.Module, images: Tensor) -> list[str]:
    return [layer.name.removeprefix("backbone.") for layer in check_wiring(network, [images]) if layer.suspect]


def broken(network: Classifier, plant: Callable[[Any], None]) -> Classifier:
    planted = copy.deepcopy(network)
    with torch.no_grad():
        plant(planted.backbone)
    return planted


def swap_normalisations(backbone: Any) -> None:
    bns = backbone.layer3[3].bns
    bns[0], bns[1] = bns[1], bns[0]


def swap_normalisations_of_two_blocks(backbone: Any) -> None:
    one, other = backbone.layer3[2], backbone.layer3[4]
    one.bn3, other.bn3 = other.bn3, one.bn3


def swap_convolutions(backbone: Any) -> None:
    convs = backbone.layer3[2].convs
    convs[0], convs[1] = convs[1], convs[0]


def swap_running_means(backbone: Any) -> None:
    one, other = backbone.layer3[2].bns[:2]
    one.running_mean, other.running_mean = other.running_mean.clone(), one.running_mean.clone()


def transpose_a_square_convolution(backbone: Any) -> None:
    weight = backbone.layer3[3].convs[1].weight
    weight.copy_(weight.transpose(0, 1).clone())


def drop_the_stem(backbone: Any) -> None:
    """As a file whose stem was not loaded leaves it: freshly initialised."""
    with torch.random.fork_rng():
        torch.manual_seed(9)
        backbone.conv1.reset_parameters()
    backbone.bn1.reset_parameters()


def add_hierarchically_in_the_first_block(backbone: Any) -> None:
    backbone.layer1[0].kind = "normal"
    backbone.layer1[0].pool = None


def test_a_sound_network_passes_on_pictures_it_has_not_seen(sound: Classifier, unseen: Tensor) -> None:
    assert suspects(sound, unseen) == []


def test_it_leaves_the_network_as_it_was(sound: Classifier, unseen: Tensor) -> None:
    before = {name: tensor.clone() for name, tensor in sound.state_dict().items()}
    with torch.inference_mode():
        expected = sound(unseen[:2])
        check_wiring(sound, [unseen])
        assert torch.equal(sound(unseen[:2]), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in sound.state_dict().items())


def test_every_layer_is_listed_in_network_order(sound: Classifier, unseen: Tensor) -> None:
    names = [layer.name for layer in check_wiring(sound, [unseen[:16]])]
    assert sorted(names) == sorted(name for name, each in sound.named_modules() if isinstance(each, nn.BatchNorm2d))
    assert names[0] == "backbone.bn1"
    assert names[-1] == "backbone.layer4.2.bn3"
    assert names.index("backbone.layer1.0.bns.2") < names.index("backbone.layer1.0.bn3")


@pytest.mark.parametrize(
    ("plant", "places"),
    [
        (swap_normalisations, {"layer3.3.bns.0", "layer3.3.bns.1"}),
        (swap_normalisations_of_two_blocks, {"layer3.2.bn3", "layer3.4.bn3"}),
        (swap_convolutions, {"layer3.2.bns.0", "layer3.2.bns.1"}),
        (swap_running_means, {"layer3.2.bns.0", "layer3.2.bns.1"}),
        (transpose_a_square_convolution, {"layer3.3.bns.1"}),
        (add_hierarchically_in_the_first_block, {"layer1.0.bns.1", "layer1.0.bns.2"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_suspects_are_the_places_of_the_error(
    sound: Classifier, unseen: Tensor, plant: Callable[[Any], None], places: set[str]
) -> None:
    assert set(suspects(broken(sound, plant), unseen)) == places


def test_a_stem_convolution_from_another_network_is_found(sound: Classifier, other: Any, unseen: Tensor) -> None:
    def plant(backbone: Any) -> None:
        backbone.conv1 = other.conv1

    assert suspects(broken(sound, plant), unseen)[0] == "bn1"


def test_a_whole_stem_from_another_network_is_found_where_it_is_joined(
    sound: Classifier, other: Any, unseen: Tensor
) -> None:
    def plant(backbone: Any) -> None:
        # It agrees with itself: what follows is what does not know it.
        backbone.conv1, backbone.bn1 = other.conv1, other.bn1

    assert set(suspects(broken(sound, plant), unseen)[:2]) == {"layer1.0.downsample.1", "layer1.0.bn1"}


def test_a_dropped_stem_is_found(sound: Classifier, unseen: Tensor) -> None:
    assert suspects(broken(sound, drop_the_stem), unseen)[0] == "bn1"


def set_eps(eps: float) -> Callable[[Any], None]:
    def plant(backbone: Any) -> None:
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = eps

    return plant


def test_an_eps_is_seen_only_where_it_is_as_large_as_the_variances(sound: Classifier, unseen: Tensor) -> None:
    assert suspects(broken(sound, set_eps(1e-3)), unseen) == []
    assert suspects(broken(sound, set_eps(1.0)), unseen) != []


def flip_the_padding_of_a_pool(backbone: Any) -> None:
    backbone.layer2[0].pool.count_include_pad = False


def scale_a_convolution(factor: float) -> Callable[[Any], None]:
    def plant(backbone: Any) -> None:
        backbone.layer2[0].conv3.weight.mul_(factor)

    return plant


def exchange_a_third_of_the_channels(backbone: Any) -> None:
    weight = backbone.layer2[0].conv3.weight
    third = len(weight) // 3
    weight[:third] = weight[:third].flip(0).clone()


@pytest.mark.parametrize(
    "plant",
    [flip_the_padding_of_a_pool, scale_a_convolution(1.01), scale_a_convolution(1.2), exchange_a_third_of_the_channels],
)
def test_what_is_below_the_noise_is_not_seen(sound: Classifier, unseen: Tensor, plant: Callable[[Any], None]) -> None:
    assert suspects(broken(sound, plant), unseen) == []


def test_a_large_factor_is_seen(sound: Classifier, unseen: Tensor) -> None:
    assert suspects(broken(sound, scale_a_convolution(1.5)), unseen) == ["layer2.0.bn3"]


def brighter(images: Tensor) -> Tensor:
    return 1.6 * images + 0.7


def paler(images: Tensor) -> Tensor:
    return 0.4 * images


def in_a_warm_light(images: Tensor) -> Tensor:
    return images + torch.tensor([0.5, 0.0, -0.5])[:, None, None]


def red_and_blue_exchanged(images: Tensor) -> Tensor:
    return images.flip(1)


@pytest.mark.parametrize("change", [brighter, paler, in_a_warm_light, red_and_blue_exchanged])
def test_other_light_and_colours_are_no_error_of_the_network(
    sound: Classifier, unseen: Tensor, change: Callable[[Tensor], Tensor]
) -> None:
    assert suspects(sound, change(unseen)) == []


def test_values_that_are_not_numbers_are_suspect(sound: Classifier, unseen: Tensor) -> None:
    def plant(backbone: Any) -> None:
        backbone.layer4[2].conv3.weight.fill_(float("nan"))

    assert suspects(broken(sound, plant), unseen[:16]) == ["layer4.2.bn3"]


def test_statistics_that_no_training_touched_are_suspect(catalog: Catalog, unseen: Tensor) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        fresh = calibrated_network(catalog.find(VARIANT), unseen[:2])
    for module in fresh.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    assert len(suspects(fresh, unseen[:16])) > 60


def test_a_network_without_batch_norms_has_nothing_to_compare() -> None:
    assert check_wiring(nn.Conv2d(3, 4, 1), [torch.zeros(1, 3, 8, 8)]) == ()


def test_batches_add_up(sound: Classifier, unseen: Tensor) -> None:
    def stem(layers: tuple[LayerWiring, ...]) -> LayerWiring:
        return layers[0]

    whole, parts = check_wiring(sound, [unseen]), check_wiring(sound, [unseen[:8], unseen[8:]])
    assert stem(parts).mean_shift == pytest.approx(stem(whole).mean_shift, rel=1e-3)
    assert stem(parts).log_variance == pytest.approx(stem(whole).log_variance, rel=1e-3)


def layer(name: str, *, suspect: bool) -> LayerWiring:
    return LayerWiring(name, 0.0, 0.0, 1.0, 1.0, suspect)


def result(suspects: int, source: str | None) -> WiringResult:
    names = ["backbone.bn1", *(f"backbone.layer1.0.bns.{number}" for number in range(7))]
    return WiringResult(32, source, tuple(layer(name, suspect=place < suspects) for place, name in enumerate(names)))


def test_no_suspect_passes() -> None:
    check = wiring_check(result(0, "photos"))
    assert (check.metric, check.verdict, check.measured) == ("wiring", "pass", 8)


def test_suspects_fail_on_given_images_and_are_named_in_order() -> None:
    check = wiring_check(result(6, "photos"))
    assert (check.verdict, check.measured) == ("fail", 2)
    assert "bn1, backbone.layer1.0.bns.0, backbone.layer1.0.bns.1, backbone.layer1.0.bns.2 and 2 more" in check.note


def test_a_stem_alone_out_of_line_is_inconclusive_with_the_reason() -> None:
    check = wiring_check(result(1, "photos"))
    assert check.verdict == "inconclusive"
    assert "images of other colours" in check.note


def test_synthetic_images_are_too_odd_to_condemn_anything() -> None:
    check = wiring_check(result(3, None))
    assert check.verdict == "inconclusive"
    assert "--wiring FOLDER" in check.note


RECORDED = json.loads((DATA / "wiring.json").read_text())
"""What every BatchNorm of two networks trained on photographs shows, by scripts/wiring_false_alarms.py."""
NETWORKS = ("thresholds set on", "false alarms counted on")
PLACES = {
    "swapped normalisations": {"layer3.1.bns.0", "layer3.1.bns.1"},
    "swapped convolutions": {"layer3.1.bns.0", "layer3.1.bns.1"},
    "swapped first convolutions of two blocks": {"layer3.0.bns.1", "layer3.1.bns.1"},
    "swapped running statistics": {"layer2.0.bns.0", "layer2.0.bns.1"},
    "transposed convolution": {"layer3.1.bns.1"},
    "foreign convolution": {"layer4.0.bn3"},
    "foreign stem convolution": {"layer1.0.downsample.1"},
    "foreign stem": {"layer1.0.downsample.1", "layer1.0.bn1"},
    "foreign stage": {"layer3.0.downsample.1", "layer3.0.bn1"},
    "stem never loaded": {"layer1.0.downsample.1"},
    "hierarchical additions in the first block": {"layer1.0.bns.1", "layer1.0.bns.2"},
}


def recorded_layer(name: str, values: list[float]) -> LayerWiring:
    mean_shift, log_variance, mean_correlation, variance_correlation = values
    return LayerWiring(name, mean_shift, log_variance, mean_correlation, variance_correlation)


def recorded_check(layers: list[list[float]]) -> tuple[str, list[str]]:
    """The verdict on recorded statistics, and the suspects beyond the stem."""
    judged = WiringResult(32, "photos", judge(map(recorded_layer, RECORDED["layers"], layers)))
    return wiring_check(judged).verdict, [
        each.name.removeprefix("backbone.") for each in beyond_the_stem(judged.suspects)
    ]


@pytest.mark.parametrize("network", NETWORKS)
def test_false_alarms_on_a_trained_network_are_rare(network: str) -> None:
    """Bright, dark, pale, grey, few and foreign images: forty-two folders on which the network is sound."""
    sound = RECORDED[network]["sound"]
    assert len(sound) == 42
    alarms = [name for name, layers in sound.items() if recorded_check(layers)[0] == "fail"]
    # Sixteen drawings of 64x64 pixels leave the last stage 64 values a channel.
    assert set(alarms) <= {"illustrations, few (0)"}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("planted", PLACES)
def test_errors_planted_in_a_trained_network_are_found_at_their_place(network: str, planted: str) -> None:
    verdict, suspects = recorded_check(RECORDED[network]["planted"][planted])
    assert verdict == "fail"
    assert set(suspects[: len(PLACES[planted])]) == PLACES[planted]


def test_synthetic_images_are_the_same_every_time() -> None:
    one, other = synthetic_images(), synthetic_images()
    assert one.source is None
    assert one.crops.shape == (SYNTHETIC, 224, 224, 3)
    assert np.array_equal(one.crops, other.crops)


def test_images_are_cropped_as_published_numbers_are_measured_and_bad_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    for number in range(20):
        place = tmp_path / "cats" if number % 2 else tmp_path
        (place / f"{number:02}.PNG").write_bytes(synthetic_image(number))
    (tmp_path / "00.jpg").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("not a picture")
    pictures = images_from(tmp_path)
    assert pictures.source == tmp_path
    assert len(pictures.crops) == 20
    assert np.array_equal(pictures.crops[0], crop_image(synthetic_image(0)))


def test_large_folders_are_sampled_over_all_of_it(tmp_path: Path) -> None:
    picture = synthetic_image(0)
    other = synthetic_image(1)
    for number in range(3 * MOST):
        (tmp_path / f"{number:03}.jpg").write_bytes(picture if number < 2 * MOST else other)
    crops = images_from(tmp_path).crops
    assert len(crops) == MOST
    of_the_last_third = sum(np.array_equal(crop, crop_image(other)) for crop in crops)
    assert abs(of_the_last_third - MOST / 3) <= 1


@pytest.mark.parametrize("name", ["file", "missing", "empty"])
def test_what_is_no_folder_of_pictures_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError):
        images_from(tmp_path / name)


def test_a_network_in_double_precision_is_shown_the_same_pictures() -> None:
    norm = nn.BatchNorm2d(8)
    assert norm.running_var is not None
    norm.running_var.copy_(torch.logspace(-3, 3, 8))
    network = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), norm).double().eval()
    crops = np.random.default_rng(0).integers(0, 256, (70, 224, 224, 3), np.uint8)
    images = WiringImages(crops, Path("photos"))
    found = wiring_result(measure_on(network, images, torch.device("cpu")), images)
    assert (found.pictures, found.source) == (70, "photos")
    assert [each.name for each in found.suspects] == ["1"]
