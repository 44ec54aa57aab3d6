# SPDX-License-Identifier: Apache-2.0
"""Arrays in 16 bits, as nets of one term hold activations and their gradients on a GPU."""

from __future__ import annotations

import numpy as np

from .. import backend as backends
from ..plan.precision import HALVES

ALIGN = 8  # elements in whose multiples rows are laid out


def dtype_of(backend, precision: str, gemm: str, *shape: int) -> str:
    """Of the operands of a product (m, n, k): "bf16" or "f16" where they are held in 16 bits, else ""."""
    one = backend.unit_layout == "parts" and backends.terms(backend, precision, *shape, gemm) == 1
    return HALVES[precision] if one else ""


def fields(half: str) -> dict:
    """Of a value that is held so."""
    return {"dtype": half, "layout": "parts", "ld": 1} if half else {}


def to_bits(array: np.ndarray, half: str) -> np.ndarray:
    """Rows rounded to nearest even; the array itself where ``half`` is ""."""
    if not half:
        return array
    rows = np.zeros((len(array), -(-array.shape[1] // ALIGN) * ALIGN), np.float32)
    rows[:, : array.shape[1]] = array
    if half == "f16":
        return rows.astype(np.float16).view(np.uint16)
    bits = rows.view(np.uint32)
    return ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype(np.uint16)


def from_bits(array: np.ndarray, cols: int, half: str) -> np.ndarray:
    """The float32 values of such rows."""
    if not half:
        return array
    values = array.view(np.float16) if half == "f16" else (array.astype(np.uint32) << 16).view(np.float32)
    return values[:, :cols].astype(np.float32)
