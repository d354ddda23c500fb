"""A share over SMB2: each call is one compound, that is one round trip.

The compounds are related: CREATE opens, what follows works on "the file just opened", CLOSE ends. If the CREATE is
refused the server answers the rest with errors too, so the CREATE's own is the one that is raised.
[MS-SMB2] 3.2.4.1.4.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from smbfuse import status
from smbfuse.client import filestat
from smbfuse.client.smb2_files import PAGE_SIZE, Smb2Directory, Smb2File
from smbfuse.engine.smb2 import CREDIT_SIZE, Smb2Engine
from smbfuse.engine.smb2_exchange import Reply, Request, Smb2Exchange, Tree
from smbfuse.errors import DecodeError, ProtocolError, SmbError, StatusError
from smbfuse.share import Features, FileStat, Limits, OpenIntent, ShareStatistics, Space
from smbfuse.status import NtStatus
from smbfuse.wire import reparse
from smbfuse.wire.fscc import (
    FileAllInformation,
    FileAttributes,
    FileFsFullSizeInformation,
    FileFsSizeInformation,
    FileInformation,
    VolumeInformation,
)
from smbfuse.wire.smb2.control import IOCTL_IS_FSCTL, ControlCode, IoctlRequest, IoctlResponse
from smbfuse.wire.smb2.create import (
    IMPERSONATION,
    QUERY_ON_DISK_ID,
    Access,
    CloseRequest,
    CreateContext,
    CreateOptions,
    CreateRequest,
    CreateResponse,
    Disposition,
    OnDiskId,
    OplockLevel,
    ShareAccess,
    find_context,
)
from smbfuse.wire.smb2.header import RELATED_FILE_ID, Command
from smbfuse.wire.smb2.info import (
    InfoType,
    QueryInfoRequest,
    QueryInfoResponse,
)
from smbfuse.wire.smb2.io import encode_read
from smbfuse.wire.smb2.session import TreeDisconnectRequest

if TYPE_CHECKING:
    from smbfuse.client.connection import Connection
    from smbfuse.client.smb2_session import Smb2Session

log = logging.getLogger(__name__)

FAREWELL_S: Final = 2.0
ALL_INFORMATION_SIZE: Final = 16 * 1024  # 100 bytes and a path; a cut path does no harm
REPARSE_DATA_SIZE: Final = 16 * 1024  # [MS-FSCC] 2.1.2.1: the largest there is

_READ: Final = Access.FILE_READ_DATA | Access.FILE_READ_ATTRIBUTES | Access.SYNCHRONIZE
_LIST: Final = Access.FILE_LIST_DIRECTORY | Access.FILE_READ_ATTRIBUTES | Access.SYNCHRONIZE
_LOOK: Final = Access.FILE_READ_ATTRIBUTES  # alone it needs no rights on the data, and breaks nobody's lease

_DATA_CAME: Final = frozenset({NtStatus.SUCCESS, NtStatus.BUFFER_OVERFLOW})

_CLOSE_JUST_OPENED: Final = Request(Command.CLOSE, CloseRequest(0, RELATED_FILE_ID).encode())


class Smb2Share:
    """A connected tree. Implements `share.Share`."""

    incarnation: Final = 1

    def __init__(self, session: Smb2Session, name: str, tree: Tree, *, max_read: int) -> None:
        self._session = session
        self._engine: Smb2Engine = session.engine
        self._connection: Connection = session.connection
        self._name = name
        self.tree = tree
        negotiated = session.negotiated
        most = 1 << 32 if negotiated.multi_credit else CREDIT_SIZE
        self._max_read = min(max_read, most)
        self._max_write = min(negotiated.answer.max_write_size, most)
        self._max_transact = min(negotiated.answer.max_transact_size, most)

    def __repr__(self) -> str:
        return f"<Smb2Share {self._name!r} of {self._session!r}>"

    @property
    def name(self) -> str:
        return self._name

    @property
    def limits(self) -> Limits:
        return Limits(
            read=self._max_read,
            write=self._max_write,
            transact=min(self._max_transact, PAGE_SIZE),
            in_flight=max(1, self._engine.window.capacity),
        )

    @property
    def features(self) -> Features:
        return Features.SYMLINKS | (Features.COMPOUND if self._engine.compounds.enabled else Features.NONE)

    async def stat(self, path: str) -> FileStat:
        """Return what `path` is; see `Share.stat`.

        Cost: 1 round trip: CREATE, QUERY_INFO, CLOSE. One more for a reparse point, to learn which kind it is.
        """
        replies = await self._compound(
            path,
            _create(path, _LOOK, CreateOptions.OPEN_REPARSE_POINT, contexts=(CreateContext(QUERY_ON_DISK_ID),)),
            _query_info(InfoType.FILE, FileInformation.ALL, ALL_INFORMATION_SIZE),
            _CLOSE_JUST_OPENED,
        )
        created = CreateResponse.decode(replies[0].element)
        information = FileAllInformation.decode(_information(replies[1], path))
        found = filestat.of_all_information(information, volume_id=_volume_id(created))
        if found.attributes & FileAttributes.REPARSE_POINT:
            return await self._with_kind(path, found)
        return found

    async def open(self, path: str, intent: OpenIntent) -> Smb2File:
        """Open a file; see `Share.open`.  Cost: 1 round trip: CREATE, and READ where first bytes are wanted."""
        requests = [_create(path, _READ, CreateOptions.NON_DIRECTORY_FILE, contexts=(CreateContext(QUERY_ON_DISK_ID),))]
        wanted = min(intent.first_bytes, self.largest_read())
        if wanted > 0:
            requests.append(Request(Command.READ, encode_read(RELATED_FILE_ID, 0, wanted), payload=wanted))
        replies = await self._opening(path, requests)
        created = CreateResponse.decode(replies[0].element)
        file = Smb2File(self, created.file_id, _stat_of(created), path)
        if created.file_attributes & FileAttributes.DIRECTORY:  # some servers do not look at the options
            await file.aclose()
            raise status.error(NtStatus.FILE_IS_A_DIRECTORY, "CREATE", path)
        if wanted > 0:
            try:
                file.first = file.data_of(replies[1], wanted)
            except StatusError as error:
                # A locked range, say: reading may be refused, yet the file is open. Whoever reads it will be told.
                log.debug("open without first bytes path=%r reason=%s", path, error)
            except ProtocolError:
                await file.aclose()
                raise
        return file

    async def open_directory(self, path: str) -> Smb2Directory:
        """Begin to list a folder; see `Share.open_directory`.

        Cost: 1 round trip: CREATE and two QUERY_DIRECTORYs, so that a folder of one page is known to be over.
        """
        page_size = self.page_size()
        query = Smb2Directory.query(RELATED_FILE_ID, page_size)
        create = _create(path, _LIST, CreateOptions.DIRECTORY_FILE, contexts=(CreateContext(QUERY_ON_DISK_ID),))
        replies = await self._opening(path, (create, query, query))
        created = CreateResponse.decode(replies[0].element)
        directory = Smb2Directory(self, created.file_id, _stat_of(created), path, replies[1:])
        if not created.file_attributes & FileAttributes.DIRECTORY:
            await directory.aclose()
            raise status.error(NtStatus.NOT_A_DIRECTORY, "CREATE", path)
        return directory

    async def read_link(self, path: str) -> str:
        """Return a symlink's target; see `Share.read_link`.  Cost: 1 round trip: CREATE, IOCTL, CLOSE."""
        try:
            return filestat.link_target(await self._reparse_point(path), path)
        except StatusError as error:
            # What servers say who know no reparse points at all: then this is not one.
            if error.status in (NtStatus.INVALID_DEVICE_REQUEST, NtStatus.NOT_SUPPORTED, NtStatus.INVALID_PARAMETER):
                raise filestat.no_link(path) from None
            raise

    async def space(self) -> Space:
        """Return the room on the volume; see `Share.space`.

        Cost: 1 round trip: CREATE, two QUERY_INFOs, CLOSE. The second asks for the older information class, which has
        no number of its own for this user: some servers know only that, and answer the first with next to nothing.
        """
        replies = await self._compound(
            "",
            _create("", _LOOK, CreateOptions(0)),
            _query_info(InfoType.FILESYSTEM, VolumeInformation.FULL_SIZE, FileFsFullSizeInformation.SIZE),
            _query_info(InfoType.FILESYSTEM, VolumeInformation.SIZE, FileFsSizeInformation.SIZE),
            _CLOSE_JUST_OPENED,
        )
        try:
            full = FileFsFullSizeInformation.decode(_information(replies[1], ""))
        except SmbError as error:
            log.debug("no FileFsFullSizeInformation: %s", error)
        else:
            unit = full.sectors_per_allocation_unit * full.bytes_per_sector
            return _space(
                unit,
                full.total_allocation_units,
                full.actual_available_allocation_units,
                full.caller_available_allocation_units,
            )
        size = FileFsSizeInformation.decode(_information(replies[2], ""))
        unit = size.sectors_per_allocation_unit * size.bytes_per_sector
        return _space(
            unit, size.total_allocation_units, size.available_allocation_units, size.available_allocation_units
        )

    async def echo(self) -> None:
        """Ask the server for a sign of life; see `Share.echo`."""
        await self._connection.perform(self._engine.ping())

    async def aclose(self) -> None:
        """Disconnect the tree, which closes what is open in it. The login stays: other shares may use it."""
        with trio.CancelScope(deadline=trio.current_time() + FAREWELL_S, shield=True):
            try:
                # Not urgent: it must not overtake the CLOSEs before it.
                request = Request(Command.TREE_DISCONNECT, TreeDisconnectRequest().encode())
                await self._connection.perform(self._engine.submit((request,), tree=self.tree))
            except SmbError as error:
                log.debug("tree disconnect failed: %s", error)

    def statistics(self) -> ShareStatistics:
        """Return counters of the connection, which other shares may use too, and what was negotiated."""
        engine = self._engine.statistics()
        protection = self._engine.protection
        sealed = protection is not None and (protection.seal_all or self.tree.seal)
        return ShareStatistics(
            dialect=self._session.negotiated.dialect.label,
            signing=self._session.signing_name,
            sealing=protection.sealing_name if protection is not None and sealed else "",
            login=self._session.login_name,
            peer=self._connection.stream.peer,
            requests=engine.requests,
            round_trips=engine.round_trips,
            bytes_received=self._connection.bytes_received,
            bytes_sent=self._connection.bytes_sent,
            in_flight=engine.in_flight,
            credits=engine.credits,
            connects=1,
        )

    # --- for the open files of this share -----------------------------------------------------------------------------

    def largest_read(self) -> int:
        """Return how much one READ may ask for now: `limits.read`, or less where the server gives few credits."""
        return min(self._max_read, CREDIT_SIZE * max(1, self._engine.window.capacity // 2))

    def page_size(self) -> int:
        """Return how large a page of a listing may be now, so that a compound of two pages fits the window."""
        return min(self._max_transact, PAGE_SIZE, CREDIT_SIZE * max(1, self._engine.window.capacity // 4))

    def submit(self, request: Request, *, bulk: bool = False) -> Smb2Exchange:
        """Queue one request of this tree and have it sent; nobody need wait for it."""
        exchange = self._engine.submit((request,), tree=self.tree, bulk=bulk)
        self._connection.post()
        return exchange

    async def wait(self, exchange: Smb2Exchange) -> Reply:
        """Wait for the reply of what `submit` gave.  Raises: ConnectionLost, Timeout."""
        (reply,) = await self._connection.perform(exchange)
        return reply

    # --- compounds ----------------------------------------------------------------------------------------------------

    async def _compound(self, path: str, *requests: Request) -> list[Reply]:
        """Perform a compound that closes what it opens.  Raises what its CREATE was refused with."""
        replies = await self._connection.perform(self._engine.submit(requests, tree=self.tree))
        _check_create(replies[0], path)
        return replies

    async def _opening(self, path: str, requests: Sequence[Request]) -> list[Reply]:
        """Perform a compound that leaves a handle open, and close that even if nobody waits for it any longer."""
        exchange = self._engine.submit(requests, tree=self.tree)
        try:
            replies = await self._connection.perform(exchange)
        except BaseException:
            if exchange.done:
                self._close_orphan(exchange)
            else:
                exchange.on_done = lambda: self._close_orphan(exchange)
            raise
        _check_create(replies[0], path)
        return replies

    def _close_orphan(self, exchange: Smb2Exchange) -> None:
        if exchange.error is not None or exchange.replies[0].status != NtStatus.SUCCESS:
            return
        try:
            created = CreateResponse.decode(exchange.replies[0].element)
        except DecodeError as error:
            log.debug("a handle that nobody wants cannot be closed: %s", error)
            return
        self.submit(Request(Command.CLOSE, CloseRequest(0, created.file_id).encode()))

    async def _reparse_point(self, path: str) -> reparse.ReparsePoint:
        query = IoctlRequest(
            ctl_code=ControlCode.FSCTL_GET_REPARSE_POINT,
            file_id=RELATED_FILE_ID,
            input=b"",
            max_input_response=0,
            output=b"",
            max_output_response=REPARSE_DATA_SIZE,
            flags=IOCTL_IS_FSCTL,
        )
        replies = await self._compound(
            path,
            _create(path, _LOOK, CreateOptions.OPEN_REPARSE_POINT),
            Request(Command.IOCTL, query.encode(), payload=REPARSE_DATA_SIZE),
            _CLOSE_JUST_OPENED,
        )
        if replies[1].status != NtStatus.SUCCESS:
            raise status.error(replies[1].status, "FSCTL_GET_REPARSE_POINT", path)
        return reparse.decode(IoctlResponse.decode(replies[1].element).output)

    async def _with_kind(self, path: str, found: FileStat) -> FileStat:
        """Return `found` with the kind that its reparse point gives it; unchanged where the server does not tell."""
        try:
            point = await self._reparse_point(path)
        except (StatusError, DecodeError) as error:
            log.debug("reparse point of unknown kind path=%r reason=%s", path, error)
            return found
        device = point.device if isinstance(point, reparse.NfsReparse) else None
        return found._replace(kind=filestat.kind_of_point(point, found.attributes), device=device)


def _create(path: str, access: Access, options: CreateOptions, *, contexts: tuple[CreateContext, ...] = ()) -> Request:
    request = CreateRequest(
        security_flags=0,
        requested_oplock_level=OplockLevel.NONE,
        impersonation_level=IMPERSONATION,
        smb_create_flags=0,
        desired_access=access,
        file_attributes=0,
        share_access=ShareAccess.ALL,
        create_disposition=Disposition.OPEN,
        create_options=options,
        name=path.replace("/", "\\"),
        contexts=contexts,
    )
    return Request(Command.CREATE, request.encode())


def _query_info(info_type: InfoType, info_class: int, size: int) -> Request:
    request = QueryInfoRequest(
        info_type=info_type,
        file_info_class=info_class,
        output_buffer_length=size,
        input_buffer=b"",
        additional_information=0,
        flags=0,
        file_id=RELATED_FILE_ID,
    )
    return Request(Command.QUERY_INFO, request.encode(), payload=size)


def _check_create(reply: Reply, path: str) -> None:
    if reply.status != NtStatus.SUCCESS:
        raise status.error(reply.status, "CREATE", path)


def _information(reply: Reply, path: str) -> bytes:
    if reply.status not in _DATA_CAME:
        raise status.error(reply.status, "QUERY_INFO", path)
    return QueryInfoResponse.decode(reply.element).data


def _space(unit: int, total: int, free: int, available: int) -> Space:
    """Return the room in bytes; numbers of units that are negative (signed on the wire) count as none."""
    return Space(max(0, total) * unit, max(0, free) * unit, max(0, available) * unit, block_size=unit)


def _volume_id(created: CreateResponse) -> int | None:
    data = find_context(created.contexts, QUERY_ON_DISK_ID)
    return OnDiskId.decode(data).volume_id if data is not None else None


def _stat_of(created: CreateResponse) -> FileStat:
    """Return what the CREATE told by itself. Its QFid is the file's number as listings give it, and its volume."""
    data = find_context(created.contexts, QUERY_ON_DISK_ID)
    on_disk = OnDiskId.decode(data) if data is not None else OnDiskId(0, 0)
    return filestat.of_create(created, file_id=on_disk.disk_file_id, volume_id=on_disk.volume_id if data else None)
