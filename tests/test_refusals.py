# SPDX-License-Identifier: Apache-2.0
"""What is malformed is refused, by name, before anything runs: instructions when recorded, bases when run."""

import re

import numpy as np
import pytest

from dlcore import _core
from instructions import assert_same_bits

GRAMMAR = re.compile(r"^[^:\n]+: expected [^\n]+, got [^\n]+$")
LARGE = 2**48 + 1
ABSENT = _core.View()


def view(arena=0, rows=4, cols=5, dtype="f32", **more):
    return _core.View(arena, dtype, rows=rows, cols=cols, **more)


def changed(found, **fields):
    names = ("arena", "dtype", "layout", "rows", "cols", "ld", "step", "offset", "members", "member_stride")
    return _core.View(**{name: getattr(found, name) for name in names} | fields)


def pointwise(x=None, chain=(), rows=4, cols=5, operands=None, **more):
    return _core.Instruction("pointwise", rows, cols, operands or [x or view()], chain, **more)


def chained(kind, **fields):
    return pointwise(chain=[_core.Stage(kind, **fields)])


def product(a=None, b=None, role=0, rows=4, cols=6, **more):
    return _core.Instruction("product", rows, cols, [a or view(), b or view(1, 5, 6)], numbers=[role], **more)


def column(arena=1, cols=5, **more):
    return view(arena, 1, cols, **more)


def counting(arena=3):
    return view(arena, 1, _core.COUNTERS, "i64")


def gather(data=None, order=ABSENT, rows=4, count=None, **more):
    return _core.Instruction("gather", rows, 5, [data or view(0, 9), order, count or counting()], **more)


def update(segments=((0, 10, 0, 1),), rule=0, groups=1, count=None, states=(ABSENT, ABSENT), size=10, **more):
    flat = view(0, 1, size)
    tables = [view(4, 1, 2, "f64"), view(5, 3, groups * _core.HYPER, "f64"), counting(), ABSENT, ABSENT]
    views = [flat, changed(flat, arena=1), *states, *tables]
    numbers = [rule, 0, 0, groups, len(segments) if count is None else count, *(n for s in segments for n in s)]
    return _core.Instruction("update", 0, 0, views, numbers=numbers, **more)


def norm(chunks=2, **more):
    """A sum over more rows than a chunk: it needs scratch."""
    rows = 64 * chunks
    chain = [_core.Stage("sum", out=column())]
    return pointwise(view(0, rows), chain, rows, scratch=view(2, **more))


ADAM = _core.Backend().rules["adam"][0]
X = view()

# name: (instruction, what the message ends in)
MALFORMED = {
    "no_rows": (lambda: pointwise(rows=0), r"pointwise: expected 1 to 2\^48 rows and columns, got \(0, 5\)"),
    "negative_cols": (lambda: pointwise(cols=-5), r"pointwise: expected 1 to 2\^48 rows .*, got \(4, -5\)"),
    "large_rows": (lambda: pointwise(rows=LARGE), r"pointwise: expected 1 to 2\^48 rows and columns, got .*"),
    "no_operands": (lambda: _core.Instruction("pointwise", 4, 5, []), "pointwise: expected 1 operands, got 0"),
    "many_operands": (lambda: pointwise(operands=[X, X]), "pointwise: expected 1 operands, got 2"),
    "absent_operand": (lambda: pointwise(operands=[ABSENT]), "pointwise x: expected a view, got none"),
    "chain_of_tick": (
        lambda: _core.Instruction("tick", 0, 0, [counting(), *[ABSENT] * 4], [_core.Stage("scale")], (1, 1, 1)),
        "tick: expected no chain, got 1 stages",
    ),
    "long_chain": (lambda: pointwise(chain=[_core.Stage("scale")] * 300), "expected at most 256 stages, got 300"),
    "no_numbers": (lambda: _core.Instruction("product", 4, 6, [X, view(1, 5, 6)]), "product: expected 1 numbers, got 0"),
    "nan_number": (lambda: product(role=float("nan")), r"product numbers\[0\]: expected a number, got nan"),
    # views
    "dtype_f64": (lambda: pointwise(view(dtype="f64")), "pointwise x: expected f32, got f64"),
    "dtype_i32": (lambda: pointwise(view(dtype="i32")), "pointwise x: expected f32, got i32"),
    "shape": (lambda: pointwise(view(rows=3)), r"pointwise x: expected shape \(4, 5\), got \(3, 5\)"),
    "short_ld": (lambda: pointwise(view(ld=4)), "pointwise x: expected ld of at least 5, got 4"),
    "negative_ld": (lambda: pointwise(view(ld=-5)), "pointwise x: expected ld of at least 5, got -5"),
    "large_ld": (lambda: pointwise(view(ld=LARGE)), "pointwise x: expected ld of at least 5, got .*"),
    "step": (lambda: pointwise(view(step=2, ld=10)), "pointwise x: expected step 1, got 2"),
    "negative_offset": (lambda: pointwise(view(offset=-4)), "x: expected an offset of whole elements, got -4 bytes"),
    "odd_offset": (lambda: pointwise(view(offset=2)), "x: expected an offset of whole elements, got 2 bytes"),
    "large_offset": (lambda: pointwise(view(offset=2**62)), "x: expected an offset of whole elements, got .*"),
    "large_arena": (lambda: pointwise(view(10**6)), "x: expected an arena below 256, got 1000000"),
    "strips_of_x": (lambda: pointwise(view(layout="strips")), "x: expected layout row_major, got strips"),
    "no_members": (lambda: pointwise(view(members=0)), "x: expected 1 members, got 0"),
    "negative_members": (lambda: pointwise(view(members=-3)), "x: expected 1 members, got -3"),
    "many_members": (lambda: pointwise(view(members=2**30, member_stride=80)), "expected at most .* members, got 1073741824"),
    "stride_of_one": (lambda: pointwise(view(member_stride=4)), "expected a member_stride of 0 for one member.*, got 4"),
    "negative_stride": (lambda: pointwise(view(members=2, member_stride=-80)), "x: expected a member_stride .*, got -80"),
    "odd_stride": (lambda: pointwise(view(members=2, member_stride=81)), "x: expected a member_stride .*, got 81 bytes"),
    "result_of_one_member": (
        lambda: pointwise(view(members=2, member_stride=80), [_core.Stage("store", out=view(1))]),
        "out: expected 2 members, got 1",
    ),
    "results_of_members_overlap": (
        lambda: pointwise(view(members=2, member_stride=80),
                          [_core.Stage("store", out=view(1, members=2, member_stride=76))]),
        "out: expected a member_stride of at least 80 bytes, got 76",
    ),
    "extent": (
        lambda: pointwise(view(rows=2**40, ld=2**40), rows=2**40), r"x: expected fewer than 2\^62 bytes, got .*"
    ),
    "bytes": (lambda: pointwise(view(rows=2**47), rows=2**47), r"x: expected fewer than 2\^48 bytes, got .*"),
    # stages
    "operand_of_add": (lambda: chained("add"), r"pointwise chain\[0\] add operand: expected a view, got none"),
    "operand_of_scale": (lambda: chained("scale", operand=X), "scale operand: expected none, got a view of arena 0"),
    "scale_of_none": (lambda: chained("scale", operand_scale=column()), "operand_scale: expected none, got a view .*"),
    "wide_bias": (lambda: chained("affine", b=column(cols=6)), r"affine b: expected shape \(1, 5\), got \(1, 6\)"),
    "tall_bias": (lambda: chained("affine", b=X), r"affine b: expected shape \(1, 5\), got \(4, 5\)"),
    "store_nowhere": (lambda: chained("store"), "store out: expected a view, got none"),
    "moments_of_one": (lambda: chained("moments", out=column()), "moments out2: expected a view, got none"),
    "affine2": (lambda: chained("affine2", operand=X, a=column()), "affine2 b: expected a view, got none"),
    "function": (lambda: chained("activate", function=99), r"activate: expected a function below \d+, got 99"),
    "negative_function": (lambda: chained("activate", function=-1), r"activate: expected a function below \d+, got -1"),
    "sure_dropout": (
        lambda: chained("dropout", a=counting(), numbers=[1.0]), r"expected a probability in \[0, 1\), got 1"
    ),
    "nan_dropout": (
        lambda: chained("dropout", a=counting(), numbers=[float("nan")]), r"expected a probability in \[0, 1\), got nan"
    ),
    "negative_op": (
        lambda: chained("dropout", a=counting(), random_op=-1), "dropout: expected a random_op of at least 0, got -1"
    ),
    "dropout_without_counters": (lambda: chained("dropout"), "dropout a: expected a view, got none"),
    "real_counters": (lambda: chained("dropout", a=column(cols=8)), "dropout a: expected i64, got f32"),
    # scratch
    "absent_scratch": (lambda: pointwise(view(0, 65), [_core.Stage("sum", out=column())], 65),
                       "pointwise scratch: expected a view, got none"),
    "small_scratch": (lambda: norm(rows=1, cols=9), "scratch: expected 512 contiguous bytes, got 36"),
    "gaps_in_scratch": (lambda: norm(rows=128, cols=1, ld=2), "scratch: expected 512 contiguous bytes, got 512"),
    "odd_scratch": (lambda: norm(rows=1, cols=999, offset=4), "expected to begin at a multiple of 64 bytes, got 4"),
    # kernels
    "role": (lambda: product(role=3), r"product role: expected an integer in \[0, 3\), got 3"),
    "negative_role": (lambda: product(role=-1), r"product role: expected an integer in \[0, 3\), got -1"),
    "broken_role": (lambda: product(role=0.5), r"product role: expected an integer in \[0, 3\), got 0.5"),
    "infinite_role": (lambda: product(role=float("inf")), r"product role: expected an integer in \[0, 3\), got inf"),
    "depths": (lambda: product(b=view(1, 7, 6)), r"product B: expected shape \(5, 6\), got \(7, 6\)"),
    "rows_of_a": (lambda: product(view(rows=3)), r"product A: expected shape \(4, 5\), got \(3, 5\)"),
    "nt": (lambda: product(role=1), r"product B: expected shape \(6, 5\), got \(5, 6\)"),
    "tn": (lambda: product(role=2), r"product A: expected shape \(4, 4\), got \(4, 5\)"),
    "strips_ld": (lambda: product(b=view(1, 5, 6, layout="strips", ld=12)), r"B: expected strips of \d+ columns, got 12"),
    "strips_nt": (
        lambda: product(b=view(1, 6, 5, layout="strips", ld=_core.Backend().strip), role=1),
        "product B: expected role nn or tn with layout strips, got nt",
    ),
    "strips_of_a": (lambda: product(view(layout="strips")), "product A: expected layout row_major, got strips"),
    "transposed": (
        lambda: _core.Instruction("pack", 4, 5, [X, view(1), ABSENT], numbers=[1, 0]),
        r"pack packed: expected shape \(5, 4\), got \(4, 5\)",
    ),
    "pack_number": (
        lambda: _core.Instruction("pack", 4, 5, [X, view(1), ABSENT], numbers=[2, 0]),
        r"pack transposed: expected an integer in \[0, 2\), got 2",
    ),
    "short_data": (lambda: gather(rows=10), "gather: expected at most 9 rows, got 10"),
    "short_order": (lambda: gather(order=view(1, 1, 3, "i64")), "gather: expected at most 3 rows, got 4"),
    "real_order": (lambda: gather(order=column()), "gather order: expected i64, got f32"),
    "short_index": (lambda: gather(order=view(1, 1, 9, "i32")), "gather order: expected i64, got i32"),
    "tall_order": (lambda: gather(order=view(1, 9, 1, "i64")), r"gather order: expected shape \(1, any\), got \(9, 1\)"),
    "large_data_stride": (lambda: gather(view(0, 9, ld=-LARGE)), "gather data: expected strides below .*"),
    "real_labels": (
        lambda: _core.Instruction("gather_index", 4, 5, [view(0, 9), ABSENT, counting(), view(1, dtype="i32")]),
        "gather_index data: expected an integer dtype, got f32",
    ),
    "no_batch": (
        lambda: _core.Instruction("norm_backward_finish", 4, 5, [column(i) for i in range(10)], numbers=[0]),
        "norm_backward_finish: expected at least one row, got 0",
    ),
    "columns_of_target": (
        lambda: _core.Instruction("softmax_cross_entropy", 4, 5,
                                  [X, view(1, 4, 5, "i32"), ABSENT, ABSENT, view(2, 1, 4, "f64")], numbers=[0, 1]),
        r"softmax_cross_entropy target: expected shape \(4, 1\), got \(4, 5\)",
    ),
    "loss_function": (
        lambda: _core.Instruction("loss", 4, 5, [X, view(1), ABSENT, view(2, 1, 4, "f64")], numbers=[7, 1, 1, 1]),
        r"loss function: expected an integer in \[0, \d+\), got 7",
    ),
    "rule": (lambda: update(rule=99), r"update rule: expected an integer in \[0, \d+\), got 99"),
    "absent_state": (lambda: update(rule=ADAM), "update s1: expected a view for rule adam, got none"),
    "short_state": (
        lambda: update(rule=ADAM, states=(view(2, 1, 9), view(3, 1, 10))), r"s1: expected shape \(1, 10\), got \(1, 9\)"
    ),
    "segment_end": (lambda: update([(5, 6, 0, 1)]), r"update segment 0: expected to end within 10 elements, got 5 \+ 6"),
    "segment_offset": (lambda: update([(-1, 6, 0, 1)]), "update segment offset: expected an integer in .*, got -1"),
    "segment_size": (lambda: update([(0, 1e30, 0, 1)]), "update segment size: expected an integer in .*, got 1e.30"),
    "segment_group": (lambda: update([(0, 6, 1, 1)]), r"update segment group: expected an integer in \[0, 1\), got 1"),
    "segment_count": (lambda: update(count=2), "update: expected 4 numbers for each of 2 segments, got 4"),
    "results_without_metrics": (
        lambda: _core.Instruction("tick", 0, 0, [counting(), ABSENT, ABSENT, view(0, 2, 8, "f64"), ABSENT], numbers=[1, 1, 1]),
        "tick metrics: expected a view beside results, got none",
    ),
    "negative_tick": (
        lambda: _core.Instruction("tick", 0, 0, [counting(), *[ABSENT] * 4], numbers=[-1, 1, 1]),
        r"tick draws: expected an integer in \[0, .*\), got -1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_record_refuses_malformed_instruction(name):
    make, message = MALFORMED[name]
    core = _core.Backend()
    instruction = make()
    with pytest.raises(ValueError, match=rf"^instruction 1 .*{message}$") as caught:
        core.record([([pointwise(), instruction], False, 0, 0)])
    assert GRAMMAR.match(str(caught.value))
    if "scratch" not in name:
        with pytest.raises(ValueError, match=rf"^scratch .*{message}$"):
            core.scratch(instruction)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _core.View(0, "f23"), "View dtype: expected one of f32, .*, got 'f23'"),
        (lambda: _core.View(0, layout="columns"), "View layout: expected one of row_major, .*, got 'columns'"),
        (lambda: _core.Stage("sums"), "Stage kind: expected one of affine, .*, got 'sums'"),
        (lambda: _core.Stage("scale", numbers=[1] * 5), "Stage numbers: expected at most 4, got 5"),
        (lambda: _core.Instruction("prod", 1, 1, []), "Instruction kernel: expected one of product, .*, got 'prod'"),
        (lambda: _core.Backend("sse9"), r"isa: expected one of .*, got 'sse9'"),
        (lambda: _core.Backend(real="float16"), "real: expected one of float32, float64, got 'float16'"),
        (lambda: _core.Backend().record([([pointwise(), norm(rows=1, cols=512)], False, 64, 0)]),
         r"instruction 1: expected work in chunks of \d+ rows of one member, got .*"),
    ],
)  # fmt: skip
def test_unknown_names_and_numbers_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_numbers_too_large_for_their_field_are_refused(value):
    for make in (lambda: view(value), lambda: view(rows=value * 2**32), lambda: _core.Stage("activate", function=value)):
        with pytest.raises(TypeError):
            make()


# ------------------------------------------------------------------------------------------------------- bases
def addition(core):
    chain = [_core.Stage("add", operand=view(1)), _core.Stage("store", out=view(2))]
    return core.record([([pointwise(chain=chain)], False, 0, 0)])


def full(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def read_only():
    array = full(4, 5)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("bases", "message"),
    [
        ([full(4, 5), full(4, 5)], "run: expected 3 bases, got 2"),
        ([], "run: expected 3 bases, got 0"),
        ([full(4, 5), None, full(4, 5)], "run: expected a buffer for base 1, got None"),
        ([full(4, 5), full(4, 5), full(4, 4)], "run: expected at least 80 bytes in base 2, got 64"),
        ([full(4, 5), full(4, 5), bytearray(79)], "run: expected at least 80 bytes in base 2, got 79"),
        ([full(4, 5), full(0, 5), full(4, 5)], "run: expected at least 80 bytes in base 1, got 0"),
        ([full(4, 5), full(4, 5)[::-1], full(4, 5)], "run: expected at least 80 bytes in base 1, got 20"),
        ([full(4, 5), full(4, 5), read_only()], "run: expected a writable buffer for base 2, got a read-only .*"),
        ([full(4, 5), full(4, 5), bytes(80)], "run: expected a writable buffer for base 2, got a read-only bytes"),
        ([full(4, 5), np.ones(81, np.uint8)[1:], full(4, 5)], "run: expected base 1 at a multiple of 4 bytes, got .*"),
    ],
)  # fmt: skip
def test_run_refuses_bases(bases, message):
    core = _core.Backend()
    recording = addition(core)
    with pytest.raises(ValueError, match=f"^{message}$"):
        core.run([([recording], 1)], bases)
    assert recording.calls == 0


@pytest.mark.parametrize("base", [3, "text", [1.0] * 20, object(), {}, np.float32(3)])
def test_run_refuses_what_is_no_buffer(base):
    core = _core.Backend()
    with pytest.raises((TypeError, ValueError)):
        core.run([([addition(core)], 1)], [full(4, 5), full(4, 5), base])


def test_run_refuses_a_base_without_the_rows_before_it():
    core = _core.Backend()
    recording = core.record([([gather(view(0, 9, ld=-5))], False, 0, 0)])
    data = full(9, 5)
    bases = [data[::-1], None, None, np.zeros(8, np.int64)]
    core.run([([recording], 1)], bases)
    with pytest.raises(ValueError, match=r"^run: expected 160 bytes before base 0, got 0$"):
        core.run([([recording], 1)], [data, *bases[1:]])


@pytest.mark.parametrize(
    ("threads", "times", "message"),
    [(0, 1, "run: expected at least 1 thread, got 0"), (-1, 1, "run: expected at least 1 thread, got -1"),
     (1, -1, "run: expected 0 times or more, got -1")],
)  # fmt: skip
def test_run_refuses_threads_and_times(threads, times, message):
    core = _core.Backend()
    with pytest.raises(ValueError, match=f"^{message}$"):
        core.run([([addition(core)], times)], [full(4, 5)] * 3, threads)


def test_run_refuses_recordings_of_another_backend():
    core, other = _core.Backend(real="float32"), _core.Backend(real="float64")
    with pytest.raises(ValueError, match=r"^run: expected recordings of .*_f64, got one of .*_f32$"):
        other.run([([addition(core)], 1)], [full(4, 5, dtype=np.float64)] * 3)


@pytest.mark.parametrize("program", [None, 3, [None], [([None], 1)], [([], "1")], [3], ["ab"]])
def test_run_refuses_what_is_no_program(program):
    core = _core.Backend()
    with pytest.raises((TypeError, RuntimeError)):
        core.run(program, [])


def test_a_backend_works_on_after_refusals():
    core = _core.Backend()
    recording = addition(core)
    for bases in ([None] * 3, [full(1)] * 3, []):
        with pytest.raises(ValueError, match="run: expected"):
            core.run([([recording], 1)], bases)
    out = np.empty((4, 5), np.float32)
    core.run([([recording], 1)], [full(4, 5), full(4, 5), out])
    assert_same_bits(out, full(4, 5) * 2)
