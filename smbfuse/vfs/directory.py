"""Listing folders: one snapshot for all who read a folder at a time, cookies that are positions in it.

A listing is read page by page by a task of its own; the next page is asked for as soon as somebody begins to read the
last one. Everybody who opens the folder meanwhile, or within its time-out afterwards, reads the same snapshot. A cookie
counts the entries before it ('.' and '..' included), so it means the same however the folder changes.

A folder whose listing failed is an error for whoever reads it, never an empty or a shortened folder. While the server
is out of reach, a folder is shown as it was when it was last read to its end, if that is kept.
"""

import errno as posix
import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio

from smbfuse.errors import ConnectionLost, SmbError, Timeout
from smbfuse.share import ShareSource
from smbfuse.vfs.attrs import AbsentNames, Lifetimes
from smbfuse.vfs.blocks import Spawn
from smbfuse.vfs.folderleases import FolderLeases
from smbfuse.vfs.inode import Folder, Node, is_below
from smbfuse.vfs.listing import Listing, Snapshot
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import Entry, Listed

DOTS: Final = 2  # '.' and '..' come before the entries
FIRST_BATCH: Final = 32  # entries handed out by the first readdir; the kernel's buffer of 4 KiB takes about 25
LARGEST_BATCH: Final = 1024
FORMER_ENTRIES_MAX: Final = 20_000  # entries of whole listings kept for when the server is out of reach: about 4 MB
KEPT_ENTRIES_MAX: Final = 250_000  # entries of finished listings kept for their time-out: about 50 MB


class Handle:
    """One opendir(3)."""

    def __init__(self, folder: Folder, snapshot: Snapshot) -> None:
        self.folder = folder
        self.snapshot = snapshot
        self.last_cookie = 0
        self.batch = FIRST_BATCH
        self.offered: list[Node] = []  # by the last readdir: the kernel may not have taken them all


class OpenDirectories:
    """All open folders, by the handle number the kernel has; and the listings that are still good."""

    def __init__(
        self,
        nodes: NodeTable,
        absent: AbsentNames,
        lifetimes: Lifetimes,
        close_timeout_s: float,
        spawn: Spawn,
        entry: Callable[[Node], Entry],
        source: ShareSource,
    ) -> None:
        self._nodes = nodes
        self._absent = absent
        self._lifetimes = lifetimes
        self._spawn = spawn
        self._entry = entry
        self._source = source
        self._former: OrderedDict[int, Listing] = OrderedDict()  # the last whole one of each folder, lately read last
        self._former_size = 0  # entries of these, and one for each
        self._handles: dict[int, Handle] = {}
        self._listings: dict[int, Listing] = {}  # that a new reader may join
        self._in_use: dict[int, set[Listing]] = {}  # these, and outdated ones that somebody still reads
        self.leases = FolderLeases(nodes, absent, lifetimes, close_timeout_s, self.outgrow, spawn)
        self._kept = 0  # entries of those that are done
        self._numbers = itertools.count(1)
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._handles)

    async def open(self, folder: Folder, snapshot: Snapshot | None = None) -> int:
        """Open a folder, with its first entries at hand; `snapshot` is given for a folder that no share has.

        Cost: 1 round trip; none while a listing of the folder is good.
        Raises: as `Share.open_directory`.
        """
        handle = Handle(folder, self._begin(folder) if snapshot is None else snapshot)
        self._nodes.pin(folder)
        try:
            await self._reach_first(handle)
        except BaseException:
            self._end(handle)
            raise
        fh = next(self._numbers)
        self._handles[fh] = handle
        return fh

    async def read(self, fh: int, cookie: int) -> list[Listed]:
        """Return the next entries behind `cookie`, as many as the kernel took last time and some more; none at the end.

        Raises: SmbError with EBADF, and what ended the listing before that entry.
        """
        handle = self._handle(fh)
        self._drop_untaken(handle)
        if cookie == 0:
            self._rewind(handle)
        taken = cookie - handle.last_cookie
        handle.batch = min(LARGEST_BATCH, max(FIRST_BATCH, 2 * taken if taken >= handle.batch else taken + 8))
        handle.last_cookie = cookie
        listed = self._dots(handle.folder, cookie)
        index = max(0, cookie - DOTS)
        if index == 0:
            await self._reach_first(handle)
        # Waited for even when '.' is all that is asked for: a folder that cannot be read shows nothing.
        while await handle.snapshot.reach(index):
            stop = min(index + handle.batch, len(handle.snapshot))
            entries = self._entries(handle, index, stop)
            if entries:
                return listed + entries
            index = stop  # all of them have gone since
        return listed

    async def find(self, fh: int, name: bytes) -> Node | None:
        """Return the node of an entry by the name it is shown under.  Cost: what is left of the listing."""
        snapshot = self._handle(fh).snapshot
        index = 0
        while await snapshot.reach(index):
            if snapshot.shown(index) == name:
                return snapshot.node(index)
            index += 1
        return None

    def known(self, folder: Folder) -> Listing | None:
        """Return the listing of a folder that is good now, whole or under way; None: there is none."""
        listing = self._listings.get(folder.ino)
        if listing is None or listing.folder is not folder or listing.error is not None or self._left(listing) <= 0:
            return None
        return listing

    def doubt(self, folder: Folder, key: str, number: int) -> None:
        """Hear that a name does not stand any longer for what it did when questions below `number` were asked.

        Who reads an older listing goes on to see the folder as it was then.
        """
        for listing in self._joined(folder):
            listing.doubt(key, number)

    def changed(self, folder: Folder, key: str, number: int, *, appeared: bool) -> None:
        """Hear that we have changed a name: nobody shall see it here as it was before question `number`.

        `appeared`: there may be a name that no listing of that time has.
        """
        for listing in {*self._in_use.get(folder.ino, ()), *self._joined(folder)}:
            listing.changed(key, number)
            listing.outgrown = listing.outgrown or appeared
        if appeared:
            self._forget_former(folder.ino)

    def outgrow(self, folder: Folder) -> None:
        """Let nobody begin to read a folder as it was until now."""
        for listing in list(self._in_use.get(folder.ino, ())):
            listing.outgrown = True
            self._discard(listing)

    def told(self, folder: Folder, shown: bytes, *, there: bool | None) -> None:
        """Hear from the server that a name is there, or is not; None: it is, and its attributes have changed.

        A listing that knows it already stays as it is, if it is whole.
        """
        listing = self._listings.get(folder.ino)
        if listing is None or (listing.done and (listing.position(shown) is not None) is there):
            return
        self.outgrow(folder)

    async def give_up(self, folder: Folder) -> None:
        """End the listings of a folder that nobody reads, and its lease: it shall not be open on the server."""
        for listing in list(self._in_use.get(folder.ino, ())):
            if listing.readers == 0 and not listing.ended.is_set():
                self._discard(listing)
                listing.abandon()
                await listing.ended.wait()
        await self.leases.let_go(folder)

    async def finish(self, folder: Folder) -> None:
        """Bring the listings of a folder to their end, for those who read them: it shall not be open on the server.

        Cost: a round trip for each page that is left; none for those that nobody reads.  Raises nothing.
        """
        await self.give_up(folder)
        for listing in list(self._in_use.get(folder.ino, ())):
            listing.hurry()
            await listing.ended.wait()
        await self.leases.let_go(folder)

    async def stand_aside(self, folder: Folder) -> None:
        """Let nothing at or below a folder be open on the server as far as we can: see `finish`."""
        for listing in [one for several in self._in_use.values() for one in several]:
            if listing.folder is folder or is_below(listing.folder, folder):
                await self.finish(listing.folder)
        await self.leases.let_go(folder)

    async def list_ahead(self, folder: Folder, most: int) -> None:
        """List a folder, which the caller has pinned, for those who will ask for its names: about `most` entries.

        Raises: as `Share.open_directory`.
        """
        listing = self._begin(folder)
        try:
            while len(listing) < most and await listing.reach(len(listing)):
                pass
        finally:
            self._leave(listing)

    async def list_anew(self, folder: Folder, most: int) -> Listing | None:
        """List a folder, which the caller has pinned, whatever is known of it; None: it has more than `most` entries.

        Raises: as `Share.open_directory`.
        """
        listing = self._begin(folder, anew=True)
        try:
            while len(listing) <= most and await listing.reach(len(listing)):
                pass
            return listing if listing.done else None
        finally:
            self._leave(listing)

    def release(self, fh: int) -> None:
        """Close an open folder. Waits for nothing."""
        handle = self._handles.pop(fh, None)
        if handle is not None:
            self._drop_untaken(handle)
            self._end(handle)

    def _handle(self, fh: int) -> Handle:
        try:
            return self._handles[fh]
        except KeyError:
            raise SmbError(f"no open folder {fh}", errno=posix.EBADF) from None

    def _dots(self, folder: Folder, cookie: int) -> list[Listed]:
        dots = [(b".", folder), (b"..", folder.parent or folder)]
        return [Listed(name, self._entry(at), number) for number, (name, at) in enumerate(dots, 1) if number > cookie]

    def _entries(self, handle: Handle, start: int, stop: int) -> list[Listed]:
        listed = []
        for index in range(start, stop):
            node = handle.snapshot.node(index)
            if node is not None:
                handle.offered.append(node)
                listed.append(Listed(handle.snapshot.shown(index), self._entry(node), DOTS + index + 1))
        return listed

    def _drop_untaken(self, handle: Handle) -> None:
        for node in handle.offered:
            self._nodes.collect(node)
        handle.offered.clear()

    # -- listings

    def _begin(self, folder: Folder, *, anew: bool = False) -> Listing:
        self.leases.used(folder)
        listing = None if anew else self.known(folder)
        if listing is None and not self._source.reachable:
            listing = self._last_whole(folder)
        if listing is not None and not listing.outgrown:
            self.hits += 1
        else:
            self.misses += 1
            outdated = self._listings.get(folder.ino)
            if outdated is not None:
                self._discard(outdated)
            listing = self._listings[folder.ino] = Listing(folder, self._nodes, self._absent, self.leases)
            self._in_use.setdefault(folder.ino, set()).add(listing)
            self._spawn(self._run, listing)
        listing.readers += 1
        return listing

    async def _reach_first(self, handle: Handle) -> None:
        """Wait for the first entry; go on with the folder as it was last known if that was in vain."""
        try:
            await handle.snapshot.reach(0)
        except (ConnectionLost, Timeout):
            former = None if self._source.reachable else self._last_whole(handle.folder)
            if former is None or former.outgrown:
                raise
            former.readers += 1
            self._leave(handle.snapshot)
            handle.snapshot = former

    def _end(self, handle: Handle) -> None:
        self._leave(handle.snapshot)
        self._nodes.unpin(handle.folder)

    def _leave(self, snapshot: Snapshot) -> None:
        if not isinstance(snapshot, Listing):
            return
        snapshot.readers -= 1
        if snapshot.readers == 0 and not snapshot.done:
            self._spawn(self._abandon, snapshot)
        self._tidy(snapshot)

    async def _abandon(self, listing: Listing) -> None:
        """Give up a listing that nobody reads on with, when it is too old for a new reader to join."""
        if self._listings.get(listing.folder.ino) is listing:
            await trio.sleep(max(0.0, self._left(listing)))
        if listing.readers == 0 and not listing.done:
            self._discard(listing)
            listing.abandon()

    def _rewind(self, handle: Handle) -> None:
        """Begin anew: rewinddir(3) shall show what is there now, and who begins to read what we have made meanwhile."""
        old, again = handle.snapshot, handle.last_cookie > 0
        handle.last_cookie = 0
        if isinstance(old, Listing) and (old.outgrown or (again and self._left(old) <= 0)):
            handle.snapshot = self._begin(handle.folder)
            self._leave(old)

    async def _run(self, listing: Listing) -> None:
        await listing.run()
        if listing.error is None:
            self._remember(listing)
        if listing.error is None and self._listings.get(listing.folder.ino) is listing:
            self._kept += len(listing)
            self._trim()
            await trio.sleep(max(0.0, self._left(listing)))
        self._discard(listing)

    def _joined(self, folder: Folder) -> list[Listing]:
        """Return the listings of a folder that a new reader may join, now or when the server is out of reach."""
        several = (self._listings.get(folder.ino), self._former.get(folder.ino))
        return [listing for listing in several if listing is not None]

    def _remember(self, listing: Listing) -> None:
        """Keep a whole listing for when the server is out of reach."""
        self._forget_former(listing.folder.ino)
        self._former[listing.folder.ino] = listing
        self._former_size += len(listing) + 1
        while self._former_size > FORMER_ENTRIES_MAX:
            self._forget_former(next(iter(self._former)))

    def _forget_former(self, ino: int) -> None:
        former = self._former.pop(ino, None)
        if former is not None:
            self._former_size -= len(former) + 1

    def _last_whole(self, folder: Folder) -> Listing | None:
        former = self._former.get(folder.ino)
        return former if former is not None and former.folder is folder else None

    def _left(self, listing: Listing) -> float:
        return listing.began.at + self._lifetimes.listing_s - trio.current_time()

    def _discard(self, listing: Listing) -> None:
        """Let no new reader join a listing."""
        if self._listings.get(listing.folder.ino) is listing:
            del self._listings[listing.folder.ino]
            if listing.done:
                self._kept -= len(listing)
        self._tidy(listing)

    def _tidy(self, listing: Listing) -> None:
        """Tell a listing of no more changes when nobody reads it nor ever will."""
        in_use = self._in_use.get(listing.folder.ino)
        if in_use and listing.readers == 0 and self._listings.get(listing.folder.ino) is not listing:
            in_use.discard(listing)
            if not in_use:
                del self._in_use[listing.folder.ino]

    def _trim(self) -> None:
        for listing in list(self._listings.values()) if self._kept > KEPT_ENTRIES_MAX else ():
            if self._kept > KEPT_ENTRIES_MAX and listing.done:
                self._discard(listing)
