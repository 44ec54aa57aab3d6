# SPDX-License-Identifier: Apache-2.0
"""Whether anything that plans are made from has changed: programs keep the ``latest`` of their time and compare."""

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
