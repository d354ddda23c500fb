"""Who may keep what over SMB1: the oplocks of one connection, from the open that brings one to the break that ends it.

An oplock belongs to one FID; two opens of one file by this client break each other's. A break is the one request that
a server sends. It may come before the caller of the open has run, or even before the reply to the open: as long as
opens are under way, breaks of unknown FIDs are kept, and lower what the open brings. Nobody was told of that oplock
yet, so its break is acknowledged at once.

A Level II oplock is broken without asking. An exclusive or a batch oplock leaves the other client waiting until the
break is acknowledged, or the FID closed.  [MS-CIFS] 3.2.5.41, 3.2.5.42, 3.3.4.2
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from smbfuse.share import Caching, GrantHolder
from smbfuse.wire.smb1.control import BREAK_TO_LEVEL_II, BREAK_TO_NONE, OPLOCK_RELEASE, LockingRequest
from smbfuse.wire.smb1.files import OplockLevel

if TYPE_CHECKING:
    from smbfuse.client.connection import Connection
    from smbfuse.engine.smb1 import Smb1Engine
    from smbfuse.engine.smb1_exchange import Tree

log = logging.getLogger(__name__)

MOST_EARLY: Final = 64  # breaks kept of FIDs that nobody knows yet; a server that sends more makes them up

_CACHING: Final = {
    int(OplockLevel.EXCLUSIVE): Caching.READ | Caching.WRITE,
    int(OplockLevel.BATCH): Caching.READ | Caching.WRITE | Caching.HANDLE,
    int(OplockLevel.LEVEL_II): Caching.READ,
}
_EXCLUSIVE: Final = frozenset({int(OplockLevel.EXCLUSIVE), int(OplockLevel.BATCH)})


class Oplock:
    """What one open file may keep. `caching` is never more than its holder wanted, whatever the server gave."""

    __slots__ = ("_due", "_exclusive", "_fid", "_oplocks", "_wanted", "caching", "holder", "tree", "yielding")

    def __init__(
        self, oplocks: Oplocks, tree: Tree, fid: int, holder: GrantHolder, wanted: Caching, granted: int
    ) -> None:
        self.tree = tree
        self.holder = holder
        self.caching = _CACHING.get(granted, Caching.NONE) & wanted
        self.yielding = False  # its breaks are our own doing, and nobody need be asked
        self._oplocks = oplocks
        self._fid = fid
        self._wanted = wanted
        self._exclusive = granted in _EXCLUSIVE
        self._due: int | None = None  # the level of a break that the server waits to hear of

    def __repr__(self) -> str:
        return f"<Oplock fid {self._fid} {self.caching}{' breaking' if self._due is not None else ''}>"

    def broken(self, level: int) -> None:
        """Hear that the server takes it back, down to `level`; tell the holder if that changes anything for it."""
        before = self.caching
        self.lower(level)
        if self.yielding or self.caching == before:
            self.acknowledge(self.caching)
        if self.caching != before:
            log.debug("oplock broken: %r", self)
            self.holder.broken(self.caching, acknowledge=self._due is not None)

    def lower(self, level: int) -> None:
        """Keep no more than `level` allows, and note whether the server waits to hear that."""
        if self._exclusive or self._due is not None:
            self._due = level
        self._exclusive = False
        self.caching &= self._allowed(level)

    def acknowledge(self, remaining: Caching) -> None:
        """Tell the server that nothing beyond `remaining` is kept, if it waits to hear that."""
        if self._due is None:
            return
        kept = BREAK_TO_LEVEL_II if self._due == BREAK_TO_LEVEL_II and Caching.READ in remaining else BREAK_TO_NONE
        self._due = None
        self.caching &= self._allowed(kept)
        self._oplocks.acknowledge(self.tree, self._fid, kept)

    def _allowed(self, level: int) -> Caching:
        return Caching.READ & self._wanted if level == BREAK_TO_LEVEL_II else Caching.NONE


class Oplocks:
    """The oplocks of one connection, by FID. Told of breaks by the engine.

    `enabled` is False where none may be asked for: a MaxMpxCount of 1 leaves no room for the server's request
    ([MS-CIFS] 2.2.4.52.2), or the user does not want any.
    """

    def __init__(self, connection: Connection, engine: Smb1Engine, *, enabled: bool) -> None:
        self.enabled = enabled
        self._connection = connection
        self._engine = engine
        self._by_fid: dict[int, Oplock] = {}
        self._opening = 0  # opens under way that may bring an oplock
        self._early: dict[int, int] = {}  # levels of breaks whose FID nobody knows yet
        engine.oplocks = self

    def __repr__(self) -> str:
        return f"<Oplocks {len(self._by_fid)} of {self._engine!r}>"

    # --- the opener's side --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """Keep breaks of unknown FIDs while an open that may bring an oplock is under way."""
        self._opening += 1
        try:
            yield
        finally:
            self._opening -= 1
            if not self._opening:
                self._early.clear()

    def opened(self, tree: Tree, fid: int, holder: GrantHolder, wanted: Caching, granted: int) -> Oplock | None:
        """Take the oplock that an open brought, None if it brought none. To be called within `opening`."""
        early = self._early.pop(fid, None)
        if granted not in _CACHING:
            return None
        oplock = self._by_fid[fid] = Oplock(self, tree, fid, holder, wanted, granted)
        if early is not None:
            oplock.lower(early)
            oplock.acknowledge(oplock.caching)
        return oplock

    def closed(self, fid: int) -> None:
        """Note that `fid` is being closed, which answers its break as well."""
        oplock = self._by_fid.pop(fid, None)
        if oplock is not None:
            oplock.caching = Caching.NONE

    def answer(self, holder: GrantHolder, remaining: Caching) -> None:
        """Acknowledge every break that `holder` was told of: it speaks for all opens of its file."""
        for oplock in list(self._by_fid.values()):
            if oplock.holder is holder:
                oplock.acknowledge(remaining)

    def acknowledge(self, tree: Tree, fid: int, level: int) -> None:
        """Send the acknowledgment of a break, which has no answer.  [MS-CIFS] 2.2.4.32.1, 3.3.5.30."""
        self._engine.tell(LockingRequest(fid, OPLOCK_RELEASE, level, 0, 0, 0, b""), tree=tree)
        self._connection.post()

    def disconnected(self, tree: Tree) -> None:
        """Note that a tree is no longer connected: its FIDs are void, and their oplocks with them."""
        self._end([fid for fid, oplock in self._by_fid.items() if oplock.tree == tree])

    # --- the engine's side --------------------------------------------------------------------------------------------

    def broken(self, fid: int, level: int) -> None:
        """Hear of a break; see `engine.smb1_exchange.Oplocks`. A FID that nobody has is none of ours any longer."""
        oplock = self._by_fid.get(fid)
        if oplock is not None:
            oplock.broken(level)
        elif self._opening and len(self._early) < MOST_EARLY:
            self._early[fid] = min(level, self._early.get(fid, level))

    def lost(self) -> None:
        """Hear that the connection has ended; see `engine.smb1_exchange.Oplocks`."""
        self._end(list(self._by_fid))

    def _end(self, fids: list[int]) -> None:
        holders: list[GrantHolder] = []
        for fid in fids:
            oplock = self._by_fid.pop(fid)
            oplock.caching = Caching.NONE
            if not any(holder is oplock.holder for holder in holders):
                holders.append(oplock.holder)
        for holder in holders:
            holder.lost()
