# SPDX-License-Identifier: Apache-2.0
"""Opening and replacing files so that neither a strange path nor a killed process does harm.

A file is written beside its target under a temporary name, forced to disk, and renamed over it: a reader sees the
old file or the new one, never a part. The writer holds a lock on the temporary file, so a temporary file without
one belongs to a killed process, and the next writer in that folder removes it.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import FileFormatError, describe, describe_path, expected

try:
    import fcntl
except ImportError:  # Windows: no locks, abandoned temporary files stay
    fcntl = None

_PREFIX, _SUFFIX = ".dlcore-", ".tmp"
_WRITE = os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
# O_NONBLOCK: opening a named pipe must not wait for its other end.
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], who: str = "atomic_write") -> Iterator[BinaryIO]:
    """A binary file that replaces `path` when the block ends without an error; otherwise nothing changes.

    The mode of an old file is kept, and a symbolic link is followed: its target is replaced. Errors of the system
    (a full disk, a missing folder) keep their class, with a message of one line.

    Parameters
    ----------
    path : str or os.PathLike
    who : str
        The function that is named in messages.

    Raises
    ------
    FileFormatError, TypeError
        If the path is not one of a file.
    OSError
        If it cannot be written; an old file is then as it was.

    Yields
    ------
    file : io.BufferedWriter

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "log.csv")
    >>> with atomic_write(path) as file:
    ...     written = file.write(b"epoch,loss")
    >>> os.listdir(os.path.dirname(path))
    ['log.csv']
    """
    _check_path(path, who)
    try:
        target = os.path.realpath(os.fspath(path))
        mode = _mode_of_old(target, who)
        folder = os.path.dirname(target)
        _remove_abandoned(folder)
        file, temporary = _create(folder)
        try:
            with file:
                yield file
                file.flush()
                if mode is not None:
                    os.chmod(temporary, mode)
                os.fsync(file.fileno())
                os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        _sync_folder(folder)
    except OSError as error:
        raise _one_line(
            error, expected(who, f"to write {describe_path(path)}", error.strerror or error, hint="nothing was changed")
        ) from error


def open_regular(path: str | os.PathLike[str], who: str) -> BinaryIO:
    """`path` opened for reading (binary), if it is a regular file: never a folder, a pipe or a device.

    Parameters
    ----------
    path : str or os.PathLike
    who : str
        The function that is named in messages.

    Raises
    ------
    FileFormatError
        If it is not a regular file.
    OSError
        If it cannot be opened.

    Examples
    --------
    >>> with open_regular(__file__, "read") as file:
    ...     file.read(6)
    b'# SPDX'
    """
    _check_path(path, who)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | _NO_WAIT)
    except OSError as error:
        raise _one_line(error, expected(who, "a readable file", f"{describe_path(path)}: {error.strerror}")) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
        raise FileFormatError(expected(who, "a file", f"{kind}: {describe_path(path)}"))
    return os.fdopen(descriptor, "rb")


def _check_path(path, who):
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(expected(who, "a path (str or os.PathLike)", describe(path)))
    if "\0" in os.fsdecode(path) or not os.fspath(path):
        raise FileFormatError(expected(who, "the path of a file", describe(path)))


def _one_line(error, text):
    # The class tells what happened (FileNotFoundError, PermissionError); Python's own text would not say who.
    explained = type(error)(text)
    explained.errno = error.errno
    return explained


def _mode_of_old(target, who):
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(old.st_mode):
        raise FileFormatError(expected(who, "the path of a file", f"a folder, pipe or device: {target!r}"))
    if not os.access(target, os.W_OK):
        raise PermissionError(13, "Permission denied")
    return stat.S_IMODE(old.st_mode)


def _create(folder):
    while True:
        temporary = os.path.join(folder, f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}")
        file = os.fdopen(os.open(temporary, _WRITE | os.O_CREAT | os.O_EXCL, 0o666), "wb")
        _lock(file.fileno(), wait=True)
        # Another writer may have taken the new file for an abandoned one before it was locked.
        if os.path.exists(temporary):
            return file, temporary
        file.close()


def _lock(descriptor, wait):
    """Whether this process now holds the lock; False too where the file system has no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _remove_abandoned(folder):
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                _remove_if_unlocked(os.path.join(folder, name))


def _remove_if_unlocked(path):
    with contextlib.suppress(OSError):
        descriptor = os.open(path, _WRITE | _NO_WAIT)
        try:
            if _lock(descriptor, wait=False):
                os.unlink(path)
        finally:
            os.close(descriptor)


def _sync_folder(folder):
    # Makes the rename itself survive a loss of power; some file systems cannot, which is no error.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
