"""Watches of a share in memory: what differs from what was told last, whoever changed it.

`overflow` makes the server forget what happened, and a lost connection is told once, as it is to whoever stands above a
share that connects again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio

from smbfuse.errors import ConnectionLost
from smbfuse.share import Happened, Kind, Notice
from smbfuse.status import NtStatus, error

if TYPE_CHECKING:
    from tests.support.mem_disk import MemNode
    from tests.support.mem_share import MemShare

_Version = tuple[object, ...]


class MemWatch:
    """A watched folder. Implements `share.Watch`."""

    def __init__(self, share: MemShare, path: str, *, recursive: bool) -> None:
        self.path = path
        self.open = True
        self.overflowed = False
        self._share = share
        self._recursive = recursive
        self._incarnation = share.incarnation
        self._folder = share.disk.node(path)
        self._seen = dict(self._look(self._folder))

    @property
    def stands(self) -> bool:
        return self.open and self._incarnation == self._share.incarnation

    async def notices(self) -> list[Notice]:
        if self._incarnation == -1:
            self._incarnation, self.overflowed = self._share.incarnation, True
        while True:
            await self._share.perform("notices", self.path)
            if not self.open:
                raise error(NtStatus.FILE_CLOSED, "NOTICES", self.path)
            if self._incarnation != self._share.incarnation:
                self._incarnation = -1
                raise ConnectionLost("cut", sent=True)
            if notices := self._told():
                return notices
            await self._share.disk.stirred.wait()

    async def aclose(self) -> None:
        if self.open:
            self.open = False
            self._share.closed("close_watch")
            self._share.disk.stirred.stir()

    def _told(self) -> list[Notice]:
        before, self._seen = self._seen, dict(self._look(self._folder))
        if self.overflowed:
            self.overflowed = False
            return [Notice(Happened.ANYTHING)]
        gone = {id(node): path for path, (node, _) in before.items() if self._seen.get(path, (None,))[0] is not node}
        notices = []
        for path, (node, version) in self._seen.items():
            if path in before and before[path][0] is node:
                if before[path][1] != version:
                    notices.append(Notice(Happened.MODIFIED, path))
            elif id(node) in gone:
                notices.append(Notice(Happened.RENAMED, path, gone.pop(id(node))))
            else:
                notices.append(Notice(Happened.ADDED, path))
        return [Notice(Happened.REMOVED, path) for path in gone.values()] + notices

    def _look(self, folder: MemNode, above: str = "") -> Iterator[tuple[str, tuple[MemNode, _Version]]]:
        for name, node in folder.children.items():
            path = f"{above}{name}"
            is_folder = node.kind is Kind.DIRECTORY
            times = () if is_folder else (node.written_ns, node.changed_ns, len(node.data))
            extended = tuple(node.extended.items())
            yield path, (node, (*times, node.attributes, node.mode, node.uid, node.gid, extended, node.descriptor))
            if is_folder and self._recursive:
                yield from self._look(node, path + "/")


class Stirring:
    """Wakes whoever waits for a change of a disk."""

    def __init__(self) -> None:
        self._waiting: list[trio.Event] = []

    def stir(self) -> None:
        """Wake all: something is changing within this step."""
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()

    async def wait(self) -> None:
        """Wait for the next change, by whoever it is."""
        event = trio.Event()
        self._waiting.append(event)
        await event.wait()
