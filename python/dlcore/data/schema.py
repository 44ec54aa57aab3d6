# SPDX-License-Identifier: Apache-2.0
"""What a net expects of data, saved with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import DataError, describe, expected
from .encode import TableEncoder
from .task import CLASSIFICATION, REGRESSION


@dataclass(frozen=True)
class Schema:
    """What a net expects of data: saved with it, so that other files can be read for it.

    Attributes
    ----------
    task : "classification" or "regression"
    width : int
        Columns of the matrix that enters the net.
    classes : list or None
        Labels in the order of the net's outputs.
    features : list of str or None
    image : tuple of int or None
        (height, width, channels)
    target : str or None
        The target column of a CSV file.
    encoder : TableEncoder or None
        For CSV files.

    Examples
    --------
    >>> schema = Schema("classification", 64, classes=["cat", "dog"])
    >>> Schema.from_dict(schema.to_dict()) == schema
    True
    """

    task: str
    width: int
    classes: list | None = None
    features: list | None = None
    image: tuple | None = None
    target: str | None = None
    encoder: TableEncoder | None = None

    def to_dict(self) -> dict[str, Any]:
        """The schema as JSON-able values."""
        return {
            "task": self.task,
            "width": self.width,
            "classes": self.classes,
            "features": self.features,
            "image": None if self.image is None else list(self.image),
            "target": self.target,
            "encoder": None if self.encoder is None else self.encoder.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: Any) -> Schema:
        """The schema that `to_dict` described; DataError when the state is not of that form."""
        if not isinstance(state, dict) or not _is_schema(state):
            raise DataError(expected("Schema.from_dict", "the state of a schema", describe(state)))
        encoder, image = state.get("encoder"), state.get("image")
        return cls(
            state["task"],
            state["width"],
            state.get("classes"),
            state.get("features"),
            None if image is None else tuple(image),
            state.get("target"),
            None if encoder is None else TableEncoder.from_dict(encoder),
        )


def _is_schema(state):
    classes, image, width = state.get("classes"), state.get("image"), state.get("width")
    labels = _is_list_of(classes, (str, int, bool)) and len(classes) > 1
    return (
        state.get("task") in (CLASSIFICATION, REGRESSION)
        and type(width) is int
        and width > 0
        and labels == (state["task"] == CLASSIFICATION)
        and (labels or classes is None)
        and (image is None or (_is_list_of(image, (int,)) and len(image) == 3))
    )


def _is_list_of(value, types):
    return isinstance(value, list) and all(type(each) in types for each in value)
