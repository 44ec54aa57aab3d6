# SPDX-License-Identifier: Apache-2.0
"""cuBLASLt's float32 product: the fastest of its first eight heuristics. The library is that of PyTorch, which also gives
memory and events."""

import ctypes

import torch

from .torch_cuda import Graphed

HEURISTICS, WORKSPACE, TRIALS = 8, 32 << 20, 50
# Enumerators of cublas_api.h, library_types.h and cublasLt.h.
COMPUTE_32F, R_32F, PREFERENCE_WORKSPACE = 68, 0, 1


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
    kinds = ("product",)

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
        """Row-major C = A B is column-major C^T = B^T A^T: the operands change places."""
        m, n, k = kernel.shape
        a, b = self.tensor(given.x), self.tensor(given.parameters["weight"])
        c, workspace = torch.empty(m, n, device="cuda"), torch.empty(WORKSPACE, dtype=torch.uint8, device="cuda")
        product = self._made("MatmulDescCreate", COMPUTE_32F, R_32F)
        left, right, out = (
            self._made("MatrixLayoutCreate", R_32F, *map(ctypes.c_uint64, shape), ctypes.c_int64(shape[0]))
            for shape in ((n, k), (k, m), (n, m))
        )
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
