# SPDX-License-Identifier: Apache-2.0
"""The precision of a net's products: what a name chooses, where it falls back, and what the listing says of it."""

from itertools import chain, pairwise

import numpy as np
import pytest

import dlcore as dl
from checks import rng
from dlcore import _core, ops
from dlcore import backend as backends
from dlcore.plan.precision import terms_of

TERMS = dict(zip(_core.PRECISIONS, (6, 3, 1), strict=True))
ALLOWED = {"float32": 1e-6, "bf16x3": 1e-5, "bf16": 4e-3}
# Rows and widths of nets of which some products are large enough for every precision: forward and back, and the weights'.
NETS = {"many_rows": (740, (64, 740, 64)), "few_rows": (64, (740, 740))}


@pytest.fixture
def on_unit(cpu_unit, monkeypatch):
    """Nets of this test run on a backend with a matrix unit."""
    monkeypatch.setattr(backends, "get", lambda dtype="float32", device="cpu": _core.Backend(cpu_unit.isa, dtype))
    return cpu_unit


@pytest.fixture
def without_unit(monkeypatch):
    monkeypatch.setattr(backends, "get", lambda dtype="float32", device="cpu": _core.Backend("baseline", dtype))


def layers(*widths):
    hidden = [(dl.Linear(m, n), dl.BatchNorm(n), dl.ReLU(), dl.Dropout(0.1)) for m, n in pairwise(widths)]
    return [*chain(*hidden), dl.Linear(widths[-1], 3)]


def trained(name, precision, threads=1, dtype="float32", **options):
    """Losses of two steps, the outputs after them, and the plan."""
    rows, widths = NETS[name]
    net = dl.Net(layers(*widths), seed=1, dtype=dtype, precision=precision, threads=threads)
    for path, value in dl.Net(layers(*widths), seed=1).parameters.items():
        net.parameters[path][...] = value
    step = net.compile(dl.SoftmaxCrossEntropy(), dl.SGD(0.1), rows, **options)
    x, y = rng(2).normal(size=(rows, widths[0])).astype(np.float32), rng(3).integers(0, 3, rows)
    losses = [step(x, y) for _ in range(2)]
    return np.array(losses), net.predict(x), step.plan


# ------------------------------------------------------------------------------------------------------- names
def test_unknown_precisions_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"precision: expected one of 'float32', .*, got 'bf16x2'; did you mean 'bf16x3'\?"):
        dl.Net([dl.Linear(2, 2)], precision="bf16x2")
    with pytest.raises(ValueError, match="precision: expected 'float32' beside dtype 'float64', got 'bf16'"):
        dl.Net([dl.Linear(2, 2)], dtype="float64", precision="bf16")


def test_precision_is_shown_saved_and_loaded(tmp_path):
    net = dl.Net([dl.Linear(2, 2)], precision="bf16x3")
    assert repr(net).endswith("precision='bf16x3')")
    assert "precision" not in repr(dl.Net([dl.Linear(2, 2)]))
    net.save(tmp_path / "net.npz")
    assert dl.load(tmp_path / "net.npz").precision == "bf16x3"


# ---------------------------------------------------------------------------------------------- without a unit
def test_without_a_unit_every_precision_has_the_bits_of_float32(without_unit):
    def result(precision):
        net = dl.Net([dl.Linear(9, 32), dl.ReLU(), dl.Linear(32, 2)], precision=precision)
        x = rng(0).normal(size=(64, 9)).astype(np.float32)
        net.fit(x, rng(1).integers(0, 2, 64), epochs=2, batch_size=32, verbose=0)
        return str(net.plan(32)), net.predict(x)

    listing, want = result("float32")
    assert listing.endswith("precision float32: multiply-adds in float32")
    assert "product.float32" not in listing
    for precision in ("bf16x3", "bf16"):
        listing, got = result(precision)
        assert (got == want).all()
        assert listing.endswith(f"precision {precision}: multiply-adds in float32, as baseline has no bf16 matrix unit")
        assert listing.count("product.float32 ") == listing.count("product") == 5


def test_a_float64_net_says_so(without_unit):
    assert str(dl.Net([dl.Linear(3, 2)], dtype="float64").plan(4)).endswith("precision float64: multiply-adds in float64")


# ------------------------------------------------------------------------------------------------- with a unit
def large_plan(precision):
    """Of a net whose products are large, but those of the last layer; it is not run."""
    return dl.Net(layers(800, 900, 1000), precision=precision).plan(800)


@pytest.mark.parametrize("precision", TERMS)
def test_listing_names_the_terms_of_large_products(on_unit, precision):
    plan, terms = large_plan(precision), TERMS[precision]
    assert [terms_of(node) for node in plan.instructions if node.op is ops.Product] == [terms, terms, 0, 0, 0] + [terms] * 3
    name = "product.bf16" + {6: "x6", 3: "x3", 1: ""}[terms]
    assert str(plan).count(f"{name} ") == 5
    assert str(plan).count("product.float32 ") == (0 if precision == "float32" else 3)
    how = f"{terms} bf16 term{'s' if terms > 1 else ''} on {on_unit.unit}"
    why = "multiply-adds in float32 where a product is too small to gain; 3 of 8 products are"
    assert str(plan).splitlines()[-1] == f"precision {precision}: {how}, {why}"


def test_weights_are_packed_once_for_both_directions(on_unit):
    nodes = large_plan("bf16x3").instructions
    packs = [node for node in nodes if node.op is ops.Pack and node.operands["x"].kind == "parameter"]
    assert [(p.operands["packed"].ld, "packed2" in p.operands) for p in packs] == [(2, False), (2, True)]
    products = [node for node in nodes if terms_of(node)]
    assert all(node.operands["b"].layout == "planes" and node.numbers[0] != ops.ROLE_NT for node in products)


def test_products_of_terms_run_alone_between_barriers(on_unit):
    """Their items are larger than the chunks of rows that sections of row blocks are cut into."""
    net = dl.Net([dl.Linear(128, 128), dl.Tanh(), dl.Linear(128, 128), dl.Tanh(), dl.Linear(128, 128)], precision="bf16")
    net.predict(rng(4).normal(size=(1024, 128)).astype(np.float32))
    (plan,) = net.plans.table.values()
    assert sum(terms_of(n) for n in plan.instructions) == 3
    assert sum(r.bytes for r in plan.recordings["gradients"]) == plan.bytes
    assert all(s.block_rows == 0 for _, s in plan.sections if any(terms_of(n) for n in s.nodes))


@pytest.mark.parametrize("precision", TERMS)
@pytest.mark.parametrize("name", NETS)
def test_fused_steps_have_the_bits_of_unfused_ones_at_any_thread_count(on_unit, name, precision):
    losses, out, plan = trained(name, precision)
    assert any(terms_of(node) == TERMS[precision] for node in plan.instructions)
    for options in ({"threads": 2}, {"fuse": False, "record": False}):
        other_losses, other_out, _ = trained(name, precision, **options)
        assert (losses == other_losses).all()
        assert (out == other_out).all()


@pytest.mark.parametrize("name", NETS)
def test_steps_err_by_what_their_precision_allows(on_unit, name):
    """Beside a float64 net with the same weights and masks; the errors of all products on the way may add up."""
    want, want_out, plan = trained(name, "float32", dtype="float64")
    products = sum(node.op is ops.Product for node in plan.instructions)
    for precision, allowed in ALLOWED.items():
        losses, out, _ = trained(name, precision)
        for got, exact in ((losses, want), (out, want_out)):
            assert np.linalg.norm(got - exact) <= products * allowed * np.linalg.norm(exact)
