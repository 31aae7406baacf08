"""The safetensors format's names of the element types r2convert knows."""

from __future__ import annotations

from typing import Final

from r2convert.checkpoint.dtypes import DType

SAFETENSORS_TYPES: Final = {
    "F64": DType.FLOAT64,
    "F32": DType.FLOAT32,
    "F16": DType.FLOAT16,
    "BF16": DType.BFLOAT16,
    "I64": DType.INT64,
    "I32": DType.INT32,
    "I16": DType.INT16,
    "I8": DType.INT8,
    "U8": DType.UINT8,
    "BOOL": DType.BOOL,
}
