# SPDX-License-Identifier: Apache-2.0
"""What the makers of GPUs publish of them: the other end of a roofline, beside what is measured.

Sources: NVIDIA's data sheets of the products (H100, H200, A100, L4, HGX B200) and the Ada GPU architecture white paper (RTX
4090); tensor cores without sparsity, sums in float32.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """Bytes a second of the memory; operations a second in float32 without tensor cores, and on them from tf32 and bf16."""

    bandwidth: float
    float32: float
    tf32: float
    bf16: float

    def flops(self, terms: int) -> float:
        """Of products of so many bf16 terms; 0: multiply-adds."""
        return self.bf16 / terms if terms else self.float32

    def share(self, seconds: float, flops: float, moved: int, terms: int = 0) -> float:
        """The larger of the shares of the operations and of the bandwidth that a run has reached."""
        return max(flops / self.flops(terms), moved / self.bandwidth) / seconds


def _given(gb: float, *tflops: float) -> Published:
    return Published(1e9 * gb, *(1e12 * t for t in tflops))


# By the beginning of the name that nvidia-smi gives, the longest that fits.
PUBLISHED = {
    "NVIDIA H100 80GB HBM3": _given(3350, 67, 494.7, 989.4),
    "NVIDIA H100 PCIe": _given(2000, 51, 378, 756),
    "NVIDIA H100 NVL": _given(3900, 60, 417.5, 835),
    "NVIDIA H200": _given(4800, 67, 494.7, 989.4),
    "NVIDIA H200 NVL": _given(4800, 60, 417.5, 835),
    "NVIDIA A100-SXM4-40GB": _given(1555, 19.5, 156, 312),
    "NVIDIA A100-SXM4-80GB": _given(2039, 19.5, 156, 312),
    "NVIDIA A100-PCIE-40GB": _given(1555, 19.5, 156, 312),
    "NVIDIA A100 80GB PCIe": _given(1935, 19.5, 156, 312),
    "NVIDIA L4": _given(300, 30.3, 60, 121),
    "NVIDIA GeForce RTX 4090": _given(1008, 82.6, 82.6, 165.2),
    "NVIDIA B200": _given(8000, 75, 1125, 2250),
}


def about(name: str) -> dict[str, float] | None:
    """The numbers of a GPU, for a result."""
    found = find(name)
    return found and asdict(found)


def mark(rows: list[dict[str, Any]], machine: dict[str, Any], terms: int) -> None:
    """Give rows of a GPU their share of what is published of it, None where nothing is known."""
    known = machine.get("published")
    for r in rows if "published" in machine else ():
        r["share_of_published"] = known and Published(**known).share(r["ms"] / 1e3, r["flops"], r["bytes"], terms)


def find(name: str) -> Published | None:
    """Of a GPU by its name; None where it is not in the table.

    >>> find("NVIDIA H200 NVL").bf16
    835000000000000.0
    >>> find("NVIDIA L40S") is None
    True
    """
    fit = [known for known in PUBLISHED if f"{name} ".startswith(f"{known} ")]
    return PUBLISHED[max(fit, key=len)] if fit else None
