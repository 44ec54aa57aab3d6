# SPDX-License-Identifier: Apache-2.0
"""What bench/isa.py compares, from the cases of tests/: kernels, chains and runs of stages, functions, nets, products."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import dlcore as dl
from dlcore import _core
from dlcore import backend as backends
from dlcore.plan import depth_first

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from cases import CASES, CHAINED, SHORT_CHAINS, counters, long_chain, made_stage, make_case
from checks import assert_close, rng
from instructions import DTYPES, Operand, activation, backend, pointwise, room_for_planes, run_kernel, stage
from runs import BACKWARD, FORWARD, Chain

SHAPES = ((5, 37), (17, 65), (33, 10), (130, 300))  # a row of lanes and a rest, several chunks of rows
ALONG_ROWS = ("layer_norm", "layer_norm_backward", "softmax", "softmax_cross_entropy", "loss", "grad_scale")
# m, n, k: few rows, tiles and their edges, a depth in blocks, a depth that is split.
PRODUCTS = ((33, 32, 32), (5, 130, 37), (67, 200, 90), (1, 515, 2100), (7, 64, 1025), (64, 31, 3000), (129, 257, 530))
CONSTANTS = {"leaky_relu": (0.2,), "elu": (1.7,)}
STEPS = 3


@dataclass(frozen=True)
class Comparison:
    """What two backends make of the same inputs: ``make(backend, *given)`` returns arrays."""

    name: str
    make: Callable[..., list[np.ndarray]]
    given: tuple
    depth: int  # roundings on the way to an element
    rounds: bool = False  # by a sum along a row: bits may differ


# ---------------------------------------------------------------------------------------------------- kernels
def of_kernel(core, name: str, rows: int, cols: int, variant: str = "") -> list[np.ndarray]:
    """A kernel's operands after its run, and what a chain of every kind of stage makes of its value."""
    case, chain, written = make_case(core, name, rows, cols), [], []
    if name == "update":
        case.numbers = (core.rules[variant][0], *case.numbers[1:])
        case.operands[2:4] = [abs(x) if i < core.rules[variant][1] else None for i, x in enumerate(case.operands[2:4])]
    elif name == "loss":
        case.numbers = (core.losses[variant], *case.numbers[1:])
    elif variant == "of probabilities":
        case.operands[1] = rng(1).dirichlet(np.ones(cols), size=rows).astype(core.real)
    if name in CHAINED:
        chain, written = long_chain(core, rows, cols, core.real)
        written = [*written, np.empty((rows, cols), core.real)]
        chain = [*chain, stage("store", out=written[-1])]
    case.run(core, chain, threads=(1,))
    return [x for x in (*case.operands, *written) if x is not None]


def kernels(core) -> Iterator[Comparison]:
    """Every kernel by itself, with each rule and loss."""
    variants = {"update": core.rules, "loss": core.losses, "softmax_cross_entropy": ("of labels", "of probabilities")}
    for name in CASES:
        for variant in variants.get(name, ("",)):
            for rows, cols in SHAPES:
                said = f"{name} {variant} {rows}x{cols}".replace("  ", " ")
                yield Comparison(said, of_kernel, (name, rows, cols, variant), rows + cols + 16, name in ALONG_ROWS)


def of_run(core, way: str, run: tuple) -> list[np.ndarray]:
    """The value behind stages of one loop, and what they write."""
    made = []
    for rows, cols in SHAPES:
        chain = getattr(Chain(core, rows, cols), way)(*run)
        made.append(pointwise(core, chain.input(), [*chain.stages, stage("scale", numbers=[2.0])], threads=(1,)))
        made += [x if x.dtype != np.uint8 else np.unpackbits(x, axis=1, bitorder="little")[:, :cols] for x in chain.written]
    return made


def runs() -> Iterator[Comparison]:
    """Every run of stages that goes through one loop."""
    forward, backward = ("affine", "relu", "dropout", "store"), ("dropout", "relu_grad", "store", "sums")
    for way, parts, forms in (("forward", forward, FORWARD), ("backward", backward, BACKWARD)):
        for form in forms:
            said = [part if of is True else f"{part} {of}" for part, of in zip(parts, form, strict=True) if of]
            yield Comparison(" ".join(["run", way, *said]), of_run, (way, form), 130 + 16)


def inputs(real: str) -> np.ndarray:
    """Bit patterns of float32, and more where functions bend."""
    patterns = np.arange(0, 2**32, 4_000_037, np.uint64).astype(np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):
        x = np.concatenate([patterns.astype(real), np.linspace(-110, 110, 997, dtype=real)])
    info = np.finfo(real)
    special = np.array([0, info.tiny, info.smallest_subnormal, info.max, np.inf], real)
    return np.concatenate([x, special, -special])[None]


def of_activation(core, name: str) -> list[np.ndarray]:
    """The function, and its derivative from its input and from its output."""
    x, constants = inputs(core.real), CONSTANTS.get(name, ())
    made = [pointwise(core, x, [activation(core, name, constants)], threads=(1,))]
    for from_output in (False, True)[: 1 + core.activations[name][1]]:
        operand = made[0] if from_output else x
        chain = [activation(core, name, constants, "activate_grad", from_output, operand=operand)]
        made.append(pointwise(core, np.ones_like(x), chain, threads=(1,)))
    return made


def of_dropout(core, p: float) -> list[np.ndarray]:
    """Of ones, with the bits that are kept for a second time."""
    x, bits = np.ones((70, 83), core.real), np.zeros((70, 12), np.uint8)
    draw = stage("dropout", random_op=3, numbers=[p], a=counters(draws=2**33, seed=2**40 + 1), out=bits)
    again = stage("dropout", random_op=3, numbers=[p], a=counters(), operand=bits)
    drawn, kept = (pointwise(core, x, [by], threads=(1,)) for by in (draw, again))
    return [drawn, kept, np.unpackbits(bits, axis=1, bitorder="little")[:, : x.shape[1]]]


def of_gather(core, dtype: str) -> list[np.ndarray]:
    """All kinds of bits of a type, in an order and by steps."""
    size = np.dtype(dtype).itemsize
    data = rng(5).integers(0, 256, size=(41, 38 * size), dtype=np.uint8).view(dtype)
    results = []
    for seen in (data, Operand(data[::2, ::2], in_place=True)):
        rows, cols = (data if seen is data else seen.array).shape
        order, out = rng(6).permutation(rows).astype(np.int64)[None], np.empty((rows, cols), core.real)
        run_kernel(core, "gather", [seen, order, counters(position=0)], rows, cols, [stage("store", out=out)], threads=(1,))
        results.append(out)
    return results


def functions(core) -> Iterator[Comparison]:
    """Elementary functions, masks, and conversions."""
    for name in core.activations:
        yield Comparison(f"function {name}", of_activation, (name,), 64)
    for p in (0.1, 0.5):
        yield Comparison(f"dropout {p}", of_dropout, (p,), 1)
    for dtype in DTYPES:
        yield Comparison(f"gather {dtype}", of_gather, (dtype,), 1)


# --------------------------------------------------------------------------------------------------- products
def of_product(core, m: int, n: int, k: int, role: str, names: str, terms: int = 0) -> list[np.ndarray]:
    """C, and what its chain writes; with role nn of strips, or planes, of B too."""
    r, found = rng(11), []
    a, b = r.normal(size=(m, k)).astype(core.real), r.normal(size=(k, n)).astype(core.real)
    room = Operand(np.empty((-(-n // core.strip), k, core.strip), core.real), strip_cols=n)
    room = room_for_planes(k, n, _core.PARTS[terms]) if terms else room
    forms = [np.ascontiguousarray(b.T) if role == "nt" else b] + [room] * (role == "nn")
    if role == "nn":
        run_kernel(core, "pack", [b, room, None], k, n, numbers=[0, 0], threads=(1,))
    for second in forms:
        given = [[r.normal(size=s).astype(core.real) for s in ((1, n), (1, n), (m, n))] for _ in names.split()]
        chain = [made_stage(core, name, each, found, core.real) for name, each in zip(names.split(), given, strict=True)]
        found.append(np.empty((m, n), core.real))
        run_kernel(core, "product", [np.ascontiguousarray(a.T) if role == "tn" else a, second], m, n,
                   [*chain, stage("store", out=found[-1])], [_core.ROLES.index(role), terms], threads=(1,))  # fmt: skip
    return found


def products(core, same_unit: bool) -> Iterator[Comparison]:
    """Every role with each chain, every shape; where both have a matrix unit, each number of terms."""
    made = [(shape, role, "", 0) for shape in PRODUCTS for role in _core.ROLES]
    made += [(PRODUCTS[i], role, names, 0) for names in SHORT_CHAINS for i, role in enumerate(_core.ROLES)]
    made += [(s, role, "", t) for s in PRODUCTS for role in _core.ROLES for t in _core.PARTS if same_unit and core.unit]
    for (m, n, k), role, names, terms in made:
        said = f"product {role} {m}x{n}x{k}{f' of {terms} terms' * (terms > 0)} {names}".rstrip()
        yield Comparison(said, of_product, (m, n, k, role, names, terms), m + k + 16)


# ------------------------------------------------------------------------------------------------------- nets
@contextlib.contextmanager
def nets_on(core, blocks: bool = False) -> Iterator[None]:
    """Nets are made for this backend; blocks: depth first however small they are."""
    before = backends.get, depth_first.WORTH_BYTES, depth_first.LEAST_UNITS
    backends.get = lambda dtype="float32", device="cpu": backend(core.isa, dtype)
    if blocks:
        depth_first.WORTH_BYTES, depth_first.LEAST_UNITS = 0, 1
    try:
        yield
    finally:
        backends.get, depth_first.WORTH_BYTES, depth_first.LEAST_UNITS = before


def normed():
    return [dl.Linear(13, 37), dl.BatchNorm(37), dl.ReLU(), dl.Dropout(0.3), dl.Linear(37, 10)]


def residual():
    body = dl.Sequential(dl.Linear(33, 33), dl.LayerNorm(33), dl.GELU())
    return [dl.Linear(13, 33), dl.Residual(body), dl.Linear(33, 10)]


def deep():
    body = dl.Sequential(dl.Linear(40, 40), dl.SiLU(), dl.BatchNorm(40), dl.Linear(40, 40))
    return [dl.Linear(13, 40), dl.Tanh(), dl.Residual(body), dl.ELU(), dl.Linear(40, 40), dl.Sigmoid(), dl.Linear(40, 10)]


# name: layers, loss, optimizer, rows, whether sums along rows take part: then by SGD, as what an adaptive optimizer makes of
# a rounding has no bound
TRAINED = {
    "batch norm, dropout, AdamW": (normed, dl.MeanSquaredError(), dl.AdamW(0.01), 50, False),
    "layer norm, Nesterov": (residual, dl.MeanSquaredError(), dl.SGD(0.05, momentum=0.9, nesterov=True), 50, True),
    "cross-entropy, clipped SGD": (normed, dl.SoftmaxCrossEntropy(label_smoothing=0.1), dl.SGD(0.05, clip_norm=0.5), 50, True),
    "binary cross-entropy, RMSprop": (deep, dl.BinaryCrossEntropy(), dl.RMSprop(0.01, eps=0.01, l1=1e-3), 70, False),
    "depth first, Adagrad": (deep, dl.MeanSquaredError(), dl.Adagrad(0.05), 700, False),
}


def of_training(core, name: str) -> list[np.ndarray]:
    """Parameters and running statistics after some steps, and an epoch of uneven batches of bytes."""
    layers, loss, optimizer, rows, _ = TRAINED[name]
    r = rng(3)
    x, y = r.normal(size=(rows, 13)).astype(core.real), r.integers(0, 2, size=(rows, 10)).astype(core.real)
    y = y.argmax(axis=1) if loss.target == "index" else y
    with nets_on(core, blocks="depth first" in name):
        net = dl.Net(layers(), seed=4, dtype=core.real, threads=1)
        step = net.compile(loss, optimizer, batch_size=rows)
        for _ in range(STEPS):
            step(x, y)
        x = r.integers(0, 3, size=(rows, 13), dtype=np.uint8)
        net.fit(x, y, loss=loss, optimizer=optimizer, epochs=1, batch_size=rows // 3, verbose=0)
        return [*net.parameters.values(), *net.state.values()]


def of_prediction(core, hidden: int, rows: int, precision: str, blocks: bool) -> list[np.ndarray]:
    """By the net and by its predictor."""
    layers = [dl.Linear(5, hidden), dl.GELU(), dl.Linear(hidden, hidden), dl.BatchNorm(hidden), dl.ReLU(), dl.Linear(hidden, 3)]
    x = rng(rows).normal(size=(rows, 5)).astype(core.real)
    with nets_on(core, blocks):
        net = dl.Net(layers, seed=3, dtype=core.real, precision=precision, threads=1)
        return [net.predict(x), net.predictor().predict(x)]


def nets(core, same_products: bool) -> Iterator[Comparison]:
    """Trained nets and predictions, batches of one row and depth first among them."""
    for name, (*_, rows, rounds) in TRAINED.items():
        if same_products or rounds:
            yield Comparison(f"train {name}", of_training, (name,), 2 * STEPS * (rows + 200), rounds)
    on_units = bool(core.unit) and same_products
    sizes = [(67, rows, False) for rows in (1, 5, 64, 500)] + [(67, 500, True), (730, 1, False), (730, 64, False)]
    sizes += [(730, 750, False)] * on_units  # enough rows for products of six terms
    for precision in _core.PRECISIONS if on_units else ("float32",):
        for hidden, rows, blocks in sizes:
            said = f"predict {rows} rows, {hidden} wide{', depth first' * blocks}{f', {precision}' * on_units}"
            yield Comparison(said, of_prediction, (hidden, rows, precision, blocks), 3 * hidden, not same_products)


def comparisons(core, other) -> Iterator[Comparison]:
    """All of them for one real type."""
    same_unit = bool(core.unit) == bool(other.unit)
    yield from kernels(core)
    yield from runs()
    yield from functions(core)
    yield from nets(core, same_unit and "baseline" not in (core.isa, other.isa))
    yield from products(core, same_unit)


def compared(comparison: Comparison, core, other) -> dict:
    """A row of the report."""
    row = {"name": comparison.name, "real": core.real, "elements": 0, "differ": 0, "wrong": ""}
    made = lambda backend: comparison.make(backend, *comparison.given)  # noqa: E731
    rounds = comparison.rounds or "baseline" in (core.isa, other.isa)
    for got, want in zip(made(core), made(other), strict=True):
        same = got == want
        if got.dtype.kind == "f":
            same = same & (np.signbit(got) == np.signbit(want)) | np.isnan(got) & np.isnan(want)
        row["elements"] += got.size
        row["differ"] += int((~same).sum())
        if not same.all() and not row["wrong"]:
            row["wrong"] = wrong(got, want, comparison.depth, core.real) if rounds else "bits differ"
    return row


def wrong(got: np.ndarray, want: np.ndarray, depth: int, real: str) -> str:
    """Why two results differ by more than rounding: each may err as much as the tests allow."""
    if got.dtype.kind != "f":
        return "integers differ"
    try:
        with np.errstate(over="ignore"):
            assert_close(got.astype(real), want.astype(real), depth=4 * depth)
    except AssertionError as error:
        return str(error)
    return ""
