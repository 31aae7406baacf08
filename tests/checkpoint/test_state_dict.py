"""State dicts are found under the wrappers people use; ambiguity is an error that lists the choices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from r2convert.checkpoint.open import open_checkpoint
from r2convert.errors import UnsupportedCheckpointError, UsageError

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
