# SPDX-License-Identifier: Apache-2.0
"""Second pass: append the gradient of every node, in reverse; a value read twice gets a sum."""

from __future__ import annotations

from ..graph import Trace, Value
from ..ops import Accumulate, Add


def differentiate(trace: Trace, wanted: set[Value], accumulate: bool = False) -> dict[Value, Value]:
    """Append the backward nodes that the gradients of ``wanted`` need; return {value: its gradient}.

    The losses have put the first gradients into ``trace.seeds``. With ``accumulate`` the parameters' gradients are added
    to what the gradient arena holds (several micro-batches before one update).
    """
    forward = list(trace.nodes)
    needed = _depend_on(forward, wanted)
    gradients: dict[Value, Value] = {}

    def receive(value: Value, gradient: Value) -> None:
        known = gradients.get(value)
        if known is not None:
            if gradient.kind == "gradient":
                raise ValueError(f"{value.name}: expected a parameter used once in the net, got a second use")
            gradient = trace.append(Add, trace.value("dsum", value.shape), x=gradient, operand=known)
        gradients[value] = gradient

    for prediction, gradient in trace.seeds:
        if prediction in needed:
            receive(prediction, gradient)
    for node in reversed(forward):
        gradient = gradients.get(node.value) if node.value is not None else None
        if gradient is not None and node.value in needed:
            for value, g in node.op.backward(trace, node, gradient, needed.__contains__):
                receive(value, g)
    if accumulate:
        trace.nodes[:] = forward + _accumulating(trace, trace.nodes[len(forward) :])
    return gradients


def _depend_on(nodes, wanted: set[Value]) -> set[Value]:
    """Values that a wanted value flows into."""
    needed = set(wanted)
    for node in nodes:
        if node.value is not None and any(v in needed for v in [*node.reads(), *node.context.values()]):
            needed.add(node.value)
    return needed


def _accumulating(trace: Trace, backward):
    """Replace each write of a parameter's gradient by a temporary that is added to the arena."""
    from dataclasses import replace

    nodes = []
    for node in backward:
        targets = [v for v in [node.value, *node.operands.values()] if v is not None and v.kind == "gradient"]
        swap = {v: trace.value(v.name, v.shape) for v in targets}
        operands = {name: swap.get(v, v) for name, v in node.operands.items()}
        nodes.append(replace(node, operands=operands, value=swap.get(node.value, node.value)))
        for v, temporary in swap.items():
            start, trace.nodes = trace.nodes, nodes
            trace.append(Accumulate, trace.value(f"{v.name}.sum", v.shape), x=temporary, accumulator=v)
            trace.nodes = start
    return nodes
