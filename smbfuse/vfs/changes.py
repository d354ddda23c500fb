"""Names that come and move: create, mkdir, mknod, symlink, link, rename.

What servers without POSIX refuse is put together from what they can do, so that nothing is lost at any point between:

| rename onto | server with POSIX | any other |
|---|---|---|
| a file | in its place | in its place |
| a file that is open, or READONLY | in its place, or so: | that is hidden (`removal`), this takes its name, that goes |
| an empty folder | in its place | that is removed, this takes its name; made again if this fails |
| another name of the same file | nothing | nothing |
"""

import errno as posix
import logging
import os
import stat as modes
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from smbfuse.config import View
from smbfuse.errors import Busy, ConnectionLost, Denied, Exists, SmbError, StatusError, Timeout, Unsupported
from smbfuse.share import Creation, Features, FileStat, Kind, OpenIntent
from smbfuse.vfs.blocks import Spawn
from smbfuse.vfs.file import OpenFiles
from smbfuse.vfs.inode import Folder, Node, is_below, share_root
from smbfuse.vfs.modes import FILE_TYPES
from smbfuse.vfs.namespace import Namespace, Place
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import Caller, Opened
from smbfuse.vfs.removal import Hidden, Removal
from smbfuse.vfs.setattr import AttributeChanges
from smbfuse.vfs.symlinks import make_symlink, node_form

log = logging.getLogger(__name__)

RENAME_NOREPLACE: Final = 1  # renameat2(2)
_KINDS: Final = {file_type: kind for kind, file_type in FILE_TYPES.items()}
_DEVICES: Final = (Kind.BLOCK_DEVICE, Kind.CHARACTER_DEVICE)


class Changes:
    """Makes and moves names."""

    def __init__(
        self,
        nodes: NodeTable,
        names: Namespace,
        files: OpenFiles,
        removal: Removal,
        attributes: AttributeChanges,
        view: View,
        spawn: Spawn,
    ) -> None:
        self._nodes = nodes
        self._names = names
        self._files = files
        self._removal = removal
        self._attributes = attributes
        self._view = view
        self._spawn = spawn

    # -- making

    async def create(self, folder_ino: int, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[Node, Opened]:
        """Make a file, or open one that is there, and open it; see `Filesystem.create`."""
        place = self._names.new(folder_ino, name)
        return await self._names.change(lambda: self._create(place, mode & ~caller.umask, flags, caller), place.folder)

    async def _create(self, place: Place, mode: int, flags: int, caller: Caller) -> tuple[Node, Opened]:
        share = place.home.share
        opening = self._files.prepare(flags, mode)
        sent = self._nodes.ask(trio.current_time())
        try:
            server = await share.open(self._names.path(place), opening.intent)
        except BaseException:
            self._names.doubt(place)
            raise
        try:
            node = self._names.made(place, server.stat, sent, new=server.created)
            if server.created:
                self._attributes.made(node, mode, caller)
            return node, self._files.adopt(node, share, server, opening)
        except BaseException:
            self._spawn(server.aclose)
            raise

    async def make_directory(self, folder_ino: int, name: bytes, mode: int, caller: Caller) -> Node:
        """Make a folder; see `Filesystem.mkdir`."""
        mode &= ~caller.umask

        async def make(place: Place) -> FileStat:
            return await place.home.share.make_directory(self._names.path(place), mode)

        return await self._make(folder_ino, name, make, mode, caller)

    async def make_node(self, folder_ino: int, name: bytes, mode: int, device: int, caller: Caller) -> Node:
        """Make a file, FIFO, socket or device; see `Filesystem.mknod`."""
        kind = _KINDS.get(modes.S_IFMT(mode) or modes.S_IFREG)
        if kind is None or kind in (Kind.DIRECTORY, Kind.SYMLINK):
            raise SmbError(f"mknod makes nothing of mode {mode:o}", errno=posix.EINVAL)
        permissions = modes.S_IMODE(mode) & ~caller.umask

        async def make(place: Place) -> FileStat:
            share, path = place.home.share, self._names.path(place)
            if kind is Kind.FILE:
                intent = OpenIntent(read=False, write=True, creation=Creation.EXCLUSIVE, mode=permissions)
                file = await share.open(path, intent)
                self._spawn(file.aclose)
                return file.stat
            if Features.SPECIAL_FILES not in share.features:
                raise SmbError(f"the server keeps no {kind.name.lower()}", errno=posix.EPERM)
            number = (os.major(device), os.minor(device)) if kind in _DEVICES else None
            try:
                return await share.make_node(path, kind, number, permissions, node_form(self._view))
            except Unsupported as error:
                raise SmbError(str(error), errno=posix.EPERM) from None

        return await self._make(folder_ino, name, make, permissions, caller)

    async def make_symlink(self, folder_ino: int, name: bytes, target: bytes, caller: Caller) -> Node:
        """Make a symlink; see `Filesystem.symlink`."""

        async def make(place: Place) -> FileStat:
            home = place.home
            path, undoing = self._names.path(place), self._removal.undoing
            return await make_symlink(home.share, path, target, names=home.names, view=self._view, undoing=undoing)

        return await self._make(folder_ino, name, make, None, caller)

    async def _make(
        self,
        folder_ino: int,
        name: bytes,
        make: Callable[[Place], Awaitable[FileStat]],
        mode: int | None,
        caller: Caller,
    ) -> Node:
        place = self._names.new(folder_ino, name)

        async def change() -> Node:
            sent = self._nodes.ask(trio.current_time())
            try:
                stat = await make(place)
            except BaseException:
                self._names.doubt(place)
                raise
            node = self._names.made(place, stat, sent)
            if mode is not None:
                self._attributes.made(node, mode, caller)
            return node

        return await self._names.change(change, place.folder)

    async def link(self, node: Node, folder_ino: int, name: bytes) -> None:
        """Give a file a further name; see `Filesystem.link`."""
        place = self._names.new(folder_ino, name)
        share = place.home.share
        if self._nodes.nameless(node):
            raise SmbError(f"{node.name!r} has no name any longer", errno=posix.ENOENT)
        if share_root(node) is not place.home:
            raise SmbError("a link to a file of another share", errno=posix.EXDEV)
        if isinstance(node, Folder) or Features.HARD_LINKS not in share.features:
            raise SmbError("the server gives a file no second name", errno=posix.EPERM)

        async def change() -> None:
            try:
                await share.link(self._nodes.locate(node)[1], self._names.path(place))
            except BaseException:
                self._names.doubt(place)
                raise
            self._names.linked(place, node)

        await self._names.change(change, place.folder)

    # -- renaming

    async def rename(self, old_ino: int, old_name: bytes, new_ino: int, new_name: bytes, flags: int) -> None:
        """Give a file or folder another name; see `Filesystem.rename`."""
        if flags & ~RENAME_NOREPLACE:
            raise SmbError(f"rename with flags {flags:#x}", errno=posix.EINVAL)
        source, node = await self._names.existing(old_ino, old_name)
        target = self._names.new(new_ino, new_name)
        if source.home is not target.home:
            raise SmbError("a rename from one share to another", errno=posix.EXDEV)
        if target.folder is node or (isinstance(node, Folder) and is_below(target.folder, node)):
            raise SmbError(f"{node.name!r} into itself", errno=posix.EINVAL)
        await self._names.change(
            lambda: self._rename(source, node, target, keep=bool(flags & RENAME_NOREPLACE)),
            source.folder,
            target.folder,
        )

    async def _rename(self, source: Place, node: Node, target: Place, *, keep: bool) -> None:
        """Rename when it is its turn. `keep`: what has the name is not to be replaced."""
        known = self._names.known(target.folder, target.shown)
        replaced = None
        if known is not None:
            there, replaced = known
            if replaced is node and (source.folder, source.key) != (there.folder, there.key):
                if keep:
                    raise SmbError(f"{target.name!r} is there", errno=posix.EEXIST)
                return  # two names of one file: POSIX leaves both
            if replaced is node:
                replaced = None  # another spelling of its own name
            elif there.key != target.key:
                target = there  # it is spelled in another mapping
        hidden = None
        try:
            if Features.POSIX not in source.home.share.features:
                await self._names.stand_aside(node)
            if replaced is None:
                try:
                    await self._send(source, node, target, replace=not keep)
                except (Denied, Busy):
                    # There may be something that nobody has looked up: another client has just put it there.
                    known = None if keep else await self._names.find(target.folder, target.shown)
                    if known is None or known[1] is node:
                        raise
                    target, replaced = known
            elif keep:
                await self._send(source, node, target, replace=False)
            if replaced is not None and not keep:
                hidden = await self._replace(source, node, target, replaced)
        except BaseException:
            self._names.doubt(source, target)
            raise
        self._names.renamed(source, target)
        if hidden is not None and replaced is not None:
            await self._removal.finish(hidden, replaced)

    async def _send(self, source: Place, node: Node, target: Place, *, replace: bool) -> None:
        share, names = source.home.share, self._names
        holder = self._files.holder(node)
        await share.rename(names.path(source), names.path(target), replace=replace, holder=holder)

    async def _replace(self, source: Place, node: Node, target: Place, replaced: Node) -> Hidden | None:
        """Rename onto a name that is taken; return what had it, if it goes on under a hidden one."""
        if isinstance(replaced, Folder) and not isinstance(node, Folder):
            raise SmbError(f"{target.name!r} is a folder", errno=posix.EISDIR)
        if isinstance(node, Folder) and not isinstance(replaced, Folder):
            raise SmbError(f"{target.name!r} is no folder", errno=posix.ENOTDIR)
        await self._names.stand_aside(replaced)
        if isinstance(replaced, Folder):
            if Features.POSIX in source.home.share.features:
                await self._send(source, node, target, replace=True)
            else:
                await self._replace_folder(source, node, target, replaced)
            return None
        refused: SmbError | None = None
        if not self._removal.is_in_use(target.home, replaced):
            try:
                await self._send(source, node, target, replace=True)
                return None
            except (Denied, Busy, Exists) as error:
                # READONLY perhaps, or open elsewhere: what may not be replaced may yet be renamed. Samba 4.22 refuses
                # to replace what we have open ourselves, with POSIX extensions too.
                refused = error
        try:
            hidden = await self._removal.hide(target, replaced)
        except StatusError as error:
            raise refused or error from None
        try:
            await self._send(source, node, target, replace=False)
        except BaseException:
            await self._removal.show_again(hidden, target, replaced)
            raise
        return hidden

    async def _replace_folder(self, source: Place, node: Node, target: Place, replaced: Folder) -> None:
        await self._removal.rmdir_at(target, replaced)
        try:
            await self._send(source, node, target, replace=False)
        except BaseException:

            async def make_again() -> None:
                sent = self._nodes.ask(trio.current_time())
                try:
                    stat = await target.home.share.make_directory(self._names.path(target))
                except (ConnectionLost, Timeout):
                    raise
                except SmbError as error:
                    log.info("the empty folder %r could not be made again: %s", target.name, error)
                else:
                    self._names.made(target, stat, sent)

            await self._removal.undoing.undo(f"the empty folder {target.name!r} is gone", make_again)
            raise
