# SPDX-License-Identifier: Apache-2.0
"""Options described once, for the command line and for configuration files; argparse splits, `values` converts.

Every mistake is a UsageError of one line, `expected X, got Y`, in place of argparse's block of usage.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import describe, suggest
from .values import Unexpected, boolean, integer, text


class UsageError(Exception):
    """The command was used wrongly: exit status 2."""


@dataclass(frozen=True)
class Option:
    """One option: ``--name METAVAR``, or a flag where ``convert`` is `boolean`.

    ``negatable`` flags have a ``--no-name`` too.
    """

    name: str
    convert: Callable[[Any], Any]
    help: str
    metavar: str | None = None
    negatable: bool = False

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    def value(self, given: Any, called: str) -> Any:
        """The value of what was given under the name ``called``."""
        try:
            return self.convert(given)
        except Unexpected as error:
            raise UsageError(f"expected {called} to be {error}, got {describe(given)}{error.hint}") from None


JSON = Option("json", boolean, "print one JSON object on standard output")
DATA_DIR = Option("data-dir", text, "folder of the IDX files of mnist and fashion-mnist", "DIR")
THREADS = Option("threads", integer(1, 1024), "threads to use (default: the cores this process may use)", "N")


def check_source(options: dict[str, Any]) -> None:
    """Refuse a name of data, and options beside it, that `dlcore.data.load` would refuse; no file is opened."""
    from ..data import source_kind

    try:
        source_kind(options["data"], **{k: options.get(k) for k in ("test", "data_dir", "target")})
    except ValueError as error:
        text = str(error).removeprefix("load: ").replace("data_dir", "--data-dir")
        raise UsageError(text.replace("got None", "got none")) from None


class Parser(argparse.ArgumentParser):
    """Arguments of one command.

    Parameters
    ----------
    command, about, example : str
        Name, one sentence, and one line to try.
    positionals : dict of str to str
        Names with their help.
    options : list of Option
    """

    def __init__(self, command: str, about: str, example: str, positionals: dict[str, str], options: list[Option]):
        usage = " ".join(["dlcore", command, *map(str.upper, positionals), "[options]"])
        super().__init__(
            prog=f"dlcore {command}", usage=usage, description=about, epilog=f"example: {example}", allow_abbrev=False,
            exit_on_error=False, argument_default=argparse.SUPPRESS,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30),
        )  # fmt: skip
        self.positionals, self.options = list(positionals), {o.key: o for o in options}
        for name, about_it in positionals.items():
            self.add_argument(name, metavar=name.upper(), nargs="?", help=about_it)
        for option in options:
            self._add(option)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def _add(self, option: Option) -> None:
        action: dict[str, Any] = {"metavar": option.metavar}
        if option.convert is boolean:
            action = {"action": argparse.BooleanOptionalAction if option.negatable else "store_true"}
        self.add_argument(f"--{option.name}", help=option.help.replace("%", "%%"), **action)

    def given(self, argv: list[str]) -> dict[str, Any]:
        """What the arguments give, converted, by key; positionals that are not there are left out."""
        try:
            namespace, extras = self.parse_known_intermixed_args(argv)
        except argparse.ArgumentError as error:
            raise UsageError(_explained(error)) from None
        if extras:
            raise UsageError(self._surplus(extras))
        found = vars(namespace)
        values = {name: found[name] for name in self.positionals if found.get(name) is not None}
        for key, option in self.options.items():
            if key in found:
                values[key] = option.value(found[key], f"--{option.name}")
        return values

    def require(self, values: dict[str, Any]) -> None:
        """Refuse absent positionals."""
        for name in self.positionals:
            if name not in values:
                raise UsageError(f"expected {name.upper()}, got nothing; see {self.prog} --help")

    def _surplus(self, extras: list[str]) -> str:
        unknown = next((e for e in extras if e.startswith("-")), None)
        if unknown is None:
            names = " ".join(map(str.upper, self.positionals)) or "no arguments"
            return f"expected {names}, got {extras[0]!r} too"
        name = unknown.split("=")[0]
        known = [s for s in self._option_string_actions if s.startswith("--")]
        return f"expected an option of {self.prog}, got {name!r}{suggest(name, known) or f'; see {self.prog} --help'}"

    def error(self, message: str) -> None:  # type: ignore[override]
        """What argparse calls where it would print its usage and exit."""
        raise UsageError(message)


def _explained(error: argparse.ArgumentError) -> str:
    name = error.argument_name
    if error.message.startswith("ignored explicit argument"):
        return f"expected {name} without a value, got {error.message.removeprefix('ignored explicit argument ')}"
    if error.message.startswith("expected"):
        return f"expected a value for {name}, got none"
    return f"expected another use of {name}, got: {error.message}"
