# SPDX-License-Identifier: Apache-2.0
"""Linear, batch and layer normalisation, softmax: forward passes and their gradients."""

import numpy as np

from .real import float64


def linear(x, weight, bias=None):
    """y = x W + b; weight (in, out)."""
    x, weight, bias = float64(x, weight, bias)
    y = x @ weight
    return y if bias is None else y + bias


def linear_backward(dy, x, weight):
    """dx, dweight, dbias."""
    dy, x, weight = float64(dy, x, weight)
    return dy @ weight.T, x.T @ dy, dy.sum(axis=0)


def _scale_shift(xhat, gamma, beta):
    y = xhat if gamma is None else xhat * gamma
    return y if beta is None else y + beta


def batch_norm(x, gamma, beta, running_mean, running_var, momentum=0.1, eps=1e-5):
    """y, mean, biased variance, new running mean, new running variance (of the unbiased variance, as in PyTorch)."""
    x, gamma, beta, running_mean, running_var = float64(x, gamma, beta, running_mean, running_var)
    rows = x.shape[0]
    assert rows > 1, "batch statistics need two rows"
    mean = x.mean(axis=0)
    var = ((x - mean) ** 2).mean(axis=0)
    y = _scale_shift((x - mean) / np.sqrt(var + eps), gamma, beta)
    new_mean = (1 - momentum) * running_mean + momentum * mean
    new_var = (1 - momentum) * running_var + momentum * var * rows / (rows - 1)
    return y, mean, var, new_mean, new_var


def batch_norm_backward(dy, x, gamma, eps=1e-5):
    """dx, dgamma, dbeta of batch normalisation with batch statistics."""
    dy, x, gamma = float64(dy, x, gamma)
    mean = x.mean(axis=0)
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(axis=0) + eps)
    xhat = (x - mean) * rstd
    return _normalize_backward(dy, xhat, rstd, gamma, axis=0), (dy * xhat).sum(axis=0), dy.sum(axis=0)


def batch_norm_evaluation(x, gamma, beta, running_mean, running_var, eps=1e-5):
    """y with the running statistics."""
    x, gamma, beta, running_mean, running_var = float64(x, gamma, beta, running_mean, running_var)
    return _scale_shift((x - running_mean) / np.sqrt(running_var + eps), gamma, beta)


def batch_norm_evaluation_backward(dy, x, gamma, running_mean, running_var, eps=1e-5):
    """dx, dgamma, dbeta with the running statistics, which are constants."""
    dy, x, gamma, running_mean, running_var = float64(dy, x, gamma, running_mean, running_var)
    rstd = 1 / np.sqrt(running_var + eps)
    xhat = (x - running_mean) * rstd
    return _scale_shift(dy, gamma, None) * rstd, (dy * xhat).sum(axis=0), dy.sum(axis=0)


def layer_norm(x, gamma=None, beta=None, eps=1e-5):
    """y, mean (rows, 1), rstd (rows, 1); biased variance of each row."""
    x, gamma, beta = float64(x, gamma, beta)
    mean = x.mean(axis=1, keepdims=True)
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(axis=1, keepdims=True) + eps)
    return _scale_shift((x - mean) * rstd, gamma, beta), mean, rstd


def layer_norm_backward(dy, x, gamma=None, eps=1e-5):
    """dx, dgamma, dbeta."""
    dy, x, gamma = float64(dy, x, gamma)
    xhat, _, rstd = layer_norm(x, eps=eps)
    return _normalize_backward(dy, xhat, rstd, gamma, axis=1), (dy * xhat).sum(axis=0), dy.sum(axis=0)


def _normalize_backward(dy, xhat, rstd, gamma, axis):
    """dx = rstd (d - mean(d) - xhat mean(d xhat)), d = dy gamma, means over the normalised axis."""
    d = _scale_shift(dy, gamma, None)
    mean = d.mean(axis=axis, keepdims=True)
    projection = (d * xhat).mean(axis=axis, keepdims=True)
    return rstd * (d - mean - xhat * projection)


def log_softmax(x):
    """x - log(sum(exp(x))) of each row."""
    x = float64(x)
    shifted = x - x.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def softmax(x):
    """exp(x) / sum(exp(x)) of each row."""
    x = float64(x)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
