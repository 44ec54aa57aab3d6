# SPDX-License-Identifier: Apache-2.0
"""A product alone as a subject of a benchmark, in any of its three roles.

What is computed in one term of 16 bits has its operands in 16 bits already, as nets hold them, and gives activations and
their gradients in 16 bits, gradients of weights in float32. Other precisions take float32 and give float32: what makes
several terms of it is timed with the product.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .. import backend as backends
from .. import ops
from ..graph import Trace
from . import halves, kernels
from .kernels import Kernel
from .programs import Arrays, variants
from .subject import Subject


class ProductSubject(Subject):
    """y = a b, a b^T or a^T b, by the kind of a kernel of `kernels.PRODUCTS`."""

    parts: ClassVar = {"forward": ("gradients",)}

    def __init__(self, kernel: Kernel, threads: int, device: str = "cpu", gemm: str = "auto", precision: str = "float32"):
        self.name, self.kernel, self.device, self.precision = kernel.name, kernel, device, precision
        self.given, backend = kernels.given(kernel), backends.get("float32", device)
        half = halves.dtype_of(backend, precision, gemm, *kernel.shape)
        self.half = "" if kernel.kind == "product_tn" else half  # of the result
        operands = {"a": self.given.x, "b": self.given.parameters["weight"]}
        y = np.zeros(kernel.shape[:2], np.float32)
        trace = Trace(training=False)
        values = {name: trace.value(name, x.shape, kind=name, **halves.fields(half)) for name, x in operands.items()}
        result = trace.value("y", y.shape, kind="y", **halves.fields(self.half))
        role = (ops.ROLE_NN, ops.ROLE_NT, ops.ROLE_TN)[kernels.PRODUCTS.index(kernel.kind)]
        trace.append(ops.Product, result, numbers=(role,), **values)
        arrays = {name: halves.to_bits(x, half) for name, x in operands.items()}
        self.arrays = Arrays(backend, **arrays, y=halves.to_bits(y, self.half))
        self.programs = variants(backend, trace, {}, {}, self.arrays.memories, threads, gemm, precision)

    def results(self, part):
        rows = self.arrays["y"][kernels.checked_rows(self.kernel)]
        return {"y": halves.from_bits(rows, self.kernel.outputs, self.half)}

    def wanted(self, found):
        return {"forward": ({"y": kernels.product(self.kernel, self.given)}, max(self.given.x.shape))}
