# SPDX-License-Identifier: Apache-2.0
"""Triton: softmax cross-entropy with its gradient, a program a row, the logits read once; and products of bf16, tiles of
which the fastest is taken."""

import torch
import triton
import triton.language as tl

from .torch_cuda import Graphed, TorchCudaBf16

TILES = [  # (rows, columns, depth, warps, stages)
    (128, 256, 64, 8, 3), (256, 128, 64, 8, 3), (128, 128, 64, 8, 3), (128, 128, 64, 4, 4), (128, 64, 64, 4, 4),
    (64, 64, 64, 4, 4),
]  # fmt: skip
GROUP = 8  # rows of tiles that are done together, so that L2 has their columns


@triton.jit
def rows(logits, target, gradient, losses, columns, block: tl.constexpr):
    row, at = tl.program_id(0).to(tl.int64), tl.arange(0, block)
    inside = at < columns
    x = tl.load(logits + row * columns + at, mask=inside, other=-float("inf"))
    x = x - tl.max(x, 0)
    exponentials = tl.exp(x)
    total, hot = tl.sum(exponentials, 0), at == tl.load(target + row)
    tl.store(gradient + row * columns + at, exponentials / total - hot.to(tl.float32), mask=inside)
    tl.store(losses + row, tl.log(total) - tl.sum(tl.where(hot, x, 0.0), 0))


@triton.autotune(
    [triton.Config({"bm": m, "bn": n, "bk": k}, num_warps=w, num_stages=s) for m, n, k, w, s in TILES], key=["m", "n", "k"]
)
@triton.jit
def tiles(a, b, c, m, n, k, am, ak, bk_, bn_, bm: tl.constexpr, bn: tl.constexpr, bk: tl.constexpr, group: tl.constexpr):
    """c (m, n) = a b; am, ak and bk_, bn_ are the strides of their elements."""
    tile, across, down = tl.program_id(0), tl.cdiv(n, bn), tl.cdiv(m, bm)
    first = tile // (group * across) * group
    tall = min(down - first, group)
    i, j = first + tile % (group * across) % tall, tile % (group * across) // tall
    at_m, at_n, at_k = i * bm + tl.arange(0, bm), j * bn + tl.arange(0, bn), tl.arange(0, bk)
    left = a + (at_m % m)[:, None] * am + at_k[None, :] * ak
    right = b + at_k[:, None] * bk_ + (at_n % n)[None, :] * bn_
    sums = tl.zeros((bm, bn), dtype=tl.float32)
    for done in range(0, k, bk):
        inside = at_k < k - done
        x = tl.load(left, mask=inside[None, :], other=0.0)
        y = tl.load(right, mask=inside[:, None], other=0.0)
        sums = tl.dot(x, y, sums)
        left += bk * ak
        right += bk * bk_
    kept = (at_m < m)[:, None] & (at_n < n)[None, :]
    tl.store(c + at_m[:, None] * n + at_n[None, :], sums.to(tl.bfloat16), mask=kept)


class Triton(Graphed):
    actions = ("ops",)
    kinds = ("cross_entropy",)

    def op(self, kernel, given):
        x, target = self.tensor(given.x), self.tensor(given.target)
        gradient, losses = torch.empty_like(x), torch.empty(len(x), device=x.device)
        block = triton.next_power_of_2(x.shape[1])

        def both():
            rows[(len(x),)](x, target, gradient, losses, x.shape[1], block, num_warps=4 if block >= 512 else 1)
            return [losses.sum(), gradient]

        return {"both": both}

    def version(self):
        return triton.__version__


class TritonBf16(TorchCudaBf16, Graphed):
    actions = ("ops",)
    kinds = ("product", "product_nt", "product_tn")
    version = Triton.version

    def op(self, kernel, given):
        m, n, k = kernel.shape
        a, b = self.operand(given.x), self.operand(given.parameters["weight"])
        a, b = a.T if kernel.kind == "product_tn" else a, b.T if kernel.kind == "product_nt" else b
        c = torch.empty(m, n, device=a.device, dtype=a.dtype)

        def forward():
            grid = lambda meta: (triton.cdiv(m, meta["bm"]) * triton.cdiv(n, meta["bn"]),)  # noqa: E731
            tiles[grid](a, b, c, m, n, k, *a.stride(), *b.stride(), group=GROUP)
            return [c]

        return {"forward": forward}
