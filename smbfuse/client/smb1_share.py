"""A share over SMB1: paths, links and the volume; files and listings have modules of their own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from smbfuse import status
from smbfuse.client import filestat
from smbfuse.client.smb1_directory import Smb1Directory, open_directory
from smbfuse.client.smb1_files import Smb1File, open_file
from smbfuse.client.smb1_links import read_reparse_point
from smbfuse.client.smb1_stat import StatQuery
from smbfuse.client.smb1_volume import Volume
from smbfuse.engine.dialect import SMB1
from smbfuse.errors import ConnectionLost, NotFound, SmbError, StatusError
from smbfuse.share import Attributes, Features, FileStat, Kind, Limits, OpenIntent, ShareStatistics, Space
from smbfuse.status import NtStatus
from smbfuse.wire.reparse import NfsReparse
from smbfuse.wire.smb1.levels import PathLevel, decode_unix_link
from smbfuse.wire.smb1.session import TreeDisconnectMessage
from smbfuse.wire.smb1.trans2 import EaErrorResponse, QueryPathRequest

if TYPE_CHECKING:
    from smbfuse.client.smb1_session import Smb1Session
    from smbfuse.client.smb1_tree import Smb1Tree

log = logging.getLogger(__name__)

FAREWELL_S: Final = 2.0


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
        return self._tree.features

    async def stat(self, path: str) -> FileStat:
        """Return what `path` is; see `Share.stat`.

        Cost: 1 round trip; two more for a reparse point, to learn which kind it is.
        """
        found = await StatQuery(self._tree, path).result()
        if found.attributes & Attributes.REPARSE_POINT:
            return await self._with_kind(path, found)
        return found

    async def open(self, path: str, intent: OpenIntent) -> Smb1File:
        """Open a file; see `Share.open` and `open_file`.  Cost: 1 round trip, 2 where MaxMpxCount is 1."""
        return await open_file(self._tree, path, intent.first_bytes)

    async def open_directory(self, path: str) -> Smb1Directory:
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

    async def read_link(self, path: str) -> str:
        """Return a symlink's target; see `Share.read_link`.

        Cost: 1 round trip with UNIX extensions, 2 without.
        """
        if not self._tree.posix:
            return filestat.link_target(await read_reparse_point(self._tree, path), path)
        request = QueryPathRequest(PathLevel.UNIX_LINK, self._tree.wire_path(path))
        reply = await self._tree.perform_one(
            self._tree.transact2(
                request.subcommand, request.encode(self._tree.strings), max_parameters=EaErrorResponse.SIZE
            )
        )
        if reply.status == NtStatus.SUCCESS:
            return decode_unix_link(reply.data, self._tree.strings)
        refused = status.error(reply.status, "read link", path)
        if isinstance(refused, NotFound):
            raise refused
        # Servers have many words for it: ask what it is instead of guessing.
        if (await self.stat(path)).kind is not Kind.SYMLINK:
            raise filestat.no_link(path)
        raise refused

    async def space(self) -> Space:
        """Return the room on the volume; see `Share.space`."""
        return await self._volume.space()

    async def echo(self) -> None:
        """Ask the server for a sign of life; see `Share.echo`."""
        await self._session.connection.perform(self._session.engine.ping())

    async def aclose(self) -> None:
        """Disconnect the tree, which closes what is open in it. The login stays: other shares may use it."""
        with trio.CancelScope(deadline=trio.current_time() + FAREWELL_S, shield=True):
            try:
                # Not urgent: it must not overtake the CLOSEs before it.
                await self._tree.perform_one(self._tree.submit(TreeDisconnectMessage()))
            except SmbError as error:
                log.debug("tree disconnect failed: %s", error)

    def statistics(self) -> ShareStatistics:
        """Return counters of the connection, which other shares may use too, and what was negotiated."""
        connection, engine = self._session.connection, self._session.engine.statistics()
        return ShareStatistics(
            dialect=SMB1.label,
            signing=self._session.signing_name,
            sealing="",
            login=self._session.login_name,
            peer=connection.stream.peer,
            requests=engine.requests,
            round_trips=engine.round_trips,
            bytes_received=connection.bytes_received,
            bytes_sent=connection.bytes_sent,
            in_flight=engine.in_flight,
            credits=engine.credits,
            connects=1,
        )

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
