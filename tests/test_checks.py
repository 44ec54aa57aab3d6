# SPDX-License-Identifier: Apache-2.0
"""The checks pass what is right and fail what is wrong."""

import numpy as np
import pytest

from checks import (
    SIZES,
    TILE_EDGES,
    assert_close,
    assert_ulps,
    check_gradient,
    finite_difference,
    rng,
    shapes,
    sizes,
    ulp_distance,
)


def test_assert_close_passes_a_float32_product_and_fails_a_wrong_element():
    for m, n, k in shapes(3):
        a, b = (rng(22).normal(size=s).astype(np.float32) for s in ((m, k), (k, n)))
        want, scale = a.astype(np.float64) @ b, np.abs(a.astype(np.float64)) @ np.abs(b)
        got = a @ b
        assert_close(got, want, depth=k, scale=scale)
        got[-1, -1] += 16 * np.sqrt(k) * 2.0**-24 * scale[-1, -1]
        with pytest.raises(AssertionError, match=rf"worst at \({m - 1}, {n - 1}\)"):
            assert_close(got, want, depth=k, scale=scale)


def test_assert_close_minds_shape_type_and_nonfinite_values():
    nan, inf = np.nan, np.inf
    assert_close(np.array([nan, inf, -inf, inf, 1], np.float32), [nan, inf, -inf, 1e39, 1])
    assert_close(np.empty((0, 3), np.float32), np.empty((0, 3)))
    for got, want in (([nan], [1]), ([1], [nan]), ([inf], [-inf]), ([inf], [1]), ([1], [inf]), ([1], [[1]])):
        with pytest.raises(AssertionError):
            assert_close(np.array(got, np.float32), want)
    with pytest.raises(AssertionError, match="int64"):
        assert_close(np.array([1]), [1])


def test_ulp_distance_counts_neighbours():
    one, huge, tiny = np.float32(1), np.float32(3e38), np.float32(1e-40)
    for x in (one, huge, tiny):
        assert ulp_distance(np.nextafter(x, np.float32(np.inf)), x) == 1
    assert ulp_distance(one, 1 + 2.0**-24) == 0.5
    assert ulp_distance(np.float32(np.inf), 1e39) == 0
    assert ulp_distance(np.float32(np.inf), 1.0) == np.inf
    with pytest.raises(AssertionError, match="off by 2 x"):
        assert_ulps(np.float32([1, 1 + 2.0**-22]), [1, 1], 1)


def test_sizes_hold_both_sides_of_every_tile():
    assert {edge + d for edge in TILE_EDGES for d in (-1, 0, 1)} < set(SIZES)
    assert sizes(8) == [1, 2, 3, 5, 6, 7, 8]
    for position in zip(*shapes(3, limit=65), strict=True):
        assert sorted(position) == sizes(65)


def test_finite_difference_is_as_near_as_rounding_lets():
    x = rng(23).normal(size=(3, 4))
    assert np.abs(finite_difference(lambda v: np.exp(v).sum(), x) - np.exp(x)).max() < 1e-8
    assert np.abs(finite_difference(lambda v: (v**2).sum(), x, eps=0.5) - 2 * x).max() < 1e-13


def test_check_gradient_finds_a_wrong_element_and_excuses_few_kinks():
    x = rng(24).normal(size=40)
    x[7] = 1e-7

    def f(v):
        return np.maximum(v, 0).sum() + (v**3).sum()

    gradient = (x > 0) + 3 * x**2
    check_gradient(f, x, gradient, depth=40)
    wrong = gradient.copy()
    wrong[3] *= 1 + 1e-6
    with pytest.raises(AssertionError, match=r"worst at \(3,\)"):
        check_gradient(f, x, wrong, depth=40)
    with pytest.raises(AssertionError, match="near a kink"):
        check_gradient(f, x * 1e-9, (x > 0) * 1.0, depth=40)
