# SPDX-License-Identifier: Apache-2.0
"""Arrays in one file: an .npz that NumPy reads too, never pickle, written atomically, refused when a byte is wrong.

The first member, meta.json, names every array with its dtype, shape and CRC-32 and carries the caller's own JSON.
"""

import os
from io import BytesIO
from typing import Any

import numpy as np

from ..errors import DataError, FileFormatError, describe, describe_path, expected
from . import archive, npy
from .atomic import atomic_write, open_regular

__all__ = ["Arrays", "atomic_write", "from_bytes", "load_arrays", "open_regular", "save_arrays", "to_bytes"]

_META = "meta.json"
_FORMAT, _VERSION = "dlcore arrays", 1
_LONGEST_NAME = 900  # characters


class Arrays(dict[str, np.ndarray]):
    """What `load_arrays` returns: names to arrays, and the JSON that was saved with them as `text` (or None).

    Examples
    --------
    >>> from_bytes(to_bytes({}, text={"layers": [2, 2]})).text
    {'layers': [2, 2]}
    """

    text: dict[str, Any] | None = None


def __dir__() -> list[str]:
    return sorted(__all__)


def save_arrays(path: str | os.PathLike[str], arrays: dict[str, Any], *, text: dict[str, Any] | None = None) -> None:
    """Write named arrays, and optionally a JSON-able dict, into one file.

    The file is a zip archive of .npy members that `numpy.load(path)` reads. It is complete or not there: it is
    written beside the target and renamed over it. C and Fortran order are kept; arrays in one block are not copied.

    Parameters
    ----------
    path : str or os.PathLike
        Taken as it is; ".npz" is the usual ending. A symbolic link is followed.
    arrays : dict of str to array
        Booleans, numbers or text of any shape. Names may hold "/", but not "..", "\\\\" or ":".
    text : dict, optional
        Anything that JSON holds: str keys, str, bool, int, finite float, None, lists and dicts.

    Raises
    ------
    DataError
        If a name, an array or the text cannot be saved.
    OSError
        If the file cannot be written (a full disk, a missing folder); an old file is then as it was.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.npz")
    >>> save_arrays(path, {"0.weight": np.eye(2)}, text={"layers": [2, 2]})
    >>> loaded = load_arrays(path)
    >>> loaded["0.weight"].tolist(), loaded.text
    ([[1.0, 0.0], [0.0, 1.0]], {'layers': [2, 2]})
    """
    who = "save_arrays"
    content = _blocks(arrays, text, who)
    with atomic_write(path, who) as file:
        for block in content:
            file.write(block)


def to_bytes(arrays: dict[str, Any], *, text: dict[str, Any] | None = None) -> bytes:
    """The file that `save_arrays` would write.

    Parameters
    ----------
    arrays, text : dict
        As of `save_arrays`.

    Raises
    ------
    DataError
        If a name, an array or the text cannot be saved.

    Examples
    --------
    >>> from_bytes(to_bytes({"x": [1, 2]}))["x"].tolist()
    [1, 2]
    """
    return b"".join(_blocks(arrays, text, "to_bytes"))


def _blocks(arrays, text, who):
    """The bytes of the file, piece by piece; an array's are not copied."""
    if not isinstance(arrays, dict):
        raise TypeError(expected(who, "a dict of names to arrays", describe(arrays)))
    storable = {}
    for name, value in arrays.items():
        _check_name(name, who)
        storable[name] = npy.to_storable(value, who, name)
    blocks = [npy.parts(array) for array in storable.values()]
    checksums = [archive.crc32(pair) for pair in blocks]
    meta = _encode(_describe_all(storable, checksums, text), who)

    contents = [(meta,), *blocks]
    names = [_META.encode(), *(f"{name}.npy".encode() for name in storable)]
    members = [
        (name, crc, sum(map(len, content)))
        for name, crc, content in zip(names, [archive.crc32([meta]), *checksums], contents, strict=True)
    ]
    pieces = [(archive.local_header(*member), *content) for member, content in zip(members, contents, strict=True)]
    return [block for piece in pieces for block in piece] + [archive.directory(members)]


def load_arrays(path: str | os.PathLike[str]) -> Arrays:
    """Read the arrays of a file that `save_arrays`, `numpy.savez` or `numpy.savez_compressed` wrote.

    Nothing in the file is executed. In a file of `save_arrays` every altered byte is an error; other archives are
    protected by the zip checksums of their members.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    arrays : Arrays
        A dict of names to arrays; `arrays.text` is the dict saved with them, None in other archives.

    Raises
    ------
    FileFormatError
        If the file is not such an archive, or is damaged, or is no regular file.
    OSError
        If it cannot be opened.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "data.npz")
    >>> np.savez(path, x=np.arange(3))
    >>> load_arrays(path)
    {'x': array([0, 1, 2])}
    """
    who = f"load_arrays({describe_path(path)})"
    with open_regular(path, who) as file:
        return _load(file, who)


def from_bytes(content: bytes) -> Arrays:
    """The arrays in the bytes of such a file; see `load_arrays`.

    Parameters
    ----------
    content : bytes

    Raises
    ------
    FileFormatError
        If they are not such a file, or one of them is wrong.

    Examples
    --------
    >>> from_bytes(to_bytes({"x": [1, 2]}))
    {'x': array([1, 2])}
    """
    return _load(BytesIO(content), "from_bytes")


def _load(file, who):
    import zipfile  # imported late, like json: 8 ms of an import that most programs never use

    try:
        with zipfile.ZipFile(file) as opened:
            return _read(opened, file, who)
    except (FileFormatError, MemoryError):
        raise
    except Exception as error:  # zipfile answers malformed archives with a dozen kinds of errors
        raise FileFormatError(expected(who, "an .npz archive", f"{type(error).__name__}: {error}")) from error


def _read(opened, file, who):
    infos = opened.infolist()
    archive.check_members(file, infos, who)
    ours = infos[0].filename == _META
    arrays, checksums = Arrays(), []
    for info in infos[1:] if ours else infos:
        if not info.filename.endswith(".npy"):
            raise FileFormatError(expected(who, "members that end in .npy", repr(info.filename)))
        with opened.open(info) as stream:
            name = info.filename.removesuffix(".npy")
            arrays[name] = npy.read_array(stream, info.file_size, f"{who}[{name!r}]")
        checksums.append(info.CRC)
    if ours:
        archive.check_frame(file, infos, who)
        arrays.text = _check_meta(opened.read(infos[0]), arrays, checksums, who)
    return arrays


def _check_name(name, who):
    if not isinstance(name, str):
        raise TypeError(expected(who, "names of type str", f"{describe(name)} ({type(name).__name__})"))
    if not archive.is_safe(name) or len(name) > _LONGEST_NAME or name == _META or name.endswith(".npy"):
        what = f"printable names without '..', ':' or '\\', not {_META} or *.npy"
        raise DataError(expected(who, what, describe(name)))


def _describe_all(arrays, checksums, text):
    entries = [
        {"name": name, "dtype": array.dtype.str, "shape": list(array.shape), "crc32": f"{crc:08x}"}
        for (name, array), crc in zip(arrays.items(), checksums, strict=True)
    ]
    return {"format": _FORMAT, "version": _VERSION, "arrays": entries, "text": text}


def _encode(meta, who):
    import json

    text = meta["text"]
    if text is not None and not isinstance(text, dict):
        raise TypeError(expected(who, "text as a dict", describe(text)))
    try:
        _check_keys(text)
        return json.dumps(meta, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(expected(who, "text that JSON can hold", f"{type(error).__name__}: {error}")) from error


def _check_keys(text):
    # json turns other keys into strings without a word.
    if isinstance(text, dict):
        for key, value in text.items():
            if not isinstance(key, str):
                raise TypeError(f"key {describe(key)} of type {type(key).__name__}")
            _check_keys(value)
    elif isinstance(text, (list, tuple)):
        for value in text:
            _check_keys(value)


def _check_meta(raw, arrays, checksums, who):
    import json

    meta = json.loads(raw)
    if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
        raise FileFormatError(expected(who, f"{_META} of the format {_FORMAT!r}", describe(raw)))
    if meta.get("version") != _VERSION:
        raise FileFormatError(
            expected(who, f"version {_VERSION}", describe(meta.get("version")), hint="the file is of another release")
        )
    text = meta.get("text")
    if meta != _describe_all(arrays, checksums, text) or not isinstance(text, (dict, type(None))):
        raise FileFormatError(expected(who, f"the arrays that {_META} lists", "others"))
    return text
