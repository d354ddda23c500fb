"""The listing of one folder, read page by page by a task of its own, for all who read the folder meanwhile.

The next page is asked for as soon as somebody begins to read the last one. An entry is kept as the packed record that
its node will have, and becomes a node when it is handed out.
"""

import errno as posix
import logging
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import trio

from smbfuse.errors import NotFound, SmbError
from smbfuse.share import DirEntry, GrantHolder, Kind, OpenDirectory
from smbfuse.vfs.attrs import AbsentNames, Asked, kind_and_size, name_of, pack, unpack
from smbfuse.vfs.folderleases import FolderLeases
from smbfuse.vfs.inode import Folder, Node
from smbfuse.vfs.names import is_plain, to_wtf8
from smbfuse.vfs.nodes import NodeTable

log = logging.getLogger(__name__)

CHUNK: Final = 256  # entries taken in before other tasks get their turn


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

    def __init__(self, folder: Folder, nodes: NodeTable, absent: AbsentNames, leases: FolderLeases) -> None:
        self.folder = folder
        self.began: Asked = nodes.ask(trio.current_time())
        self.readers = 0
        self.changes = 0  # names of the folder that were changed here one by one since
        self.done = False
        self.error: SmbError | None = None
        self._home, self._path = nodes.locate(folder)
        self._nodes = nodes
        self._absent = absent
        self._leases = leases
        self._names: list[bytes] = []
        self._records: list[bytes] = []
        self._positions: dict[bytes, int] = {}  # of the first entries, by shown name; made when somebody asks
        self.outgrown = False  # a name was made here since: who begins to read the folder now must see it
        # Keys of names with the number that the next question had when they were found to be gone, or another file's;
        # and when they were changed here.
        self._doubted: dict[str, int] = {}
        self._changed: dict[str, int] = {}
        self._unusual: set[bytes] = set()  # shown names that may be shown twice
        self._escaped = 0  # names shown otherwise than the server has them, and not to be opened
        self._dropped = 0  # names that could not be shown at all
        self._page_start = 0
        self._arrived = trio.Event()  # replaced with each page
        self._wanted = trio.Event()  # set when somebody reads the last page
        self._scope = trio.CancelScope()
        self._hurried = False
        self.ended = trio.Event()  # and nothing of it is open on the server

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
            self.ended.set()

    def abandon(self) -> None:
        """Stop asking for pages: nobody reads them."""
        self._scope.cancel()

    def hurry(self) -> None:
        """Ask for all pages that are left without waiting for who reads them."""
        self._hurried = True
        self._wanted.set()

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
        key = self._home.names.key(name)
        known = self.folder.children.get(key)
        if known is not None and known.record is record and not (self._changed or self._doubted):
            return known  # this very answer was its last
        changed = asked.number < self._changed.get(key, 0)
        if changed or asked.number < self._doubted.get(key, 0):
            # What has that name now is known better than this listing knows it, if it is known still. A doubt may come
            # from this listing: it found another file under the name, which nobody has held since.
            node = self._nodes.find(self.folder, self._home.names, name)[1]
            if node is not None or changed:
                return node
        gone = self._absent.asked(self.folder.ino, key, self._names[index])
        if gone is not None:
            if gone.number > asked.number:
                return None
            self._nodes.observer.name_gone(self.folder, key, self._absent.appeared(self.folder.ino, key))
        return self._nodes.place(self.folder, name, stat, asked, listed=True, record=record)

    def position(self, shown: bytes) -> int | None:
        """Return where a name stands among the entries that have come so far; None: it is not there, or in doubt.

        That a name is missing from a whole listing does not prove that there is no such file: servers leave out what a
        user may not read, special files, their `.snapshot`, and the short names that also lead to a file.
        """
        for index in range(len(self._positions), len(self._names)):
            self._positions[self._names[index]] = index
        position = self._positions.get(shown)
        if position is None or not (self._doubted or self._changed):
            return position
        asked, _, _, name = unpack(self._records[position])
        return None if self._outdated(self._home.names.key(name), asked) else position

    def doubt(self, key: str, number: int) -> None:
        """Hear that a name does not stand any longer for what it did when questions below `number` were asked."""
        self._doubted[key] = number

    def changed(self, key: str, number: int) -> None:
        """Hear that we have changed a name, which questions below `number` do not know."""
        self._changed[key] = number

    def files(self, largest: int) -> Iterator[tuple[bytes, int]]:
        """Yield name and size of each file of 1 to `largest` bytes that has come so far."""
        for shown, record in zip(self._names, self._records, strict=True):
            kind, size = kind_and_size(record)
            if kind is Kind.FILE and 0 < size <= largest:
                yield shown, size

    def keys(self) -> Iterator[str]:
        """Yield the folded name of each entry that has come so far."""
        return map(self._home.names.key, map(name_of, self._records))

    def folders(self) -> Iterator[bytes]:
        """Yield the name of each folder that has come so far."""
        for shown, record in zip(self._names, self._records, strict=True):
            if kind_and_size(record)[0] is Kind.DIRECTORY:
                yield shown

    async def _read_pages(self) -> None:
        asked = self.began
        lease = self._leases.ask(self.folder, self._home.share)
        directory: OpenDirectory | None = None
        try:
            directory = await self._open(asked, None if lease is None else lease.grant)
            if lease is not None:
                lease.directory = directory
            if directory.stat is not None and not self._nodes.refresh(self.folder, directory.stat, asked):
                raise SmbError(f"{self._path!r} is another folder now", errno=posix.ESTALE)
            while page := await directory.page():
                await self._take(page, asked)
                if not self._hurried:
                    await self._wanted.wait()
                asked = self._nodes.ask(trio.current_time())
        finally:
            if lease is not None:
                await self._leases.listed(lease)
            elif directory is not None:
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

    async def _open(self, asked: Asked, holder: GrantHolder | None) -> OpenDirectory:
        while True:
            self._home, self._path = self._nodes.locate(self.folder)
            try:
                return await self._home.share.open_directory(self._path, holder)
            except NotFound:
                if not self._nodes.recent.moved(self.folder, asked.number):
                    raise
                asked = self._nodes.ask(trio.current_time())

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
        if self._home.hidden and names.key(name) in self._home.hidden:
            return
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
            if not names.reachable(name):
                self._escaped += 1
                name = next(filter(names.reachable, spellings), shown.decode("utf-8", "surrogatepass"))
            elif spellings[:1] != (name,):
                if self.folder.aliases is None:
                    self.folder.aliases = {}
                self.folder.aliases[shown] = name
        self._names.append(shown)
        record = pack(asked, 0, entry.stat, name)
        self._records.append(record)
        children = self.folder.children
        key = names.key(name)
        if children and key in children and not self._outdated(key, asked):
            self._nodes.place(self.folder, name, entry.stat, asked, listed=True, record=record)

    def _outdated(self, key: str, asked: Asked) -> bool:
        return asked.number < max(self._doubted.get(key, 0), self._changed.get(key, 0))

    async def _lose_unseen(self) -> None:
        """Cut the names that the whole listing did not show and that nobody has asked for since it began."""
        children = self.folder.children
        for number, (key, node) in enumerate(list(children.items()), 1):
            known = node.asked
            unasked = known.number < self.began.number and not known.told_since(self.began)
            if children.get(key) is node and unasked:
                self._nodes.detach(self.folder, key)
            if number % CHUNK == 0:
                await trio.lowlevel.checkpoint()
