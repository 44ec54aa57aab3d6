# SPDX-License-Identifier: Apache-2.0
"""The oracle's arithmetic type."""

import numpy as np


def float64(*arrays):
    """Each array in float64; None stays None. One array in, one array out."""
    converted = [None if a is None else np.asarray(a, np.float64) for a in arrays]
    return converted[0] if len(converted) == 1 else converted
