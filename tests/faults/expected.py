"""What is promised: for each operation and each fault a result, and the longest time until it is told.

The promise depends on what an operation needs (`Manner`) and on what a fault is to it (`Kind`), and is written down for
these; `promise` gives the cell of one operation, one fault and one dialect. docs/faults.md is printed from here:
`python -m tests.faults.expected > docs/faults.md`.
"""

import enum
import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.faults.faults import Fault, Kind
from tests.faults.operations import Manner, Operation

TIMEO_S: Final = 2.0  # of the mounts that all of this is tried on
SLACK_S: Final = 2.0  # what an answer may take beyond what is promised, on a machine that does other things too

# A page of a mapped file that cannot be had ends its process: the kernel has no other way to say it.
SIGBUS: Final = "SIGBUS"
DOWN: Final = frozenset({errno.EHOSTDOWN, errno.ETIMEDOUT})
MAY_NOT: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class Result(enum.Enum):
    """What the program is told, and what is so on the server then."""

    DONE = "done"
    DOWN = "an error"
    REFUSED = "refused"
    ANSWERED = "an answer"


class Promise(NamedTuple):
    """A result, and the longest time until it is told: `timeo=`, or at once, and some seconds more."""

    result: Result
    waits: bool = True  # False: at once
    more_s: float = 0.0

    @property
    def within_s(self) -> float:
        return TIMEO_S * self.waits + self.more_s

    def broken(self, operation: Operation, folder: Path, error: int | None, wrong: str) -> str:
        """Say what contradicts the promise; "" for nothing.

        `error` is the errno that the program was told, None for success, and `wrong` what it met besides; `folder` is
        on the server's disk.
        """
        if wrong and not (wrong == SIGBUS and self.result in (Result.DOWN, Result.ANSWERED)):
            return wrong
        if wrong:
            return ""
        told = "success" if error is None else errno.errorcode.get(error, str(error))
        allowed = {Result.DOWN: DOWN, Result.REFUSED: MAY_NOT}.get(self.result, frozenset())
        if self.result is Result.ANSWERED:
            return ""
        if error not in (allowed or {None}):
            return f"told {told}, promised {self.result.value}"
        if operation.holds is None or self.result is Result.DOWN:
            return ""
        is_done = operation.holds(folder)
        if is_done is not (self.result is Result.DONE):
            return f"told {told}, and the server {'has done it' if is_done else 'has not done it'}"
        return ""


_DONE: Final = Promise(Result.DONE)
_AT_ONCE: Final = Promise(Result.DONE, waits=False)
_DOWN: Final = Promise(Result.DOWN)
_REFUSED: Final = Promise(Result.REFUSED)
_ANSWERED: Final = Promise(Result.ANSWERED)

# What a server does before it opens a file that it believes to be open elsewhere, exclusively: it waits for the grant
# to be given back. Over SMB2 and 3 it knows us again; over SMB1 the connection that it waits for is our own former one.
GRANT_TIMEOUT_S: Final = 35.0

PROMISES: Final[Mapping[Kind, Mapping[Manner, Promise]]] = {
    kind: {Manner.LOCAL: _AT_ONCE, Manner.KNOWN: known, Manner.LOOK: look, Manner.REPEATED: change, Manner.ONCE: change}
    for kind, (known, look, change) in {
        Kind.CUT: (_DONE, _DONE, _DONE),
        Kind.OUTAGE: (_DONE, _DONE, _DONE),
        Kind.SLOW: (_DONE, _DONE, _DONE),
        Kind.DETECTED: (_DONE, _DONE, _DONE),
        Kind.DAMAGE: (_ANSWERED, _ANSWERED, _ANSWERED),
        Kind.READ_ONLY: (_DONE, _DONE, _REFUSED),
        Kind.WITHDRAWN: (_DOWN, _DOWN, _DOWN),
        Kind.GONE: (_DONE, _DOWN, _DOWN),
    }.items()
}


def promise(operation: Operation, fault: Fault, dialect: str) -> Promise:
    """Return what is promised of one operation under one fault."""
    promised = PROMISES[fault.kind][operation.manner]
    if dialect == "1.0" and not fault.server_knows and operation.has_file:
        return promised._replace(more_s=GRANT_TIMEOUT_S)
    return promised
