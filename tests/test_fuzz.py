# SPDX-License-Identifier: Apache-2.0
"""Valid instructions with one thing changed at random: refused with a message, or run without harm."""

import numpy as np
import pytest

from cases import CASES, CHAINED, make_case
from checks import rng
from dlcore import _core
from instructions import Memory, aligned, build, stage
from test_refusals import GRAMMAR, LARGE, changed

MUTATIONS = 150  # of each shape
NUMBERS = (-(2**63), -LARGE, -(2**31), -64, -1, 0, 1, 2, 3, 5, 63, 64, 65, 2**16, 2**31 - 1, 2**31, 2**32 + 1, 2**47,
           2**48, LARGE, 2**61, 2**62, 2**63 - 1)  # fmt: skip
FIELDS = {
    "arena": (-1, 0, 1, 2, 255, 256, 2**31 - 1, -(2**31)),
    "dtype": _core.DTYPES,
    "layout": _core.LAYOUTS,
    "members": (-1, 0, 1, 2, 3, 2**20, 2**31 - 1),
    **dict.fromkeys(("rows", "cols", "ld", "step", "offset", "member_stride"), NUMBERS),
}  # fmt: skip


def pick(r, items):
    return items[int(r.integers(len(items)))]


def mutated_view(r, found):
    name = pick(r, list(FIELDS))
    value = pick(r, FIELDS[name])
    if name not in ("arena", "dtype", "layout", "members") and r.integers(2):
        value = getattr(found, name) + int(r.integers(-3, 4))
    return changed(found, **{name: value})


def mutated_stage(r, s):
    views = {name: getattr(s, name) for name in ("operand", "operand_scale", "operand_shift", "a", "b", "c", "out", "out2")}
    fields = {"kind": s.kind, "function": s.function, "random_op": s.random_op, "numbers": s.numbers, **views}
    choice = pick(r, ["kind", "function", "random_op", "numbers", *views])
    if choice in views:
        fields[choice] = mutated_view(r, views[choice])
    elif choice == "kind":
        fields["kind"] = pick(r, _core.STAGES)
    elif choice == "numbers":
        fields["numbers"] = [pick(r, (-1.0, 0.5, 1.0, float("nan"), float("inf"), 1e308))] * 4
    else:
        fields[choice] = pick(r, (-(2**31), -1, 0, 1, 9, 10, 2**31 - 1))
    return _core.Stage(**fields)


def mutated(r, instruction):
    """The instruction with one thing changed."""
    i = instruction
    rows, cols, operands, chain, numbers = i.rows, i.cols, list(i.operands), list(i.chain), list(i.numbers)
    scratch, kernel = i.scratch, i.kernel
    choice = pick(r, ("kernel", "rows", "cols", "operand", "operand", "operand", "stage", "number", "scratch", "count"))
    if choice == "kernel":
        kernel = pick(r, _core.KERNELS)
    elif choice == "rows":
        rows = pick(r, (*NUMBERS, rows - 1, rows + 1))
    elif choice == "cols":
        cols = pick(r, (*NUMBERS, cols - 1, cols + 1))
    elif choice == "operand":
        at = int(r.integers(len(operands)))
        operands[at] = mutated_view(r, operands[at])
    elif choice == "stage" and chain:
        at = int(r.integers(len(chain)))
        chain[at] = mutated_stage(r, chain[at])
    elif choice == "number" and numbers:
        at = int(r.integers(len(numbers)))
        numbers[at] = pick(r, (*map(float, NUMBERS), 0.5, numbers[at] + 1, numbers[at] - 1, 1e300, float("nan")))
    elif choice == "scratch":
        scratch = mutated_view(r, scratch)
    elif choice == "count":
        operands = operands[:-1] if r.integers(2) else [*operands, operands[0]]
    return _core.Instruction(kernel, rows, cols, operands, chain, numbers, scratch)


def small(recording, instruction):
    """Can it be run in no time?"""
    views = list(instruction.operands)
    for s in instruction.chain:
        views += [s.operand, s.a, s.out]
    members = max(v.members for v in views)
    return sum(recording.sizes) < 2**22 and instruction.rows * instruction.cols * members < 10**6


def run_guarded(core, recording, r):
    """Over bases of exactly the bytes that the recording says, which hold anything: labels, orders and counters too."""
    memory = [aligned(size + 64) for size in recording.sizes]
    bases = [m[:size] for m, size in zip(memory, recording.sizes, strict=True)]
    for base in bases:
        base[...] = r.integers(0, 256, size=base.size) if r.integers(2) else 0
    core.run([([recording], 1)], bases, int(r.integers(1, 3)))
    for m, size in zip(memory, recording.sizes, strict=True):
        assert (m[size:] == 255).all()


def valid(backend, kernel, rows, cols):
    case = make_case(backend, kernel, rows, cols)
    out, total = np.empty((rows, cols), backend.real), np.empty((1, cols), backend.real)
    chain = [stage("store", out=out), stage("sum", out=total)] if kernel in CHAINED else []
    return build(backend, Memory(), kernel, case.operands, case.rows, case.cols, chain, case.numbers)


def attempt(backend, r, instruction):
    """One mutation: "run", the message of its refusal, or "" where it was too large for either."""
    try:
        changed_instruction = mutated(r, instruction)
    except TypeError:  # a number too large for its field
        return ""
    try:
        blocks = pick(r, ((0, 0), (0, 0), (64, 0), (64, 320), (128, 64)))
        recording = backend.record([([changed_instruction], False, *blocks)])
        if not small(recording, changed_instruction):
            return ""
        run_guarded(backend, recording, r)
    except ValueError as error:
        return str(error)
    return "run"


@pytest.mark.parametrize("kernel", CASES)
def test_mutated_instructions_are_refused_or_harmless(backend, kernel):
    r = rng(sum(kernel.encode()))
    found = [
        attempt(backend, r, instruction)
        for instruction in (valid(backend, kernel, 3, 5), valid(backend, kernel, 70, 20))
        for _ in range(MUTATIONS)
    ]
    messages = [f for f in found if f not in ("", "run")]
    assert all(GRAMMAR.match(message) for message in messages), messages
    assert len(messages) > MUTATIONS / 3
    assert found.count("run") > MUTATIONS / 15
