# SPDX-License-Identifier: Apache-2.0
"""What a GPU can do at most: bytes a second of a copy, measured through the driver, and multiply-adds, counted; and the
clocks it runs at."""

from __future__ import annotations

import ctypes
import subprocess
import time
from typing import Any

from .peak import Peak

# Attributes of cuDeviceGetAttribute (cuda.h).
CLOCK_KHZ, MULTIPROCESSORS, L2_BYTES, MAJOR, MINOR = 13, 16, 38, 75, 76
# float32 units of a multiprocessor where they are not 128 (CUDA C++ Programming Guide, arithmetic instructions).
UNITS = {(7, 5): 64, (8, 0): 64}
# bf16 operations of a multiprocessor in a clock, sums in float32, by major compute capability: what the data sheets come to.
TENSOR = {8: 2048, 9: 4096, 10: 8192, 12: 2048}
LARGE = 1 << 30  # bytes of a copy that no cache holds
COPIES, ATTEMPTS = 40, 5
STATE = ("name", "driver_version", "clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")


class Driver:
    """The few functions of libcuda that a measurement needs, in the context that dlcore uses too."""

    def __init__(self) -> None:
        self._library, device = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        self("cuInit", 0)
        self("cuDeviceGet", ctypes.byref(device), 0)
        context = ctypes.c_void_p()
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self("cuCtxSetCurrent", context)
        self._device = device

    def __call__(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise RuntimeError(f"{function}: expected status 0, got {status}")

    def attribute(self, number: int) -> int:
        """A number of the first GPU."""
        value = ctypes.c_int()
        self("cuDeviceGetAttribute", ctypes.byref(value), number, self._device)
        return value.value

    def copy_rate(self, size: int) -> float:
        """Bytes read and written a second by a copy of so many bytes, the best of a few attempts."""
        memory, best = ctypes.c_uint64(), 0.0
        self("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(2 * size))
        self("cuMemsetD32_v2", memory, 0x3F8CCCCD, ctypes.c_size_t(size // 2))  # 1.1 everywhere
        for _ in range(1 + ATTEMPTS):  # the first is slow
            self("cuCtxSynchronize")
            begin = time.perf_counter()
            for _ in range(COPIES):
                to = ctypes.c_uint64(memory.value + size)
                self("cuMemcpyDtoDAsync_v2", to, memory, ctypes.c_size_t(size), None)
            self("cuCtxSynchronize")
            best = max(best, 2 * size * COPIES / (time.perf_counter() - begin))
        self("cuMemFree_v2", memory)
        return best


def measure(terms: int = 0) -> Peak:
    """Limits of the first GPU: products of so many bf16 terms (0: float32 without tensor cores), and copies that L2 holds and
    that it does not."""
    driver = Driver()
    major, clocks = driver.attribute(MAJOR), 1e3 * driver.attribute(MULTIPROCESSORS) * driver.attribute(CLOCK_KHZ)
    flops = clocks * (TENSOR.get(major, 2048) / terms if terms else 2 * UNITS.get((major, driver.attribute(MINOR)), 128))
    held = driver.attribute(L2_BYTES) // 2  # bytes that a program may touch and find in L2 again
    return Peak(1, flops, tuple((2 * size, driver.copy_rate(size)) for size in (held // 2, LARGE)))


def state() -> dict[str, str]:
    """Name, driver, clocks, power and temperature of the first GPU, as nvidia-smi has them; empty without it."""
    query = ["nvidia-smi", f"--query-gpu={','.join(STATE)}", "--format=csv,noheader", "--id=0"]
    try:
        line = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(STATE, (cell.strip() for cell in line.strip().split(",")), strict=True))


class Clocks:
    """What the first GPU does at a moment, by NVML, which takes microseconds where nvidia-smi takes a tenth of a second; empty
    without it."""

    SM, MEMORY = 1, 2  # NVML_CLOCK_SM, NVML_CLOCK_MEM

    def __init__(self) -> None:
        self._device = ctypes.c_void_p()
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            self._library = None
            return
        if self._library.nvmlInit_v2() or self._library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self._device)):
            self._library = None

    def __call__(self) -> dict[str, int]:
        """MHz of the multiprocessors and of the memory, milliwatts, and the bits of what holds the clocks back; a number that
        the GPU does not give is left out."""
        if self._library is None:
            return {}
        asked = {
            "sm_mhz": ("nvmlDeviceGetClockInfo", self.SM), "memory_mhz": ("nvmlDeviceGetClockInfo", self.MEMORY),
            "milliwatts": ("nvmlDeviceGetPowerUsage",), "held_back_by": ("nvmlDeviceGetCurrentClocksThrottleReasons",),
        }  # fmt: skip
        numbers = {name: self._number(*function) for name, function in asked.items()}
        return {name: number for name, number in numbers.items() if number is not None}

    def _number(self, function: str, *arguments: int) -> int | None:
        value = ctypes.c_ulonglong()  # the narrower ones fill its beginning
        ask = getattr(self._library, function, None)  # drivers rename the last one
        return None if ask is None or ask(self._device, *arguments, ctypes.byref(value)) else value.value
