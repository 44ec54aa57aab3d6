# SPDX-License-Identifier: Apache-2.0
"""Dropout: Philox's published words, the oracle's masks, and a mean that is exact."""

import numpy as np
import pytest

import oracle
from cases import counters, make_case
from checks import rng, shapes
from instructions import assert_same_bits, pointwise, run_kernel, stage

# Of counter 0 under key 0, from the known answers of Random123.
WORDS = 0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8


def dropout(p, random_op=0, draws=0, seed=0):
    return stage("dropout", random_op=random_op, numbers=[p], a=counters(draws=draws, seed=seed))


def mask(backend, rows, cols, p, **named):
    """What is kept of ones, and the one value it has."""
    y = pointwise(backend, np.ones((rows, cols), backend.real), [dropout(p, **named)])
    kept = y != 0
    values = np.unique(y[kept])
    assert len(values) <= 1
    return kept, values


def test_draws_are_philoxs_known_answers(backend):
    draws = [half for word in WORDS for half in (word & 0xFFFF, word >> 16)]
    for column, draw in enumerate(draws):
        for threshold in (draw, draw + 1):  # kept when the draw is below
            kept, _ = mask(backend, 1, 8, 1 - threshold / 65536)
            assert kept[0].tolist() == [d < threshold for d in draws], column


def test_mask_matches_oracle(backend):
    r = rng(1)
    for rows, cols in [*shapes(2), (300, 3), (2, 3000)]:
        p, op, draws = r.uniform(0.01, 0.99), int(r.integers(0, 9)), int(r.integers(0, 2**40))
        seed = int(r.integers(0, 2**63))
        kept, _ = mask(backend, rows, cols, p, random_op=op, draws=draws, seed=seed)
        assert (kept == oracle.dropout_mask(rows, cols, p, seed, op, draws)).all()


@pytest.mark.parametrize("value", [0, 1, -1, 2**32, 2**63 - 1, -(2**63)])
def test_mask_matches_oracle_for_any_seed_and_draw(backend, value):
    for named in ({"seed": value}, {"draws": value}, {"random_op": min(abs(value), 2**31 - 1)}):
        full = {"seed": 0, "draws": 0, "random_op": 0} | named
        kept, _ = mask(backend, 5, 70, 0.5, **named)
        assert (kept == oracle.dropout_mask(5, 70, 0.5, full["seed"], full["random_op"], full["draws"])).all()


def test_mask_is_the_same_in_every_backend_and_at_any_thread_count(backend, real):
    x = np.ones((200, 90), real)
    masks = [pointwise(backend, x, [dropout(0.3, seed=7)], threads=[t]) for t in (1, 2, 3, 5)]
    for other in masks:
        assert ((other != 0) == oracle.dropout_mask(200, 90, 0.3, 7, 0, 0)).all()
        assert_same_bits(other, masks[0])


def test_mask_of_a_row_does_not_depend_on_the_rows_beside_it(backend):
    few, _ = mask(backend, 3, 90, 0.4, seed=5)
    many, _ = mask(backend, 150, 200, 0.4, seed=5)
    assert (few == many[:3, :90]).all()


@pytest.mark.parametrize("kernel", ["product", "pack", "softmax", "layer_norm"])
def test_mask_does_not_depend_on_the_kernel_that_draws_it(backend, real, kernel):
    rows, cols = 130, 300
    plain, dropped = (np.empty((rows, cols), real) for _ in range(2))
    make_case(backend, kernel, rows, cols).run(backend, [stage("store", out=plain)])
    make_case(backend, kernel, rows, cols).run(backend, [dropout(0.4, seed=3, random_op=2), stage("store", out=dropped)])
    keep = oracle.dropout_mask(rows, cols, 0.4, 3, 2, 0)
    scale = np.dtype(real).type(oracle.dropout_scale(0.4))
    assert_same_bits(dropped, np.where(keep, plain * scale, np.dtype(real).type(0)))


def test_mask_of_the_gradient_is_that_of_the_value(backend, real):
    x, dy = rng(2).normal(size=(2, 65, 40)).astype(real)
    chain = [dropout(0.6, random_op=1, draws=8, seed=9)]
    assert ((pointwise(backend, x, chain) != 0) == (pointwise(backend, dy, chain) != 0)).all()


@pytest.mark.parametrize("p", [0.0, 1e-6, 0.1, 0.25, 1 / 3, 0.5, 0.9, 0.99999, 1 - 1e-9])
def test_mean_is_exact(backend, real, p):
    threshold = oracle.dropout_threshold(p)
    _, values = mask(backend, 64, 64, p, seed=1)
    # Of 65536 equally likely draws `threshold` are kept, each times the scale.
    for value in values:
        assert abs(float(value) * threshold / 65536 - 1) <= np.finfo(real).eps / 2


def test_share_of_kept_elements_is_as_expected(backend):
    n = 512 * 512
    for p in (0.1, 0.5, 0.9):
        kept, _ = mask(backend, 512, 512, p, seed=12)
        q = oracle.dropout_threshold(p) / 65536
        assert abs(kept.sum() - n * q) < 5 * np.sqrt(n * q * (1 - q))


def test_masks_of_other_seeds_draws_and_ops_differ(backend):
    named = [{}, {"seed": 1}, {"seed": 2**32}, {"draws": 1}, {"random_op": 1}]
    masks = [mask(backend, 40, 64, 0.5, **n)[0] for n in named]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            agree = (one == other).mean()
            assert 0.4 < agree < 0.6
    rows = masks[0][:, :8]
    assert len({tuple(row) for row in rows.tolist()}) > 30


def test_dropout_of_nothing_changes_no_bit(backend, real):
    x = rng(3).normal(size=(33, 65)).astype(real)
    assert_same_bits(pointwise(backend, x, [dropout(0.0, seed=4)]), x)


def test_dropped_elements_are_zero_whatever_they_were(backend, real):
    x = np.full((20, 40), np.nan, real)
    y = np.empty_like(x)
    run_kernel(backend, "pointwise", [x], 20, 40, [dropout(0.5, seed=6), stage("store", out=y)])
    keep = oracle.dropout_mask(20, 40, 0.5, 6, 0, 0)
    assert np.isnan(y[keep]).all()
    assert (y[~keep] == 0).all()
