# SPDX-License-Identifier: Apache-2.0
"""Where a net goes: to other devices, into files and pickles, and back."""

from __future__ import annotations

import threading
from typing import Self

from . import backend as backends
from . import changes
from .predictor import Plans


class Moving:
    """Devices, files and pickles of a net. `checkpoint` is imported late: its readers are not needed to train."""

    @backends.releasing
    def to(self, device: str) -> Self:
        """Move to another device, with parameters and optimizer state; returns the net.

        Parameters
        ----------
        device : {"auto", "cpu", "cuda", "cuda:1", ...}
            cuda is the first GPU, as cuda:0.

        Raises
        ------
        RuntimeError, MemoryError
            A device that is not available, or has no memory for it; the net stays where it is.
        ValueError
            A device without the kernels that the net was made with.

        Examples
        --------
        >>> import dlcore as dl
        >>> dl.Net([dl.Linear(3, 2)]).to("cpu").device
        'cpu'
        """
        device = backends.select_device(device)
        backend = backends.get(self.dtype, device)
        backends.check_gemm("to", backend, self.gemm)
        backends.check_precision("to", backend, self.precision, self.gemm)
        memories = (self.store.memory, *(self.training.memories() if self.training else ()))
        places = [memory.room_on(backend) for memory in memories]
        for memory, place in zip(memories, places):
            memory.move(place)
        self.device, self.backend, self.plans, self._local = device, backend, Plans(self.layer), threading.local()
        changes.note()
        return self

    def save(self, path) -> None:
        """Write weights, optimizer state, counters, preprocessing and configuration into one .npz, atomically.

        No code is written: an initialisation that is a function is left out. So are loss, optimizer and its state, with a
        UserWarning, where `load` could not rebuild them, as with one of one's own class or a schedule that is a function:
        training goes on from such a file with a new optimizer.
        Copies and pickles of a net hold what its file would, the device, and the number of threads.

        Parameters
        ----------
        path : str or os.PathLike
            Taken as it is; ".npz" is the usual ending. An old file is replaced.

        Raises
        ------
        DataError
            A layer of one's own class, which `load` could not rebuild; more than 64 layers inside one another; a
            preprocessing that JSON cannot hold. Nothing is written then.
        OSError
            The file cannot be written; an old one is then as it was.

        Examples
        --------
        >>> import numpy as np, dlcore as dl, os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "net.npz")
        >>> net, x = dl.Net([dl.Linear(3, 2)]), np.ones((4, 3), np.float32)
        >>> net.save(path)
        >>> bool((dl.load(path).predict(x) == net.predict(x)).all())
        True
        """
        from . import checkpoint

        checkpoint.save(self, path)

    @classmethod
    def load(cls, path, *, device: str = "auto", gemm: str = "auto") -> Self:
        """The net that `Net.save` wrote; no code in the file is ever run.

        Parameters
        ----------
        path : str or os.PathLike
        device, gemm : str
            As of `Net` (default auto). A net of precision float16 predicts anywhere, in float32 where it must, and trains
            where a new one would.

        Raises
        ------
        FileFormatError
            Not a net, or one of its bytes is wrong.
        OSError
            The file cannot be read.
        ValueError, RuntimeError
            Kernels that the device has not, a device that is not available.

        Examples
        --------
        >>> import dlcore as dl, os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "net.npz")
        >>> dl.Net([dl.Linear(3, 2)], seed=7).save(path)
        >>> dl.load(path)
        Net(Sequential(Linear(3, 2)), seed=7, dtype='float32')
        """
        from . import checkpoint

        return checkpoint.load(cls, path, device, gemm)

    def __reduce__(self):
        from . import checkpoint

        return checkpoint.reduced(self)
