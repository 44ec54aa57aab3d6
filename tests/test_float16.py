# SPDX-License-Identifier: Apache-2.0
"""float16: products, the dynamic scale of the loss on the device, skipped updates, and where it is refused."""

import numpy as np
import pytest

import dlcore as dl
from cases import counters, metrics
from checks import assert_close, rng
from dlcore import _core, ops
from instructions import assert_same_bits, run_kernel, stage
from test_halves import UNIT, held, rounded, stores
from test_mma import ROWS, WIDTH, layers, trained
from test_terms import operands
from test_update_kernels import RULES, hyper_row, states, update_numbers

SCALE = {name: i for name, i in _core.LOSS_SCALE_INDEX.items()}
NORM = 1e-3  # relative Frobenius error of a product on normal data: a quarter of what bf16 has


@pytest.fixture
def core(other_device):
    return _core.Backend(other_device)


def product_of_halves(core, a, b, role="nn"):
    m, n = a.shape[1] if role == "tn" else a.shape[0], b.shape[0] if role == "nt" else b.shape[1]
    c = np.empty((m, n), np.float32)
    halves = [held(x, "f16") for x in (a, b)]
    run_kernel(core, "product", halves, m, n, [stage("store", out=c)], [_core.ROLES.index(role), 1])
    return c


def state(value=65536.0, good=0.0, skipped=0.0):
    return np.array([[value, good, skipped, 0]], np.float32)


# ----------------------------------------------------------------------------------------------------- products
@pytest.mark.parametrize("role", _core.ROLES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (17, 33, 65), (65, 66, 600), (130, 300, 40), (64, 31, 2100)])
def test_products_of_halves_are_exact_on_integers_and_close_on_normal_data(core, role, shape):
    m, n, k = shape
    whole = rng(1).integers(-30, 31, size=(m + n, k)).astype(np.float32)
    normal = rounded(rng(2).normal(size=(m + n, k)).astype(np.float32), "f16")
    for x in (whole, normal):
        a, b = np.ascontiguousarray(x[:m]), np.ascontiguousarray(x[m:].T)
        given = {"nn": (a, b), "nt": (a, np.ascontiguousarray(b.T)), "tn": (np.ascontiguousarray(a.T), b)}[role]
        got, want = product_of_halves(core, *given, role), a.astype(np.float64) @ b
        if x is whole:
            assert (got == want).all()
        # The operands are exact; tensor cores cut sums, which errs by one unit in the last place each.
        assert (np.abs(got - want) <= k * 2.0**-23 * (np.abs(a) @ np.abs(b))).all()


def test_rounding_operands_errs_as_promised(core):
    a, b = operands(3, 65, 130, 300)
    got, want = product_of_halves(core, rounded(a, "f16"), rounded(b, "f16")), a.astype(np.float64) @ b
    assert np.linalg.norm(got - want) <= NORM * np.linalg.norm(want)


def test_halves_keep_subnormals_and_overflow_to_infinity(core):
    tiny = 2.0**-24
    a, b = np.array([[tiny, 1024 * tiny, 65504]], np.float32), np.array([[1], [2], [0]], np.float32)
    assert product_of_halves(core, a, b)[0, 0] == 2049 * tiny
    assert rounded(np.array([65520.0], np.float32), "f16")[0] == np.inf


# ------------------------------------------------------------------------------------------------- scale of loss
def scaled(core, g, before, max_norm=0.0, weight=32.0, rows=8.0, interval=2000):
    out, after = np.full((1, 2), np.nan), before.copy()
    numbers = [max_norm, rows, 2.0, 0.5, interval]
    run_kernel(core, "grad_scale", [metrics(weight=weight), g, out, after], 0, 0, numbers=numbers)
    return out[0], after[0]


def test_scale_leaves_the_gradient_before_its_norm_is_clipped(core):
    g = rng(4).normal(size=(1, 9001)).astype(np.float32)
    norm = np.sqrt(np.square(g.astype(np.float64)).sum()) * 8 / 32 / 1024
    for max_norm in (0.0, norm / 2, 2 * norm):
        (scale, found), after = scaled(core, g, state(1024.0, 5), max_norm)
        clip = min(1.0, max_norm / (norm + 1e-6)) if max_norm else 1.0
        assert_close(np.array([scale, found]), np.array([8 / 32 / 1024 * clip, norm]), depth=g.size)
        assert after.tolist() == [1024, 6, 0, 0]


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("at", [0, 8191, 8192, 9000])
def test_scale_is_halved_by_what_is_not_finite(core, bad, at):
    g = np.ones((1, 9001), np.float32)
    g[0, at] = bad
    for weight in (32.0, 0.0):
        assert scaled(core, g, state(1024.0, 1999), weight=weight)[1].tolist() == [512, 0, 1, 0]


def test_scale_doubles_after_so_many_good_updates(core):
    g, now = np.ones((1, 9), np.float32), state(1024.0)
    found = []
    for _ in range(7):
        now = scaled(core, g, now, interval=3)[1][None]
        found.append(now[0, :2].tolist())
    assert found == [[1024, 1], [1024, 2], [2048, 0], [2048, 1], [2048, 2], [4096, 0], [4096, 1]]


def test_scale_stays_a_positive_number(core):
    g = np.ones((1, 9), np.float32)
    largest, smallest = np.float32(2.0**127), np.finfo(np.float32).smallest_subnormal
    assert scaled(core, g, state(largest, 1999))[1].tolist() == [largest, 0, 0, 0]
    assert scaled(core, g * np.nan, state(smallest, 5))[1].tolist() == [smallest, 0, 1, 0]


@pytest.mark.parametrize("rule", RULES)
def test_skipped_updates_change_no_bit(core, rule):
    r, size = rng(5), 5000
    w, g = (r.normal(size=(1, size)).astype(np.float32) for _ in range(2))
    arrays = [x if x is None else r.uniform(1, 2, x.shape).astype(np.float32) for x in states(core, rule, size, np.float32)]
    hyper = np.stack([hyper_row(1, 0.1, **RULES[rule])])
    for skipped, clear in ((1, 0), (1, 1), (0, 1)):
        got = [x if x is None else x.copy() for x in (w, g, *arrays)]
        numbers = update_numbers(core, rule, [(3, size - 7, 0, 1)], clear=clear)
        given = [*got, np.array([[0.5, 1.0]]), hyper, counters(), state(skipped=skipped), None]
        run_kernel(core, "update", given, 0, 0, numbers=numbers)
        for now, before in zip((got[0], *got[2:]), (w, *arrays), strict=True):
            assert before is None or (now == before).all() == bool(skipped)
        assert (got[1][0, 3:-4] == 0).all() == bool(clear)
        assert (got[1][0, :3] == g[0, :3]).all()


def test_ticks_count_skipped_updates_apart(core):
    results = np.full((6, _core.RESULTS), -1.0)
    count = counters(draws=5, updates=2)
    for i, skipped in enumerate((1, 0, 1)):
        table = metrics(loss=i + 1)
        given = [count, table, np.array([[0.5, 0.25]]), results, state(skipped=skipped)]
        run_kernel(core, "tick", given, 0, 0, numbers=[1, 1, 4])
    assert [count[0, _core.COUNTER[n]] for n in ("draws", "updates", "skipped", "position")] == [8, 3, 2, 12]
    assert results[:, _core.RESULT["loss"]].tolist() == [-1, -1, 1, 2, 3, -1]


def test_a_scale_stage_reads_the_scale(core):
    x, y = rng(6).normal(size=(2, 65, 33)).astype(np.float32)
    run_kernel(core, "pointwise", [x], 65, 33, [stage("scale", numbers=[0.125], a=state(1024.0)), stage("store", out=y)])
    assert_same_bits(y, x * np.float32(128))


# --------------------------------------------------------------------------------------------------------- nets
def make_net(device, **options):
    return dl.Net(layers(), seed=3, device=device, precision="float16", gemm="mma", **options)


X, Y = rng(2).normal(size=(ROWS, WIDTH)).astype(np.float32), rng(3).integers(0, 5, ROWS)


def test_nets_train_in_float16(other_device):
    losses, out, plan = trained(other_device, "float16")
    want, want_out, _ = trained("cpu", gemm="auto", dtype="float64")
    products = [n for n in plan.instructions if n.op is ops.Product]
    assert all((n.numbers[1], n.operands["a"].dtype, n.operands["b"].dtype) == (1, "f16", "f16") for n in products)
    assert {v.dtype for _, v in stores(plan) if v.cols > 5} == {"f16"}
    allowed = 3 * (len(products) * NORM + len(stores(plan)) * UNIT["f16"])
    assert 0 < np.linalg.norm(losses - want) <= allowed * np.linalg.norm(want)
    assert 0 < np.linalg.norm(out - want_out) <= allowed * np.linalg.norm(want_out)
    for options in ({"threads": 2}, {"fuse": False, "record": False}):
        other_losses, other_out, _ = trained(other_device, "float16", **options)
        np.testing.assert_array_equal(losses, other_losses)
        np.testing.assert_array_equal(out, other_out)
    assert "product.f16 " in str(plan)
    assert str(plan).splitlines()[-1] == "precision float16: 1 f16 term on tensor cores, by mma"


@pytest.mark.parametrize("optimizer", [dl.SGD(0.1, momentum=0.9), dl.AdamW(1e-2, clip_norm=1.0)], ids=["sgd", "adamw"])
@pytest.mark.parametrize("record", [True, False])
def test_an_overflow_skips_its_update_and_nothing_else(other_device, optimizer, record):
    """The net that meets an overflow between two steps ends with the weights of one that does not."""
    found = []
    for plant in (False, True):
        net = make_net(other_device, threads=2)
        step = net.compile(dl.SoftmaxCrossEntropy(), optimizer, 64, record=record)
        weight = np.ones(64, np.float32)
        step(X[:64], Y[:64], weight)
        if plant:
            before = {n: a.copy() for n, a in {**net.parameters, **net.training.arrays}.items() if n != "loss_scale"}
            statistics = {n: a.copy() for n, a in net.state.items()}
            assert np.isfinite(step(X[:64], Y[:64], weight * 1e30))
            after = {**net.parameters, **net.training.arrays}
            for name, array in before.items():
                np.testing.assert_array_equal(after[name], array)
            assert (net.training.updates, net.training.draws, net.training.loss_scale) == (1, 2, 32768.0)
            net.training.draws = 1  # the masks of a net that has not met it
            for path, value in statistics.items():
                net.state[path][...] = value
        step(X[64:128], Y[64:128], weight)
        assert net.training.updates == 2
        found.append({n: a.copy() for n, a in net.parameters.items()})
    for path, value in found[0].items():
        # Powers of two scale exactly but for what is subnormal in 16 bits, whose roundoff is 2^13 of float32's.
        assert_close(found[1][path], value, depth=64, scale=np.abs(value).max() * 2.0**13)


def test_the_scale_doubles_after_2000_updates(other_device):
    net = make_net(other_device)
    step = net.compile(dl.SoftmaxCrossEntropy(), dl.SGD(0.01), 64)
    net.training.arrays["loss_scale"][SCALE["good"]] = 1998
    scales = [(step(X[:64], Y[:64]), net.training.loss_scale)[1] for _ in range(3)]
    assert scales == [65536, 131072, 131072]


def test_history_shows_what_was_skipped(other_device):
    weight = np.ones(ROWS, np.float32)
    weight[7] = 1e30
    net = make_net(other_device)
    options = {"epochs": 3, "batch_size": 32, "verbose": 0, "sample_weight": weight}
    history = net.fit(X, Y, optimizer=dl.Adam(1e-3), **options)
    assert history["skipped"] == [1, 1, 1]
    assert history["loss_scale"] == [32768, 16384, 8192]
    assert net.training.updates == 3 * 4
    assert np.isfinite(history["loss"]).all()
    assert "skipped" in history.csv().splitlines()[0]
    fewer = dl.Net(layers(), seed=3, device=other_device).fit(X, Y, **options)
    assert "skipped" not in fewer.rows[0]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_goes_on_from_a_file_bit_for_bit(other_device, tmp_path, accumulate):
    weight = np.ones(ROWS, np.float32)
    weight[7] = 1e30
    options = {"batch_size": 32, "verbose": 0, "sample_weight": weight, "accumulate": accumulate}
    straight = make_net(other_device)
    straight.fit(X, Y, optimizer=dl.AdamW(1e-2), epochs=2, **options)
    straight.save(tmp_path / "net.npz")
    resumed = dl.load(tmp_path / "net.npz", device=other_device, gemm="mma")
    for name, array in straight.training.arrays.items():
        np.testing.assert_array_equal(resumed.training.arrays[name], array)
    assert resumed.training.loss_scale == 16384
    rows = [net.fit(X, Y, epochs=2, **options).rows for net in (straight, resumed)]
    assert [r["loss"] for r in rows[0]] == [r["loss"] for r in rows[1]]
    assert [r["loss_scale"] for r in rows[0]] == [r["loss_scale"] for r in rows[1]] == [8192, 4096]
    for path, value in straight.parameters.items():
        np.testing.assert_array_equal(resumed.parameters[path], value)


def test_a_saved_net_predicts_anywhere_and_trains_where_it_can(other_device, tmp_path):
    net = make_net(other_device)
    net.fit(X, Y, epochs=1, batch_size=50, verbose=0)
    net.save(tmp_path / "net.npz")
    loaded = dl.load(tmp_path / "net.npz")
    plain = dl.Net(layers())
    for path, value in {**net.parameters, **net.state}.items():
        {**plain.parameters, **plain.state}[path][...] = value
    np.testing.assert_array_equal(loaded.predict(X), plain.predict(X))
    with pytest.raises(ValueError, match=r"^training: precision: expected one of .* on the CPU, got 'float16'; .*'cuda'"):
        loaded.fit(X, Y, epochs=1, verbose=0)
    with pytest.raises(ValueError, match=r"^load: gemm: expected 'auto' on the CPU, got 'mma'"):
        dl.load(tmp_path / "net.npz", gemm="mma")


# ----------------------------------------------------------------------------------------------------- refusals
def test_float16_is_refused_where_products_cannot_be_made_of_it(other_device):
    hint = "got 'float16'; float16 takes device='cuda' and gemm='mma'"
    with pytest.raises(ValueError, match=f"^Net: precision: expected one of 'float32', .* on the CPU, {hint}"):
        dl.Net(layers(), precision="float16")
    with pytest.raises(ValueError, match=f"^Net: precision: expected one of 'float32', .* with gemm 'auto', {hint}"):
        dl.Net(layers(), precision="float16", device=other_device)
    with pytest.raises(ValueError, match="precision: expected 'float32' beside dtype 'float64', got 'float16'"):
        dl.Net(layers(), precision="float16", dtype="float64")


def test_a_scale_of_the_loss_needs_gradients_and_its_numbers(core):
    tables = [_core.View(0, "f64", rows=1, cols=_core.METRICS), _core.View(), _core.View(2, "f64", rows=1, cols=2)]
    scale = _core.View(3, rows=1, cols=_core.LOSS_SCALE)
    with pytest.raises(ValueError, match="gradients: expected a view beside loss_scale, got none"):
        core.scratch(_core.Instruction("grad_scale", 0, 0, [*tables, scale], numbers=[0, 8, 2, 0.5, 2000]))
    tables[1] = _core.View(1, rows=1, cols=9)
    with pytest.raises(ValueError, match="expected 5 numbers beside loss_scale, got 1"):
        core.scratch(_core.Instruction("grad_scale", 0, 0, [*tables, scale], numbers=[0]))


def test_the_cpu_takes_no_scale_of_the_loss(cpu_isa):
    scale = _core.View(3, rows=1, cols=_core.LOSS_SCALE)
    chain = [_core.Stage("scale", a=scale, numbers=[1]), _core.Stage("store", out=_core.View(1, rows=4, cols=6))]
    with pytest.raises(ValueError, match=r"scale a: expected none, as .* takes no products of f16, got a view"):
        _core.Backend(cpu_isa).scratch(_core.Instruction("pointwise", 4, 6, [_core.View(0, rows=4, cols=6)], chain))
    counting = _core.View(0, "i64", rows=1, cols=_core.COUNTERS)
    views = [counting, _core.View(), _core.View(), _core.View(), scale]
    with pytest.raises(ValueError, match=r"tick loss_scale: expected none, as .* takes no products of f16, got a view"):
        _core.Backend(cpu_isa).scratch(_core.Instruction("tick", 0, 0, views, numbers=[1, 0, 0]))
