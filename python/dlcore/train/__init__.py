# SPDX-License-Identifier: Apache-2.0
"""The training loop, its callbacks and its history."""

from .callbacks import Callback, EarlyStopping, Progress
from .history import History

__all__ = ["Callback", "EarlyStopping", "History", "Progress"]
