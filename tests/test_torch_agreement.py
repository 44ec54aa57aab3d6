# SPDX-License-Identifier: Apache-2.0
"""The same initial weights give PyTorch's losses for 100 steps, in every optimizer, with both normalisations."""

import os

import numpy as np
import pytest

import dlcore as dl
from checks import rng

if os.environ.get("DLCORE_REQUIRE_PEERS"):
    import torch
else:
    torch = pytest.importorskip("torch")

torch.set_num_threads(1)  # its pool spins; these nets are small
STEPS = 100
OPTIMIZERS = {
    "sgd": (lambda: dl.SGD(0.05), lambda p: torch.optim.SGD(p, 0.05)),
    "momentum": (lambda: dl.SGD(0.02, momentum=0.9), lambda p: torch.optim.SGD(p, 0.02, momentum=0.9)),
    "nesterov": (
        lambda: dl.SGD(0.02, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, nesterov=True),
    ),
    "adagrad": (lambda: dl.Adagrad(0.02), lambda p: torch.optim.Adagrad(p, 0.02)),
    "rmsprop": (lambda: dl.RMSprop(1e-3), lambda p: torch.optim.RMSprop(p, 1e-3)),
    "adam": (lambda: dl.Adam(1e-3), lambda p: torch.optim.Adam(p, 1e-3)),
    "adamw": (
        lambda: dl.AdamW(1e-3, weight_decay=0.05),
        lambda p: torch.optim.AdamW([{"params": [q], "weight_decay": 0.05 * (q.ndim > 1)} for q in p], 1e-3),
    ),
}
NORMS = {
    "plain": (lambda n: [], lambda n: []),
    "batch_norm": (lambda n: [dl.BatchNorm(n)], lambda n: [torch.nn.BatchNorm1d(n)]),
    "layer_norm": (lambda n: [dl.LayerNorm(n)], lambda n: [torch.nn.LayerNorm(n)]),
}


def pair(norm, dtype):
    """The same net in both libraries."""
    ours, theirs = NORMS[norm]
    net = dl.Net(
        [dl.Linear(20, 32), *ours(32), dl.Tanh(), dl.Linear(32, 16), *ours(16), dl.ReLU(), dl.Linear(16, 5)],
        dtype=dtype,
    )
    other = torch.nn.Sequential(
        torch.nn.Linear(20, 32), *theirs(32), torch.nn.Tanh(), torch.nn.Linear(32, 16), *theirs(16), torch.nn.ReLU(),
        torch.nn.Linear(16, 5),
    ).to(getattr(torch, dtype))  # fmt: skip
    if norm == "batch_norm":  # the gradient of these biases is zero; PyTorch's is noise that Adagrad divides by its root
        for i in (0, 3):
            other[i].bias.requires_grad_(False)
    with torch.no_grad():
        for p, array in zip(other.parameters(), net.parameters.values(), strict=True):
            p.copy_(torch.from_numpy(array.T.copy()))
    return net, other


def losses(norm, optimizer, dtype):
    net, other = pair(norm, dtype)
    ours, theirs = OPTIMIZERS[optimizer]
    step, update = net.compile(dl.SoftmaxCrossEntropy(), ours(), 64), theirs(other.parameters())
    generator, result = rng(3), ([], [])
    for _ in range(STEPS):
        x, y = generator.normal(size=(64, 20)).astype(dtype), generator.integers(0, 5, 64)
        result[0].append(step(x, y))
        update.zero_grad()
        loss = torch.nn.functional.cross_entropy(other(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        update.step()
        result[1].append(loss.item())
    x = rng(9).normal(size=(64, 20)).astype(dtype)
    other.eval()
    outputs = net.predict(x), other(torch.from_numpy(x)).detach().numpy()
    return np.array(result[0]), np.array(result[1]), outputs


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_losses_are_pytorchs(norm, optimizer):
    """Rounding errors grow while training. How much is measured by PyTorch's own float32 against its float64: we may be as far
    from its float64 as four times that, and in float64 as far as the same growth of float64's roundoff."""
    exact = losses(norm, optimizer, "float64")
    single = losses(norm, optimizer, "float32")
    floor = np.sqrt(STEPS) * 2.0**-24 * exact[1].max()
    drift = max(np.abs(single[1] - exact[1]).max(), floor)
    assert np.abs(single[0] - exact[1]).max() <= 4 * drift
    assert np.abs(exact[0] - exact[1]).max() <= 4 * drift * 2.0**-29
    spread = np.abs(single[2][1] - exact[2][1]).max()
    assert np.abs(single[2][0] - exact[2][1]).max() <= 4 * spread
    assert np.abs(exact[2][0] - exact[2][1]).max() <= 4 * spread * 2.0**-29
