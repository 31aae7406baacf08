"""State dicts are found under the wrappers people use; ambiguity is an error that lists the choices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import CorruptCheckpointError, UnsupportedCheckpointError, UsageError

NETWORK = {"conv1.weight": torch.ones(2, 3), "bn1.bias": torch.zeros(2)}
AVERAGE = {"conv1.weight": torch.full((2, 3), 5.0), "bn1.bias": torch.zeros(2)}


def first_value(path: Path, key: str | None = None) -> float:
    with open_checkpoint(path, key=key) as checkpoint:
        assert list(checkpoint.tensors) == list(NETWORK)
        return float(checkpoint.array(checkpoint.tensors["conv1.weight"])[0, 0])


def save(value: object, folder: Path) -> Path:
    path = folder / "a.pth"
    torch.save(value, path)
    return path


@pytest.mark.parametrize(
    "wrapper", ["state_dict", "model", "net", "module", "model_state_dict", "backbone", "anything"]
)
def test_one_wrapper(tmp_path: Path, wrapper: str) -> None:
    path = save({wrapper: NETWORK, "epoch": 7, "loss": 0.5}, tmp_path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.wrapper == wrapper
        assert dict(checkpoint.metadata) == {"epoch": 7, "loss": 0.5}
    assert first_value(path) == first_value(path, wrapper) == 1


def test_wrappers_within_wrappers(tmp_path: Path) -> None:
    path = save({"model": {"state_dict": NETWORK}}, tmp_path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.wrapper == "model.state_dict"
    assert first_value(path, "model.state_dict") == first_value(path, "model") == 1


def test_an_openmmlab_file(tmp_path: Path) -> None:
    meta = {"mmcls_version": "0.15", "config": "x" * 100_000, "CLASSES": ("a", "b"), "nested": {"t": torch.ones(2)}}
    path = save({"meta": meta, "state_dict": NETWORK, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, tmp_path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.wrapper == "state_dict"
        shown = checkpoint.metadata["meta"]
        assert isinstance(shown, dict)
        assert shown["CLASSES"] == ["a", "b"]
        assert shown["nested"] == {"t": "<float32 tensor of shape [2]>"}
        assert shown["config"] == "<text of 100000 bytes>"
    assert first_value(path) == 1


@pytest.mark.parametrize("average", ["state_dict_ema", "ema_state_dict", "model_ema"])
def test_a_moving_average_is_taken_only_when_asked_for(tmp_path: Path, average: str) -> None:
    path = save({average: AVERAGE, "state_dict": NETWORK}, tmp_path)
    assert (first_value(path), first_value(path, "ema"), first_value(path, average)) == (1, 5, 5)
    assert (other_key(path), other_key(path, key="ema")) == ("ema", None)
    with open_checkpoint(path) as checkpoint:
        assert any(average in warning for warning in checkpoint.warnings)
    alone = save({average: AVERAGE}, tmp_path)
    with pytest.raises(UnsupportedCheckpointError, match="only a moving average"):
        open_checkpoint(alone)
    assert first_value(alone, "ema") == 5


def test_several_state_dicts_are_listed(tmp_path: Path) -> None:
    path = save({"model": NETWORK, "net": AVERAGE}, tmp_path)
    with pytest.raises(UnsupportedCheckpointError, match="several") as caught:
        open_checkpoint(path)
    assert "model: 2 tensors\n            net: 2 tensors" in str(caught.value)
    assert "--key model" in str(caught.value)
    assert first_value(path, "net") == 5


@pytest.mark.parametrize("key", ["epoch", "other", "model.deeper", "ema"])
def test_a_key_that_holds_no_tensors(tmp_path: Path, key: str) -> None:
    path = save({"model": NETWORK, "epoch": 3}, tmp_path)
    with pytest.raises(UsageError, match="no state dict under"):
        open_checkpoint(path, key=key)


def test_the_prefix_of_parallel_training_is_removed(tmp_path: Path) -> None:
    path = save({f"module.{name}": value for name, value in NETWORK.items()}, tmp_path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.prefix_removed == "module."
    assert first_value(path) == 1


def test_a_prefix_only_some_names_have_stays(tmp_path: Path) -> None:
    path = save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path)
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.tensors) == ["module.a", "b"]
        assert checkpoint.prefix_removed == ""
        assert len(checkpoint.warnings) == 1


def test_values_that_are_no_tensors_are_left_out_with_a_warning(tmp_path: Path) -> None:
    path = save({**NETWORK, "note": "trained twice", "conv1.count": 3}, tmp_path)
    with open_checkpoint(path) as checkpoint:
        assert dict(checkpoint.metadata) == {"note": "trained twice", "conv1.count": 3}
        assert len(checkpoint.warnings) == 2
    assert first_value(path) == 1


NAMES = ["conv1.weight", "bn1.weight", "bn1.running_mean", "fc.weight"]


def network(value: float = 1.0, prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: torch.full((2,), value + index) for index, name in enumerate(NAMES)}


def values(path: Path, **selection: Any) -> dict[str, float]:
    """Every tensor's first element."""
    with open_checkpoint(path, **selection) as checkpoint:
        return {name: float(checkpoint.array(tensor)[0]) for name, tensor in checkpoint.tensors.items()}


def firsts(tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(tensor[0]) for name, tensor in tensors.items()}


def other_key(path: Path, **options: Any) -> str | None:
    with open_checkpoint(path, **options) as checkpoint:
        return checkpoint.other_key


def notes(path: Path, **selection: Any) -> str:
    with open_checkpoint(path, **selection) as checkpoint:
        return " | ".join(checkpoint.warnings)


@pytest.mark.parametrize(
    "saved",
    [
        {"state_dict": network(), "best_acc1": torch.tensor([78.1])},
        {"best": torch.tensor(1.0), "loss": torch.tensor(2.0), "weights_of_it": network()},
        {"classy_state_dict": {"base_model": {"model": {"trunk": network(), "heads": {}}}}},
        {"state_dict": network(), "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "named": network(9)}},
        {"model": network(), "anything": network(9)},
        {"model": network(), "scheduler_state": network(9), "callbacks": {"x": network(8)}},
        {**network(), "extra": {"w": torch.ones(1)}},
        {"state_dict": {**network(), "epoch": 3}},
    ],
    ids=[
        "a tensor beside",
        "loose tensors",
        "four wrappers",
        "optimizer",
        "a usual key",
        "training",
        "bare",
        "a number",
    ],
)
def test_the_network_is_found_by_rank(tmp_path: Path, saved: dict[str, Any]) -> None:
    path = save(saved, tmp_path)
    assert values(path) == firsts(network())


def test_a_known_network_outranks_usual_keys(tmp_path: Path) -> None:
    path = save({"model": {"a": torch.zeros(2), "b": torch.ones(2)}, "trunk": network()}, tmp_path)

    def recognise(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
        return "a small network" if "fc.weight" in shapes else None

    assert values(path, recognise=recognise) == firsts(network())
    path = save({"student": network(), "teacher": network(5, "module.")}, tmp_path)
    with pytest.raises(UnsupportedCheckpointError, match="several") as caught:
        open_checkpoint(path, recognise=recognise)
    assert "teacher: 4 tensors, a small network" in str(caught.value)
    assert values(path, key="teacher") == firsts(network(5))


def test_the_average_of_mmengine_is_where_the_network_belongs(tmp_path: Path) -> None:
    raw = {"steps": torch.tensor([7.0]), **network(1, "module.")}
    path = save({"meta": {}, "state_dict": network(5), "ema_state_dict": raw}, tmp_path)
    assert values(path) == values(path, key="ema") == firsts(network(5))
    assert values(path, key="ema_state_dict") == firsts(network(1))
    assert "swaps the two on saving" in notes(path)
    assert other_key(path) == "ema_state_dict"


def test_the_average_of_lightning_is_where_the_network_belongs(tmp_path: Path) -> None:
    path = save({"state_dict": network(5, "model."), "current_model_state": network(1, "model.")}, tmp_path)
    assert values(path) == values(path, key="ema") == firsts(network(5))
    assert "Lightning's WeightAveraging" in notes(path)
    assert other_key(path) == "current_model_state"
    assert other_key(path, key="current_model_state") is None


def test_the_average_of_mmcv_lies_in_buffers_of_the_network(tmp_path: Path) -> None:
    learned = {name: tensor for name, tensor in network(5).items() if "running" not in name}
    buffers = {f"ema_{name.replace('.', '_')}": tensor for name, tensor in learned.items()}
    path = save({"state_dict": {**network(), **buffers}}, tmp_path)
    assert values(path) == firsts(network())
    assert values(path, key="ema") == firsts({**network(), **learned})
    assert other_key(path) == "ema"
    with open_checkpoint(path) as checkpoint:
        assert {each.name for each in checkpoint.left_out} == set(buffers)
        assert "moving average" in checkpoint.left_out[0].reason


def test_the_average_of_mmcv_in_a_file_of_parallel_training(tmp_path: Path) -> None:
    buffers = {f"module.ema_{name.replace('.', '_')}": tensor for name, tensor in network(5).items()}
    path = save({**network(1, "module."), **buffers}, tmp_path)
    assert values(path) == firsts(network(1))
    assert values(path, key="ema") == firsts(network(5))


@pytest.mark.parametrize("module", ["ema_model.", "model_ema.module.", "ema.module.", "averaged_model.module."])
def test_an_average_that_is_a_module_of_its_own(tmp_path: Path, module: str) -> None:
    counter = {f"{module.split('.')[0]}.n_averaged": torch.tensor([3.0])}
    path = save({"state_dict": {**network(1, "model."), **network(5, module), **counter}}, tmp_path)
    assert values(path) == firsts(network(1))
    assert values(path, key="ema") == firsts(network(5))
    assert "moving average" in notes(path)


def test_a_file_without_an_average_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no moving average.*\n.*\n.*one of: state_dict$"):
        open_checkpoint(save({"state_dict": network()}, tmp_path), key="ema")
    with pytest.raises(UsageError, match=r"no moving average.*\n.*\n.*a key that holds tensors; there is none$"):
        open_checkpoint(save(network(), tmp_path), key="ema")
    assert other_key(save({"state_dict": network()}, tmp_path)) is None


@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.",
        "net.",
        "timm_model.",
        "module.model.",
        "model._orig_mod.",
    ],
)
def test_wrappers_prefixes_come_off_in_any_order(tmp_path: Path, prefix: str) -> None:
    path = save(network(1, prefix), tmp_path)
    assert values(path) == firsts(network())
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.prefix_removed == prefix


@pytest.mark.parametrize("prefix", ["backbone.", "module.model.backbone."])
def test_a_prefix_may_be_written_as_it_is_in_the_file(tmp_path: Path, prefix: str) -> None:
    path = save(network(1, "module.model.backbone.") | {"module.model.head.weight": torch.ones(2)}, tmp_path)
    assert values(path, prefix=prefix) == firsts(network())
    with open_checkpoint(path, prefix=prefix) as checkpoint:
        assert checkpoint.prefix_removed == "module.model.backbone."
    with pytest.raises(UsageError, match=r"no tensor's name starts with 'module\.backbone\.'"):
        open_checkpoint(path, prefix="module.backbone.")


def test_a_wrappers_prefix_that_is_off_already_may_be_asked_for(tmp_path: Path) -> None:
    assert values(save(network(1, "module."), tmp_path), prefix="module.") == firsts(network())


def test_a_compiled_part_has_the_names_of_the_whole(tmp_path: Path) -> None:
    saved = {name.replace("bn1.", "bn1._orig_mod."): tensor for name, tensor in network().items()}
    assert values(save(saved, tmp_path)) == firsts(network())
    with pytest.raises(CorruptCheckpointError, match="same name"):
        open_checkpoint(save({**saved, "bn1.weight": torch.ones(2)}, tmp_path))


def test_the_model_beside_something_else_keeps_its_prefix(tmp_path: Path) -> None:
    saved = {**network(1, "model."), "criterion.weight": torch.ones(2)}
    path = save(saved, tmp_path)
    assert values(path) == firsts(saved)
    assert values(path, prefix="model.") == values(path, leave_out=["criterion.*"]) == firsts(network())


def test_known_strays_are_left_out_with_the_reason(tmp_path: Path) -> None:
    strays = {"total_ops": "thop", "layer1.total_params": "thop", "bn1._tmp_running_mean": "batch norm"}
    path = save({**network(), **{name: torch.zeros(1) for name in strays}}, tmp_path)
    assert values(path) == firsts(network())
    with open_checkpoint(path) as checkpoint:
        found = {each.name: each.reason for each in checkpoint.left_out}
    assert all(word in found[name] for name, word in strays.items())


def test_patterns_leave_tensors_out(tmp_path: Path) -> None:
    path = save(network(1, "module."), tmp_path)
    left = values(path, leave_out=["bn1.*", "fc.weight"])
    assert list(left) == ["conv1.weight"]
    assert list(values(path, leave_out="bn1.*")) == ["conv1.weight", "fc.weight"]
    with pytest.raises(UsageError, match=r"matches 'nothing\.\*'"):
        open_checkpoint(path, leave_out=["bn1.*", "nothing.*"])
    with pytest.raises(UsageError, match="every tensor"):
        open_checkpoint(path, leave_out=["*"])


class Bag(dict[str, Any]):
    """As configurations of training programs are."""


def test_an_object_that_is_a_dictionary_is_looked_into(tmp_path: Path) -> None:
    assert values(save(Bag(model=Bag(network())), tmp_path)) == firsts(network())
