# SPDX-License-Identifier: Apache-2.0
"""Triton: softmax cross-entropy with its gradient, a program a row, the logits read once."""

import torch
import triton
import triton.language as tl

from .torch_cuda import Graphed


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
