"""What is known of the files that are open: the ground on which a file is proven to be the same after a loss.

A file that nobody here has changed is the same if times and size are. One that was changed here has other times, and a
size between what the server has acknowledged and what was sent to it: a request whose answer was lost may have been
executed or not. That is known of the file and not of a handle, so that what one handle writes makes no other one
stale. While a handle stands, what has the file's number is that file. Between a loss and the proof it may be another:
the number of a removed file is soon given to the next, and a look at that one must not become what it is proven by.
Pure: nothing here awaits.
"""

from __future__ import annotations

import enum
import weakref
from typing import NamedTuple

from smbfuse.share import FileStat, creation_differs


class Proof(enum.Enum):
    """What a file that was opened again turned out to be."""

    SAME = enum.auto()
    CHANGED = enum.auto()  # the same file, and somebody else has changed it
    ANOTHER = enum.auto()  # another file has its name


def same_file(before: FileStat, after: FileStat) -> bool:
    """Tell whether two stats surely speak of one unchanged file; what the server never says counts as equal."""
    return (
        _same_identity(before, after)
        and before.changed_ns == after.changed_ns
        and before.written_ns == after.written_ns
        and before.size == after.size
    )


def _same_identity(before: FileStat, after: FileStat) -> bool:
    return (
        before.kind == after.kind
        and before.file_id == after.file_id
        and before.volume_id == after.volume_id
        and not creation_differs(before, after)
    )


class Moment(NamedTuple):
    """When the server was asked: an answer is exact only if nothing was changed here between question and answer."""

    changes: int
    by_path: int
    losses: int


class Known:
    """What is known of one open file, whichever handle told it."""

    def __init__(self, evidence: Evidence, stat: FileStat, asked: Moment) -> None:
        self.stat = stat
        self.smallest = self.largest = stat.size  # what the size may be: acknowledged, and sent
        self.touched = asked.by_path != evidence.by_path  # changed here since `stat`: its times prove nothing
        self.writers = 0  # open handles that have changed it: the server may move its times until they are closed
        self._evidence = evidence
        self._proven_at = asked.losses
        self._under_way = 0
        self._clock = 0  # counts beginnings and ends of changes
        self._resizing = 0
        self._resized_at = 0

    def __repr__(self) -> str:
        return f"<Known id {self.stat.file_id} size {self.smallest}..{self.largest} touched {self.touched}>"

    def begin(self, *, reach: int = 0, size: int | None = None) -> int:
        """Record that a change is about to be sent, and return what `end` is to be given.

        `reach` is the end of a write, `size` a new size; neither is given for times and attributes.
        """
        self.touched = True
        self._under_way += 1
        self.largest = max(self.largest, reach, size or 0)
        if size is not None:
            self.smallest = min(self.smallest, size)
            self._resizing += 1
        self._tick(resize=size is not None)
        return self._clock

    def end(self, begun: int, *, reach: int = 0, size: int | None = None, done: bool) -> None:
        """Record that the change of `begin` has ended; `done`: the server acknowledged it, up to `reach`."""
        self._under_way -= 1
        if size is not None:
            self._resizing -= 1
            if done and self._clock == begun:
                self.smallest = self.largest = size
        elif done and not self._resizing and self._resized_at < begun:
            # Beside a resizing nobody knows which came last: then the write proves nothing of the size.
            self.smallest = max(self.smallest, reach)
        self._tick(resize=size is not None)

    def close_writer(self) -> None:
        """Hear that a handle is closed that has changed the file: the server may set its times for the last time."""
        self.writers -= 1
        self.touched = True
        self._tick(resize=False)

    def learn(self, stat: FileStat, *, exact: bool) -> None:
        """Take over what the server says; `exact`: nothing was changed here since it was asked."""
        self.stat = stat
        if exact and not self._under_way:
            self.smallest = self.largest = stat.size
            self.touched = self.writers > 0
        else:
            self.smallest = min(self.smallest, stat.size)
            self.largest = max(self.largest, stat.size)

    def prove(self, stat: FileStat, asked: Moment) -> None:
        """Take over what a handle says that was opened again, and that `judge` has found to be of the same file."""
        self._proven_at = asked.losses
        self.learn(stat, exact=asked.changes == self._evidence.changes)

    def doubt(self) -> None:
        """Hear that a handle has ended without a loss."""
        self._proven_at = -1

    def believes(self, stat: FileStat) -> bool:
        """Tell whether `stat`, of what has the number or the path of the file, may be learnt: it is of this file."""
        if self._proven_at == self._evidence.losses:
            return bool(stat.file_id) or _same_identity(self.stat, stat)  # a path soon leads to another file
        return self.judge(stat, writing=False) is Proof.SAME

    def judge(self, stat: FileStat, *, writing: bool) -> Proof:
        """Tell what `stat`, of a file opened by the same path, speaks of; what the server never says counts as equal.

        Of a handle that writes no times are asked: others may write beside it, and it shows nothing that is stale.
        """
        if not _same_identity(self.stat, stat):
            return Proof.ANOTHER
        if not self.smallest <= stat.size <= self.largest:
            return Proof.CHANGED
        return Proof.SAME if writing or self.touched or same_file(self.stat, stat) else Proof.CHANGED

    def _tick(self, *, resize: bool) -> None:
        self._clock += 1
        self._evidence.changes += 1
        if resize:
            self._resized_at = self._clock


class Evidence:
    """What is known of the open files of one share, by file id; by path where the server gives none."""

    def __init__(self) -> None:
        self.changes = 0
        self.by_path = 0
        self.losses = 0
        self._files: weakref.WeakValueDictionary[tuple[int | None, int] | str, Known] = weakref.WeakValueDictionary()

    def now(self) -> Moment:
        """Return the moment at which a question leaves."""
        return Moment(self.changes, self.by_path, self.losses)

    def opened(self, path: str, stat: FileStat, asked: Moment) -> Known:
        """Return what is known of the file that an open of `path` returned; it is kept for as long as it is held."""
        key = (stat.volume_id, stat.file_id) if stat.file_id else path
        known = self._files.get(key)
        if known is None or not known.believes(stat):
            known = self._files[key] = Known(self, stat, asked)
        else:
            known.learn(stat, exact=asked.changes == self.changes)
        return known

    def told(self, stat: FileStat, asked: Moment) -> None:
        """Hear what the server says of any file."""
        known = self._files.get((stat.volume_id, stat.file_id)) if stat.file_id else None
        if known is not None and known.believes(stat):
            known.learn(stat, exact=asked.changes == self.changes)

    def lost(self) -> None:
        """Hear that the connection has ended: every file is to be proven again."""
        self.losses += 1

    def changed_by_path(self) -> None:
        """Hear that something is about to be changed, or has been, under a name: it may be open by the next answer."""
        self.changes += 1
        self.by_path += 1
