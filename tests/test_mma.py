# SPDX-License-Identifier: Apache-2.0
"""Products on tensor cores: how they are cut and lie in shared memory, large tiles, whole nets, and what is refused."""

import numpy as np
import pytest

import dlcore as dl
from checks import rng
from conftest import has_kernels
from dlcore import _core, ops
from instructions import ByName, activation, assert_same_bits, from_parts, made_of, room_for_parts, run_kernel, stage
from test_terms import NORM, error, in_parts, operands, product

TERMS = dict(zip(_core.PRECISIONS, (6, 3, 1), strict=True))


GEMMS = ("mma", "wgmma")


@pytest.fixture
def core(tensor_cores):
    return tensor_cores


@pytest.fixture(params=GEMMS)
def gemm(request, other_device):
    if not has_kernels(other_device, request.param):
        pytest.skip(f"{other_device} has no {request.param}")
    return request.param


# ----------------------------------------------------------------------------------------------- shared memory
@pytest.mark.emulated
@pytest.mark.parametrize("across", [4, 8, 16, 32])
def test_swizzle_has_no_bank_conflicts(across):
    rows = 128
    place = np.array([[_core.emulate_swizzle(row, chunk, across) for chunk in range(across)] for row in range(rows)])
    assert sorted(place.ravel()) == list(range(rows * across))
    written = place.reshape(-1, 8)  # threads go along the rows; eight write at a time
    read = place.reshape(rows // 8, 8, across).swapaxes(1, 2).reshape(-1, 8)  # ldmatrix: a chunk of eight rows
    for together in (written, read):
        assert (np.sort(together % 8, axis=1) == np.arange(8)).all()


@pytest.mark.emulated
def test_descriptor_has_the_fields_of_the_manual():
    """Addresses and strides in units of 16 bytes: bits 0 to 13, 16 to 29, 32 to 45; 1 at bit 62 for rows of 128 bytes."""
    for address, leading in ((0, 16), (1024 + 32, 16), (227 * 1024 - 2048, 8192)):
        want = address // 16 | leading // 16 << 16 | 1024 // 16 << 32 | 1 << 62
        assert _core.emulate_descriptor(address, leading) == want


# ------------------------------------------------------------------------------------------------------ cutting
CUTS = {  # m, n, k, terms: rows and columns of a tile, splits of mma
    (64, 64, 64, 6): (64, 64, 1),
    (128, 512, 784, 6): (64, 64, 3),
    (64, 64, 65536, 6): (64, 64, 32),
    (784, 512, 8192, 1): (128, 128, 4),
    (1024, 1024, 1024, 3): (64, 64, 1),
    (4096, 4096, 4096, 6): (128, 128, 1),
    (4096, 4096, 4096, 3): (128, 128, 1),
    (4096, 4096, 4096, 1): (128, 256, 1),
    (512, 10, 8192, 1): (64, 64, 16),
}


WGMMA_CUTS = {
    (64, 64, 64, 6): (128, 64, 1),
    (128, 512, 784, 6): (128, 64, 3),
    (64, 64, 65536, 6): (128, 64, 32),
    (784, 512, 8192, 1): (128, 256, 9),
    (1024, 1024, 1024, 3): (128, 64, 1),
    (4096, 4096, 4096, 6): (128, 128, 1),
    (4096, 4096, 4096, 1): (128, 256, 1),
    (512, 10, 8192, 1): (128, 64, 32),
}


@pytest.mark.emulated
@pytest.mark.parametrize(("gemm_name", "cuts"), [("mma", CUTS), ("wgmma", WGMMA_CUTS)])
def test_cut_is_chosen_by_shape(gemm_name, cuts):
    found = {shape: _core.emulate_cut([*shape, _core.GEMMS.index(gemm_name)]) for shape in cuts}
    assert {shape: (rows, cols, splits) for shape, (rows, cols, _, _, splits, _) in found.items()} == cuts


@pytest.mark.emulated
@pytest.mark.parametrize("by", [_core.GEMMS.index(name) for name in GEMMS])
@pytest.mark.parametrize("terms", TERMS.values())
def test_blocks_cover_every_tile_and_depth_once(terms, by):
    for m, n, k in [(1, 1, 1), (65, 700, 33), (1030, 65, 5000), (1537, 513, 2049), (3000, 2100, 40), (64, 64, 10**6)]:
        rows, cols, down, across, splits, depth = _core.emulate_cut([m, n, k, terms, by])
        places = [tuple(_core.emulate_place([m, n, k, terms, by], block)) for block in range(down * across * splits)]
        wanted = {(r, c, d) for r in range(0, m, rows) for c in range(0, n, cols) for d in range(0, k, depth)}
        assert len(places) == len(wanted)
        assert set(places) == wanted
        assert splits == 1 or depth % 32 == 0


@pytest.mark.emulated
def test_blocks_beside_each_other_share_operands():
    """Eight tiles down, then the next column: 128 blocks at once read 8 rows and 16 columns of tiles."""
    places = [_core.emulate_place([4096, 4096, 64, 6], block) for block in range(128)]
    assert (len({r for r, _, _ in places}), len({c for _, c, _ in places})) == (8, 16)


# ----------------------------------------------------------------------------------------------------- products
@pytest.mark.parametrize("role", _core.ROLES)
@pytest.mark.parametrize(("terms", "n"), [(6, 1010), (3, 1010), (1, 2035)])
def test_large_tiles_match_oracle(core, role, terms, n):
    m, k = (1900 if core.gemm == "wgmma" and terms == 1 else 1085), 35
    if core.name == "emulated":
        by = _core.GEMMS.index(core.gemm)
        assert _core.emulate_cut([m, n, k, terms, by])[:2] == [128, 256 if terms == 1 else 128]
    a, b = operands(1, m, n, k)
    given = {"nn": (a, b), "nt": (a, np.ascontiguousarray(b.T)), "tn": (np.ascontiguousarray(a.T), b)}[role]
    got = product(core, *given, terms, role)
    assert error(got, a.astype(np.float64) @ b) <= NORM[terms]


@pytest.mark.parametrize("terms", TERMS.values())
def test_stages_of_the_depth_follow_one_another(core, terms):
    """Each multiple of 32 is its own power of two, so a stage read too early, too late or twice shows."""
    for k in (31, 32, 33, 64, 96, 129, 160, 255):
        a = np.ldexp(np.ones((3, k), np.float32), np.arange(k) // 32 % 8)
        assert (product(core, a, np.ones((k, 5), np.float32), terms) == a.sum(axis=1, keepdims=True)).all()


@pytest.mark.parametrize("terms", TERMS.values())
def test_a_chain_stores_the_parts_that_pack_makes(core, terms):
    for rows, cols in ((1, 1), (7, 63), (65, 8), (130, 129)):
        x, y = rng(2).normal(size=(2, rows, cols)).astype(np.float32)
        stored, plain = room_for_parts(rows, cols, _core.PARTS[terms]), np.empty_like(x)
        chain = [stage("add", operand=y), stage("store", out=stored), activation(core, "relu"), stage("store", out=plain)]
        run_kernel(core, "pointwise", [x], rows, cols, chain)
        np.testing.assert_array_equal(stored.array, in_parts(core, x + y, terms).array)
        assert not from_parts(stored)[1].any()
        assert_same_bits(plain, np.maximum(x + y, 0))


# --------------------------------------------------------------------------------------------------------- nets
ROWS, WIDTH = 150, 20


def layers():
    body = dl.Sequential(dl.SiLU(), dl.Linear(33, 33), dl.Dropout(0.1))
    norms = [dl.Linear(WIDTH, 33), dl.BatchNorm(33), dl.ReLU(), dl.Dropout(0.3), dl.Residual(body), dl.LayerNorm(33)]
    return [*norms, dl.Linear(33, 5)]


def trained(device, precision="float32", gemm="mma", threads=1, dtype="float32", **options):
    """Losses of three steps and the outputs after them."""
    net = dl.Net(layers(), seed=3, device=device, precision=precision, gemm=gemm, threads=threads, dtype=dtype)
    for path, value in dl.Net(layers(), seed=3).parameters.items():
        net.parameters[path][...] = value
    step = net.compile(dl.SoftmaxCrossEntropy(), dl.SGD(0.1, momentum=0.9), 64, **options)
    x, y = rng(2).normal(size=(ROWS, WIDTH)).astype(np.float32), rng(3).integers(0, 5, ROWS)
    losses = [step(x[i : i + 64], y[i : i + 64]) for i in (0, 40, 80)]
    return np.array(losses), net.predict(x), step.plan


@pytest.mark.parametrize("precision", TERMS)
def test_nets_train_on_tensor_cores(other_device, gemm, precision):
    losses, out, plan = trained(other_device, precision, gemm)
    want, want_out, _ = trained("cpu", gemm="auto", dtype="float64")
    products = [n for n in plan.instructions if n.op is ops.Product]
    assert all(n.numbers[1] == TERMS[precision] for n in products)
    # The errors of all products on the way may add up.
    allowed = 3 * len(products) * max(NORM[TERMS[precision]], 1e-6)
    assert np.linalg.norm(losses - want) <= allowed * np.linalg.norm(want)
    assert np.linalg.norm(out - want_out) <= allowed * np.linalg.norm(want_out)
    for options in ({"threads": 2}, {"fuse": False, "record": False}):
        other_losses, other_out, _ = trained(other_device, precision, gemm, **options)
        np.testing.assert_array_equal(losses, other_losses)
        np.testing.assert_array_equal(out, other_out)


def test_parts_are_stored_by_chains_and_weights_packed_once(other_device):
    *_, plan = trained(other_device, "bf16x3")
    nodes = list(plan.instructions)
    assert [n.operands["x"].kind for n in nodes if n.op is ops.Pack] == ["parameter"] * 3
    stored = {s.operands["out"] for n in nodes for s in n.chain if s.op is ops.Store and s.operands["out"].layout == "parts"}
    packed = {n.operands["packed"] for n in nodes if n.op is ops.Pack}
    read = [v for n in nodes if n.op is ops.Product for v in n.operands.values() if v.layout == "parts"]
    assert set(read) == stored | packed
    assert len(read) == 2 * 8
    assert {v.ld for v in read} == {2}


def test_listing_says_who_multiplies(other_device):
    lines = {
        ("float32", "auto"): "multiply-adds in float32",
        ("bf16", "auto"): "multiply-adds in float32, as tensor cores are taken by name only: gemm='mma' or 'wgmma'",
        ("float32", "mma"): "6 bf16 terms on tensor cores, by mma",
        ("bf16", "mma"): "1 bf16 term on tensor cores, by mma",
        **({("bf16x3", "wgmma"): "3 bf16 terms on tensor cores, by wgmma"} if has_kernels(other_device, "wgmma") else {}),
    }
    for (precision, gemm), how in lines.items():
        listing = str(dl.Net(layers(), device=other_device, precision=precision, gemm=gemm).plan(64))
        assert listing.splitlines()[-1] == f"precision {precision}: {how}"
        name = {"float32": "product.bf16x6 ", "bf16x3": "product.bf16x3 ", "bf16": "product.bf16 "}[precision]
        assert listing.count(name) == (8 if gemm in GEMMS else 0)


def test_saved_net_leaves_its_kernels_behind(other_device, tmp_path):
    net = dl.Net(layers(), device=other_device, precision="bf16", gemm="mma")
    net.save(tmp_path / "net.npz")
    loaded = dl.load(tmp_path / "net.npz")
    assert (loaded.gemm, loaded.precision, loaded.device) == ("auto", "bf16", "cpu")


# ----------------------------------------------------------------------------------------------------- refusals
def test_kernels_of_other_devices_are_refused_by_name(other_device):
    with pytest.raises(
        ValueError, match=r"^Net: gemm: expected one of 'auto', 'simt', 'mma', 'wgmma', .*got 'mm'; did you mean 'mma'\?"
    ):
        dl.Net(layers(), gemm="mm")
    with pytest.raises(ValueError, match=r"^Net: gemm: expected 'auto' on the CPU, got 'mma'; .* device='cuda'"):
        dl.Net(layers(), gemm="mma")
    net = dl.Net(layers(), device=other_device, gemm="mma")
    with pytest.raises(ValueError, match=r"^to: gemm: expected 'auto' on the CPU, got 'mma'"):
        net.to("cpu")
    assert net.device == other_device


@pytest.mark.emulated
def test_gpus_before_tensor_cores_of_bf16_are_refused():
    instruction = multiplication()
    core = _core.Backend("emulated")
    _core.emulate_capability(75)
    try:
        why = "expected a GPU of compute capability 8.0 or later for 'mma', got 7.5; 'simt' serves it"
        with pytest.raises(ValueError, match=f"^Net: gemm: {why}"):
            dl.Net(layers(), device="emulated", gemm="mma")
        with pytest.raises(ValueError, match=f"^record product: {why}"):
            core.record([([instruction], False, 0, 0)])
        assert dl.Net(layers(), device="emulated", gemm="simt").predict(np.zeros((2, WIDTH))).shape == (2, 5)
    finally:
        _core.emulate_capability(90)


@pytest.mark.emulated
@pytest.mark.parametrize("capability", [80, 100, 120])
def test_gpus_without_products_of_warpgroups_are_refused(capability):
    core = ByName(_core.Backend("emulated"), "wgmma")
    instruction = multiplication(numbers=made_of(core, 0, 6))
    _core.emulate_capability(capability)
    try:
        got = f"{capability // 10}.{capability % 10}"
        why = f"expected a GPU of compute capability 9.0 for 'wgmma', got {got}; 'mma' serves it"
        with pytest.raises(ValueError, match=f"^Net: gemm: {why}"):
            dl.Net(layers(), device="emulated", gemm="wgmma")
        with pytest.raises(ValueError, match=f"^record product: {why}"):
            core.record([([instruction], False, 0, 0)])
        assert dl.Net(layers(), device="emulated", gemm="mma").predict(np.zeros((2, WIDTH))).shape == (2, 5)
    finally:
        _core.emulate_capability(90)


def multiplication(a=None, b=None, terms=6, numbers=None):
    a = a or _core.View(0, "bf16", "parts", 4, 40, 3)
    b = b or _core.View(1, "bf16", "parts", 40, 6, 3)
    return _core.Instruction(
        "product", 4, 6, [a, b], [_core.Stage("store", out=_core.View(2, rows=4, cols=6))], numbers or [0, terms]
    )


REFUSED = {
    "row_major_a": (lambda: multiplication(a=_core.View(0, rows=4, cols=40)), "A: expected parts for 6 terms, got row_major"),
    "row_major_b": (lambda: multiplication(b=_core.View(1, rows=40, cols=6)), "B: expected parts for 6 terms, got row_major"),
    "two_parts": (lambda: multiplication(terms=3), "A: expected 2 parts for 3 terms, got 3"),
    "no_terms": (lambda: multiplication(terms=0), "A: expected row_major for 0 terms, got parts"),
    "gemm": (lambda: multiplication(numbers=[0, 6, 9]), r"gemm: expected an integer in \[0, 5\), got 9"),
    "simt": (lambda: multiplication(numbers=[0, 6, 1]), "gemm: expected kernels of terms, got 'simt'"),
    "reals": (lambda: multiplication(a=_core.View(0, "f32", "parts", 4, 40, 3)), "A: expected bf16, got f32"),
    "planes": (
        lambda: multiplication(b=_core.View(1, "bf16", "planes", 40, 6, 3)),
        "B: expected parts on [a-z0-9_]+, got planes",
    ),
    "offset": (
        lambda: multiplication(a=_core.View(0, "bf16", "parts", 4, 40, 3, offset=8)),
        "A: expected an offset and a member_stride of whole 16 bytes, got 8 and 0",
    ),
    "transposed": (
        lambda: _core.Instruction(
            "pack", 4, 6, [_core.View(0, rows=4, cols=6), _core.View(1, "bf16", "parts", 6, 4, 1), _core.View()], numbers=[1, 0]
        ),
        "packed: expected parts as they are, which serve every role, got them transposed",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_parts_that_do_not_fit_are_refused(core, name):
    make, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        core.scratch(make())


def test_the_cpu_takes_no_parts(cpu_isa):
    store = _core.Stage("store", out=_core.View(1, "bf16", "parts", 4, 6, 1))
    instruction = _core.Instruction("pointwise", 4, 6, [_core.View(0, rows=4, cols=6)], [store])
    with pytest.raises(ValueError, match=r"store out: expected (no parts, as .* has no matrix unit|planes on .*, got parts)"):
        _core.Backend(cpu_isa).scratch(instruction)
