# SPDX-License-Identifier: Apache-2.0
"""The command line: ``dlcore train``, ``predict``, ``evaluate``, ``info`` and ``bench``."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 (data or files), 2 (wrong use) or 130 (Ctrl-C).

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name (default: those of this process).

    Examples
    --------
    >>> from dlcore.cli import main
    >>> main(["info", "--json"]) == 0  # doctest: +SKIP
    True
    """
    from .dispatch import dispatch

    return dispatch(list(sys.argv[1:] if argv is None else argv))
