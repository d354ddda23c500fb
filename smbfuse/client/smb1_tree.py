"""A connected SMB1 tree: how requests of one share are made, and what was learnt about its server so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client.smb1_levels import ALL_AND_ID, BY_COMMAND, BY_HANDLE, Ladder
from smbfuse.client.waiter import OTHERS_PATIENCE_S
from smbfuse.engine.smb1 import Smb1Engine
from smbfuse.engine.smb1_exchange import Reply, Smb1Exchange, Tree
from smbfuse.share import Features, Limits
from smbfuse.status import NtStatus
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb1.changes import SetFileRequest, SetLevel, SetPathRequest
from smbfuse.wire.smb1.header import Command, Flags
from smbfuse.wire.smb1.levels import PathLevel, UnixCapabilities
from smbfuse.wire.smb1.listing import FindLevel
from smbfuse.wire.smb1.negotiate import Capabilities
from smbfuse.wire.smb1.nt_transact import NtFunction
from smbfuse.wire.smb1.trans2 import EaErrorResponse, QueryPathRequest
from smbfuse.wire.smb1.transaction import NtTransactRequest, TransactionRequest
from smbfuse.wire.smb1.write import WRITE_OVERHEAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from smbfuse.client.connection import Connection
    from smbfuse.client.smb1_files import Smb1File
    from smbfuse.client.smb1_negotiation import Negotiated
    from smbfuse.client.smb1_oplocks import Oplocks
    from smbfuse.config import Network
    from smbfuse.wire.smb1.message import Message, Strings

MAX_BUFFER_SIZE: Final = 0xFFFF  # ours: what one response may be, reads with CAP_LARGE_READX apart
PAGE_SIZE: Final = 0xFFFF  # MaxDataCount has 16 bits
LARGE_READ: Final = 124 * 1024  # the largest multiple of 4 KiB in a message of 17-bit length
UNIX_LARGE_READ: Final = (16 << 20) - 4096  # in one of 24 bits
READ_OVERHEAD: Final = 64  # header, words and pad of a READ_ANDX response
# Windows takes 65535 bytes at once, and 65536 as well, which is a multiple of 4 KiB; more of it is not sure.
LARGE_WRITE: Final = 64 * 1024
UNIX_LARGE_WRITE: Final = 124 * 1024  # Samba's largest message has 17 bits, whatever capabilities it tells of
SMALLEST_TRANSFER: Final = 512
_STEP: Final = 512


class Smb1Tree:
    """What the operations of one share have in common. Knows the server's quirks as far as they have shown."""

    def __init__(
        self,
        connection: Connection,
        engine: Smb1Engine,
        negotiated: Negotiated,
        tree: Tree,
        network: Network,
        oplocks: Oplocks,
    ) -> None:
        self.connection = connection
        self.engine = engine
        self.tree = tree
        self.oplocks = oplocks
        self.open_files: set[Smb1File] = set()
        self._deletions: dict[int, set[Smb1File]] = {}  # by FID whose close deletes a file: who still writes that
        self.unix = UnixCapabilities(0)
        self.opens_nt = network.smb1_open_nt and negotiated.has(Capabilities.NT_SMBS)
        self.notifies = True  # changes of folders, as far as it has shown
        self.chains = True  # the server executes AndX chains
        self.renames_over = negotiated.has(Capabilities.INFOLEVEL_PASSTHRU)  # it knows a rename that replaces
        self._negotiated = negotiated
        self._rsize = network.rsize
        self._wsize = network.wsize
        passes_through = negotiated.has(Capabilities.INFOLEVEL_PASSTHRU) and negotiated.has(Capabilities.NT_SMBS)
        stat_levels: list[int] = [PathLevel.QUERY_FILE_ALL_INFO, PathLevel.INFO_STANDARD, BY_COMMAND]
        find_levels: list[int] = [FindLevel.FULL_DIRECTORY_INFO, FindLevel.INFO_STANDARD]
        if passes_through:
            stat_levels[:0] = [PathLevel.PASS_THROUGH_ALL, ALL_AND_ID]
            find_levels.insert(0, FindLevel.ID_FULL_DIRECTORY_INFO)
        self.stat_ladder = Ladder(stat_levels)
        self.find_ladder = Ladder(find_levels)
        # Times and attributes, and sizes, by path.
        set_levels: list[int] = [SetLevel.INFO_STANDARD, BY_COMMAND]
        size_levels: list[int] = [BY_HANDLE]
        if negotiated.has(Capabilities.NT_SMBS):
            set_levels = [SetLevel.SET_FILE_BASIC_INFO, BY_HANDLE]
            size_levels.insert(0, SetLevel.SET_FILE_END_OF_FILE_INFO)
        if passes_through:
            size_levels.insert(0, SetLevel.PASS_THROUGH_END_OF_FILE)  # Samba sets sizes by path in no other level
        self.set_ladder = Ladder(set_levels)
        self.size_ladder = Ladder(size_levels)
        self.largest_read = self._negotiated_read()

    def adopt_unix(self, capabilities: UnixCapabilities) -> None:
        """Use the UNIX extensions from now on, as far as they were agreed on."""
        self.unix = capabilities
        self.largest_read = self._negotiated_read()
        if capabilities & UnixCapabilities.POSIX_PATHNAMES:
            # The server's own stat, and its own idea of upper and lower case.
            self.tree = Tree(self.tree.tid, self.tree.flags & ~Flags.CASE_INSENSITIVE)
            self.stat_ladder = Ladder([PathLevel.UNIX_INFO2, PathLevel.UNIX_BASIC])
            self.find_ladder = Ladder([FindLevel.UNIX_INFO2, FindLevel.UNIX])

    def do_without_posix_opens(self) -> None:
        """Note that the server does not know the opens of the UNIX extensions after all."""
        self.unix &= ~UnixCapabilities.POSIX_PATH_OPERATIONS

    # --- what is known of the server ----------------------------------------------------------------------------------

    @property
    def strings(self) -> Strings:
        return self.engine.strings

    @property
    def zone_minutes(self) -> int:
        """ServerTimeZone: what must be added to the server's local times, in minutes."""
        return self._negotiated.answer.server_time_zone

    @property
    def posix(self) -> bool:
        """Whether paths, attributes and links are the server's own."""
        return bool(self.unix & UnixCapabilities.POSIX_PATHNAMES)

    @property
    def posix_opens(self) -> bool:
        """Whether files are opened and removed as POSIX has it: with modes, and while others have them open."""
        return self.posix and bool(self.unix & UnixCapabilities.POSIX_PATH_OPERATIONS)

    @property
    def gives_ids(self) -> bool:
        """Whether both attributes and listings tell a file's id. One alone would make one file look like two."""
        return self.posix or (
            self.stat_ladder.level in (PathLevel.PASS_THROUGH_ALL, ALL_AND_ID)
            and self.find_ladder.level == FindLevel.ID_FULL_DIRECTORY_INFO
        )

    @property
    def features(self) -> Features:
        features = Features.NONE
        if self.posix:
            features |= Features.POSIX | Features.CASE_SENSITIVE | Features.MAKES_SYMLINKS | Features.SPECIAL_FILES
        if self.posix or self.has(Capabilities.NT_SMBS):
            features |= Features.SYMLINKS | Features.HARD_LINKS | Features.EXTENDED_ATTRIBUTES
        return features

    @property
    def limits(self) -> Limits:
        return Limits(
            read=self.largest_read,
            write=self.largest_write,
            transact=PAGE_SIZE,
            in_flight=max(1, self.engine.window.capacity),
            request=self.engine.flow.request,
        )

    def has(self, capability: Capabilities) -> bool:
        """Tell whether the server has `capability`."""
        return self._negotiated.has(capability)

    def reads_at_most(self, length: int) -> None:
        """Note that a READ_ANDX in the middle of a file brought only so much: asking for more is in vain."""
        if length >= SMALLEST_TRANSFER:
            self.largest_read = min(self.largest_read, length - length % _STEP)

    def chained_read(self, wanted: int, overhead: int) -> int:
        """Return how many bytes a READ_ANDX may ask for behind another response: both share one message.

        Large reads do not count there: the message is bound by our own buffer, or by the server's if it is signed.
        """
        buffer = MAX_BUFFER_SIZE
        if not self.has(Capabilities.LARGE_READX) or self.engine.protection is not None:
            buffer = min(self._negotiated.answer.max_buffer_size, buffer)
        return max(min(wanted, buffer - READ_OVERHEAD - overhead), 0)

    def _negotiated_read(self) -> int:
        """Return the largest READ_ANDX that was agreed on.  [MS-SMB] 2.2.4.2.1, 2.2.4.5.2.1."""
        most = self._negotiated.answer.max_buffer_size - READ_OVERHEAD
        # With signatures a read must fit the server's buffer, whatever else it says.
        if self.has(Capabilities.LARGE_READX) and self.engine.protection is None:
            most = UNIX_LARGE_READ if self.unix & UnixCapabilities.LARGE_READ else LARGE_READ
        else:
            most = min(most, 0xFFFF)
        return max(min(most, self._rsize) // _STEP * _STEP, SMALLEST_TRANSFER)

    @property
    def largest_write(self) -> int:
        """The largest WRITE_ANDX that was agreed on.  [MS-SMB] 2.2.4.3.1, 2.2.4.5.2.1."""
        most = min(self._negotiated.answer.max_buffer_size - WRITE_OVERHEAD, 0xFFFF)
        if self.has(Capabilities.LARGE_WRITEX) and self.engine.protection is None:
            most = UNIX_LARGE_WRITE if self.posix else LARGE_WRITE
        return max(min(most, self._wsize) // _STEP * _STEP, SMALLEST_TRANSFER)

    def files_at(self, path: str) -> list[Smb1File]:
        """Return what we have open of `path`, by the name as it is known here."""
        return [file for file in self.open_files if self._same(file.path, path)]

    def delete_after(self, writers: Iterable[Smb1File], fid: int) -> bool:
        """Keep `fid`, whose close deletes a file, until none of `writers` has the file open any longer.

        False if that is so already: then it is not kept.
        """
        left = self.open_files.intersection(writers)
        if left:
            self._deletions[fid] = left
        return bool(left)

    def deleted_after(self, file: Smb1File) -> list[int]:
        """Note that `file` is closed; return the FIDs that it was the last to keep, which are to be closed now."""
        due = [fid for fid, writers in self._deletions.items() if writers == {file}]
        for fid in due:
            del self._deletions[fid]
        for writers in self._deletions.values():
            writers.discard(file)
        return due

    def renamed(self, source: str, target: str) -> None:
        """Note that what is open there, or below, has another path from now on."""
        for file in self.open_files:
            if self._same(file.path, source):
                file.path = target
            elif self._same(file.path[: len(source) + 1], source + "/"):
                file.path = target + file.path[len(source) :]

    def _same(self, path: str, other: str) -> bool:
        return path == other if self.posix else path.casefold() == other.casefold()

    # --- requests -----------------------------------------------------------------------------------------------------

    @property
    def separator(self) -> str:
        return "/" if self.posix else "\\"

    def wire_path(self, path: str) -> str:
        """Return `path` as the server spells it: from the share's root, which is a lone separator.

        Raises NotFound for a name that would be taken for several, because the server's separator is in it.
        """
        if self.posix:
            return "/" + path
        if "\\" in path:
            raise status.error(NtStatus.OBJECT_NAME_INVALID, "spell", path)
        return "\\" + path.replace("/", "\\")

    def submit(
        self, *chain: Message, payload: Sequence[Buffer] = (), moves: int = 0, urgent: bool = False
    ) -> Smb1Exchange:
        """Queue one command or one chain of this tree and have it sent; nobody need wait for it."""
        exchange = self.engine.submit(chain, tree=self.tree, payload=payload, moves=moves, urgent=urgent)
        self.connection.post()
        return exchange

    def transact2(
        self, subcommand: int, parameters: bytes, *, max_parameters: int, max_data: int = PAGE_SIZE, data: bytes = b""
    ) -> Smb1Exchange:
        """Queue a TRANSACTION2 of this tree and have it sent."""
        request = TransactionRequest(
            command=Command.TRANSACTION2,
            setup=(subcommand,),
            parameters=parameters,
            data=data,
            total_parameter_count=len(parameters),
            total_data_count=len(data),
            max_parameter_count=max_parameters,
            max_data_count=max_data,
        )
        exchange = self.engine.transact(request, tree=self.tree)
        self.connection.post()
        return exchange

    def query_path(self, level: int, path: str, *, max_data: int = PAGE_SIZE) -> Smb1Exchange:
        """Queue a QUERY_PATH_INFORMATION and have it sent."""
        request = QueryPathRequest(level, self.wire_path(path))
        return self.transact2(
            request.subcommand,
            request.encode(self.strings),
            max_parameters=EaErrorResponse.SIZE,
            max_data=max_data,
        )

    def set_path(self, level: int, path: str, data: bytes, *, max_data: int = 0) -> Smb1Exchange:
        """Queue a SET_PATH_INFORMATION and have it sent."""
        request = SetPathRequest(level, self.wire_path(path))
        return self.transact2(
            request.subcommand,
            request.encode(self.strings),
            data=data,
            max_parameters=EaErrorResponse.SIZE,
            max_data=max_data,
        )

    def set_file(self, level: int, fid: int, data: bytes) -> Smb1Exchange:
        """Queue a SET_FILE_INFORMATION and have it sent."""
        request = SetFileRequest(fid, level)
        return self.transact2(
            request.subcommand, request.encode(), data=data, max_parameters=EaErrorResponse.SIZE, max_data=0
        )

    def nt_transact(
        self,
        function: NtFunction,
        parameters: bytes,
        *,
        setup: bytes = b"",
        data: bytes = b"",
        max_parameters: int = 0,
        max_data: int = 0,
        standing: bool = False,
    ) -> Smb1Exchange:
        """Queue an NT_TRANSACT of this tree and have it sent; `standing`: it may never be answered."""
        request = NtTransactRequest(
            function=function,
            setup=setup,
            parameters=parameters,
            data=data,
            total_parameter_count=len(parameters),
            total_data_count=len(data),
            max_parameter_count=max_parameters,
            max_data_count=max_data,
        )
        exchange = self.engine.transact(request, tree=self.tree, standing=standing)
        self.connection.post()
        return exchange

    async def perform(self, exchange: Smb1Exchange, *, patient: bool = False) -> Sequence[Reply]:
        """Wait for all replies of `exchange`; `patient`: as long as another client may hold it up.

        SMB1 has no interim response that would tell the two apart.
        Raises: ConnectionLost, Timeout.
        """
        timeo_s = max(self.connection.timeo_s, OTHERS_PATIENCE_S) if patient else None
        return await self.connection.perform(exchange, timeo_s=timeo_s)

    async def perform_one(self, exchange: Smb1Exchange, *, patient: bool = False) -> Reply:
        """Wait for the only reply of `exchange`; see `perform`.  Raises: ConnectionLost, Timeout."""
        (reply,) = await self.perform(exchange, patient=patient)
        return reply

    async def succeed(self, exchange: Smb1Exchange, path: str, operation: str = "") -> None:
        """Wait, patiently, for the only reply of `exchange`, which must be a success; see `perform`.

        `operation`, if the command's name does not say it, and `path` are for the message.
        Raises besides: what the request was refused with.
        """
        reply = await self.perform_one(exchange, patient=True)
        if reply.status != NtStatus.SUCCESS:
            raise status.error(reply.status, operation or exchange.label, path)
