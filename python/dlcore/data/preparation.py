# SPDX-License-Identifier: Apache-2.0
"""A data set made ready for a net, in the only right order: split, learn the encoding from training rows, encode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .dataset import Dataset
from .encode import TableEncoder
from .schema import Schema
from .splits import split
from .table import Table
from .task import CLASSIFICATION

TEST_FRACTION, VALIDATION_FRACTION = 0.2, 0.1
_TEST_SEED = 0  # the test part is the same in every run


@dataclass(frozen=True)
class Prepared:
    """Three pairs (x, y) and what they mean; x as the source has it, or float32 from a table; y as in Dataset."""

    train: tuple
    validation: tuple
    test: tuple
    schema: Schema


def prepare(dataset: Dataset, seed: int = 0) -> Prepared:
    """Split a Dataset into training, validation and test part and encode its tables.

    Without a test part of its own, a fifth of the rows is held out as one: the same rows whatever the seed, in equal
    shares of every class. A tenth of the rest is the validation part, drawn with `seed`. Means and categories of
    tables are learned from the training part alone.

    Parameters
    ----------
    dataset : Dataset
    seed : int

    Returns
    -------
    prepared : Prepared

    Examples
    --------
    >>> from dlcore.data import digits
    >>> prepared = prepare(digits(), seed=1)
    >>> [len(y) for x, y in (prepared.train, prepared.validation, prepared.test)]
    [1294, 144, 359]
    """
    stratify = dataset.task == CLASSIFICATION
    rows = np.arange(len(dataset.y))
    test = dataset.x_test, dataset.y_test
    if dataset.y_test is None:
        rows, held = held_out(dataset)
        test = dataset.x[held], dataset.y[held]
    kept, held = split(dataset.y[rows], VALIDATION_FRACTION, seed, stratify)
    train, validation = ((dataset.x[part], dataset.y[part]) for part in (rows[kept], rows[held]))
    encoder = TableEncoder().fit(train[0]) if isinstance(dataset.x, Table) else None
    if encoder:
        train, validation, test = ((encoder.transform(x), y) for x, y in (train, validation, test))
    schema = Schema(
        dataset.task,
        train[0].shape[1],
        dataset.classes,
        encoder.features if encoder else dataset.features,
        dataset.image,
        dataset.target,
        encoder,
    )
    return Prepared(train, validation, test, schema)


def held_out(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The rows for training and validation, and the fifth for the test, of a source without a test part."""
    return split(dataset.y, TEST_FRACTION, _TEST_SEED, dataset.task == CLASSIFICATION)
