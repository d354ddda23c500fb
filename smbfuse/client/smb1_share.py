"""A share over SMB1: what the waist asks of it, and which module answers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client import filestat, smb1_attributes, smb1_changes, smb1_names, smb1_rename, smb1_watch
from smbfuse.client.session import farewell, share_statistics
from smbfuse.client.smb1_directory import Smb1Directory, open_directory
from smbfuse.client.smb1_files import Smb1File
from smbfuse.client.smb1_links import read_reparse_point
from smbfuse.client.smb1_stat import StatQuery
from smbfuse.client.smb1_volume import Volume
from smbfuse.client.watching import StandingWatch
from smbfuse.engine.dialect import SMB1
from smbfuse.errors import Busy, ConnectionLost, NotFound, SmbError, StaleHandle, StatusError
from smbfuse.share import (
    Attributes,
    Buffer,
    Change,
    Features,
    FileStat,
    GrantHolder,
    Kind,
    Limits,
    LinkForm,
    Opened,
    OpenIntent,
    ShareStatistics,
    Space,
)
from smbfuse.status import NtStatus
from smbfuse.wire.reparse import NfsReparse
from smbfuse.wire.smb1.levels import PathLevel, decode_unix_link
from smbfuse.wire.smb1.session import TreeDisconnectMessage

if TYPE_CHECKING:
    from smbfuse.client.smb1_session import Smb1Session
    from smbfuse.client.smb1_tree import Smb1Tree

log = logging.getLogger(__name__)


class Smb1Share:
    """A connected tree. Implements `share.Share`."""

    incarnation: Final = 1

    def __init__(self, session: Smb1Session, name: str, tree: Smb1Tree) -> None:
        self._session = session
        self._name = name
        self._tree = tree
        self._volume = Volume(tree)

    def __repr__(self) -> str:
        return f"<Smb1Share {self._name!r} of {self._session!r}>"

    @property
    def name(self) -> str:
        return self._name

    @property
    def limits(self) -> Limits:
        return self._tree.limits

    @property
    def features(self) -> Features:
        features = self._tree.features
        return features | Features.NOTIFY if smb1_watch.can_watch(self._tree) else features

    async def stat(self, path: str) -> FileStat:
        """Return what `path` is; see `Share.stat`.

        Cost: 1 round trip; two more for a reparse point, to learn which kind it is.
        """
        found = await StatQuery(self._tree, path).result()
        if found.attributes & Attributes.REPARSE_POINT:
            return await self._with_kind(path, found)
        return found

    async def open(self, path: str, intent: OpenIntent) -> Smb1File:
        """Open or make a file; see `Share.open` and `open_handle`.  Cost: 1 round trip, 2 where MaxMpxCount is 1."""
        return await Smb1File.open(self._tree, path, intent)

    async def open_ahead(self, files: Sequence[tuple[str, OpenIntent]], opened: Opened) -> None:
        """Open several files, one after the other: SMB1 is not asked ahead of need; see `Share.open_ahead`."""
        for index, (path, intent) in enumerate(files):
            try:
                opened(index, await self.open(path, intent))
            except SmbError as error:
                opened(index, error)

    async def open_directory(self, path: str, holder: GrantHolder | None = None) -> Smb1Directory:
        """Begin to list a folder; see `Share.open_directory`.

        Cost: 1 round trip; one more if it is refused, or has nothing in it, not even itself.
        """
        try:
            directory = await open_directory(self._tree, path)
            if not directory.empty:
                return directory
        except StatusError:
            await self._want_directory(path)
            raise
        await self._want_directory(path)
        return directory

    async def watch(self, path: str, *, recursive: bool = True) -> StandingWatch:
        """Watch a folder; see `Share.watch`.  Cost: 2 round trips."""
        return await smb1_watch.watch(self._tree, path, recursive=recursive)

    async def read_link(self, path: str) -> str:
        """Return a symlink's target; see `Share.read_link`.

        Cost: 1 round trip with UNIX extensions, 2 without.
        """
        if not self._tree.posix:
            return filestat.link_target(await read_reparse_point(self._tree, path), path)
        reply = await self._tree.perform_one(self._tree.query_path(PathLevel.UNIX_LINK, path))
        if reply.status == NtStatus.SUCCESS:
            return decode_unix_link(reply.data, self._tree.strings)
        refused = status.error(reply.status, "read link", path)
        if isinstance(refused, NotFound):
            raise refused
        # Servers have many words for it: ask what it is instead of guessing.
        if (await self.stat(path)).kind is not Kind.SYMLINK:
            raise filestat.no_link(path)
        raise refused

    # --- changes. An oplock belongs to a handle, not to a holder: what breaks one breaks it, whoever is named --------

    async def make_directory(self, path: str, mode: int | None = None) -> FileStat:
        """Make a folder; see `Share.make_directory`.  Cost: 1 round trip with UNIX extensions, else 2."""
        return await smb1_names.make_directory(self._tree, path, mode)

    async def make_link(self, path: str, target: str, form: LinkForm = LinkForm.NATIVE) -> FileStat:
        """Make a symlink, with UNIX extensions only; see `Share.make_link`.  Cost: 2 round trips."""
        return await smb1_names.make_link(self._tree, path, target)

    async def make_node(
        self,
        path: str,
        kind: Kind,
        device: tuple[int, int] | None,
        mode: int | None,
        form: LinkForm = LinkForm.NATIVE,
    ) -> FileStat:
        """Make a FIFO, socket or device, with UNIX extensions only; see `Share.make_node`.  Cost: 3 round trips."""
        return await smb1_names.make_node(self._tree, path, kind, device, mode)

    async def link(self, existing: str, path: str) -> None:
        """Give a file a further name; see `Share.link`."""
        await smb1_names.link(self._tree, existing, path)

    async def remove(self, path: str, kind: Kind, holder: GrantHolder | None = None) -> None:
        """Remove a name; see `Share.remove`.  Cost: 1 round trip, 3 for a file that somebody has open."""
        await self._unobstructed(lambda: smb1_names.remove(self._tree, path, kind, holder), path)

    async def rename(self, source: str, target: str, *, replace: bool, holder: GrantHolder | None = None) -> None:
        """Give a file or folder another name; see `Share.rename` and `smb1_rename.rename`."""
        paths = (source, target) if replace else (source,)
        await self._unobstructed(lambda: smb1_rename.rename(self._tree, source, target, replace=replace), *paths)
        self._tree.renamed(source, target)

    async def change(self, path: str, change: Change, holder: GrantHolder | None = None) -> FileStat:
        """Change attributes and return what they are then; see `Share.change` and `smb1_changes.change_path`."""
        await smb1_changes.change_path(self._tree, path, change)
        return await self.stat(path)

    async def extended_attributes(self, path: str) -> Mapping[str, bytes]:
        """Return the extended attributes; see `Share.extended_attributes`."""
        return await smb1_attributes.extended_attributes(self._tree, path)

    async def set_extended_attribute(self, path: str, name: str, value: Buffer) -> None:
        """Set one extended attribute; see `Share.set_extended_attribute`."""
        await smb1_attributes.set_extended_attribute(self._tree, path, name, value)

    async def security_descriptor(self, path: str) -> bytes:
        """Return owner, group and DACL; see `Share.security_descriptor`.  Cost: 2 round trips."""
        return await smb1_attributes.security_descriptor(self._tree, path)

    async def set_security_descriptor(self, path: str, descriptor: Buffer) -> None:
        """Set the DACL, and owners if given; see `Share.set_security_descriptor`.  Cost: 2 round trips."""
        await smb1_attributes.set_security_descriptor(self._tree, path, descriptor)

    # --- the volume, and the end --------------------------------------------------------------------------------------

    async def space(self) -> Space:
        """Return the room on the volume; see `Share.space`."""
        return await self._volume.space()

    async def echo(self) -> None:
        """Ask the server for a sign of life; see `Share.echo`."""
        await self._session.connection.perform(self._session.engine.ping())

    async def aclose(self) -> None:
        """Disconnect the tree, which closes what is open in it. The login stays: other shares may use it."""
        self._tree.oplocks.disconnected(self._tree.tree)
        with farewell("tree disconnect"):
            # Not urgent: it must not overtake the CLOSEs before it.
            await self._tree.perform_one(self._tree.submit(TreeDisconnectMessage()))

    def statistics(self) -> ShareStatistics:
        """Return counters of the connection, which other shares may use too, and what was negotiated."""
        return share_statistics(
            self._session.connection,
            dialect=SMB1.label,
            signing=self._session.signing_name,
            sealing="",
            login=self._session.login_name,
        )

    async def _unobstructed(self, change: Callable[[], Awaitable[None]], *paths: str) -> None:
        """Make a change of names that handles of our own shall not forbid.

        Tried a second time if it was refused and the file turns out to be open here under another of its names, or by
        an open that was under way.
        """
        for path in paths:
            await self._stand_aside(self._tree.files_at(path))
        try:
            await change()
        except Busy:
            in_the_way = [file for path in paths for file in await self._open_under_any_name(path)]
            if not in_the_way:
                raise
            await self._stand_aside(in_the_way)
            await change()

    async def _open_under_any_name(self, path: str) -> Sequence[Smb1File]:
        try:
            found = await StatQuery(self._tree, path).result()
        except StatusError as error:
            log.debug("nobody knows who has %r open: %s", path, error)
            return self._tree.files_at(path)
        same = [file for file in self._tree.open_files if found.file_id and file.stat.file_id == found.file_id]
        for file in same:
            file.path = path  # the name it was opened by may be another file's now
        return self._tree.files_at(path)

    async def _stand_aside(self, files: Sequence[Smb1File]) -> None:
        """Have our own handles forbid nothing; one that cannot be opened again is left as it is."""
        for file in files:
            try:
                await file.stand_aside()
            except StaleHandle as error:
                log.debug("a handle stays in the way: %s", error)

    async def _want_directory(self, path: str) -> None:
        """Raise NotFound, or WrongKind (ENOTDIR), for what is no folder.

        Servers have many words for a file where a folder should be, and some list what is not there as empty.
        """
        if (await StatQuery(self._tree, path).result()).kind is not Kind.DIRECTORY:
            raise status.error(NtStatus.NOT_A_DIRECTORY, "FIND_FIRST2", path)

    async def _with_kind(self, path: str, found: FileStat) -> FileStat:
        """Return `found` with the kind that its reparse point gives it; unchanged where the server does not tell."""
        try:
            point = await read_reparse_point(self._tree, path)
        except ConnectionLost:
            raise
        except SmbError as error:
            log.debug("reparse point of unknown kind path=%r reason=%s", path, error)
            return found
        device = point.device if isinstance(point, NfsReparse) else None
        return found._replace(kind=filestat.kind_of_point(point, found.attributes), device=device)
