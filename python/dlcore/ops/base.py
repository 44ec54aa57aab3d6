# SPDX-License-Identifier: Apache-2.0
"""What an op is: its kernel or stage, its operands, and how its gradient is made.

A *stage* op transforms (or reduces) one value element by element and can ride in another kernel's chain; a *kernel* op
reads whole operands. Gradients are sums over rows, never means; the update applies the one scale.
"""

from __future__ import annotations

from ..graph import Node, Trace, Value


class Op:
    """What all ops share: the parsed signature ``{operand: mark}``."""

    kernel: str | None = None
    stage: str | None = None
    rowwise = True  # row chunk i of the result needs only row chunk i of the (row-shaped) operands; sums are merged at the end
    operands = ""
    signature: dict[str, str] = {}

    def __init_subclass__(cls) -> None:
        if "operands" in cls.__dict__:
            cls.signature = {}
            for word in cls.operands.split():
                name = word.rstrip("?!>")
                cls.signature[name] = "!" if "!" in word else ">" if ">" in word else ""

    @staticmethod
    def backward(trace: Trace, node: Node, gradient: Value, needs) -> list[tuple[Value, Value]]:
        """Append the nodes of the gradient; return (input, its gradient) pairs. ``needs(v)``: is v's gradient wanted."""
        return []


def like(trace: Trace, name: str, value: Value) -> Value:
    return trace.value(name, value.shape)


def columns(trace: Trace, name: str, value: Value) -> Value:
    return trace.value(name, (1, value.cols))


class Stage(Op):
    """A step of a chain; ``x`` is the value that flows through."""

    reduces = False
