"""Verifying files from end to end: sound ones pass, planted errors are found and placed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from r2convert.catalog import load_catalog
from r2convert.catalog.variant import Variant, Weights
from r2convert.checkpoint.open import open_checkpoint
from r2convert.checks.claims import PIPELINE_NOISE, accuracy_checks, likely_weights
from r2convert.checks.run import ImageRun, Request, verify_checkpoints, verify_references
from r2convert.checks.standins import synthetic_image, write_images_for
from r2convert.errors import MappingError, R2ConvertError
from r2convert.imagenet.datasets import open_validation_set
from r2convert.mapping.conversion import convert
from r2convert.mapping.identity import Identity, resolve
from r2convert.mapping.plan import make_plan
from r2convert.mapping.receipt import receipt_path
from r2convert.mapping.tables import Tables
from r2convert.results.reading import to_json
from r2convert.results.verdicts import Check
from r2convert.results.verification import Accuracy, CheckpointResult, verification
from tests.conftest import Standin

SMALLEST = "res2net_dla60_w28_s4"


def check(result: CheckpointResult, metric: str) -> Check:
    return next(each for each in result.checks if each.metric == metric)


def changed(source: Path, target: Path, changes: dict[str, Tensor]) -> Path:
    state = torch.load(source, weights_only=True)
    state.update(changes)
    torch.save(state, target)
    return target


def mapped(tables: Tables, source: Path, target: Path) -> Path:
    with open_checkpoint(source) as checkpoint:
        resolution = resolve(tables, checkpoint)
        convert(checkpoint, make_plan(resolution.expansion, "official", "mm", checkpoint.tensors), target)
    return target


def test_references_reproduce_the_published_sizes(tables: Tables) -> None:
    results = verify_references(tables)
    # Two sets of weights of one architecture print its size in one table: it is one check.
    assert all(result.checks.count(check) == 1 for result in results for check in result.checks)
    verdicts = {result.variant: result.verdict for result in results}
    assert verdicts.keys() == tables.catalog.variants.keys()
    assert {name for name, verdict in verdicts.items() if verdict == "known-deviation"} == {
        "res2net50_w26_s4",
        "res2next_dla60_w4_s4_c8",
        "res2net50_paddle_w26_s4",
        "res2net50_paddle_w14_s8",
        "res2net50_vd_w26_s4",
        "res2net101_vd_w26_s4",
        "res2net200_vd_w26_s4",
    }
    # Of these nobody has published a size.
    assert {name for name, verdict in verdicts.items() if verdict == "not-comparable"} == {
        "res2net152_v1b_w26_s4",
        "res2net101_mmdet_w26_s4",
        "res2net50_paddledet_w26_s4",
    }
    assert set(verdicts.values()) == {"pass", "known-deviation", "not-comparable"}


@pytest.mark.parametrize("legacy", [False, True])
def test_a_sound_file_passes(tables: Tables, standin: Standin, legacy: bool) -> None:
    (result,) = verify_checkpoints(tables, [Request(standin(SMALLEST, legacy=legacy))])
    assert result.verdict == "pass"
    assert (result.variant, result.layout) == (SMALLEST, "official")
    assert {each.metric for each in result.checks} >= {"names", "shapes", "values", "parameters", "flops"}


def test_a_converted_file_passes_with_its_receipt(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    output = mapped(tables, standin(SMALLEST), tmp_path / "mm.pth")
    (result,) = verify_checkpoints(tables, [Request(output)])
    assert check(result, "receipt").verdict == "pass"
    official = next(each for each in result.checks if each.source == "official README")
    assert (official.verdict, official.measured) == ("pass", 21_145_544)
    assert "297,472 of them in unreachable layers" in official.note


def test_a_file_that_is_not_the_receipts_fails(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    output = mapped(tables, standin(SMALLEST), tmp_path / "mm.pth")
    state = torch.load(output, weights_only=True)
    changed(output, output, {"backbone.level5.root.conv.weight": state["backbone.level5.root.conv.weight"] * 1.01})
    (result,) = verify_checkpoints(tables, [Request(output)])
    assert result.verdict == check(result, "receipt").verdict == "fail"
    assert "content hash" in check(result, "receipt").note


def test_a_forged_receipt_is_bad_input_not_a_traceback(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    from r2convert.errors import InputError

    output = mapped(tables, standin(SMALLEST), tmp_path / "mm.pth")
    for text in ("", "[]", "{}", '{"_type": 5, "predicateType": 6}', "[" * 100_000):
        receipt_path(output).write_text(text)
        with pytest.raises(InputError, match="receipt cannot be read"):
            verify_checkpoints(tables, [Request(output)])


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("level2.tree1.bn1.running_var", torch.full((112,), -1.0), "112 variances are negative"),
        ("level2.tree1.bn1.weight", torch.full((112,), float("nan")), "112 values are NaN or infinite"),
        ("level2.tree1.conv3.weight", torch.full((128, 112, 1, 1), float("inf")), "values are NaN or infinite"),
        ("level5.tree2.convs.1.weight", torch.zeros(224, 224, 3, 3), "every value is zero"),
        # Quantized weights without their scales are no network.
        ("level5.tree2.convs.1.weight", torch.ones(224, 224, 3, 3, dtype=torch.int8), "is int8, expected a floating"),
    ],
)
def test_values_that_no_training_gives_fail(
    tables: Tables, standin: Standin, tmp_path: Path, name: str, values: Tensor, message: str
) -> None:
    path = changed(standin(SMALLEST), tmp_path / "bad.pth", {name: values})
    (result,) = verify_checkpoints(tables, [Request(path)])
    assert result.verdict == check(result, "values").verdict == "fail"
    assert name in check(result, "values").note
    assert message in check(result, "values").note


def test_a_v1b_file_called_v1_is_bad_input(tables: Tables, standin: Standin) -> None:
    path = standin("res2net50_v1b_w26_s4")
    with pytest.raises(MappingError, match="not res2net50_w26_s4: it is res2net50_v1b_w26_s4") as raised:
        verify_checkpoints(tables, [Request(path, tables.catalog.find("res2net50_w26_s4"))])
    assert "conv1.0.weight" in str(raised.value)


def test_a_wrong_variant_is_bad_input(tables: Tables, standin: Standin) -> None:
    with pytest.raises(MappingError, match="it is res2net_dla60_w28_s4"):
        verify_checkpoints(tables, [Request(standin(SMALLEST), tables.catalog.find("res2next_dla60"))])


@pytest.mark.slow
def test_accuracy_of_two_files_in_one_pass_is_exact(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    first, second = standin("res2net50_w48_s2"), standin("res2net50_w48_s2", seed=1)
    answer = write_images_for(tables, first, tmp_path / "val", images=24, top1_correct=11, top5_correct=17)
    images = open_validation_set(tmp_path / "val")
    run = ImageRun(images, torch.device("cpu"))
    results = verify_checkpoints(tables, [Request(first), Request(second)], run)
    accuracies = [result.accuracy for result in results]
    assert all(accuracies)
    one, other = accuracies
    assert one is not None
    assert other is not None
    assert (one.images, one.top1_correct, one.top5_correct) == (24, 11, 17)
    assert one.crops_sha256 == other.crops_sha256
    assert other.top1_correct < 11
    assert answer.top1_correct == 11
    assert {each.verdict for each in results[0].checks if each.metric == "top1"} == {"not-comparable"}


@pytest.mark.slow
def test_verify_judges_what_is_published_on_the_set_that_it_is_shown(
    standin: Standin, tables: Tables, tmp_path: Path
) -> None:
    checkpoint = standin(SMALLEST)
    write_images_for(tables, checkpoint, tmp_path / "val", images=6, top1_correct=3, top5_correct=5)
    # Six of the images of ImageNet-Sketch, as --limit draws them.
    images = dataclasses.replace(open_validation_set(tmp_path / "val"), dataset="imagenet-sketch")
    (tmp_path / "weights").mkdir()
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    (tmp_path / "weights" / f"{SMALLEST}.lab.toml").write_text(f"""
id = "{SMALLEST}.lab"
publisher = "lab"
[[files]]
layout = "official"
format = "pth"
file_name = "lab.pth"
sha256 = "{digest}"
urls = ["https://example.org/lab.pth"]
[published]
source = "our page"
claims = [
    {{ metric = "top1", printed = "78.4", unit = "%" }},
    {{ metric = "top1", printed = "99.9", unit = "%", dataset = "imagenet-sketch" }},
    {{ metric = "top5", printed = "83.3", unit = "%", dataset = "imagenet-sketch" }},
]
""")
    known = Tables(load_catalog({"R2CONVERT_MAPPINGS": str(tmp_path)}))
    (result,) = verify_checkpoints(known, [Request(checkpoint)], ImageRun(images, torch.device("cpu")))
    assert result.accuracy is not None
    counts = (result.accuracy.images, result.accuracy.top1_correct, result.accuracy.top5_correct)
    assert counts == (6, 3, 5)
    assert result.accuracy.dataset == "imagenet-sketch"
    own = {each.metric: each for each in result.checks if each.weights == f"{SMALLEST}.lab"}
    assert {metric: (each.source, each.verdict) for metric, each in own.items()} == {
        "top1": ("our page, ImageNet-Sketch", "fail"),
        "top5": ("our page, ImageNet-Sketch", "inconclusive"),
    }
    assert {each.verdict for each in result.checks if each.weights == f"{SMALLEST}.timm"} == {"not-comparable"}
    assert {each.dataset for each in result.checks if each.weights} == {"imagenet-sketch"}


def test_a_backbone_cannot_be_measured_on_images(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin("res2net50_w48_s2"), weights_only=True)
    torch.save({name: tensor for name, tensor in state.items() if not name.startswith("fc")}, tmp_path / "b.pth")
    (result,) = verify_checkpoints(tables, [Request(tmp_path / "b.pth")])
    assert "no classifier" in check(result, "names").note
    write_images_for(tables, standin("res2net50_w48_s2"), tmp_path / "val", images=1, top1_correct=1, top5_correct=1)
    run = ImageRun(open_validation_set(tmp_path / "val"), torch.device("cpu"))
    with pytest.raises(MappingError, match="backbone without classifier"):
        verify_checkpoints(tables, [Request(tmp_path / "b.pth")], run)


def test_a_network_of_other_channels_costs_the_others_nothing(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    whole, grey = standin("res2net50_w48_s2"), tmp_path / "grey.pth"
    state = torch.load(whole, weights_only=True)
    torch.save(state | {"conv1.weight": state["conv1.weight"][:, :1].clone()}, grey)
    write_images_for(tables, whole, tmp_path / "val", images=1, top1_correct=1, top5_correct=1)
    run = ImageRun(open_validation_set(tmp_path / "val"), torch.device("cpu"))
    unchecked: list[tuple[Path, str]] = []

    def note(request: Request, error: R2ConvertError) -> None:
        unchecked.append((request.path, f"{error.where}: {error.got}"))

    (result,) = verify_checkpoints(tables, [Request(grey), Request(whole)], run, None, note)
    assert result.accuracy is not None
    assert result.accuracy.top1_correct == 1
    assert unchecked == [(grey, f"{grey}: one that takes 1")]


def test_a_fine_tune_is_measured_on_its_own_classes_only(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin("res2net50_w48_s2"), weights_only=True)
    torch.save(state | {name: state[name][:2].clone() for name in ("fc.weight", "fc.bias")}, tmp_path / "two.pth")
    for name in ("cat", "dog"):
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / "0.jpg").write_bytes(synthetic_image(0))

    def measure(images: str) -> CheckpointResult:
        run = ImageRun(open_validation_set(tmp_path / images), torch.device("cpu"))
        return verify_checkpoints(tables, [Request(tmp_path / "two.pth")], run)[0]

    result = measure("val")
    assert result.accuracy is not None
    # One picture, once as a cat and once as a dog.
    assert (result.accuracy.images, result.accuracy.top1_correct, result.accuracy.top5_correct) == (2, 1, 2)
    assert check(result, "top1").note == "published for 1,000 classes; this file has 2"
    (tmp_path / "list.txt").write_text("val/cat/0.jpg 0\nval/dog/0.jpg 1\n")
    with pytest.raises(MappingError, match="cannot be measured on these images") as caught:
        measure("list.txt")
    assert "classes.txt" in str(caught.value.next_step)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    again = measure("list.txt").accuracy
    assert again is not None
    assert again.per_class == result.accuracy.per_class


def weights_of(variant: Variant, tag: str) -> Weights:
    """Weights of the catalogue."""
    found = variant.weights_called(f"{variant.id}.{tag}")
    assert found is not None
    return found


def accuracy(top1: int, top5: int) -> Accuracy:
    values = {"images": 50_000, "top1_correct": top1, "top5_correct": top5, "pipeline": "pil", "precision": "strict"}
    counts = dict.fromkeys(("missing", "unreadable", "not_a_number"), 0)
    return Accuracy(**values, **counts, crops_sha256="")  # type: ignore[arg-type]


@pytest.mark.parametrize(("correct", "verdict"), [(1560, "pass"), (1563, "pass"), (1450, "fail"), (1700, "fail")])
def test_a_random_part_is_judged_by_an_exact_test(tables: Tables, correct: int, verdict: str) -> None:
    variant = tables.catalog.find("res2net50_w14_s8")
    part = replace(accuracy(correct, 1877), images=2000)
    found = {
        each.metric: each
        for each in accuracy_checks(variant, part, weights_of(variant, "official"), dataset="imagenet")
        if "README" in (each.source or "")
    }
    assert found["top1"].verdict == verdict
    assert f"{correct:,} of 2,000 images" in found["top1"].note


def test_few_images_prove_nothing(tables: Tables) -> None:
    part = replace(accuracy(15, 19), images=20)
    variant = tables.catalog.find("res2net50_w14_s8")
    found = accuracy_checks(variant, part, weights_of(variant, "official"), dataset="imagenet")
    assert {each.verdict for each in found} == {"inconclusive", "not-comparable"}


def test_an_accuracy_is_compared_with_its_own_pipeline_only(tables: Tables) -> None:
    variant = tables.catalog.find("res2net200_vd_w26_s4_ssld")
    paddle = weights_of(variant, "ssld")
    with_pil = accuracy_checks(variant, accuracy(42_565, 48_710), paddle, dataset="imagenet")
    assert {each.verdict for each in with_pil} == {"not-comparable"}
    with_opencv = replace(accuracy(42_565, 48_710), pipeline="opencv")
    found = list(accuracy_checks(variant, with_opencv, paddle, dataset="imagenet"))
    # 85.10 is 85.1 with a zero put behind it.
    assert {each.published for each in found if each.verdict == "known-deviation"} == {"85.10"}
    assert {each.verdict for each in found if each.published != "85.10" and each.weights == paddle.id} == {"pass"}


def test_real_labels_have_their_own_count(tables: Tables) -> None:
    real = {"real_images": 46_837, "real_top1_correct": 39_496, "real_top5_correct": 44_992}
    measured = replace(accuracy(39_071, 46_926), **real)
    variant = tables.catalog.find("res2net50_w14_s8")
    found = accuracy_checks(variant, measured, weights_of(variant, "timm"), dataset="imagenet")
    assert {each.metric: each.verdict for each in found if each.source == "timm results"} == {
        "top1": "pass",
        "top5": "pass",
        "real_top1": "pass",
        "real_top5": "pass",
    }
    too_few = replace(measured, real_top5_correct=44_991 - PIPELINE_NOISE)
    found = accuracy_checks(variant, too_few, weights_of(variant, "timm"), dataset="imagenet")
    assert [each.metric for each in found if each.verdict == "fail"] == ["real_top5"]


@pytest.mark.parametrize(
    ("top1", "verdict"),
    [(39_068, "pass"), (39_072, "pass"), (39_073, "inconclusive"), (39_043, "inconclusive"), (39_042, "fail")],
)
def test_the_whole_set_is_held_against_the_printed_interval(tables: Tables, top1: int, verdict: str) -> None:
    variant = tables.catalog.find("res2net50_w14_s8")
    found = accuracy_checks(variant, accuracy(top1, 46_930), weights_of(variant, "official"), dataset="imagenet")
    verdicts = {(each.source, each.metric): each.verdict for each in found}
    assert verdicts["official README", "top1"] == verdict
    assert verdicts["official README", "top5"] == "pass"
    assert verdicts["timm results", "top1"] == "not-comparable"


def test_only_what_is_published_on_the_set_at_hand_is_judged(tables: Tables) -> None:
    variant = tables.catalog.find("res2net50_w26_s4")
    timm = weights_of(variant, "timm")
    # 5.067 % and 29.053 % of the 7,500 images of ImageNet-A.
    measured = replace(accuracy(380, 2179), images=7_500)
    found = list(accuracy_checks(variant, measured, timm, dataset="imagenet-a"))
    assert [(each.source, each.dataset, each.metric, each.verdict) for each in found] == [
        ("timm results, ImageNet-A", "imagenet-a", "top1", "pass"),
        ("timm results, ImageNet-A", "imagenet-a", "top5", "pass"),
    ]
    wrong = list(accuracy_checks(variant, replace(measured, top1_correct=300), timm, dataset="imagenet-a"))
    assert "80 images fewer" in wrong[0].note
    assert wrong[0].verdict == "fail"
    # A part of the set that somebody chose is none of the sets that numbers are published on.
    chosen = list(accuracy_checks(variant, measured, timm, dataset=None))
    assert {(each.dataset, each.verdict) for each in chosen} == {("imagenet", "not-comparable")}


def test_accuracies_of_unproven_weights_are_shown_and_not_judged(tables: Tables) -> None:
    variant = tables.catalog.find("res2net50_w14_s8")
    found = list(accuracy_checks(variant, accuracy(30_000, 40_000), None, dataset="imagenet"))
    assert {(each.verdict, each.measured) for each in found} == {("not-comparable", 30_000), ("not-comparable", 40_000)}
    assert "nothing proves that these are res2net50_w14_s8.official" in found[0].note


@pytest.mark.parametrize(
    ("layout", "tag"), [("official", "official"), ("mm", "openmmlab"), ("timm", "timm"), ("paddle", "official")]
)
def test_the_likely_weights_are_the_proven_ones_or_the_first_in_the_files_layout(
    tables: Tables, layout: str, tag: str
) -> None:
    variant = tables.catalog.find("res2net50_w14_s8")
    identity = Identity(variant, layout, 1000, True, (variant,), "", proven=True)
    assert likely_weights(identity) is weights_of(variant, tag)
    proven = weights_of(variant, "timm")
    assert likely_weights(replace(identity, weights=proven)) is proven


def test_results_are_plain_json(tables: Tables, standin: Standin) -> None:
    results = verify_checkpoints(tables, [Request(standin(SMALLEST))])
    document = json.loads(to_json(verification(results)))
    assert document["schema"] == "r2convert.verify/1"
    assert document["verdict"] == "pass"
    (result,) = document["results"]
    assert set(result) >= {"variant", "checkpoint", "sha256", "content_hash", "layout", "checks", "accuracy", "verdict"}
    fields = {"metric", "source", "convention", "published", "measured", "verdict", "note"}
    assert all(set(each) >= fields for each in result["checks"])
