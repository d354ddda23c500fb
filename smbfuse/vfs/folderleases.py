"""Directory leases: the server tells us when the names of a folder change, from the listing of it on.

A lease is asked for by the open that a listing begins with, and kept with that handle while names of the folder are in
use here: as long as the kernel may believe one of them, or `closetimeo`. It does not make names or listings last longer
than without it; it ends them early. What is known of the folder's names when it breaks is not believed any longer, here
and in the kernel, and the handle is given back, which answers the break. Our own changes break no lease of ours.

[MS-SMB2] 3.3.4.7; servers without directory leases are not asked.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import trio

from smbfuse.share import Caching, Features, OpenDirectory, Share
from smbfuse.vfs.attrs import AbsentNames, Lifetimes
from smbfuse.vfs.blocks import Spawn
from smbfuse.vfs.bypath import renew_unasked
from smbfuse.vfs.contested import MOMENT_S, Contested
from smbfuse.vfs.grants import Grant
from smbfuse.vfs.inode import Folder, is_below
from smbfuse.vfs.nodes import NodeTable

LEASES_MAX: Final = 128  # folders kept open on the server for their leases
VERIFIED_MAX: Final = 32  # folders in a folder whose names are asked for anew when its lease breaks


class FolderLease:
    """The lease on one folder, from before the open that asks for it. Implements `grants.Listener`."""

    def __init__(self, leases: "FolderLeases", folder: Folder) -> None:
        self.folder = folder
        self.grant = Grant()
        self.directory: OpenDirectory | None = None
        self.ended = False
        self._leases = leases
        self.grant.tell(self)

    def __repr__(self) -> str:
        return f"<FolderLease {self.folder.name!r} {self.grant!r}{' ended' if self.ended else ''}>"

    def broken(self, remaining: Caching, acknowledge: bool) -> None:
        """Hear that names have changed, or that somebody wants to remove the folder; see `share.GrantHolder`."""
        self._leases.broken(self)

    def lost(self) -> None:
        """Hear that the connection has ended: from now on nobody tells us."""
        self._leases.broken(self)

    def regained(self) -> None:
        """Hear what is told of files alone; the next listing asks for a lease of its own."""


class FolderLeases:
    """All directory leases. `outgrown` is told of a folder whose listings are not to be believed any longer."""

    def __init__(
        self,
        nodes: NodeTable,
        absent: AbsentNames,
        lifetimes: Lifetimes,
        close_timeout_s: float,
        outgrown: Callable[[Folder], None],
        spawn: Spawn,
    ) -> None:
        self._nodes = nodes
        self._absent = absent
        self._lifetimes = lifetimes
        believed_s = max(lifetimes.attributes_s, lifetimes.listing_s)
        self._keep_s = max(believed_s, close_timeout_s) if believed_s > 0 else 0.0
        self._outgrown = outgrown
        self._spawn = spawn
        self._asked: dict[int, FolderLease] = {}  # by the folder's inode; every lease that has not ended
        self._kept: OrderedDict[FolderLease, float] = OrderedDict()  # those whose listing is over, and until when
        self._broken = Contested()
        self._ticking = False

    def ask(self, folder: Folder, share: Share) -> FolderLease | None:
        """Return what the open of a folder shall ask for a lease with; None: there is one, or none is to be had."""
        if self._keep_s <= 0 or folder.ino in self._asked or Features.DIRECTORY_LEASES not in share.features:
            return None
        lease = self._asked[folder.ino] = FolderLease(self, folder)
        self._nodes.pin(folder)
        return lease

    async def listed(self, lease: FolderLease) -> None:
        """Hear that the listing is over, well or not: its handle is kept if it was granted a lease, else closed."""
        directory = lease.directory
        if directory is not None and not lease.ended and Caching.READ in directory.caching:
            self._kept[lease] = trio.current_time() + self._keep_s
            if len(self._kept) > LEASES_MAX:
                self._spawn(self._close, self._end(next(iter(self._kept))))
            if not self._ticking:
                self._ticking = True
                self._spawn(self._tick)
        else:
            refused = directory is not None and not lease.ended and lease.folder.ino in self._broken
            if refused:
                self._nodes.pin(lease.folder)
                self._spawn(self._ask_again, lease.folder)
            await self._close(self._end(lease))

    async def _ask_again(self, folder: Folder) -> None:
        """Believe for a moment only what has no lease because the server has just taken one."""
        await trio.sleep(MOMENT_S)
        self._doubt(folder)
        self._nodes.unpin(folder)

    def used(self, folder: Folder) -> None:
        """Hear that somebody asks for names of a folder."""
        lease = self._asked.get(folder.ino)
        if lease is not None and lease in self._kept:
            self._kept[lease] = trio.current_time() + self._keep_s
            self._kept.move_to_end(lease)

    def broken(self, lease: FolderLease) -> None:
        """Let go of what is known of a folder's names, then of the lease."""
        if not lease.ended:
            self._broken.note(lease.folder.ino)
            kept = lease in self._kept
            self._end(lease)
            self._doubt(lease.folder)
            if lease.directory is not None:
                # Who lists it still needs the handle.
                self._spawn(*((self._close, lease) if kept else (lease.directory.acknowledge, Caching.NONE)))

    async def let_go(self, folder: Folder) -> None:
        """Give back what is kept open at or below a folder that is to be removed or renamed."""
        for lease in list(self._kept):
            if lease.folder is folder or is_below(lease.folder, folder):
                await self._close(self._end(lease))

    def _doubt(self, folder: Folder) -> None:
        """Believe nothing of a folder's names any longer, here and in the kernel."""
        folder.believed_from = self._nodes.ask(-math.inf).number
        self._outgrown(folder)
        for key, spellings in self._absent.forget(folder.ino):
            self._nodes.observer.name_gone(folder, key, spellings)
        now = trio.current_time()
        fresh = [
            (key, node) for key, node in folder.children.items() if self._lifetimes.name_left(node.asked.at, now) > 0
        ]
        for key, _ in fresh:
            self._nodes.doubt_name(folder, key)
        folder.outdate()
        folders = [node for _, node in fresh if isinstance(node, Folder)]
        if folders:
            self._spawn(self._verify, folders[:VERIFIED_MAX])

    async def _verify(self, folders: Sequence[Folder]) -> None:
        """Ask for folders by name: the kernel was not told to, and goes on to believe what it knows of them."""
        async with trio.open_nursery() as nursery:
            for folder in folders:
                nursery.start_soon(renew_unasked, self._nodes, folder)

    def _end(self, lease: FolderLease) -> FolderLease:
        if not lease.ended:
            lease.ended = True
            self._kept.pop(lease, None)
            del self._asked[lease.folder.ino]
            self._nodes.unpin(lease.folder)
        return lease

    async def _close(self, lease: FolderLease) -> None:
        if lease.directory is not None:
            await lease.directory.aclose()

    async def _tick(self) -> None:
        try:
            while self._kept:
                await trio.sleep_until(next(iter(self._kept.values())))
                now = trio.current_time()
                for lease in [lease for lease, until in self._kept.items() if until <= now]:
                    await self._close(self._end(lease))
        finally:
            self._ticking = False
