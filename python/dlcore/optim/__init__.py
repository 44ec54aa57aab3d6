# SPDX-License-Identifier: Apache-2.0
"""Optimizers and learning-rate schedules."""

from . import schedules
from .optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "schedules"]
