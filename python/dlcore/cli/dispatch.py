# SPDX-License-Identifier: Apache-2.0
"""From arguments to a command, and from what a command raises to one line and an exit status."""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module

from ..errors import suggest
from .parser import UsageError

COMMANDS = {
    "train": "train a net on a data set",
    "predict": "apply a net to rows",
    "evaluate": "measure a net on rows whose targets are known",
    "info": "version, processor, threads, GPU",
    "bench": "measure the speed of this installation",
}
FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130

_HELP = """usage: dlcore COMMAND ...

Train feed-forward networks fast, from tables and small images.

commands:
{commands}

options:
  -h, --help  show this help, or that of a command: dlcore train --help
  --version   show the version
  --debug     show the traceback of an error

example: dlcore train digits
exit status: 0 done, 1 bad data or files, 2 wrong use, 130 interrupted"""


def dispatch(argv: list[str]) -> int:
    """Run the command that argv names; errors become one line on standard error."""
    debug = "--debug" in argv
    argv = [a for a in argv if a != "--debug"]
    who = f"dlcore {argv[0]}" if argv and argv[0] in COMMANDS else "dlcore"
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: complain(who, f"warning: {message}")
            status = _run(argv)
            sys.stdout.flush()
            return status
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else FAILED
    except BrokenPipeError:
        # The reader has gone, as `head` does; Python would complain once more while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            import traceback

            traceback.print_exc()
        else:
            complain(who, _message(error))
        return _status(error)


def complain(who: str, text: str) -> None:
    """One line on standard error."""
    print(f"{who}: {' '.join(text.split())}", file=sys.stderr, flush=True)


def _run(argv: list[str]) -> int:
    if not argv:
        raise UsageError(f"expected a command ({', '.join(COMMANDS)}), got nothing; see dlcore --help")
    first = argv[0]
    if first in ("-h", "--help"):
        print(_HELP.format(commands="\n".join(f"  {name:<10}{about}" for name, about in COMMANDS.items())))
        return 0
    if first == "--version":
        from .. import __version__

        print(f"dlcore {__version__}")
        return 0
    if first not in COMMANDS:
        what = "an option of dlcore" if first.startswith("-") else "a command"
        names = ["--help", "--version", "--debug"] if first.startswith("-") else COMMANDS
        raise UsageError(f"expected {what} ({', '.join(names)}), got {first!r}{suggest(first, names)}")
    status: int = import_module(f".{first}", __package__).run(argv[1:])
    return status


def _message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted"
    if isinstance(error, MemoryError):
        return f"expected enough memory, got none left ({error})" if str(error) else "expected enough memory, got none left"
    if isinstance(error, (UsageError, ValueError, TypeError, OSError, RuntimeError)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}; --debug shows where"


def _status(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return WRONG_USE if isinstance(error, UsageError) else FAILED
