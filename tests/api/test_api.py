"""The Python API as its callers meet it: typed functions that import nothing before it is needed and print nothing."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import r2convert
from r2convert import api
from r2convert.catalog import Catalog
from r2convert.errors import (
    AccessError,
    MappingError,
    OfflineError,
    OutputExistsError,
    UnknownVariantError,
    UsageError,
)
from r2convert.models.blocks import FeatureExtractor
from tests.conftest import Standin
from tests.published import IMAGES, TOP1, TOP5, VARIANTS, Published

FUNCTIONS = ("fetch", "map_checkpoint", "compare", "verify", "evaluate", "load_model", "preprocess")
NAME = VARIANTS[0]
UNTYPED: Any = r2convert
"""The API as a caller sees it whom no type checker warns."""


@pytest.fixture
def fetched(published: Published) -> Path:
    """The first variant's file, in the cache."""
    return r2convert.fetch(NAME).path


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_of_every_function_does_what_it_says(name: str, fetched: Path, published: Published) -> None:
    Path("val").symlink_to(published.images)
    function = getattr(r2convert, name)
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(function, name)
    assert example.examples
    runner = doctest.DocTestRunner(verbose=False)
    assert runner.run(example).failed == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_error_and_result_is_described(name: str) -> None:
    function = getattr(r2convert, name)
    text = inspect.getdoc(function) or ""
    for parameter in inspect.signature(function).parameters:
        assert f"    {parameter}: " in text
    assert "Returns:" in text
    assert "Raises:" in text


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        f"import sys, r2convert; from r2convert import {', '.join(FUNCTIONS)};"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"torch", "numpy", "requests", "PIL", "rich", "click"} == set()


def test_sound_files_are_inspected_converted_and_compared_without_torch_and_numpy(fetched: Path) -> None:
    code = (
        "import sys; from r2convert import api; api.map_checkpoint(sys.argv[1], 'mm.pth');"
        "assert api.compare(sys.argv[1], 'mm.pth').equal; assert api.inspect('mm.pth').content_hash;"
        "assert not {'torch', 'numpy'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(fetched)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_public_name_is_there_and_another_is_not() -> None:
    assert set(dir(r2convert)) == set(r2convert.__all__)
    assert all(getattr(r2convert, name) is not None for name in r2convert.__all__)
    with pytest.raises(AttributeError, match="no attribute 'convert'"):
        _ = UNTYPED.convert


def test_what_is_not_in_the_cache_is_fetched_only_if_asked_for(cache: Path) -> None:
    with pytest.raises(AccessError, match=r"not in the cache(.|\n)*r2convert\.fetch"):
        r2convert.load_model(NAME)
    assert not cache.exists()
    assert not r2convert.load_model(NAME, fetch=True).training
    assert r2convert.fetch(NAME, offline=True).path.is_relative_to(cache)


def test_offline_means_no_network(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("R2CONVERT_MIRROR")
    with pytest.raises(OfflineError):
        r2convert.fetch(NAME, offline=True)


def test_any_layout_gives_the_same_network(fetched: Path) -> None:
    r2convert.map_checkpoint(fetched, "timm.safetensors", to="timm")
    model = r2convert.load_model("timm.safetensors")
    reference = r2convert.load_model(NAME)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in reference.state_dict().items())


def test_the_network_has_as_many_classes_as_its_file(fetched: Path, tmp_path: Path) -> None:
    state = torch.load(fetched, weights_only=True)
    state["fc.weight"], state["fc.bias"] = state["fc.weight"][:10].clone(), state["fc.bias"][:10].clone()
    torch.save(state, tmp_path / "ten.pth")
    model = r2convert.load_model("ten.pth")
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 10)


def test_counters_may_have_been_cast_with_the_weights(fetched: Path, tmp_path: Path) -> None:
    state = torch.load(fetched, weights_only=True)
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pth")
    model = r2convert.load_model("half.pth")
    assert torch.equal(model.state_dict()["backbone.bn1.bias"], state["bn1.bias"].half().float())


def test_the_advice_about_weights_of_another_dtype_is_about_them(fetched: Path, tmp_path: Path) -> None:
    state = torch.load(fetched, weights_only=True)
    torch.save({**state, "conv1.weight": state["conv1.weight"].to(torch.int8)}, tmp_path / "int8.pth")
    with pytest.raises(MappingError, match=r"conv1\.weight is int8, expected a floating-point dtype") as caught:
        r2convert.load_model("int8.pth")
    assert caught.value.next_step == "save the weights as floating-point numbers from the program that made the file"


def test_a_network_is_loaded_strictly(fetched: Path) -> None:
    r2convert.map_checkpoint(fetched, "backbone.pth", backbone_only=True)
    with pytest.raises(MappingError, match=r"head\.fc\.weight") as caught:
        r2convert.load_model("backbone.pth")
    assert "features_only=True" in str(caught.value)


def test_features_are_the_outputs_of_the_stages_whatever_classifier_there_is(fetched: Path) -> None:
    state = torch.load(fetched, weights_only=True)
    torch.save(state | {f"fc.{name}": state[f"fc.{name}"][:10].clone() for name in ("weight", "bias")}, "ten.pth")
    r2convert.map_checkpoint(fetched, "backbone.pth", backbone_only=True)
    model = r2convert.load_model(fetched)
    expected: list[torch.Tensor] = []
    for stage in range(1, 5):
        layer = model.get_submodule(f"backbone.layer{stage}")
        layer.register_forward_hook(lambda _module, _inputs, output: expected.append(output))
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        model(images)
        for file in (NAME, "ten.pth", "backbone.pth"):
            features = r2convert.load_model(file, features_only=True)
            assert isinstance(features, FeatureExtractor)
            outputs = features(images)
            shapes = [(2, n, 96 // r, 64 // r) for n, r in zip(features.channels, features.reductions, strict=True)]
            assert [tuple(output.shape) for output in outputs] == shapes
            assert all(map(torch.equal, outputs, expected))
            assert not features.training
            assert set(features.state_dict()) == {name for name in model.state_dict() if name.startswith("backbone.")}


def test_a_file_that_lacks_a_tensor_of_the_backbone_gives_no_features(fetched: Path) -> None:
    state = torch.load(fetched, weights_only=True)
    torch.save({name: tensor for name, tensor in state.items() if name != "layer4.2.bn3.weight"}, "short.pth")
    with pytest.raises(MappingError, match=r"layer4\.2\.bn3\.weight"):
        r2convert.load_model("short.pth", features_only=True)


def test_a_network_is_evaluated_as_its_file_is_verified(fetched: Path, published: Published) -> None:
    steps: list[int] = []
    model = r2convert.load_model(fetched)
    found = r2convert.evaluate(
        model, published.images, device="cpu", precision="fast", progress=lambda step: steps.append(step.done)
    )
    verified = r2convert.verify(fetched, imagenet=published.images, device="cpu").accuracy
    assert verified is not None
    assert (found.images, found.top1_correct, found.top5_correct) == (IMAGES, TOP1, TOP5)
    assert (found.crops_sha256, found.per_class) == (verified.crops_sha256, verified.per_class)
    assert steps[-1] == IMAGES
    r2convert.evaluate(model, published.images, device="cpu", limit=4, predictions="kept.jsonl")
    with pytest.raises(OutputExistsError):
        r2convert.evaluate(model, published.images, device="cpu", limit=4, predictions="kept.jsonl")
    with pytest.raises(UsageError, match="takes no shortcut"):
        r2convert.evaluate(model, published.images, device="cpu", accelerate=["fold-bn"])


def test_accuracy_is_what_was_constructed(
    fetched: Path, published: Published, capfd: pytest.CaptureFixture[str]
) -> None:
    accuracy = r2convert.verify(fetched, imagenet=published.images, device="cpu").accuracy
    assert accuracy is not None
    assert (accuracy.images, accuracy.top1_correct, accuracy.top5_correct) == (IMAGES, TOP1, TOP5)
    sample = r2convert.verify(NAME, imagenet=str(published.images), limit=5, device="cpu").accuracy
    assert sample is not None
    assert sample.images == 5
    assert capfd.readouterr() == ("", "")


def test_a_failing_check_is_a_result_and_no_error(fetched: Path) -> None:
    state = torch.load(fetched, weights_only=True)
    state["bn1.running_var"][0] = float("nan")
    torch.save(state, "broken.pth")
    result = r2convert.verify("broken.pth")
    assert result.verdict == "fail"
    assert [check.metric for check in result.checks if check.verdict == "fail"] == ["values"]


def test_files_that_are_no_known_network_are_compared_by_their_own_names(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "a.pth")
    torch.save({"weight": torch.zeros(3), "bias": torch.zeros(1)}, tmp_path / "b.pth")
    comparison = r2convert.compare(tmp_path / "a.pth", tmp_path / "b.pth")
    assert not comparison.equal
    assert [(tensor.name, tensor.max_abs_diff) for tensor in comparison.differing] == [("weight", 1.0)]
    assert comparison.only_in_b == ("bias",)


def test_predictions_that_cannot_be_kept_are_refused_before_any_file_is_read(
    published: Published, tmp_path: Path
) -> None:
    images = api.open_images(published.images)
    (tmp_path / "kept").write_text("of another run")
    for target, error, message in (
        (tmp_path / "kept", OutputExistsError, "predictions at this place already"),
        (tmp_path / "kept" / "below", AccessError, "kept"),
    ):
        # Neither the checkpoint nor the folder for --wiring is there, which is said once they are read.
        with pytest.raises(error, match=message) as caught:
            api.verify_all([Path("none.pth")], images=images, wiring=tmp_path / "none", predictions=target)
        assert "none" not in str(caught.value)
    assert (tmp_path / "kept").read_text() == "of another run"


def test_a_path_object_is_never_taken_for_a_name(fetched: Path) -> None:
    with pytest.raises(AccessError):
        r2convert.load_model(Path(NAME))


def test_nothing_is_overwritten_unasked(fetched: Path) -> None:
    r2convert.map_checkpoint(NAME, "mm.pth")
    with pytest.raises(OutputExistsError):
        r2convert.map_checkpoint(NAME, "mm.pth")
    conversion = r2convert.map_checkpoint(NAME, "mm.pth", overwrite=True, receipt=False)
    assert conversion.receipt is None


def test_a_weight_file_is_told_from_the_variant_it_is_said_to_be(standin: Standin, catalog: Catalog) -> None:
    other = standin("res2net_dla60_w28_s4")
    with pytest.raises(MappingError, match="res2net_dla60_w28_s4"):
        r2convert.load_model(other, variant=NAME)


@pytest.mark.parametrize(
    ("function", "arguments", "options", "named"),
    [
        ("map_checkpoint", (NAME, "a.pth"), {"to": "onnx"}, "onnx"),
        ("map_checkpoint", (NAME, "a.pth"), {"layout": "onnx"}, "onnx"),
        ("map_checkpoint", (NAME, "a.pth"), {"dtype": "int8"}, "int8"),
        ("map_checkpoint", (NAME, "a.onnx"), {}, "onnx"),
        ("map_checkpoint", ("", "a.pth"), {}, "empty"),
        ("fetch", (NAME,), {"publisher": "onnx"}, "onnx"),
        ("verify", (NAME,), {"imagenet": ".", "precision": "int8"}, "int8"),
        ("verify", (NAME,), {"imagenet": ".", "pipeline": "onnx"}, "onnx"),
        ("verify", (NAME,), {"imagenet": ".", "device": "abacus"}, "abacus"),
    ],
)
def test_an_argument_that_does_not_exist_is_named(
    function: str,
    arguments: tuple[str, ...],
    options: dict[str, str],
    named: str,
    fetched: Path,
    published: Published,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(published.images)
    with pytest.raises(UsageError, match=named):
        getattr(UNTYPED, function)(*arguments, **options)
    assert not Path("a.pth").exists()


def test_a_peer_or_an_acceleration_that_does_not_exist_is_named(fetched: Path, published: Published) -> None:
    verify_all: Any = api.verify_all
    with pytest.raises(UsageError, match="no peer 'onnx'"):
        verify_all([fetched], peer="onnx")
    images = api.open_images(published.images)
    with pytest.raises(UsageError, match="no acceleration 'onnx'"):
        verify_all([fetched], images=images, precision="fp32", accelerate=["onnx"])


def test_a_name_that_no_variant_has_brings_close_ones() -> None:
    with pytest.raises(UnknownVariantError, match="res2net50_w14_s8"):
        r2convert.fetch("res2net50_w14_s9")
