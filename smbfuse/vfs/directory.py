"""Listing folders: one snapshot for all who read a folder at a time, cookies that are positions in it.

A listing is read page by page by a task of its own; the next page is asked for as soon as somebody begins to read the
last one. Everybody who opens the folder meanwhile, or within its time-out afterwards, reads the same snapshot. A cookie
counts the entries before it ('.' and '..' included), so it means the same however the folder changes.

An entry is kept as the packed record that its node will have, and becomes a node when it is handed out. A folder whose
listing failed is an error for whoever reads it, never an empty or a shortened folder.
"""

import errno as posix
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import trio

from smbfuse.errors import NotFound, SmbError
from smbfuse.share import DirEntry
from smbfuse.vfs.attrs import AbsentNames, Asked, Lifetimes, pack, unpack
from smbfuse.vfs.blocks import Spawn
from smbfuse.vfs.inode import Folder, Node
from smbfuse.vfs.names import is_plain, reachable, to_wtf8
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import Entry, Listed

log = logging.getLogger(__name__)

DOTS: Final = 2  # '.' and '..' come before the entries
CHUNK: Final = 256  # entries taken in before other tasks get their turn
FIRST_BATCH: Final = 32  # entries handed out by the first readdir; the kernel's buffer of 4 KiB takes about 25
LARGEST_BATCH: Final = 1024
KEPT_ENTRIES_MAX: Final = 250_000  # entries of finished listings kept for their time-out: about 50 MB


class Snapshot(Protocol):
    """The entries of a folder, as they were at one time."""

    async def reach(self, index: int) -> bool:
        """Wait until entry `index` is there; False: there are not so many.  Raises: what ended the listing before."""
        ...

    def shown(self, index: int) -> bytes:
        """Return the name of an entry that was reached."""
        ...

    def node(self, index: int) -> Node | None:
        """Return the node of an entry that was reached; None: it has gone since."""
        ...

    def __len__(self) -> int: ...


class Listing:
    """The snapshot of one folder of a share."""

    def __init__(self, folder: Folder, nodes: NodeTable, absent: AbsentNames) -> None:
        self.folder = folder
        self.began: Asked = nodes.ask(trio.current_time())
        self.readers = 0
        self.done = False
        self.error: SmbError | None = None
        self._home, self._path = nodes.locate(folder)
        self._nodes = nodes
        self._absent = absent
        self._names: list[bytes] = []
        self._records: list[bytes] = []
        self._unusual: set[bytes] = set()  # shown names that may be shown twice
        self._escaped = 0  # names shown otherwise than the server has them, and not to be opened
        self._dropped = 0  # names that could not be shown at all
        self._page_start = 0
        self._arrived = trio.Event()  # replaced with each page
        self._wanted = trio.Event()  # set when somebody reads the last page
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        state = f"failed: {self.error}" if self.error else "whole" if self.done else "under way"
        return f"<Listing {self._path!r} {len(self)} entries, {state}>"

    def __len__(self) -> int:
        return len(self._names)

    async def run(self) -> None:
        """Read the folder to its end, as long as somebody reads along. Never raises SmbError: the readers do."""
        try:
            with self._scope:
                await self._read_pages()
        except SmbError as error:
            self.error = error
            if isinstance(error, NotFound):
                self._nodes.lost(self.folder, self.began)
        finally:
            if not self.done and self.error is None:
                self.error = SmbError(f"the listing of {self._path!r} was given up", errno=posix.EIO)
            self._arrived.set()

    def abandon(self) -> None:
        """Stop asking for pages: nobody reads them."""
        self._scope.cancel()

    async def reach(self, index: int) -> bool:
        """Wait for an entry; see `Snapshot.reach`."""
        while len(self._names) <= index and not self.done:
            if self.error is not None:
                raise self.error
            self._wanted.set()
            await self._arrived.wait()
        if index >= self._page_start:
            self._wanted.set()
        return len(self._names) > index

    def shown(self, index: int) -> bytes:
        """Return a name; see `Snapshot.shown`."""
        return self._names[index]

    def node(self, index: int) -> Node | None:
        """Return the node of an entry, entered into the table with what the listing told of it."""
        record = self._records[index]
        asked, _, stat, name = unpack(record)
        gone = self._absent.asked(self.folder.ino, self._home.names.key(name), self._names[index])
        if gone is not None and gone.number > asked.number:
            return None
        return self._nodes.place(self.folder, name, stat, asked, listed=True, record=record)

    async def _read_pages(self) -> None:
        asked = self.began
        directory = await self._home.share.open_directory(self._path)
        try:
            if directory.stat is not None and not self._nodes.refresh(self.folder, directory.stat, asked):
                raise SmbError(f"{self._path!r} is another folder now", errno=posix.ESTALE)
            while page := await directory.page():
                await self._take(page, asked)
                await self._wanted.wait()
                asked = self._nodes.ask(trio.current_time())
        finally:
            await directory.aclose()
        await self._lose_unseen()
        if self._escaped or self._dropped:
            log.info(
                "folder=%r names that no folder can hold: %d shown changed, %d left out",
                self._path,
                self._escaped,
                self._dropped,
            )
        self.done = True

    async def _take(self, page: Sequence[DirEntry], asked: Asked) -> None:
        self._page_start = len(self._names)
        self._wanted = trio.Event()
        for number, entry in enumerate(page, 1):
            self._take_one(entry, asked)
            if number % CHUNK == 0:
                await trio.lowlevel.checkpoint()
        arrived, self._arrived = self._arrived, trio.Event()
        arrived.set()

    def _take_one(self, entry: DirEntry, asked: Asked) -> None:
        names, name = self._home.names, entry.name
        shown = names.shown(name)
        if not is_plain(name) or (len(name) > 63 and to_wtf8(name) != shown):
            # No two names of a folder may look alike, or one file would hide the other.
            if shown in self._unusual:
                shown = names.undecoded(name)
            if not shown or shown in self._unusual:
                self._dropped += 1
                return
            self._unusual.add(shown)
            spellings = names.spellings(shown)
            if not reachable(name):
                self._escaped += 1
                name = next(filter(reachable, spellings), shown.decode("utf-8", "surrogatepass"))
            elif spellings[:1] != (name,):
                if self.folder.aliases is None:
                    self.folder.aliases = {}
                self.folder.aliases[shown] = name
        self._names.append(shown)
        self._records.append(pack(asked, 0, entry.stat, name))
        children = self.folder.children
        if children and names.key(name) in children:
            self._nodes.place(self.folder, name, entry.stat, asked, listed=True)

    async def _lose_unseen(self) -> None:
        """Cut the names that the whole listing did not show and that nobody has asked for since it began."""
        children = self.folder.children
        for number, (key, node) in enumerate(list(children.items()), 1):
            if children.get(key) is node and node.asked.number < self.began.number:
                self._nodes.detach(self.folder, key)
            if number % CHUNK == 0:
                await trio.lowlevel.checkpoint()


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
        spawn: Spawn,
        entry: Callable[[Node], Entry],
    ) -> None:
        self._nodes = nodes
        self._absent = absent
        self._lifetimes = lifetimes
        self._spawn = spawn
        self._entry = entry
        self._handles: dict[int, Handle] = {}
        self._listings: dict[int, Listing] = {}  # that a new reader may join
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
            await handle.snapshot.reach(0)
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
        if cookie == 0 and handle.last_cookie:
            self._rewind(handle)
        taken = cookie - handle.last_cookie
        handle.batch = min(LARGEST_BATCH, max(FIRST_BATCH, 2 * taken if taken >= handle.batch else taken + 8))
        handle.last_cookie = cookie
        listed = self._dots(handle.folder, cookie)
        index = max(0, cookie - DOTS)
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

    def _begin(self, folder: Folder) -> Listing:
        listing = self._listings.get(folder.ino)
        if listing is not None and listing.error is None and self._left(listing) > 0 and listing.folder is folder:
            self.hits += 1
        else:
            self.misses += 1
            if listing is not None:
                self._discard(listing)
            listing = self._listings[folder.ino] = Listing(folder, self._nodes, self._absent)
            self._spawn(self._run, listing)
        listing.readers += 1
        return listing

    def _end(self, handle: Handle) -> None:
        self._leave(handle.snapshot)
        self._nodes.unpin(handle.folder)

    def _leave(self, snapshot: Snapshot) -> None:
        if not isinstance(snapshot, Listing):
            return
        snapshot.readers -= 1
        if snapshot.readers == 0 and not snapshot.done:
            self._spawn(self._abandon, snapshot)

    async def _abandon(self, listing: Listing) -> None:
        """Give up a listing that nobody reads on with, when it is too old for a new reader to join."""
        await trio.sleep(max(0.0, self._left(listing)))
        if listing.readers == 0 and not listing.done:
            self._discard(listing)
            listing.abandon()

    def _rewind(self, handle: Handle) -> None:
        """Begin anew: rewinddir(3) shall show what is there now."""
        handle.last_cookie = 0
        if isinstance(handle.snapshot, Listing) and self._left(handle.snapshot) <= 0:
            old = handle.snapshot
            handle.snapshot = self._begin(handle.folder)
            self._leave(old)

    async def _run(self, listing: Listing) -> None:
        await listing.run()
        if listing.error is None and self._listings.get(listing.folder.ino) is listing:
            self._kept += len(listing)
            self._trim()
            await trio.sleep(max(0.0, self._left(listing)))
        self._discard(listing)

    def _left(self, listing: Listing) -> float:
        return listing.began.at + self._lifetimes.listing_s - trio.current_time()

    def _discard(self, listing: Listing) -> None:
        """Let no new reader join a listing."""
        if self._listings.get(listing.folder.ino) is listing:
            del self._listings[listing.folder.ino]
            if listing.done:
                self._kept -= len(listing)

    def _trim(self) -> None:
        for listing in list(self._listings.values()) if self._kept > KEPT_ENTRIES_MAX else ():
            if self._kept > KEPT_ENTRIES_MAX and listing.done:
                self._discard(listing)
