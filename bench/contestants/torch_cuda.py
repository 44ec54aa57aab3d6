# SPDX-License-Identifier: Apache-2.0
"""PyTorch on a GPU, eager, and compiled with the whole step in one CUDA graph: in float32 without tf32, and under bf16
autocast; eager with tf32 too."""

import itertools

import torch

from workloads import kernels

from .torch_ import TorchCompile, TorchEager

WARM_CALLS = 3
WITH_PRODUCTS = (*kernels.PRODUCTS, "linear_relu", "linear_norm_relu_dropout")
PRODUCTS = {"product": lambda a, b: a @ b, "product_nt": lambda a, b: a @ b.T, "product_tn": lambda a, b: a.T @ b}


class TorchCuda(TorchEager):
    device = "cuda"
    actions = ("train", "ops")
    tf32 = False

    def __init__(self, threads):
        super().__init__(threads)
        if not torch.cuda.is_available():
            raise ImportError("torch has no GPU here")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32

    def op(self, kernel, given):
        if kernel.kind not in PRODUCTS:
            return super().op(kernel, given)
        multiply, a, b = self.compiled(PRODUCTS[kernel.kind]), self.operand(given.x), self.operand(given.parameters["weight"])
        return {"forward": lambda: [multiply(a, b)]}

    def wait(self):
        torch.cuda.synchronize()

    def version(self):
        return f"{torch.__version__}, allow_tf32={torch.backends.cuda.matmul.allow_tf32}"


class Graphed(TorchCuda):
    """What is timed is replayed as a CUDA graph: no time of the interpreter is in it. Everything is put on one stream of
    its own, as autograd runs a backward pass where its forward pass ran, and the default stream cannot be captured."""

    def __init__(self, threads):
        super().__init__(threads)
        torch.cuda.set_stream(torch.cuda.Stream())

    def captured(self, call):
        """A function that replays a call, which is warm by then; its results stay where they are."""
        for _ in range(WARM_CALLS):
            call()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
            call()
        return graph.replay

    def many(self, part, call):
        return super().many(part, call if part == "step" else self.captured(call))


class TorchCudaCompile(Graphed, TorchCompile):
    """Inductor's best kernels; forward, backward and the fused, capturable update are captured once and replayed."""

    def __init__(self, threads):
        super().__init__(threads)
        torch.compiler.reset()  # a function that was compiled for many nets falls back to eager

    def compiled(self, function):
        return torch.compile(function, dynamic=False, mode="max-autotune-no-cudagraphs")

    def made_optimizer(self, rule, parameters, lr):
        made = super().made_optimizer(rule, parameters, lr)
        for group in made.param_groups:
            group.update({"capturable": True} if "capturable" in group else {})
        return made

    def build(self, workload, parameters, x, y, lr, dropout):
        super().build(workload, parameters, x, y, lr, dropout)
        kept = [*self.net.parameters(), *self.net.buffers()]
        begin = [t.detach().clone() for t in kept]
        self.replay = self.captured(super().step)
        states = itertools.chain.from_iterable(s.values() for s in self.optimizer.state.values())
        with torch.no_grad():
            for tensor, value in zip(kept, begin, strict=True):
                tensor.copy_(value)
            for state in states:
                state.zero_()

    def step(self):
        self.replay()


class TorchCudaTf32(TorchCuda):
    precision, tf32, kinds = "tf32", True, WITH_PRODUCTS


class TorchCudaBf16(TorchCuda):
    """Products of bf16 with float32 sums, under autocast; an op is given what a net would have made in bf16."""

    precision, kinds = "bf16", WITH_PRODUCTS

    def autocast(self):
        return torch.autocast(self.device, dtype=torch.bfloat16, cache_enabled=False)  # a graph must not keep casts

    def operand(self, array):
        return self.tensor(array).to(torch.bfloat16)


class TorchCudaCompileBf16(TorchCudaBf16, TorchCudaCompile):
    pass
