# SPDX-License-Identifier: Apache-2.0
"""The handwritten digits that come with the package; sources and licences stand in DIGITS_LICENCE."""

from pathlib import Path

import numpy as np

from .dataset import Dataset
from .reading import read_bytes

_SIDE = 8  # pixels


def digits() -> Dataset:
    """1,797 handwritten digits, 8x8 pixels of 0..16 (the UCI data that scikit-learn distributes).

    Returns
    -------
    dataset : Dataset
        x uint8 (1797, 64), y int32 (1797,); no test part of its own.

    Examples
    --------
    >>> digits().x.shape, digits().y[:5].tolist()
    ((1797, 64), [0, 1, 2, 3, 4])
    """
    text = read_bytes(Path(__file__).with_name("digits.csv.gz"), "digits").decode("ascii")
    table = np.loadtxt(text.splitlines(), np.uint8, delimiter=",")
    return Dataset(
        "digits",
        np.ascontiguousarray(table[:, :-1]),
        table[:, -1].astype(np.int32),
        classes=list(range(10)),
        task="classification",
        image=(_SIDE, _SIDE, 1),
    )
