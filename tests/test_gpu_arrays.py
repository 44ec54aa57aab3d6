# SPDX-License-Identifier: Apache-2.0
"""Arrays that PyTorch, CuPy and JAX made on a GPU, taken and given back by both protocols, on streams of their own."""

import gc
import importlib
import os

import numpy as np
import pytest

from dlcore.device_array import DeviceArray
from test_device_array import CLASSES, data, make

pytestmark = pytest.mark.cuda


class Torch:
    def __init__(self):
        self.torch = importlib.import_module("torch")
        if not self.torch.cuda.is_available():
            raise ImportError("torch has no GPU here")

    def put(self, x):
        return self.torch.from_numpy(x).cuda()

    def taken(self, y):
        return self.torch.from_dlpack(y)

    def address(self, array):
        return array.data_ptr()

    def host(self, array):
        return array.cpu().numpy()


class CuPy(Torch):
    def __init__(self):
        self.cupy = importlib.import_module("cupy")
        if not self.cupy.cuda.is_available():
            raise ImportError("cupy has no GPU here")

    def put(self, x):
        return self.cupy.asarray(x)

    def taken(self, y):
        return self.cupy.from_dlpack(y)

    def address(self, array):
        return array.data.ptr

    def host(self, array):
        return array.get()


class Jax(Torch):
    def __init__(self):
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        self.jax = importlib.import_module("jax")
        try:
            self.device = self.jax.devices("cuda")[0]
        except RuntimeError as error:
            raise ImportError(error) from None

    def put(self, x):
        return self.jax.device_put(x, self.device)

    def taken(self, y):
        return self.jax.dlpack.from_dlpack(y)

    def address(self, array):
        return array.unsafe_buffer_pointer()

    def host(self, array):
        return np.asarray(array)


@pytest.fixture(params=[Torch, CuPy, Jax], ids=lambda cls: cls.__name__.lower())
def library(request):
    try:
        return request.param()
    except ImportError as error:
        pytest.skip(f"{request.param.__name__}: {error}")


@pytest.fixture
def torch():
    try:
        return Torch().torch
    except ImportError as error:
        pytest.skip(str(error))


class Interface:
    """An array that speaks the CUDA array interface alone, with the stream that it is written on."""

    def __init__(self, array, stream=None):
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, "stream": stream}
        self.array = array


def interface(library, array):
    if not hasattr(array, "__cuda_array_interface__"):
        pytest.skip("has DLPack only")
    return Interface(array)


@pytest.mark.parametrize("kind", [lambda _, array: array, interface], ids=["dlpack", "interface"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int32"])
def test_arrays_are_taken_and_given_without_a_copy(library, kind, dtype):
    (x, _), net = data(dtype=dtype), make("cuda")
    given = library.put(x)
    y = net.predict(kind(library, given))
    assert isinstance(y, DeviceArray)
    del given
    back = library.taken(y)
    assert (library.address(back), tuple(back.shape)) == (y.arena.address, (150, CLASSES))
    want = net.predict(x)
    del net, y
    gc.collect()
    np.testing.assert_array_equal(library.host(back), want)


def test_training_has_the_bits_of_training_from_the_host(library):
    (x, y), found = data(), []
    for take in (lambda a: a, library.put):
        net = make("cuda")
        history = net.fit(take(x), take(y.astype(np.int32)), epochs=2, batch_size=32, verbose=0)
        found.append((history["loss"], net.store.array.copy()))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_views_and_interfaces_of_outputs_are_read_where_they_lie(torch):
    (x, _), net = data(), make("cuda")
    wide = torch.from_numpy(np.repeat(x, 2, axis=1)).cuda()
    np.testing.assert_array_equal(np.asarray(net.predict(wide[:, ::2])), net.predict(x))
    y = net.predict(wide[:, ::2])
    assert torch.as_tensor(y, device="cuda").data_ptr() == y.arena.address


@pytest.mark.parametrize("kind", ["dlpack", "interface"])
def test_what_is_still_being_written_on_another_stream_is_waited_for(torch, kind):
    (x, _), net = data(), make("cuda")
    want, given, source = net.predict(x), torch.zeros(x.shape, device="cuda"), torch.from_numpy(x).cuda()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    for _ in range(3):
        given.zero_()
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)  # clocks: 0.1 s
            given.copy_(source)
            y = net.predict(given if kind == "dlpack" else Interface(given, stream.cuda_stream))
        np.testing.assert_array_equal(np.asarray(y), want)


def test_outputs_outlive_all_and_may_be_read_on_any_stream(torch):
    (x, _), net = data(), make("cuda")
    want, stream = net.predict(x), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        tensors = [torch.from_dlpack(net.predict(torch.from_numpy(x).cuda())) for _ in range(5)]
        del net
        gc.collect()
        doubled = [2 * t for t in tensors]
    stream.synchronize()
    for tensor, twice in zip(tensors, doubled, strict=True):
        np.testing.assert_array_equal(tensor.cpu().numpy(), want)
        np.testing.assert_array_equal(twice.cpu().numpy(), 2 * want)
