# SPDX-License-Identifier: Apache-2.0
"""IDX files, the format of MNIST: a magic number, the dimensions, the values, all big-endian."""

import math
import os

import numpy as np

from ..errors import DataError, FileFormatError, describe, describe_path, expected
from .dataset import Dataset
from .reading import read_bytes
from .task import CLASSIFICATION

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file, plain or gzipped, in this machine's byte order.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    array : ndarray
        uint8 for images and labels of MNIST's kind.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "labels")
    >>> with open(path, "wb") as file:
    ...     written = file.write(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
    >>> read_idx(path)
    array([5, 0, 4], dtype=uint8)
    """
    who = f"read_idx({describe_path(path)})"
    content = read_bytes(path, who)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES or not content[3]:
        first = bytes(content[:4])
        raise FileFormatError(expected(who, "an IDX file", f"{len(content)} bytes that start with {first!r}"))
    dtype, dimensions = np.dtype(_DTYPES[content[2]]), content[3]
    start = 4 + 4 * dimensions
    if len(content) < start or dimensions > 32:
        raise FileFormatError(expected(who, f"{dimensions} dimensions, at most 32", f"{len(content)} bytes in all"))
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, 4))
    size = math.prod(shape) * dtype.itemsize
    if len(content) != start + size:
        raise FileFormatError(expected(who, f"{size} bytes of values for shape {shape}", len(content) - start))
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def mnist(folder: str | os.PathLike[str]) -> Dataset:
    """MNIST from the four files of its distribution: 60,000 training and 10,000 test images of 28x28 pixels.

    Parameters
    ----------
    folder : str or os.PathLike
        Holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte,
        each plain or with .gz, or holds a folder "mnist" that does.

    Returns
    -------
    dataset : Dataset
        x and x_test uint8 (n, 784), y and y_test int32 (n,).

    Examples
    --------
    >>> mnist("no such folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: mnist: expected train-images-idx3-ubyte.gz in the folder, got 'no such folder' without it
    """
    return _four_files("mnist", folder, list(range(10)))


def fashion_mnist(folder: str | os.PathLike[str]) -> Dataset:
    """Fashion-MNIST, in the files and shapes of `mnist`; its folder may also hold a folder "fashion-mnist".

    Examples
    --------
    >>> fashion_mnist(None)
    Traceback (most recent call last):
    ...
    dlcore.errors.DataError: fashion-mnist: expected the folder of its four files as data_dir, got None
    """
    return _four_files("fashion-mnist", folder, _FASHION)


def _four_files(name, folder, classes):
    if not isinstance(folder, (str, os.PathLike)):
        raise DataError(expected(name, "the folder of its four files as data_dir", describe(folder)))
    (x, y, image), (x_test, y_test, test_image) = (_part(name, folder, part, classes) for part in ("train", "t10k"))
    if image != test_image:
        raise DataError(expected(name, f"test images of shape {image}", test_image))
    return Dataset(name, x, y, x_test, y_test, classes, None, CLASSIFICATION, image)


def _part(name, folder, part, classes):
    """Flat images, labels and (height, width, channels) of two files."""
    images = read_idx(_find(name, folder, f"{part}-images-idx3-ubyte"))
    labels = read_idx(_find(name, folder, f"{part}-labels-idx1-ubyte"))
    if images.dtype != np.uint8 or images.ndim != 3 or images.size == 0 or labels.shape != images.shape[:1]:
        what = "uint8 images of shape (n, height, width) and n labels"
        raise DataError(expected(f"{name}: {part}", what, f"{describe(images)} and {describe(labels)}"))
    if labels.max() >= len(classes) or labels.min() < 0:
        raise DataError(expected(f"{name}: {part}", f"labels 0..{len(classes) - 1}", labels.max()))
    return images.reshape(len(images), -1), labels.astype(np.int32), (*images.shape[1:], 1)


def _find(name, folder, file):
    for place in folder, os.path.join(folder, name):
        for ending in ".gz", "":
            path = os.path.join(place, file + ending)
            if os.path.exists(path):
                return path
    raise FileNotFoundError(expected(name, f"{file}.gz in the folder", f"{describe_path(folder)} without it"))
