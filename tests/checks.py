# SPDX-License-Identifier: Apache-2.0
"""How the tests compare: one error model for tolerances, ULPs, finite differences, and sizes around every tile."""

import math
import os

import numpy as np

# A result of `depth` roundings errs by about sqrt(depth) u scale: roundings are as good as independent, each at most
# u times a partial result, of variance u^2 / 3 (Higham and Mary, SIAM J. Sci. Comput. 41, 2019). Four times that is
# 7 standard deviations, so a right kernel fails one element in 10^11, and a wrong or biased one stands out.
FACTOR = 4.0

# Edges of register tiles, vectors, strips, chunks of rows and blocks of columns.
TILE_EDGES = (6, 8, 14, 16, 32, 64, 128, 256)
# 1, small primes and both sides of each edge (7, 13, 17, 31, 127 and 257 are primes too).
SIZES = tuple(sorted({1, 2, 3, 5, 11, 101} | {edge + d for edge in TILE_EDGES for d in (-1, 0, 1)}))

# A gradient is checked to this share of its largest element, or not at all.
GRADIENT_RESOLUTION = 1e-6
UNRESOLVED_SHARE = 0.1


def rng(seed):
    """A NumPy generator."""
    return np.random.default_rng(seed)


def small(device):
    """Are shapes to be small: in the emulator, or under a sanitizer, whose users set DLCORE_TESTS_SMALL?"""
    return device == "emulated" or bool(os.environ.get("DLCORE_TESTS_SMALL"))


def sizes(limit):
    """SIZES up to a limit."""
    return [n for n in SIZES if n <= limit]


def shapes(dimensions, limit=257, seed=0):
    """Tuples in which each size up to the limit stands once in each position, in shuffled combinations."""
    order = rng(seed)
    return list(zip(*(order.permutation(sizes(limit)).tolist() for _ in range(dimensions)), strict=True))


def _ulp(want, dtype):
    """Distance of the neighbours of dtype around want."""
    info = np.finfo(dtype)
    _, exponent = np.frexp(np.where(np.isfinite(want), want, 0.0))
    return np.ldexp(1.0, np.maximum(exponent - 1, info.minexp) - info.nmant)


def _errors(got, want):
    """|got - want|; 0 where both are NaN, or got is want rounded (which may overflow); inf where only one is finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        equal = (got == want.astype(got.dtype)) & ~np.isfinite(got) | np.isnan(got) & np.isnan(want)
        error = np.abs(got.astype(np.float64) - want)
    return np.where(equal, 0.0, np.where(np.isfinite(error), error, np.inf))


def _operands(got, want):
    got, want = np.asarray(got), np.asarray(want, np.float64)
    assert got.dtype.kind == "f", f"expected a floating result, got {got.dtype}"
    assert got.shape == want.shape, f"expected shape {want.shape}, got {got.shape}"
    return got, want


def _fail_on_worst(got, want, ratio, unit):
    """Fail when an element's ratio of error to tolerance exceeds 1, showing the worst."""
    bad = int((ratio > 1).sum())
    if bad:
        i = np.unravel_index(int(ratio.argmax()), ratio.shape)
        index = tuple(int(j) for j in i)
        raise AssertionError(
            f"{bad} of {ratio.size} elements differ; worst at {index}: got {float(got[i])!r}, want {float(want[i])!r}, "
            f"off by {ratio[i]:.3g} x {unit}"
        )


def assert_close(got, want, *, depth=1, scale=None, ulps=0.0):
    """|got - want| <= FACTOR sqrt(depth) u (|want| + scale), u the unit roundoff of got's type.

    depth: roundings on the way to an element, the length of its longest reduction.
    scale: magnitude of the terms that were added, a number or an array such as |A| @ |B|; without it, max |want|.
    ulps: what the functions on the way may add, in units in the last place of want.
    """
    got, want = _operands(got, want)
    if got.size == 0:
        return
    magnitude = np.abs(np.where(np.isfinite(want), want, 0.0))
    info = np.finfo(got.dtype)
    scale = magnitude.max() if scale is None else np.asarray(scale, np.float64)
    allowed = FACTOR * math.sqrt(depth) * float(info.eps) / 2 * (magnitude + scale)
    allowed = allowed + ulps * _ulp(want, got.dtype) + float(info.smallest_subnormal)
    ratio = _errors(got, want) / allowed
    _fail_on_worst(got, want, ratio, f"the tolerance of depth {depth}")


def ulp_distance(got, want):
    """|got - want| in units in the last place of want in got's type: a float array; want is float64, not rounded."""
    got, want = _operands(got, want)
    return _errors(got, want) / _ulp(want, got.dtype)


def assert_ulps(got, want, ulps):
    """At most so many units in the last place off, everywhere."""
    got, want = _operands(got, want)
    _fail_on_worst(got, want, np.atleast_1d(ulp_distance(got, want)) / ulps, f"the tolerance of {ulps:g} ulp")


def _best_step(value):
    """cbrt(u) max(1, |value|): where rounding u / h and truncation h^2 of a central difference meet."""
    return np.cbrt(np.finfo(np.float64).eps / 2) * max(1.0, abs(value))


def _around(f, x, index, h):
    """f at x + h and at x - h in one element of x, and the distance of these two points."""
    old = x[index]
    x[index] = high = old + h
    above = float(f(x))
    x[index] = low = old - h
    below = float(f(x))
    x[index] = old
    return above, below, high - low


def finite_difference(f, x, eps=None):
    """Central differences of a scalar function of an array, in float64; f may not keep or change its argument."""
    x = np.array(x, np.float64)
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        above, below, distance = _around(f, x, index, _best_step(x[index]) if eps is None else eps)
        gradient[index] = (above - below) / distance
    return gradient


def _slope(f, x, index, h, middle):
    """The central difference with step h, and how far the steps h and 2h disagree on it and on the curvature.

    A smooth f disagrees by its higher derivatives, O(h^2); a kink, even one that x lies on, by its change of slope.
    """
    above, below, distance = _around(f, x, index, h)
    far_above, far_below, far_distance = _around(f, x, index, 2 * h)
    near, far = (above - below) / distance, (far_above - far_below) / far_distance
    bend = (above - 2 * middle + below) / h
    far_bend = (far_above - 2 * middle + far_below) / (2 * h)
    return near, max(abs(near - far), abs(far_bend - 2 * bend))


def check_gradient(f, x, gradient, *, depth=1, scale=None, samples=None, seed=0):
    """A float64 gradient against central differences, element by element (or in `samples` random elements).

    Allowed are the rounding of f, FACTOR sqrt(depth) u scale / h (depth and scale of f, as in assert_close; without
    scale, |f|), and the truncation, seen where steps h and 2h disagree. Where they do by more than GRADIENT_RESOLUTION
    of the largest element, a kink is near and nothing is said; so it may be in UNRESOLVED_SHARE of the elements.
    """
    x, gradient = np.array(x, np.float64), np.asarray(gradient)
    assert gradient.dtype == np.float64, f"expected a float64 gradient, got {gradient.dtype}"
    assert gradient.shape == x.shape, f"expected shape {x.shape}, got {gradient.shape}"
    assert np.isfinite(gradient).all(), "expected a finite gradient"
    middle = float(f(x))
    scale = abs(middle) if scale is None else scale
    largest = np.abs(gradient).max(initial=0.0)
    rounding = FACTOR * math.sqrt(depth) * np.finfo(np.float64).eps / 2
    elements = np.arange(x.size) if samples is None else rng(seed).permutation(x.size)[:samples]
    difference, ratio, unresolved = gradient.copy(), np.zeros(x.shape), 0
    for index in zip(*np.unravel_index(elements, x.shape), strict=True):
        h = _best_step(x[index])
        slope, change = _slope(f, x, index, h, middle)
        noise = rounding * (scale + largest * max(1.0, abs(x[index]))) / h + np.finfo(np.float64).tiny
        # The two curvatures hold up to ten roundings of f.
        if change > 10 * noise + GRADIENT_RESOLUTION * largest:
            unresolved += 1
            continue
        difference[index] = slope
        ratio[index] = abs(slope - gradient[index]) / (noise + change)
    _fail_on_worst(gradient, difference, ratio, "the tolerance of the finite difference")
    assert unresolved <= UNRESOLVED_SHARE * len(elements), f"{unresolved} of {len(elements)} elements lie near a kink"
