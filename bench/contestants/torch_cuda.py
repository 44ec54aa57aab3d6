# SPDX-License-Identifier: Apache-2.0
"""PyTorch on a GPU, in float32 without tf32: eager, and compiled with the whole step in one CUDA graph."""

import itertools

import torch

from .torch_ import TorchCompile, TorchEager

WARM_STEPS = 3


class TorchCuda(TorchEager):
    device = "cuda"
    actions = ("train", "ops")

    def __init__(self, threads):
        super().__init__(threads)
        if not torch.cuda.is_available():
            raise ImportError("torch has no GPU here")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def wait(self):
        torch.cuda.synchronize()

    def version(self):
        return f"{torch.__version__}, allow_tf32={torch.backends.cuda.matmul.allow_tf32}"


class TorchCudaCompile(TorchCuda, TorchCompile):
    """Inductor's best kernels; forward, backward and the fused, capturable update are captured once and replayed."""

    def compiled(self, function):
        return torch.compile(function, dynamic=False, mode="max-autotune-no-cudagraphs")

    def build(self, workload, parameters, x, y, lr, dropout):
        super().build(workload, parameters, x, y, lr, dropout)
        for group in self.optimizer.param_groups:
            group["capturable"] = "capturable" in group
        kept = [*self.net.parameters(), *self.net.buffers()]
        begin, side = [t.detach().clone() for t in kept], torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_STEPS):
                super().step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph):
            self.last = self.criterion(self.x, self.y)
            self.last.backward()
            self.optimizer.step()
        with torch.no_grad():
            for tensor, value in zip(kept, begin, strict=True):
                tensor.copy_(value)
            for state in itertools.chain.from_iterable(s.values() for s in self.optimizer.state.values()):
                state.zero_()

    def step(self):
        self.graph.replay()
