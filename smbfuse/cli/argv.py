"""Passwords out of our own command line, where every user of the machine can read them."""

import ctypes
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_ARG_START_FIELD: Final = 48  # of /proc/PID/stat, counted from 1; proc_pid_stat(5)

_VALUE: Final = rb"((?:,,|[^,])*)"  # up to the next comma that is not doubled
_PASSWORDS: Final = (
    re.compile(rb"(?:^(?:-o)?|(?<=,))(?:password|pass|password2|pass2)=" + _VALUE),
    re.compile(rb"(?:^(?:-o)?|(?<=,))(?:username|user)=(?:,,|[^,%])*%" + _VALUE),
    re.compile(rb"(?:^|=)[A-Za-z]+://[^/:]*:([^/]*)@"),
)


def password_spans(argument: bytes) -> list[tuple[int, int]]:
    """Return where passwords stand in one argument of a command line, as (start, end) in bytes."""
    found = {match.span(1) for pattern in _PASSWORDS for match in pattern.finditer(argument)}
    return sorted(span for span in found if span[0] < span[1])


def overwrite_passwords(arguments: Sequence[str]) -> bool:
    """Overwrite the passwords of our `arguments` in the memory that /proc/PID/cmdline shows; return if there were any.

    The kernel tells where that memory is, and it is ours to write. Who read it before has read it.
    """
    spans = [password_spans(argument.encode("utf-8", "surrogateescape")) for argument in arguments]
    if not any(spans):
        return False
    try:
        shown = Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1]
        # The second field is the program's name in parentheses, which may hold spaces and parentheses itself.
        fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
        start = int(fields[_ARG_START_FIELD - 3])
    except (OSError, ValueError, IndexError) as error:
        log.warning("the password on the command line cannot be overwritten: %s", error)
        return True
    interpreter = len(shown) - len(arguments)  # python itself and the script stand before our arguments
    if start == 0 or interpreter < 0:
        log.warning("the password on the command line cannot be overwritten: the kernel does not say where it is")
        return True
    at = start + sum(len(one) + 1 for one in shown[:interpreter])
    for argument, places in zip(shown[interpreter:], spans, strict=True):
        for first, last in places:
            ctypes.memset(at + first, ord("*"), last - first)
        at += len(argument) + 1
    return True
