# SPDX-License-Identifier: Apache-2.0
"""Whether anything that plans are made from has changed: programs keep the ``latest`` of their time and compare."""

from numbers import Number

latest = object()


def note() -> None:
    """Something has changed: every program looks for its plan again before it runs."""
    global latest
    latest = object()


class Noted:
    """Base of what plans are made from: setting an attribute is a change."""

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        note()

    def key(self) -> tuple:
        """What a plan depends on: the kind and its plain attributes."""
        return (type(self), *((name, value) for name, value in vars(self).items() if _is_plain(value)))


def _is_plain(value) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (Number, str, Noted))
