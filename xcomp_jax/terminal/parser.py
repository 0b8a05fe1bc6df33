"""Extends argparse for commands with sub-commands: short errors, positionals between options."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

_OWN_WORDING = re.compile(r"argument ([^:]+): (expected|invalid|ignored|not allowed|conflicting)")
"""Messages of argparse itself; all others come from a `type` and begin with the value."""

_FLAG = re.compile(r"--?\w\S*")
"""Arguments that argparse takes for an option: a dash and no space."""


class CommandParser(argparse.ArgumentParser):
    """Prints an error as one line that names the command, the flag and its value.

    A variadic positional argument may continue after options: `xcomp ask VIDEO --frames 8
    QUESTION`. Unknown options are reported by the sub-command that they were passed to, with the
    nearest known one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses the arguments; ends the program if some are unknown."""
        for text in args or ():
            name, _, value = text.partition("=")
            if value == "--" and name in self._option_string_actions:
                # argparse would set the option to an empty list.
                self.error(f"argument {name}: expected one argument")
        options, unknown = super().parse_known_args(args, namespace)
        if not unknown:
            return options, []
        end = unknown.index("--") if "--" in unknown else len(unknown)
        for text in unknown[:end]:
            if _FLAG.fullmatch(text):
                self.error(f"{text.partition('=')[0]} is unknown{self._nearest(text)}")
        rest = [*unknown[:end], *unknown[end + 1 :]]
        variadic = self._variadic()
        if variadic is None:
            self.error(f"unexpected argument {rest[0]!r}")
        setattr(options, variadic, [*getattr(options, variadic), *rest])
        return options, []

    def error(self, message: str) -> NoReturn:
        """Prints one line on stderr and exits with code 2."""
        message = _OWN_WORDING.sub(r"\1: \2", message)
        message = re.sub(r"^argument ([^:]+): ", r"\1 ", message)
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")

    def _variadic(self) -> str | None:
        """Returns the name of the positional argument with nargs="*", if any."""
        return next((a.dest for a in self._get_positional_actions() if a.nargs == "*"), None)

    def _nearest(self, text: str) -> str:
        name = text.partition("=")[0]
        near = difflib.get_close_matches(name, self._option_string_actions, n=1)
        return f"; did you mean {near[0]}?" if near else ""
