# SPDX-License-Identifier: Apache-2.0
"""JAX: the whole training step in one jit with donated buffers, updates by Optax.

Dropout takes 8 random bits an element from the rbg generator, the fastest that JAX has on a CPU: p = 0.1 is 26/256.
"""

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from workloads import flat, kernels

from .base import Contestant

jax.config.update("jax_default_prng_impl", "rbg")
MOMENTUM, EPS = 0.1, 1e-5  # of batch normalisation


def optimizer(rule: str, lr: float):
    """An optimizer by the name of its rule, with PyTorch's defaults."""
    if rule in ("sgd", "momentum", "nesterov"):
        return optax.sgd(lr, momentum=None if rule == "sgd" else 0.9, nesterov=rule == "nesterov")
    options = {
        "adagrad": {"initial_accumulator_value": 0.0, "eps": 1e-10}, "rmsprop": {"decay": 0.99},
        "adam": {}, "adamw": {"weight_decay": 0.01},
    }  # fmt: skip
    return getattr(optax, rule)(lr, **options[rule])


def dropout(x, p: float, key):
    kept = jax.random.bits(key, x.shape, jnp.uint8) >= np.uint8(round(256 * p))
    return jnp.where(kept, x * x.dtype.type(1 / (1 - p)), 0)


def normalised(x, axis: int, weight, bias):
    """The normalised x, its mean and its variance."""
    mean = x.mean(axis, keepdims=True)
    variance = jnp.square(x - mean).mean(axis, keepdims=True)
    return (x - mean) * (jax.lax.rsqrt(variance + EPS) * weight) + bias, mean, variance


class Forward:
    """One pass through a net; parameters, running statistics and random keys are taken in layer order."""

    def __init__(self, parameters, statistics, key, dropping: bool, half=None):
        self.parameters, self.statistics, self.key = iter(parameters), iter(statistics), key
        self.dropping, self.training, self.new = dropping, key is not None, []
        self.half = half or (lambda x: x)  # of what a product reads and what is added to it

    def __call__(self, layers, x):
        for kind, *numbers in layers:
            x = x + self(numbers[0], x) if kind == "residual" else getattr(self, kind)(x, *numbers)
        return x

    def linear(self, x, *_):
        return self.half(x) @ self.half(next(self.parameters)) + self.half(next(self.parameters))

    def batch_norm(self, x, _):
        weight, bias, (mean, variance) = next(self.parameters), next(self.parameters), next(self.statistics)
        if not self.training:
            return (x - mean) * (jax.lax.rsqrt(variance + EPS) * weight) + bias
        y, m, v = normalised(x.astype(jnp.float32), 0, weight, bias)
        rows = len(x)
        self.new.append((mean + MOMENTUM * (m[0] - mean), variance + MOMENTUM * (v[0] * (rows / (rows - 1)) - variance)))
        return self.half(y)

    def dropout(self, x, p):
        if not (self.training and self.dropping):
            return x
        self.key, key = jax.random.split(self.key)
        return dropout(x, p, key)

    relu, tanh = (staticmethod(f) for f in (jax.nn.relu, jnp.tanh))
    gelu = staticmethod(partial(jax.nn.gelu, approximate=True))


OPS = {
    "product": lambda key, x, w: x @ w,
    "linear_relu": lambda key, x, w, b: jax.nn.relu(x @ w.astype(x.dtype) + b.astype(x.dtype)),
    "batch_norm_relu_dropout": lambda key, x, *p: dropout(jax.nn.relu(normalised(x, 0, *p)[0]), 0.5, key),
    "linear_norm_relu_dropout": lambda key, x, w, *p: dropout(
        jax.nn.relu(normalised((x @ w.astype(x.dtype)).astype(jnp.float32), 0, *p)[0].astype(x.dtype)), 0.5, key
    ),
    "dropout": lambda key, x: dropout(x, 0.5, key), "layer_norm": lambda key, x, *p: normalised(x, 1, *p)[0],
}  # fmt: skip


PRODUCTS = {"product": lambda a, b: a @ b, "product_nt": lambda a, b: a @ b.T, "product_tn": lambda a, b: a.T @ b}


class Jax(Contestant):
    half = None  # to the type of factors, where that is not float32

    def __init__(self, threads):
        super().__init__(threads)
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])  # XLA makes a thread a processor
        self.last = None

    def build(self, workload, parameters, x, y, lr, dropout):
        self.layers, rule = workload.layers, optimizer(workload.optimizer, lr)
        self.x, self.y = jnp.asarray(x), jnp.asarray(y if y.dtype == np.float32 else y.astype(np.int32))

        def loss(parameters, statistics, x, y, key):
            forward = Forward(parameters, statistics, key, dropout, self.half)
            out = forward(self.layers, x).astype(jnp.float32)
            if workload.loss == "cross_entropy":
                return optax.softmax_cross_entropy_with_integer_labels(out, y).mean(), forward.new
            return jnp.square(out - y).mean(), forward.new

        @partial(jax.jit, donate_argnums=0)
        def step(state, x, y):
            parameters, statistics, optimizing, key = state
            key, own = jax.random.split(key)
            (value, statistics), gradients = jax.value_and_grad(loss, has_aux=True)(parameters, statistics, x, y, own)
            updates, optimizing = rule.update(gradients, optimizing, parameters)
            return (optax.apply_updates(parameters, updates), statistics, optimizing, key), value

        self.compiled, values = step, [jnp.asarray(p) for p in parameters]
        statistics = [(jnp.zeros(n[0]), jnp.ones(n[0])) for kind, *n in flat(workload.layers) if kind == "batch_norm"]
        self.state = values, statistics, rule.init(values), jax.random.key(0)

    def step(self):
        self.state, self.last = self.compiled(self.state, self.x, self.y)

    def loss(self):
        return float(self.last)

    def predictor(self, x):
        parameters, statistics, x = *self.state[:2], jnp.asarray(x)
        forward = jax.jit(
            lambda parameters, statistics, x: Forward(parameters, statistics, None, False, self.half)(self.layers, x)
        )
        return self._kept(lambda: forward(parameters, statistics, x))

    def op(self, kernel, given):
        if kernel.parts == ("update",):
            return self._update(kernel, given)
        x = jnp.asarray(given.x)
        if kernel.kind == "cross_entropy":
            target = jnp.asarray(given.target.astype(np.int32))
            total = lambda x: optax.softmax_cross_entropy_with_integer_labels(x, target).sum()  # noqa: E731
            both = jax.jit(jax.value_and_grad(total))
            return {"both": self._kept(lambda: both(x))}
        half, function = self.half or (lambda x: x), OPS[kernel.kind]
        inputs, dy = [half(x), *map(jnp.asarray, given.parameters.values())], half(jnp.asarray(given.dy))
        run = jax.jit(lambda key, *inputs: jax.vjp(partial(function, key), *inputs))
        pull, key, saved = jax.jit(lambda pull, dy: pull(dy)), jax.random.key(0), []

        def forward():
            y, *saved[:] = run(key, *inputs)
            return [y]

        return {"forward": self._kept(forward), "backward": self._kept(lambda: pull(saved[0], dy))}

    def _update(self, kernel, given):
        rule, w, g = optimizer(kernel.kind, kernels.LR), [*map(jnp.asarray, given.w)], [*map(jnp.asarray, given.g)]

        @partial(jax.jit, donate_argnums=(0, 1))
        def run(w, state, g):
            updates, state = rule.update(g, state, w)
            return optax.apply_updates(w, updates), state

        kept = [w, rule.init(w)]

        def update():
            kept[:] = run(*kept, g)
            return kept[0]

        return {"update": self._kept(update)}

    def _kept(self, call):
        """The call, with its last result kept for `wait`."""

        def keep():
            self.last = call()
            return self.last

        return keep

    def wait(self):
        jax.block_until_ready(self.last)

    def version(self):
        return jax.__version__


class JaxCuda(Jax):
    """On a GPU, where a product would be of tf32 without being told."""

    actions = ("train", "ops")
    matmul = "highest"

    def __init__(self, threads):
        Contestant.__init__(self, threads)
        if jax.default_backend() != "gpu":
            raise ImportError(f"jax runs on {jax.default_backend()} here")
        jax.config.update("jax_default_matmul_precision", self.matmul)
        self.last = None

    def op(self, kernel, given):
        if kernel.kind not in PRODUCTS:
            return super().op(kernel, given)
        half, multiply = self.half or (lambda x: x), jax.jit(PRODUCTS[kernel.kind])
        a, b = half(jnp.asarray(given.x)), half(jnp.asarray(given.parameters["weight"]))
        return {"forward": self._kept(lambda: [multiply(a, b)])}


class JaxCudaBf16(JaxCuda):
    """Factors and activations in bf16; parameters, statistics, the loss and the update in float32."""

    precision, kinds = "bf16", (*PRODUCTS, "linear_relu", "linear_norm_relu_dropout")
    matmul = "default"

    @staticmethod
    def half(x):
        return x.astype(jnp.bfloat16)

    def to_numpy(self, result):
        return np.asarray(result, np.float32)
