# SPDX-License-Identifier: Apache-2.0
"""Philox4x32-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011) and the dropout masks made of it."""

import math

import numpy as np

from .real import float64

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_WORD = np.uint64(0xFFFFFFFF)
_BITS = np.uint64(32)

# (counter, key, output) of the file kat_vectors of Random123.
_KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def philox4x32_10(counter, key):
    """The four output words, uint32 (..., 4), of counters (..., 4) under one key of two words."""
    words = [np.asarray(c).astype(np.uint64) for c in np.moveaxis(np.asarray(counter, np.uint32), -1, 0)]
    for turn in range(10):
        k0, k1 = (np.uint64((int(k) + turn * w) & 0xFFFFFFFF) for k, w in zip(key, _WEYL, strict=True))
        p0, p1 = words[0] * _MULTIPLIERS[0], words[2] * _MULTIPLIERS[1]
        words = [(p1 >> _BITS) ^ words[1] ^ k0, p1 & _WORD, (p0 >> _BITS) ^ words[3] ^ k1, p0 & _WORD]
    return np.stack(words, axis=-1).astype(np.uint32)


def known_answers():
    """Assert the published outputs."""
    for counter, key, output in _KNOWN_ANSWERS:
        assert philox4x32_10(counter, key).tolist() == list(output)


def dropout_threshold(p):
    """A 16-bit draw below it keeps the element: (1 - p) 65536 rounded half up, in 1..65536."""
    return min(max(math.floor((1 - p) * 65536 + 0.5), 1), 65536)


def dropout_scale(p):
    """1 / (the quantised probability of keeping)."""
    return 65536 / dropout_threshold(p)


def dropout_mask(rows, cols, p, seed, random_op, draws):
    """bool (rows, cols): kept. Counter (column // 8, row, random op, draws), key (low, high word of seed)."""
    blocks = -(-cols // 8)
    counter = np.zeros((rows, blocks, 4), np.uint32)
    counter[..., 0] = np.arange(blocks)
    counter[..., 1] = np.arange(rows)[:, None]
    counter[..., 2] = random_op
    counter[..., 3] = draws & 0xFFFFFFFF
    words = philox4x32_10(counter, (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF))
    draw = np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=-1)  # (rows, blocks, words, halves)
    return draw.reshape(rows, blocks * 8)[:, :cols] < dropout_threshold(p)


def dropout(x, mask, p):
    """x scaled where kept, else 0; on a gradient it is its own backward pass."""
    return np.where(mask, float64(x) * dropout_scale(p), 0.0)
