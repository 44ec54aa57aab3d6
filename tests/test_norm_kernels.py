# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation's finishing kernels and layer normalisation against the oracle."""

import numpy as np
import pytest

import oracle
from checks import assert_close, rng, shapes
from instructions import assert_same_bits, pointwise, run_kernel, stage

SHAPES = shapes(2)


def normal(r, rows, cols, real, spread=1.0, offset=0.0):
    return (offset + spread * r.normal(size=(rows, cols))).astype(real)


def empty(count, rows, cols, real):
    return [np.full((rows, cols), np.nan, real) for _ in range(count)]


def batch_moments(backend, x):
    mean, squares = empty(2, 1, x.shape[1], x.dtype)
    run_kernel(backend, "pointwise", [x], *x.shape, [stage("moments", out=mean, out2=squares)])
    return mean, squares


# ------------------------------------------------------------------------------------------------- batch norm
def test_moments_finish_matches_oracle(backend, real):
    r = rng(1)
    for rows, cols in SHAPES:
        mean, gamma, beta, running_mean = normal(r, 4, cols, real)[:, None]
        squares, running_var = r.uniform(0.1, 3, size=(2, 1, cols)).astype(real) * np.dtype(real).type(rows)
        old_mean, old_var = running_mean.astype(np.float64), running_var.astype(np.float64)
        outs = empty(4, 1, cols, real)
        run_kernel(backend, "moments_finish", [mean, squares, gamma, beta, running_mean, running_var, *outs], rows, cols,
                   numbers=[rows, 1e-5, 0.1])  # fmt: skip
        m, s, g, b = (v.astype(np.float64) for v in (mean, squares, gamma, beta))
        rstd = 1 / np.sqrt(s / rows + 1e-5)
        for got, want in zip(outs, (g * rstd, b - m * g * rstd, rstd, -m * rstd), strict=True):
            assert_close(got, want, depth=6, scale=np.abs(b) + np.abs(m * g * rstd) + rstd)
        unbiased = s / max(rows - 1, 1)
        assert_close(running_mean, 0.9 * old_mean + 0.1 * m, depth=3, scale=np.abs(old_mean) + np.abs(m))
        assert_close(running_var, 0.9 * old_var + 0.1 * unbiased, depth=4, scale=np.abs(old_var) + unbiased)


def test_moments_finish_without_running_statistics(backend, real):
    mean, gamma, beta, rest = normal(rng(2), 4, 9, real)[:, None]
    inputs = [mean, np.abs(rest), gamma, beta]
    with_statistics, without = empty(4, 1, 9, real), empty(4, 1, 9, real)
    run_kernel(backend, "moments_finish", [*inputs, rest.copy(), np.abs(rest), *with_statistics], 7, 9,
               numbers=[7, 1e-5, 0.1])  # fmt: skip
    run_kernel(backend, "moments_finish", [*inputs, None, None, *without], 7, 9, numbers=[7, 1e-5, 0.1])
    for got, want in zip(without, with_statistics, strict=True):
        assert_same_bits(got, want)


def test_moments_finish_serves_evaluation(backend, real):
    r = rng(3)
    for rows, cols in SHAPES:
        gamma, beta, mean = normal(r, 3, cols, real)[:, None]
        var = r.uniform(0, 3, size=(1, cols)).astype(real)
        scale, shift, rstd, center = empty(4, 1, cols, real)
        outs = [None, None, scale, shift, rstd, center]
        run_kernel(backend, "moments_finish", [mean, var, gamma, beta, *outs], rows, cols, numbers=[1, 1e-3, 0])
        x = normal(r, rows, cols, real)
        want = oracle.batch_norm_evaluation(x, gamma, beta, mean, var, 1e-3)
        got = pointwise(backend, x, [stage("affine", a=scale, b=shift)])
        rate = np.abs(gamma) / np.sqrt(var + 1e-3)
        assert_close(got, want, depth=8, scale=rate * (np.abs(x) + np.abs(mean)) + np.abs(beta))


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_batch_norm_matches_oracle(backend, real, offset):
    r = rng(4)
    for rows, cols in SHAPES:
        if rows == 1:
            continue
        x = normal(r, rows, cols, real, offset=offset)
        dy, gamma, beta = normal(r, rows, cols, real), normal(r, 1, cols, real), normal(r, 1, cols, real)
        mean, squares = batch_moments(backend, x)
        scale, shift, rstd, center = empty(4, 1, cols, real)
        run_kernel(backend, "moments_finish", [mean, squares, gamma, beta, None, None, scale, shift, rstd, center],
                   rows, cols, numbers=[rows, 1e-5, 0.1])  # fmt: skip
        y = pointwise(backend, x, [stage("affine", a=scale, b=shift)])
        want = oracle.batch_norm(x, gamma, beta, np.zeros(cols), np.ones(cols))[0]
        rate = rstd.astype(np.float64)
        size = rate * (np.abs(x) + np.abs(mean))  # of the terms of xhat
        assert_close(y, want, depth=rows + 8, scale=np.abs(gamma) * size + np.abs(beta))

        total, dot, a, b, c, dgamma, dbeta = empty(7, 1, cols, real)
        chain = [stage("sum", out=total), stage("dot", operand=x, operand_scale=rstd, operand_shift=center, out=dot)]
        run_kernel(backend, "pointwise", [dy], rows, cols, chain)
        run_kernel(backend, "norm_backward_finish", [total, dot, gamma, mean, rstd, a, b, c, dgamma, dbeta], rows, cols,
                   numbers=[rows])  # fmt: skip
        dx = pointwise(backend, dy, [stage("affine2", operand=x, a=a, b=b, c=c)])
        want_dx, want_dgamma, want_dbeta = oracle.batch_norm_backward(dy, x, gamma)
        products = (np.abs(dy) * size).sum(axis=0)
        assert_close(dbeta, want_dbeta[None], depth=rows, scale=np.abs(dy).sum(axis=0))
        assert_close(dgamma, want_dgamma[None], depth=rows + 8, scale=products)
        largest = np.abs(dy) + np.abs(dy).mean(axis=0) + size * products / rows
        assert_close(dx, want_dx, depth=rows + 16, scale=np.abs(gamma) * rate * largest)


def test_norm_backward_finish_hands_on_its_sums(backend, real):
    r = rng(5)
    for rows, cols in SHAPES:
        total, dot, gamma, mean, rstd = normal(r, 5, cols, real)[:, None]
        a, b, c, dgamma, dbeta = empty(5, 1, cols, real)
        run_kernel(backend, "norm_backward_finish", [total, dot, gamma, mean, rstd, a, b, c, dgamma, dbeta], rows, cols,
                   numbers=[rows])  # fmt: skip
        assert_same_bits(dgamma, dot)
        assert_same_bits(dbeta, total)
        s, t, g, m, d = (v.astype(np.float64) for v in (total, dot, gamma, mean, rstd))
        want_b = -g * d * d * t / rows
        for got, want in ((a, g * d), (b, want_b), (c, -g * d * s / rows - want_b * m)):
            assert_close(got, want, depth=8, scale=np.abs(want_b * m) + np.abs(g * d * s / rows) + np.abs(want))


# ------------------------------------------------------------------------------------------------- layer norm
def layer_norm(backend, x, gamma, beta, eps=1e-5):
    y, (mean, rstd) = np.empty_like(x), empty(2, x.shape[0], 1, x.dtype)
    run_kernel(backend, "layer_norm", [x, gamma, beta, mean, rstd], *x.shape, [stage("store", out=y)], [eps])
    return y, mean, rstd


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_layer_norm_matches_oracle(backend, real, offset):
    r = rng(6)
    for rows, cols in [*SHAPES, (3, 1000)]:
        x, (gamma, beta) = normal(r, rows, cols, real, 2, offset), normal(r, 2, cols, real)[:, None]
        for g, b in ((gamma, beta), (gamma, None), (None, beta), (None, None)):
            y, mean, rstd = layer_norm(backend, x, g, b)
            want, want_mean, want_rstd = oracle.layer_norm(x, g, b)
            assert_close(mean, want_mean, depth=cols, scale=np.abs(x).mean(axis=1, keepdims=True))
            size = want_rstd * (np.abs(x) + np.abs(want_mean))
            spread = size.max(axis=1, keepdims=True)
            assert_close(rstd, want_rstd, depth=cols + 4, scale=want_rstd * spread)
            g, b = np.ones((1, cols)) if g is None else g, np.zeros((1, cols)) if b is None else b
            assert_close(y, want, depth=cols + 8, scale=np.abs(g) * size * (1 + spread) + np.abs(b))


def test_layer_norm_of_one_column_is_beta(backend, real):
    x, beta = normal(rng(7), 5, 1, real), np.full((1, 1), 0.5, real)
    y, mean, rstd = layer_norm(backend, x, None, beta, eps=1e-5)
    assert_same_bits(y, np.full_like(x, 0.5))
    assert_same_bits(mean, x)
    assert_close(rstd, np.full((5, 1), 1e-5**-0.5), depth=4)


def test_layer_norm_keeps_nan_in_its_row(backend, real):
    x = normal(rng(8), 66, 33, real)
    x[65, 7] = np.nan
    y, _, _ = layer_norm(backend, x, None, None)
    assert np.isnan(y).all(axis=1).tolist() == np.isnan(y).any(axis=1).tolist() == [row == 65 for row in range(66)]


def test_layer_norm_backward_matches_oracle(backend, real):
    r = rng(9)
    for rows, cols in [*SHAPES, (3, 1000), (300, 5)]:
        x, dy, gamma = normal(r, rows, cols, real, 2, 1), normal(r, rows, cols, real), normal(r, 1, cols, real)
        _, mean, rstd = layer_norm(backend, x, None, None)
        for g in (gamma, None):
            dx, (dgamma, dbeta) = np.empty_like(x), empty(2, 1, cols, real)
            run_kernel(backend, "layer_norm_backward", [dy, x, g, mean, rstd, dgamma, dbeta], rows, cols,
                       [stage("store", out=dx)])  # fmt: skip
            want, want_dgamma, want_dbeta = oracle.layer_norm_backward(dy, x, g)
            rate = rstd.astype(np.float64)
            size = rate * (np.abs(x) + np.abs(mean))
            spread = 1 + size.max(axis=1, keepdims=True)
            assert_close(dbeta, want_dbeta[None], depth=rows, scale=np.abs(dy).sum(axis=0))
            assert_close(dgamma, want_dgamma[None], depth=rows + cols, scale=(np.abs(dy) * size * spread).sum(axis=0))
            d = np.abs(dy * (1 if g is None else g))
            largest = d + d.mean(axis=1, keepdims=True) + size * (d * size).mean(axis=1, keepdims=True)
            assert_close(dx, want, depth=cols + 16, scale=rate * largest * spread)


def test_layer_norm_backward_leaves_out_what_nobody_asks_for(backend, real):
    r = rng(10)
    x, dy, gamma = normal(r, 70, 40, real), normal(r, 70, 40, real), normal(r, 1, 40, real)
    _, mean, rstd = layer_norm(backend, x, None, None)
    results = []
    for wanted in ((True, True), (True, False), (False, True), (False, False)):
        dx, found = np.empty_like(x), empty(2, 1, 40, real)
        grads = [array if asked else None for array, asked in zip(found, wanted, strict=True)]
        run_kernel(backend, "layer_norm_backward", [dy, x, gamma, mean, rstd, *grads], 70, 40, [stage("store", out=dx)])
        results.append((dx, grads))
    for dx, grads in results[1:]:
        assert_same_bits(dx, results[0][0])
        for got, want in zip(grads, results[0][1], strict=True):
            if got is not None:
                assert_same_bits(got, want)
