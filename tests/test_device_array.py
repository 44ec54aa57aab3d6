# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries in a device's memory, taken and given without a copy: DLPack and the CUDA array interface."""

import ctypes
import gc
from itertools import permutations

import numpy as np
import pytest

import dlcore as dl
from checks import assert_close, rng
from dlcore import _core, inputs
from dlcore import backend as backends
from dlcore.device_array import CODES, DeviceArray

COLUMNS, CLASSES = 20, 5


TYPES = {"cuda": 2, "emulated": 12}  # of devices in DLPack


def core(device="emulated"):
    return backends.get("float32", device)


class OnDevice:
    """An array of another library on an emulated device; what it says of itself can be changed."""

    def __init__(self, array, device="emulated"):
        self.shape, self.dtype, item = array.shape, array.dtype, array.itemsize
        span = np.lib.array_utils.byte_bounds(array)
        low = array.__array_interface__["data"][0]
        assert span[0] == low
        self.device, self.strides = device, tuple(s // item for s in array.strides)
        self.arena = core(device).allocate(span[1] - low)
        self.arena.write(np.ctypeslib.as_array(ctypes.cast(low, ctypes.POINTER(ctypes.c_uint8)), (span[1] - low,)))


class Interface(OnDevice):
    def __init__(self, array, device="emulated", **changes):
        super().__init__(array, device)
        self.changes = changes

    @property
    def __cuda_array_interface__(self):
        strides = tuple(s * self.dtype.itemsize for s in self.strides)
        plain = {"shape": self.shape, "typestr": self.dtype.str, "data": (self.arena.address, False), "strides": strides}
        return {k: v for k, v in {**plain, "version": 3, **self.changes}.items() if v != "absent"}


class Packed(OnDevice):
    """Row-major memory, by DLPack."""

    versioned = True

    def __dlpack_device__(self):
        kind, _, number = self.device.partition(":")
        return (TYPES[kind], int(number or 0))

    def __dlpack__(self, *, stream, max_version):
        self.stream = stream
        code = (CODES[self.dtype.kind], 8 * self.dtype.itemsize)
        return self.arena.dlpack(self.shape, code, self.__dlpack_device__(), self.versioned)


class OldPacked(Packed):
    versioned = False

    def __dlpack__(self, *, stream):
        return super().__dlpack__(stream=stream, max_version=None)


KINDS = [Interface, Packed, OldPacked]


def make(device="emulated", **options):
    layers = [dl.Linear(COLUMNS, 24), dl.BatchNorm(24), dl.ReLU(), dl.Dropout(0.2), dl.Linear(24, CLASSES)]
    return dl.Net(layers, seed=3, device=device, **options)


def data(rows=150, dtype="float32"):
    r = rng(1)
    x = r.integers(0, 2 if dtype == "bool" else 100, (rows, COLUMNS)) if dtype[0] in "iub" else r.normal(size=(rows, COLUMNS))
    return x.astype(dtype), r.integers(0, CLASSES, rows)


# ------------------------------------------------------------------------------------------------------ taken
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int64", "bool"])
def test_predict_stays_on_the_device(other_device, kind, dtype):
    x, _ = data(dtype=dtype)
    net, given = make(other_device), kind(x, other_device)
    for method in (net.predict, net.predict_proba):
        got = method(given)
        assert isinstance(got, DeviceArray)
        assert (got.shape, got.dtype, got.device) == ((150, CLASSES), np.float32, other_device)
        np.testing.assert_array_equal(np.asarray(got), method(x))
        np.testing.assert_array_equal(
            np.asarray(method(DeviceArray(core(other_device), given.arena, x.shape, x.dtype))), method(x)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_on_the_device_are_not_copied(emulator, kind):
    x, y = data(3000, "float64")
    net, given = make(), (kind(x), kind(y))
    want = make()
    want.fit(x, y, batch_size=500, epochs=1, verbose=0)
    net.fit(*(a[:500] for a in (x, y)), batch_size=500, epochs=1, verbose=0)
    net = make()
    gc.collect()
    emulator.emulator_set("limit", emulator.emulator_count("used") + x.nbytes)
    net.fit(*given, batch_size=500, epochs=1, verbose=0)
    np.testing.assert_array_equal(net.store.array, want.store.array)
    assert emulator.emulator_count("used") > 0


@pytest.mark.parametrize("kind", KINDS)
def test_training_from_the_device_has_the_bits_of_training_from_the_host(other_device, kind):
    x, y = data()
    weight = np.linspace(1, 2, len(x))
    found = []
    for take in (lambda a: a, lambda a: kind(a, other_device)):
        net = make(other_device)
        given = take(x), take(y)
        history = net.fit(*given, sample_weight=take(weight), validation=0.3, epochs=2, batch_size=32, verbose=0)
        step = net.compile(dl.SoftmaxCrossEntropy(), dl.SGD(0.1), 50)
        losses = [step(take(x[i : i + 50]), take(y[i : i + 50]), take(weight[:50])) for i in (0, 50, 100)]
        net.exact_statistics(given[0])
        found.append((net.store.array.copy(), history["loss"], history["validation_loss"], losses, net.evaluate(*given)))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]


def test_regression_comes_back_in_the_units_of_the_target(other_device):
    from dlcore.data.preprocess import TargetScaler

    x, _ = data()
    y = (3 + 100 * x[:, :2]).astype(np.float32)
    net = dl.Net([dl.Linear(COLUMNS, 2)], seed=3, device=other_device)
    net.target_scaler = TargetScaler().fit(y)
    net.fit(Interface(x, other_device), Interface(y, other_device), epochs=2, verbose=0)
    assert_close(np.asarray(net.predict(Interface(x, other_device))), net.predict(x).astype(np.float64), depth=COLUMNS)
    assert net.evaluate(Packed(x, other_device), Packed(y, other_device)) == net.evaluate(x, y)


@pytest.mark.parametrize("view", [np.s_[::2], np.s_[:, ::2], np.s_[5:80, 3:13], np.s_[:1], np.s_[:, :1]])
def test_strided_arrays_are_read_where_they_lie(other_device, view):
    x = data()[0][view]
    net = dl.Net([dl.Linear(x.shape[1], 2)], seed=0, device=other_device)
    for given in (x, np.asfortranarray(x)):
        np.testing.assert_array_equal(np.asarray(net.predict(Interface(given, other_device))), net.predict(x))


def test_vectors_and_images_are_rows_of_columns(emulator):
    x = data()[0]
    net = dl.Net([dl.Linear(COLUMNS, 2)], seed=0, device="emulated")
    for given in (x[0], x.reshape(150, 4, 5)):
        np.testing.assert_array_equal(np.asarray(net.predict(Packed(given))), net.predict(given))
    one = dl.Net([dl.Linear(1, 2)], seed=0, device="emulated")
    np.testing.assert_array_equal(np.asarray(one.predict(Interface(x[:, 3]))), one.predict(x[:, 3]))
    with pytest.raises(ValueError, match="expected row-major memory to reshape"):
        net.predict(Interface(np.asfortranarray(x.reshape(150, 4, 5))))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_numbers_are_refused_on_the_device(other_device, bad):
    x, y = data()
    x[140, 17] = bad
    net, packed = make(other_device), lambda a: Packed(a, other_device)
    with pytest.raises(ValueError, match=r"predict: x: expected finite numbers, got 1 NaN or Inf, the first at \(140, 17\)"):
        net.predict(Interface(x, other_device))
    with pytest.raises(ValueError, match=r"fit: x: expected finite numbers"):
        net.fit(packed(x), y)
    assert not np.isfinite(np.asarray(net.predict(packed(x), allow_nonfinite=True))).all()
    with pytest.raises(ValueError, match=r"finite numbers, got 20 beyond float32, the first at \(0, 0\)"):
        net.predict(packed(np.full((1, COLUMNS), 1e300)))
    with pytest.raises(ValueError, match=r"expected labels in \[0, 5\), got labels from 0 to 7"):
        net.fit(packed(data()[0]), packed(np.where(np.arange(150) == 9, 7, y)))


# ---------------------------------------------------------------------------------------------------- streams
def test_reads_wait_for_the_stream_of_an_array(emulator):
    x, _ = data()
    net, want = make(threads=2), make().predict(x)
    empty = make().predict(np.zeros_like(x))
    for stream, expected in ((emulator.emulator_stream(), want), (None, empty)):
        given = Interface(np.zeros_like(x), stream=stream)
        emulator.emulator_write(stream or emulator.emulator_stream(), given.arena.address, x.tobytes())
        np.testing.assert_array_equal(np.asarray(net.predict(given)), expected)


def test_dlpack_is_told_the_stream_that_reads(other_device):
    given = Packed(data()[0], other_device)
    make(other_device).predict(given)
    assert given.stream == core(other_device).stream > 2


@pytest.mark.parametrize(("stream", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), ("1", TypeError)])
def test_streams_that_are_none_are_refused(emulator, stream, error):
    with pytest.raises(error, match=r"predict: x: expected (the handle of )?a stream"):
        make().predict(Interface(data()[0], stream=stream))
    if stream != -1:  # nobody waits
        with pytest.raises(error, match=r"__dlpack__: expected (the handle of )?a stream"):
            make().predict(Packed(data()[0])).__dlpack__(stream=stream)


# --------------------------------------------------------------------------------------------- what is refused
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_another_device_are_refused(emulator, kind):
    x, _ = data()
    with pytest.raises(ValueError, match=r"predict: x: .*expected"):
        make().predict(kind(x, "emulated:1"))
    with pytest.raises(ValueError, match=r"predict: x: expected an array on cpu, got one on (cuda|emulated); net.to\('"):
        make("cpu").predict(kind(x))
    np.testing.assert_array_equal(np.asarray(make("emulated:1").predict(kind(x, "emulated:1"))), make().predict(x))
    with pytest.raises(ValueError, match=r"got one on emulated; net.to\('emulated'\) moves the net"):
        make("emulated:1").predict(make().predict(Packed(x)))


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": "absent"}, {"shape": None}, {"shape": (150.0, 20)}, {"shape": (-150, 20)}, {"shape": (0, 20)},
        {"shape": ()}, {"shape": (150, 21)}, {"shape": (2**62, 20)}, {"shape": (2**70, 20)}, {"shape": (150,)},
        {"typestr": "absent"}, {"typestr": ">f4"}, {"typestr": "<c8"}, {"typestr": "|O"}, {"typestr": "what"}, {"typestr": 4},
        {"data": "absent"}, {"data": None}, {"data": 0}, {"data": (0, False)}, {"data": ("0", False)}, {"data": (-8, False)},
        {"data": (2**64, False)}, {"data": (4096, False)}, {"strides": (80,)}, {"strides": (-80, 4)}, {"strides": (80, 2)},
        {"strides": (2**50, 4)}, {"strides": ("80", 4)}, {"mask": object()}, {"strides": (88, 4)},
    ],
    ids=str,
)  # fmt: skip
def test_interfaces_that_make_no_sense_are_refused(emulator, changes):
    net = make()
    with pytest.raises((ValueError, TypeError), match=r"predict: x: (borrow: )?expected .*, got"):
        net.predict(Interface(data()[0], **changes))
    for other in (None, 1, [], {}):
        with pytest.raises((ValueError, TypeError), match=r"predict: x: expected"):
            net.predict(type("Odd", (), {"__cuda_array_interface__": other or "odd"})())


def test_memory_that_is_not_of_the_device_is_refused(emulator):
    x, _ = data()
    host = Interface(x)
    host.changes = {"data": (x.__array_interface__["data"][0], False)}
    with pytest.raises(ValueError, match=r"predict: x: borrow: expected \d+ bytes of emulated, got"):
        make().predict(host)


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("device", ctypes.c_int32), ("number", ctypes.c_int32), ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)), ("offset", ctypes.c_uint64),
    ]  # fmt: skip


DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    _fields_ = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", DELETER)]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p), ("deleter", DELETER),
        ("flags", ctypes.c_uint64), ("tensor", Tensor),
    ]  # fmt: skip


new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype, new_capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class Crafted(OnDevice):
    """A capsule with any fields at all; counts how often it is given back."""

    def __init__(self, array, versioned=True, name=None, deleter=True, major=1, on="emulated", **fields):
        super().__init__(array, on)
        numbers = lambda values: None if values is None else (ctypes.c_int64 * len(values))(*values)  # noqa: E731
        plain = {"data": self.arena.address, "device": TYPES[on], "ndim": 2, "code": 2, "bits": 32, "lanes": 1}
        fields = {**plain, "shape": self.shape, "strides": None, **fields}
        self.kept = [numbers(fields.pop(name)) for name in ("shape", "strides")]
        self.deleted, self.major = 0, major
        self.capsule = (Versioned if versioned else Managed)()
        if versioned:
            self.capsule.major = major
        for key, value in fields.items():
            setattr(self.capsule.tensor, key, value)
        self.capsule.tensor.shape, self.capsule.tensor.strides = self.kept
        if deleter:
            self.capsule.deleter = DELETER(self.delete)
        self.name = ctypes.c_char_p(name or (b"dltensor_versioned" if versioned else b"dltensor"))

    def delete(self, _):
        self.deleted += 1

    def __dlpack_device__(self):
        return (TYPES[self.device], 0)

    def __dlpack__(self, *, stream, max_version):
        return new_capsule(ctypes.addressof(self.capsule), self.name, None)


@pytest.mark.parametrize("versioned", [False, True])
def test_capsules_are_given_back_once(other_device, versioned):
    (x, _), net = data(), make(other_device)
    for fields in ({}, {"strides": (20, 1)}, {"shape": (75, 20), "offset": 80}):
        given = Crafted(x, versioned, on=other_device, **fields)
        got = np.asarray(net.predict(given))
        np.testing.assert_array_equal(got, net.predict(x if len(got) == 150 else x[1:76]))
        gc.collect()
        assert given.deleted == 1
    given = Crafted(x, versioned, on=other_device, deleter=False)
    np.testing.assert_array_equal(np.asarray(net.predict(given)), net.predict(x))


BAD_CAPSULES = [
    {"ndim": -1}, {"ndim": 33}, {"ndim": 2**31 - 1}, {"ndim": 0}, {"shape": None}, {"shape": (0, 20)}, {"shape": (-1, 20)},
    {"shape": (2**62, 20)}, {"shape": (2**63 - 1, 2**63 - 1)}, {"shape": (151, 20)}, {"strides": (-20, 1)},
    {"strides": (2**60, 1)}, {"strides": (21, 1)}, {"lanes": 4}, {"lanes": 0}, {"code": 5}, {"code": 4, "bits": 16},
    {"code": 255}, {"bits": 0}, {"bits": 4}, {"bits": 128}, {"bits": 7}, {"data": None}, {"data": 4096}, {"offset": 2},
    {"offset": 2**63}, {"offset": 2**64 - 4}, {"offset": 4},
]  # fmt: skip


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("fields", BAD_CAPSULES, ids=str)
def test_capsules_that_make_no_sense_are_refused(emulator, versioned, fields):
    given = Crafted(data()[0], versioned, **fields)
    with pytest.raises((ValueError, TypeError), match=r"predict: x: (borrow: )?expected .*, got"):
        make().predict(given)
    gc.collect()
    assert given.deleted == 1


def test_objects_that_are_no_capsules_are_refused(emulator):
    x, _ = data()
    net, used = make(), Crafted(x, name=b"used_dltensor_versioned")
    with pytest.raises(ValueError, match=r"expected a capsule named dltensor or .*, got one named used_dltensor_versioned"):
        net.predict(used)
    assert used.deleted == 0
    future = Crafted(x, major=2)
    with pytest.raises(ValueError, match=r"expected DLPack 1, got version 2"):
        net.predict(future)
    assert future.deleted == 1
    for odd in (None, 1, "capsule", x):
        odd_kind = type("Odd", (), {"__dlpack_device__": lambda self: (12, 0), "__dlpack__": lambda self, odd=odd, **_: odd})
        with pytest.raises(ValueError, match=r"predict: x: expected an array that DLPack passes on"):
            net.predict(odd_kind())
    for device in (None, 1, (12,), ("a", 0), (1, 2, 3)):
        odd_kind = type("Odd", (), {"__dlpack_device__": lambda self, device=device: device, "__dlpack__": None})
        with pytest.raises(TypeError, match=r"expected __dlpack_device__ to give \(type, number\)"):
            net.predict(odd_kind())


# ------------------------------------------------------------------------------------------------------ given
def exported(y, versioned):
    """The memory of an array; the emulator's is said to be the host's, which it is."""
    return y.arena.dlpack(y.shape, (2, 32), (1, 0) if y.device == "emulated" else y.__dlpack_device__(), versioned)


@pytest.fixture
def tensor_of(other_device):
    """What makes PyTorch's tensor of a capsule."""
    torch = pytest.importorskip("torch")
    if other_device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch has no GPU here")
    torch.from_dlpack(exported(DeviceArray.empty(core(other_device), (1, 1), "float32"), True))  # what torch keeps for itself
    return torch.from_dlpack


def room(device):
    """Bytes that are free."""
    gc.collect()
    return core(device).room


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("order", list(permutations(["net", "array", "tensor"])), ids="-".join)
def test_net_array_and_tensor_die_in_any_order(other_device, tensor_of, order, versioned):
    x, _ = data()
    want = make(other_device).predict(x)
    before = room(other_device)
    given = Packed(x, other_device)
    alive = {"net": make(other_device)}
    alive["array"] = alive["net"].predict(given)
    alive["tensor"] = tensor_of(exported(alive["array"], versioned))
    assert alive["tensor"].data_ptr() == alive["array"].arena.address
    del given
    for name in order:
        del alive[name]
        gc.collect()
        if "array" in alive:
            np.testing.assert_array_equal(np.asarray(alive["array"]), want)
        if "tensor" in alive:
            np.testing.assert_array_equal(alive["tensor"].cpu(), want)
        if "tensor" in alive and other_device == "emulated":  # a GPU gives memory by the MB
            assert room(other_device) < before
    assert room(other_device) == before


def test_capsules_that_nobody_takes_free_the_memory(other_device):
    before = room(other_device)
    y = DeviceArray.empty(core(other_device), (1 << 20, 8), "float32")
    assert room(other_device) <= before - y.nbytes
    for versioned in (False, True):
        kept = [exported(y[:3], versioned) for _ in range(10)]
        del kept
    del y
    assert room(other_device) == before


def test_deleters_are_called_from_any_thread(other_device, tensor_of):
    import threading

    net = make(other_device)
    y = net.predict(Packed(data()[0], other_device))
    tensors = [tensor_of(exported(y, True)) for _ in range(4)]
    workers = [threading.Thread(target=tensors.pop) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    np.testing.assert_array_equal(np.asarray(y), net.predict(data()[0]))


def test_outputs_speak_every_protocol(other_device):
    x, _ = data()
    want, y = make(other_device).predict(x), make(other_device).predict(Interface(x, other_device))
    device = (TYPES[other_device], 0)
    assert y.__dlpack_device__() == device
    assert repr(y) == f"DeviceArray(float32 (150, 5) on {other_device})"
    np.testing.assert_array_equal(np.from_dlpack(y, device="cpu"), want)
    np.testing.assert_array_equal(np.asarray(y, np.float64), want.astype(np.float64))
    interface = y.__cuda_array_interface__
    assert interface == {
        "shape": (150, 5), "typestr": "<f4", "data": (y.arena.address, False), "strides": None, "stream": None, "version": 3
    }  # fmt: skip
    names = {max_version: repr(y.__dlpack__(max_version=max_version)) for max_version in (None, (0, 8), (1, 0), (1, 1))}
    assert ["dltensor_versioned" in name for name in names.values()] == [False, False, True, True]
    copied = _core.Taken(y.__dlpack__(copy=True, stream=-1))
    assert copied.address != _core.Taken(y.__dlpack__()).address == y.arena.address
    assert (copied.device, copied.type, copied.shape, copied.strides) == (device, (2, 32), (150, 5), (5, 1))
    for refused in ({"dl_device": (7, 0)}, {"dl_device": (1, 0), "copy": False}):
        with pytest.raises(BufferError, match="DeviceArray: expected"):
            y.__dlpack__(**refused)
    with pytest.raises(ValueError, match="copy=False"):
        np.asarray(y, copy=False)
    with pytest.raises(TypeError, match=r"expected a slice of rows, got 0; numpy.asarray copies to the host"):
        y[0]


def test_outputs_are_inputs_again(other_device):
    x, _ = data()
    first, second = make(other_device), dl.Net([dl.Linear(CLASSES, 2)], seed=1, device=other_device)
    got = np.asarray(second.predict(first.predict(Interface(x, other_device))))
    np.testing.assert_array_equal(got, second.predict(first.predict(x)))


# ------------------------------------------------------------------------------------- other libraries' host arrays
def test_tensors_on_the_host_are_not_copied(device):
    torch = pytest.importorskip("torch")
    x, y = data()
    for tensor in (torch.from_numpy(x), torch.from_numpy(x)[::2], torch.from_numpy(x).t()):
        assert np.shares_memory(inputs.viewed("x", tensor), x)
    found = []
    for given in ((x, y), (torch.from_numpy(x), torch.from_numpy(y))):
        net = make(device)
        net.fit(*given, epochs=1, verbose=0)
        found.append(net.predict(given[0]))
    np.testing.assert_array_equal(*found)
    for wrong in (torch.from_numpy(x).requires_grad_(), torch.from_numpy(x).to(torch.bfloat16)):
        with pytest.raises((ValueError, TypeError), match=r"predict: x: expected .*, got"):
            make(device).predict(wrong)
