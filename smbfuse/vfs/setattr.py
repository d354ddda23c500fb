"""chmod, chown, utimes: what of them a server keeps, and what becomes of the rest.

A server with POSIX or UNIX extensions keeps modes and owners itself. Any other has one bit for them, the attribute
READONLY, which is what the write bits mean: without any it is set, with one it is cleared (not on folders, where
Windows uses it to mark customised ones). For the rest `modechanges=` says:

* `quiet`: success, and nothing changes. `cp -p`, `rsync -a`, git and npm go on, as with the kernel client.
* `remember`: success, and what was set is shown until the file is forgotten here (`dynperm`); nobody else sees it.
* `refuse`: EPERM, unless it is what is shown anyway.

Times have steps of 100 ns on the server; what is finer is cut off. Each is sent alone if it is changed alone.
"""

import errno as posix
from typing import Final

from smbfuse.config import ModeChanges, View
from smbfuse.errors import Denied, SmbError
from smbfuse.share import SETTABLE, Attributes, Change, Features, FileStat, Kind, creation_is_derived
from smbfuse.vfs.bypath import renew
from smbfuse.vfs.file import OpenFiles
from smbfuse.vfs.inode import Folder, Node
from smbfuse.vfs.lookup import Lookup, is_server_root
from smbfuse.vfs.modes import WRITE_BITS, Appearance, settable
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import Caller, NewAttributes
from smbfuse.vfs.times import nearest

_PERMISSIONS: Final = 0o7777
_NOTHING: Final = Change()


class AttributeChanges:
    """Changes the attributes of files, as far as server and policy go."""

    def __init__(self, nodes: NodeTable, files: OpenFiles, lookup: Lookup, view: View) -> None:
        self._nodes = nodes
        self._files = files
        self._lookup = lookup
        self._policy = view.mode_changes
        self._appearance = Appearance(view)

    async def set(self, node: Node, new: NewAttributes, fh: int | None) -> None:
        """Change what `new` names; see `Filesystem.setattr`."""
        if isinstance(node, Folder) and is_server_root(node):
            raise SmbError("the root of a server is not changed from here", errno=posix.EPERM)
        home = self._nodes.home(node)
        if new.size is not None:
            await self._files.truncate(node, new.size, fh)
        keeps_modes = Features.POSIX in home.share.features
        if not keeps_modes:
            self._refuse_what_is_lost(node, new)
        # Whose a file is anyway need not be said: servers ask for the right to give it away all the same.
        shown = self._appearance.posix(node.ino, node.stat())
        change = Change(
            accessed_ns=None if new.atime_ns is None else nearest(new.atime_ns),
            written_ns=None if new.mtime_ns is None else nearest(new.mtime_ns),
            attributes=None if keeps_modes else await self._attributes(node, new.mode),
            mode=new.mode & _PERMISSIONS if keeps_modes and new.mode is not None else None,
            uid=new.uid if keeps_modes and new.uid != shown.uid else None,
            gid=new.gid if keeps_modes and new.gid != shown.gid else None,
        )
        if change != _NOTHING:
            try:
                await self.apply(node, change)
            except Denied as denied:
                if (change.mode, change.uid, change.gid) == (None, None, None) or denied.errno != posix.EACCES:
                    raise
                # chmod(2), chown(2): to whoever is not the owner; EACCES speaks of the folders on the way.
                raise SmbError(str(denied), errno=posix.EPERM) from None
        if not keeps_modes:
            self.remember(node, new.mode, new.uid, new.gid)

    def remember(self, node: Node, mode: int | None, uid: int | None, gid: int | None) -> None:
        """Show, from now on, what a server without modes and owners was told of them, if that is the policy.

        It stays in the node's record: the server's answers say nothing of these, and leave them as they are.
        """
        if self._policy is not ModeChanges.REMEMBER or (mode, uid, gid) == (None, None, None):
            return
        stat = node.stat()
        shown = stat._replace(
            mode=stat.mode if mode is None else mode & _PERMISSIONS,
            uid=stat.uid if uid is None else uid,
            gid=stat.gid if gid is None else gid,
        )
        self._nodes.changed_here(node, shown)

    def made(self, node: Node, mode: int, caller: Caller) -> None:
        """Remember mode and owner of a file that a caller has made, as `remember`."""
        if Features.POSIX not in self._nodes.home(node).share.features:
            self.remember(node, mode, caller.uid, caller.gid)

    async def apply(self, node: Node, change: Change) -> None:
        """Send a change, of anything but the size, by a handle that is open or else by path; record what came of it.

        Cost: as `OpenFiles.change`, or 1 round trip.  Raises: as `OpenFiles.change` and `Share.change`.
        """
        if await self._files.change(node, change):
            self._nodes.changed_here(node, _changed(node.stat(), change))
            return
        await self._files.close_now(node)
        await self._files.change_by_path(node, change)

    async def _attributes(self, node: Node, mode: int | None) -> int | None:
        """Return the DOS attributes that `mode` asks for; None: they are so already.

        Cost: none while the file's attributes are good, else 1 round trip: those that are not meant must stay.
        """
        if mode is None or node.stat().kind is Kind.DIRECTORY:
            return None
        if not self._lookup.is_fresh(node) and node.parent is not None:
            await renew(self._nodes, node)
        attributes = Attributes(node.stat().attributes)
        wanted = attributes & ~Attributes.READONLY if mode & WRITE_BITS else attributes | Attributes.READONLY
        return None if wanted == attributes else settable(wanted)

    def _refuse_what_is_lost(self, node: Node, new: NewAttributes) -> None:
        """Raise EPERM for a mode or an owner that will not be shown, if that is the policy."""
        if self._policy is not ModeChanges.REFUSE:
            return
        stat = node.stat()
        if new.mode is not None and stat.kind is not Kind.DIRECTORY:
            protected = stat.attributes & ~Attributes.READONLY
            if not new.mode & WRITE_BITS:
                protected |= Attributes.READONLY
            stat = stat._replace(attributes=protected)
        shown = self._appearance.posix(node.ino, stat)
        if new.mode is not None and new.mode & _PERMISSIONS != shown.mode & _PERMISSIONS:
            raise SmbError(f"the server keeps no mode {new.mode:o} (modechanges=refuse)", errno=posix.EPERM)
        if new.uid not in (None, shown.uid) or new.gid not in (None, shown.gid):
            raise SmbError("the server keeps no owners (modechanges=refuse)", errno=posix.EPERM)


def _changed(stat: FileStat, change: Change) -> FileStat:
    """Return what a file is after a change whose answer does not say."""
    changed = stat._replace(
        accessed_ns=stat.accessed_ns if change.accessed_ns is None else change.accessed_ns,
        written_ns=stat.written_ns if change.written_ns is None else change.written_ns,
        attributes=stat.attributes if change.attributes is None else change.attributes | stat.attributes & ~SETTABLE,
        mode=stat.mode if change.mode is None else change.mode,
        uid=stat.uid if change.uid is None else change.uid,
        gid=stat.gid if change.gid is None else change.gid,
    )
    # A creation time that was the earliest of the others may have been derived from them, and moved with them: what it
    # is now nobody has said, and a guess would be taken for another file's. (One that was set has been asked for.)
    derived = change.created_ns is None and creation_is_derived(stat)
    return changed._replace(created_ns=None) if derived else changed
