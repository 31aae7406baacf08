"""What is worth showing of the values around a state dict, cut to a size that can be shown."""

from __future__ import annotations

import math
from collections.abc import Mapping

from r2convert.checkpoint import limits
from r2convert.checkpoint.pickles.numpy_names import EncodedText, PickledArray
from r2convert.checkpoint.pickles.torch_names import ElementKind
from r2convert.checkpoint.pickles.values import Opaque, PickledBytes, UnreadTensor
from r2convert.checkpoint.tensor import TensorInfo


def summarise(values: Mapping[object, object]) -> dict[str, object]:
    """Return plain values as JSON can hold them, bounded in number, length and depth.

    What does not fit is replaced by its kind and size in angle brackets, as are tensors and byte strings.
    """
    return _Summary().mapping(values, limits.METADATA_LEVELS)


class _Summary:
    """One summary; shared containers count each time they are shown, so the work is bounded by a budget."""

    def __init__(self) -> None:
        self._remaining = limits.METADATA_VALUES

    def mapping(self, values: Mapping[object, object], levels: int) -> dict[str, object]:
        shown: dict[str, object] = {}
        for name, value in values.items():
            if len(shown) == limits.METADATA_ENTRIES:
                break
            shown[_text(str(name))] = self._value(value, levels)
        return shown

    def _value(self, value: object, levels: int) -> object:
        self._remaining -= 1
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int):
            return value if abs(value) < 1 << 63 else f"<number of {value.bit_length()} bits>"
        if isinstance(value, float):
            return value if math.isfinite(value) else repr(value)
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, (dict, list, tuple)):
            return self._container(value, levels)
        return _described(value)

    def _container(self, value: dict[object, object] | list[object] | tuple[object, ...], levels: int) -> object:
        if value and (len(value) > limits.METADATA_ENTRIES or levels == 0 or self._remaining <= 0):
            return f"<{type(value).__name__} of {len(value)}>"
        if isinstance(value, dict):
            return self.mapping(value, levels - 1)
        return [self._value(inner, levels - 1) for inner in value]


def _text(value: str) -> str:
    kept = value[: limits.METADATA_TEXT].encode("utf-8", "backslashreplace").decode("utf-8")
    return kept if len(value) <= limits.METADATA_TEXT else kept + "..."


def _described(value: object) -> str:
    if isinstance(value, TensorInfo):
        return f"<{value.dtype.value} tensor of shape {list(value.shape)}>"
    if isinstance(value, UnreadTensor):
        return f"<{value.kind}>" if value.shape is None else f"<{value.kind} of shape {list(value.shape)}>"
    if isinstance(value, PickledArray):
        return f"<NumPy array of shape {list(value.shape)}>"
    if isinstance(value, PickledBytes):
        return f"<{'text' if value.is_text else 'bytes'} of {value.length} bytes>"
    if isinstance(value, EncodedText):
        return f"<bytes of {value.extent.length} bytes as text>"
    if isinstance(value, ElementKind):
        return f"torch.{value.name}"
    if isinstance(value, complex):
        return str(value)
    return f"<{_text(value.name)}>" if isinstance(value, Opaque) else f"<{type(value).__name__}>"
