# SPDX-License-Identifier: Apache-2.0
"""The contestants by name. A new one is a file with a subclass of `Contestant` and a line here.

Modules are imported only in the contestant's own process; what its environment must hold before Python starts stands
here, so that the driver imports no peer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module

# glibc keeps big blocks instead of returning them to the kernel, and asks for huge pages; without it every step of a
# library that allocates its results faults them in again. What a knowing user sets.
KEEP = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}  # fmt: skip

# What holds libraries to an instruction set, each by its own switch; ONNX Runtime has none. MKL heeds its on Intel's
# processors only. XLA's is of JAX and TensorFlow, oneDNN's of PyTorch and TensorFlow.
NUMPY_512 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4"
ISAS = {
    isa: {
        "DLCORE_CPU": isa, "ONEDNN_MAX_CPU_ISA": onednn, "MKL_ENABLE_INSTRUCTIONS": mkl, "OPENBLAS_CORETYPE": openblas,
        "ATEN_CPU_CAPABILITY": aten, "XLA_FLAGS": f"--xla_cpu_max_isa={xla}", "NPY_DISABLE_CPU_FEATURES": disabled,
    }
    for isa, onednn, mkl, openblas, aten, xla, disabled in (
        ("avx2", "AVX2", "AVX2", "Haswell", "avx2", "AVX2", NUMPY_512),
        ("avx512", "AVX512_CORE", "AVX512", "SkylakeX", "avx512", "AVX512", "AVX512_SPR"),
        ("amx", "AVX512_CORE_AMX", "AVX512_E4", "SapphireRapids", "avx512", "AMX", ""),
    )
}  # fmt: skip
UNHELD = ("onnxruntime",)


@dataclass(frozen=True)
class Entry:
    """Module and class of a contestant, and its environment."""

    module: str
    cls: str
    environment: dict[str, str] = field(default_factory=dict)

    def load(self) -> type:
        return getattr(import_module(f"contestants.{self.module}"), self.cls)


REGISTRY = {
    "dlcore": Entry("dlcore_", "Dlcore"),
    "dlcore_bf16": Entry("dlcore_", "DlcoreBf16"),
    "dlcore_bf16x3": Entry("dlcore_", "DlcoreBf16x3"),
    "torch_eager": Entry("torch_", "TorchEager"),
    "torch_tuned": Entry("torch_", "TorchEager", KEEP),
    "torch_compile": Entry("torch_", "TorchCompile", KEEP),
    "torch_compile_max": Entry("torch_", "TorchCompileMax", KEEP),
    "torch_bf16": Entry("torch_", "TorchBf16", KEEP),
    "torch_compile_bf16": Entry("torch_", "TorchCompileBf16", KEEP),
    "jax": Entry("jax_", "Jax", KEEP),
    "tensorflow": Entry("tensorflow_", "Tensorflow", {**KEEP, "TF_CPP_MIN_LOG_LEVEL": "3"}),
    "onnxruntime": Entry("onnxruntime_", "OnnxRuntime", KEEP),
    "sklearn": Entry("sklearn_", "Sklearn", KEEP),
    "numpy": Entry("numpy_", "Numpy", KEEP),
    "torch_float64": Entry("torch_", "TorchFloat64"),
}
# On other devices the same names stand for other classes; the truth is computed on the CPU.
GPU = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
ON = {
    "cpu": {},
    "cuda": {
        "dlcore": Entry("dlcore_device", "DlcoreCuda"),
        "dlcore_mma": Entry("dlcore_device", "DlcoreMma"),
        "dlcore_wgmma": Entry("dlcore_device", "DlcoreWgmma"),
        "dlcore_cublaslt": Entry("dlcore_device", "DlcoreCublasLt"),
        "torch_eager": Entry("torch_cuda", "TorchCuda"),
        "torch_compile": Entry("torch_cuda", "TorchCudaCompile"),
        "jax": Entry("jax_", "JaxCuda", GPU),
        "cublaslt": Entry("cublaslt", "CublasLt"),
        "triton": Entry("triton_", "Triton"),
        "dlcore_mma_bf16": Entry("dlcore_device", "DlcoreMmaBf16"),
        "dlcore_wgmma_bf16": Entry("dlcore_device", "DlcoreWgmmaBf16"),
        "torch_bf16": Entry("torch_cuda", "TorchCudaBf16"),
        "torch_compile_bf16": Entry("torch_cuda", "TorchCudaCompileBf16"),
        "jax_bf16": Entry("jax_", "JaxCudaBf16", GPU),
        "cublaslt_bf16": Entry("cublaslt", "CublasLtBf16"),
        "triton_bf16": Entry("triton_", "TritonBf16"),
        "dlcore_mma_bf16x3": Entry("dlcore_device", "DlcoreMmaBf16x3"),
        "dlcore_wgmma_bf16x3": Entry("dlcore_device", "DlcoreWgmmaBf16x3"),
        "torch_tf32": Entry("torch_cuda", "TorchCudaTf32"),
        "cublaslt_tf32": Entry("cublaslt", "CublasLtTf32"),
    },
    "emulated": {
        "dlcore": Entry("dlcore_device", "DlcoreEmulated"),
        "dlcore_cublaslt": Entry("dlcore_device", "DlcoreEmulatedCublasLt"),
        "torch_eager": REGISTRY["torch_eager"],
        "dlcore_wgmma_bf16": Entry("dlcore_device", "DlcoreEmulatedWgmmaBf16"),
    },
}  # fmt: skip


def entry(name: str, device: str = "cpu") -> Entry:
    """A contestant on a device."""
    return {**REGISTRY, **ON[device]}[name]


# Ratios are to the one of the same precision; tf32 is of factors of 11 bits or more.
REFERENCES = {"float32": "torch_eager", "bf16": "torch_bf16", "tf32": "torch_tf32"}
TRUTH = "torch_float64"  # errors are to it; it is not timed
TIMED = tuple(name for name in REGISTRY if name != TRUTH)


def timed(device: str) -> tuple[str, ...]:
    """Names of the contestants on a device."""
    return tuple(ON[device]) or TIMED
