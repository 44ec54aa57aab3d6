# SPDX-License-Identifier: Apache-2.0
"""cuBLASLt's products, in float32, tf32 and bf16: the fastest of its first eight heuristics. The library is that of PyTorch,
which also gives memory and events."""

import ctypes

import torch

from .torch_cuda import PRODUCTS, Graphed, TorchCudaBf16

HEURISTICS, WORKSPACE, TRIALS = 8, 32 << 20, 50
# Enumerators of cublas_api.h, library_types.h and cublasLt.h.
COMPUTE_32F, COMPUTE_32F_FAST_TF32, R_32F, R_16BF, PREFERENCE_WORKSPACE = 68, 77, 0, 14, 1
TRANSA, TRANSB, TRANSPOSED = 3, 4, 1


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t"""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8), ("workspace", ctypes.c_size_t), ("state", ctypes.c_int),
        ("waves", ctypes.c_float), ("reserved", ctypes.c_int * 4),
    )  # fmt: skip


def library() -> ctypes.CDLL:
    for name in ("libcublasLt.so.13", "libcublasLt.so.12"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise ImportError("cuBLASLt: expected libcublasLt.so.13 or .12, got none")


class CublasLt(Graphed):
    actions = ("ops",)
    kinds = tuple(PRODUCTS)
    compute, factors = COMPUTE_32F, R_32F

    def __init__(self, threads):
        super().__init__(threads)
        self._library, self._handle = library(), ctypes.c_void_p()
        self._call("Create", ctypes.byref(self._handle))

    def _call(self, function, *arguments):
        status = getattr(self._library, f"cublasLt{function}")(*arguments)
        if status:
            raise RuntimeError(f"cublasLt{function}: expected status 0, got {status}")

    def _made(self, function, *arguments):
        made = ctypes.c_void_p()
        self._call(function, ctypes.byref(made), *arguments)
        return made

    def op(self, kernel, given):
        """Row-major C = A B is column-major C^T = B^T A^T: the operands change places. A gradient of weights is float32."""
        a, b = self.operand(given.x), self.operand(given.parameters["weight"])
        kind = torch.float32 if kernel.kind == "product_tn" else a.dtype
        c = torch.empty(kernel.shape[:2], device=self.device, dtype=kind)
        workspace = torch.empty(WORKSPACE, dtype=torch.uint8, device=self.device)
        product = self._made("MatmulDescCreate", self.compute, R_32F)
        for attribute, role in ((TRANSA, "product_nt"), (TRANSB, "product_tn")):
            if kernel.kind == role:
                self._call("MatmulDescSetAttribute", product, attribute, ctypes.byref(ctypes.c_int32(TRANSPOSED)),
                           ctypes.c_size_t(4))  # fmt: skip
        left, right, out = (
            self._made("MatrixLayoutCreate", R_32F if x.dtype == torch.float32 else self.factors,
                       *map(ctypes.c_uint64, x.shape[::-1]), ctypes.c_int64(x.shape[1]))
            for x in (b, a, c)
        )  # fmt: skip
        one, zero, at = ctypes.c_float(1), ctypes.c_float(0), lambda t: ctypes.c_void_p(t.data_ptr())

        def run(heuristic):
            stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
            self._call("Matmul", self._handle, product, ctypes.byref(one), at(b), left, at(a), right, ctypes.byref(zero),
                       at(c), out, at(c), out, ctypes.byref(heuristic.algorithm), at(workspace),
                       ctypes.c_size_t(WORKSPACE), stream)  # fmt: skip
            return [c]

        best = min(self._heuristics(product, left, right, out), key=lambda h: self._seconds(lambda: run(h)))
        return {"forward": lambda: run(best)}

    def _heuristics(self, product, left, right, out):
        preference, limit = self._made("MatmulPreferenceCreate"), ctypes.c_size_t(WORKSPACE)
        self._call("MatmulPreferenceSetAttribute", preference, PREFERENCE_WORKSPACE, ctypes.byref(limit),
                   ctypes.c_size_t(ctypes.sizeof(limit)))  # fmt: skip
        found, count = (Heuristic * HEURISTICS)(), ctypes.c_int()
        self._call("MatmulAlgoGetHeuristic", self._handle, product, left, right, out, out, preference, HEURISTICS, found,
                   ctypes.byref(count))  # fmt: skip
        return [h for h in found[: count.value] if h.state == 0]

    def _seconds(self, call) -> float:
        """Of a call's replays; infinite where the library refuses what it has proposed."""
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        try:
            replay = self.captured(call)
        except RuntimeError:
            return float("inf")
        begin.record()
        for _ in range(TRIALS):
            replay()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)


class CublasLtTf32(CublasLt):
    precision, compute = "tf32", COMPUTE_32F_FAST_TF32


class CublasLtBf16(CublasLt):
    precision, factors, operand = "bf16", R_16BF, TorchCudaBf16.operand
