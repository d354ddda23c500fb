"""What is promised: for each operation and each fault a result, and the longest time until it is told.

The promise depends on what an operation needs (`Manner`) and on what a fault is to it (`Kind`), and is written down for
these; `promise` gives the cell of one operation, one fault and one dialect. docs/faults.md is printed from here:
`python -m tests.faults.expected > docs/faults.md`.
"""

import enum
import errno
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from smbfuse.client.waiter import OTHERS_PATIENCE_S
from tests.faults.faults import DIALECTS, FAULTS, Fault, Kind
from tests.faults.operations import OPERATIONS, Manner, Operation

TIMEO_S: Final = 2.0  # of the mounts that all of this is tried on
SLACK_S: Final = 2.0  # what an answer may take beyond what is promised, on a machine that does other things too

# A page of a mapped file that cannot be had ends its process: the kernel has no other way to say it.
SIGBUS: Final = "SIGBUS"
DOWN: Final[frozenset[int | None]] = frozenset({errno.EHOSTDOWN, errno.ETIMEDOUT})
MAY_NOT: Final[frozenset[int | None]] = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class Result(enum.Enum):
    """What the program is told, and what is so on the server then."""

    DONE = "done"
    DOWN = "down"
    REFUSED = "refused"
    DONE_OR_REFUSED = "done or refused"
    ANSWERED = "answered"


SUCCESS: Final[frozenset[int | None]] = frozenset({None})
ALLOWED: Final[Mapping[Result, frozenset[int | None]]] = {
    Result.DONE: SUCCESS,
    Result.DOWN: DOWN,
    Result.REFUSED: MAY_NOT,
    Result.DONE_OR_REFUSED: SUCCESS | MAY_NOT | {errno.EEXIST},
}


class Promise(NamedTuple):
    """A result, and the longest time until it is told: `timeo=`, or at once; and more, for a reason that is noted."""

    result: Result
    waits: bool = True  # False: at once
    more_s: float = 0.0
    note: str = ""

    @property
    def within_s(self) -> float:
        return TIMEO_S * self.waits + self.more_s

    def broken(self, operation: Operation, folder: Path, error: int | None, wrong: str) -> str:
        """Say what contradicts the promise; "" for nothing.

        `error` is the errno that the program was told, None for success, and `wrong` what it met besides; `folder` is
        on the server's disk.
        """
        if wrong:
            # Nothing tells a program that what it was shown was changed on its way, if nothing protects it.
            shown = self.result is Result.ANSWERED and not wrong.startswith("SIG")
            return "" if shown or (wrong == SIGBUS and self.result in (Result.DOWN, Result.ANSWERED)) else wrong
        told = "success" if error is None else errno.errorcode.get(error, str(error))
        if error not in ALLOWED.get(self.result, {error}):
            return f"told {told}, promised {self.result.value}"
        may_be_half_done = self.result in (Result.DOWN, Result.ANSWERED, Result.DONE_OR_REFUSED) and error is not None
        if operation.holds is None or may_be_half_done or self.result is Result.ANSWERED:
            return ""
        is_done = operation.holds(folder)
        if is_done is not (error is None):
            return f"told {told}, and the server {'has done it' if is_done else 'has not done it'}"
        return ""


_DONE: Final = Promise(Result.DONE)
_AT_ONCE: Final = Promise(Result.DONE, waits=False)
_DOWN: Final = Promise(Result.DOWN)
_REFUSED: Final = Promise(Result.REFUSED)
_DENIED: Final = Promise(Result.DONE_OR_REFUSED)
_ANSWERED: Final = Promise(Result.ANSWERED)

HELD_UP: Final = "¹"
ASKED_AGAIN: Final = "²"

PROMISES: Final[Mapping[Kind, Mapping[Manner, Promise]]] = {
    kind: {Manner.LOCAL: _AT_ONCE, Manner.KNOWN: known, Manner.LOOK: look, Manner.REPEATED: change, Manner.ONCE: change}
    for kind, (known, look, change) in {
        Kind.CUT: (_DONE, _DONE, _DONE),
        Kind.OUTAGE: (_DONE, _DONE, _DONE),
        Kind.SLOW: (_DONE, _DONE, _DONE),
        Kind.DETECTED: (_DONE, _DONE, _DONE),
        Kind.DENIED: (_DENIED, _DENIED, _DENIED),
        Kind.DAMAGE: (_ANSWERED, _ANSWERED, _ANSWERED),
        Kind.READ_ONLY: (_DONE, _DONE, _REFUSED),
        Kind.WITHDRAWN: (_DOWN, _DOWN, _DOWN),
        Kind.STUCK: (_DOWN, _DOWN, _DOWN),
        Kind.GONE: (_DONE, _DOWN, _DOWN),
    }.items()
}


def promise(operation: Operation, fault: Fault, dialect: str) -> Promise:
    """Return what is promised of one operation under one fault."""
    promised = PROMISES[fault.kind][operation.manner]
    stuck = fault.kind is Kind.STUCK
    if dialect == "1.0" and operation.has_file and (stuck or not fault.server_knows):
        return promised._replace(more_s=OTHERS_PATIENCE_S - TIMEO_S, note=HELD_UP)
    if stuck and operation.asks > 1:
        return promised._replace(more_s=(operation.asks - 1) * TIMEO_S, note=ASKED_AGAIN)
    return promised


# -- for people


TITLES: Final[Mapping[Manner, str]] = {
    Manner.LOCAL: "waits for nobody",
    Manner.KNOWN: "looks at what is known",
    Manner.LOOK: "looks",
    Manner.REPEATED: "changes, repeatably",
    Manner.ONCE: "changes, once",
}

HEAD: Final = """\
# What programs are told when something goes wrong

Printed by `python -m tests.faults.expected`; do not edit by hand.

Each operation is tried under each fault, over SMB1, 2.1 and 3.1.1, against a real Samba: by a process of its own, all
of them at the same time, so that the fault meets them under way. Each run makes sure that its fault did strike;
compares what the program was told, how long that took and what is on the server then with this table; and makes sure
that the mount serves again afterwards, untouched. `./dev test` tries each fault with one dialect, `./dev soak` with all
of them (`tests/faults/`).

The times are those of `timeo={timeo:g}`: whatever it is set to, nobody waits longer. A test allows {slack:g} s more.

## Operations

{operations}
What is known was asked for before, more than a second ago: the server would be asked again.

Not in the table, because no call of a program leads to such a request of ours: locks, which the kernel keeps itself;
fallocate, which is refused (EOPNOTSUPP); lseek for holes, copy_file_range and sendfile, which the kernel does by
reading and writing.

## Results

* **done**: the program is told success, what it is shown is right, and what it changed is on the server, once.
* **down**: EHOSTDOWN or ETIMEDOUT; never that something is missing, and never an empty folder. A mapped page that
  cannot be had ends its process (SIGBUS). A change may have been made if it was on its way; close and fsync tell of
  what was written and is not on the server.
* **refused**: EACCES, EPERM or EROFS, and nothing has changed.
* **done or refused**: done; but the one whose request was changed may be refused (EEXIST too), and some of it may be
  done. A server answers a wrong signature with ACCESS_DENIED ([MS-SMB2] 3.3.5.2.4), as it answers who may not do
  something, and each request of a compound by itself.
* **answered**: anything, but an answer: nobody can tell what a server makes of a changed request, or what a changed
  answer was.

## The table

"""

FOOT: Final = """
¹ Over SMB1 up to {held_up:g} s for what is done to a file that is open here: the server does not know that our former
connection has ended, and waits 35 s for it to give the file's oplock back; or it may be waiting for another client,
which SMB1 does not tell. Over SMB2 and 3 a server knows us again, and says when it waits.

² The kernel asks again, one time after the other, when an answer is an error: for a name that it knows once, for a
mapped page twice. Each time `timeo=` is waited.
"""


def markdown() -> str:
    """Return docs/faults.md."""
    operations = "".join(f"{textwrap.fill(_listed(manner), 118, subsequent_indent='  ')}\n" for manner in Manner)
    lines = [HEAD.format(timeo=TIMEO_S, slack=SLACK_S, operations=operations).rstrip("\n"), ""]
    lines += [f"| fault | {' | '.join(TITLES.values())} |", "|---" * (1 + len(Manner)) + "|"]
    for kind in Kind:
        lines.append(f"| **{kind.value}** |" + "  |" * len(Manner))
        for fault in (fault for fault in FAULTS if fault.kind is kind):
            name = fault.name + (f" ({', '.join(fault.dialects)})" if fault.dialects != DIALECTS else "")
            lines.append(f"| {name} | {' | '.join(_cell(fault, manner) for manner in Manner)} |")
    return "\n".join(lines) + "\n" + FOOT.format(held_up=OTHERS_PATIENCE_S)


def _listed(manner: Manner) -> str:
    names = ", ".join(operation.name for operation in OPERATIONS if operation.manner is manner)
    return f"* **{TITLES[manner]}**: {names}"


def _cell(fault: Fault, manner: Manner) -> str:
    """Return what all operations of a manner are promised over all dialects: they differ only in what the note says."""
    operations = [operation for operation in OPERATIONS if operation.manner is manner]
    promises = {promise(operation, fault, dialect) for operation in operations for dialect in fault.dialects}
    notes = "".join(note for note in (HELD_UP, ASKED_AGAIN) if any(promised.note == note for promised in promises))
    (plain,) = {promised._replace(more_s=0.0, note="") for promised in promises}
    return f"{plain.result.value}, {f'{plain.within_s:g} s' if plain.waits else 'at once'}{notes}"


if __name__ == "__main__":
    print(markdown(), end="")
