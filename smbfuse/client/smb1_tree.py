"""A connected SMB1 tree: how requests of one share are made, and what was learnt about its server so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from smbfuse.client.smb1_levels import ALL_AND_ID, CORE_QUERY, Ladder
from smbfuse.engine.smb1 import Reply, Smb1Engine, Smb1Exchange, Tree
from smbfuse.share import Features, Limits
from smbfuse.wire.smb1.header import Command, Flags
from smbfuse.wire.smb1.levels import PathLevel, UnixCapabilities
from smbfuse.wire.smb1.listing import FindLevel
from smbfuse.wire.smb1.negotiate import Capabilities
from smbfuse.wire.smb1.transaction import TransactionRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smbfuse.client.connection import Connection
    from smbfuse.client.smb1_negotiation import Negotiated
    from smbfuse.config import Network
    from smbfuse.wire.smb1.message import Message, Strings

MAX_BUFFER_SIZE: Final = 0xFFFF  # ours: what one response may be, reads with CAP_LARGE_READX apart
PAGE_SIZE: Final = 0xFFFF  # MaxDataCount has 16 bits
LARGE_READ: Final = 124 * 1024  # the largest multiple of 4 KiB in a message of 17-bit length
UNIX_LARGE_READ: Final = (16 << 20) - 4096  # in one of 24 bits
READ_OVERHEAD: Final = 64  # header, words and pad of a READ_ANDX response
SMALLEST_READ: Final = 512
_READ_STEP: Final = 512


class Smb1Tree:
    """What the operations of one share have in common. Knows the server's quirks as far as they have shown."""

    def __init__(
        self, connection: Connection, engine: Smb1Engine, negotiated: Negotiated, tree: Tree, network: Network
    ) -> None:
        self.connection = connection
        self.engine = engine
        self.tree = tree
        self.unix = UnixCapabilities(0)
        self.opens_nt = network.smb1_open_nt and negotiated.has(Capabilities.NT_SMBS)
        self.chains = True  # the server executes AndX chains
        self._negotiated = negotiated
        self._rsize = network.rsize
        passes_through = negotiated.has(Capabilities.INFOLEVEL_PASSTHRU) and negotiated.has(Capabilities.NT_SMBS)
        stat_levels: list[int] = [PathLevel.QUERY_FILE_ALL_INFO, PathLevel.INFO_STANDARD, CORE_QUERY]
        find_levels: list[int] = [FindLevel.FULL_DIRECTORY_INFO, FindLevel.INFO_STANDARD]
        if passes_through:
            stat_levels[:0] = [PathLevel.PASS_THROUGH_ALL, ALL_AND_ID]
            find_levels.insert(0, FindLevel.ID_FULL_DIRECTORY_INFO)
        self.stat_ladder = Ladder(stat_levels)
        self.find_ladder = Ladder(find_levels)
        self._largest_read = self._negotiated_read()

    def adopt_unix(self, capabilities: UnixCapabilities) -> None:
        """Use the UNIX extensions from now on, as far as they were agreed on."""
        self.unix = capabilities
        self._largest_read = self._negotiated_read()
        if capabilities & UnixCapabilities.POSIX_PATHNAMES:
            # The server's own stat, and its own idea of upper and lower case.
            self.tree = Tree(self.tree.tid, self.tree.flags & ~Flags.CASE_INSENSITIVE)
            self.stat_ladder = Ladder([PathLevel.UNIX_INFO2, PathLevel.UNIX_BASIC])
            self.find_ladder = Ladder([FindLevel.UNIX_INFO2, FindLevel.UNIX])

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
    def gives_ids(self) -> bool:
        """Whether both attributes and listings tell a file's id. One alone would make one file look like two."""
        return self.posix or (
            self.stat_ladder.level in (PathLevel.PASS_THROUGH_ALL, ALL_AND_ID)
            and self.find_ladder.level == FindLevel.ID_FULL_DIRECTORY_INFO
        )

    @property
    def features(self) -> Features:
        if self.posix:
            return Features.POSIX | Features.SYMLINKS | Features.CASE_SENSITIVE
        return Features.SYMLINKS if self.has(Capabilities.NT_SMBS) else Features.NONE

    @property
    def limits(self) -> Limits:
        return Limits(
            read=self._largest_read,
            write=self._negotiated.answer.max_buffer_size - READ_OVERHEAD,
            transact=PAGE_SIZE,
            in_flight=max(1, self.engine.window.capacity),
        )

    def has(self, capability: Capabilities) -> bool:
        """Tell whether the server has `capability`."""
        return self._negotiated.has(capability)

    def reads_at_most(self, length: int) -> None:
        """Note that a READ_ANDX in the middle of a file brought only so much: asking for more is in vain."""
        if length >= SMALLEST_READ:
            self._largest_read = min(self._largest_read, length - length % _READ_STEP)

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
        return max(min(most, self._rsize) // _READ_STEP * _READ_STEP, SMALLEST_READ)

    # --- requests -----------------------------------------------------------------------------------------------------

    @property
    def separator(self) -> str:
        return "/" if self.posix else "\\"

    def wire_path(self, path: str) -> str:
        """Return `path` as the server spells it: from the share's root, which is a lone separator."""
        return "/" + path if self.posix else "\\" + path.replace("/", "\\")

    def submit(self, *chain: Message, bulk: bool = False, urgent: bool = False) -> Smb1Exchange:
        """Queue one command or one chain of this tree and have it sent; nobody need wait for it."""
        exchange = self.engine.submit(chain, tree=self.tree, bulk=bulk, urgent=urgent)
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

    async def perform(self, exchange: Smb1Exchange) -> Sequence[Reply]:
        """Wait for all replies of `exchange`.  Raises: ConnectionLost, Timeout."""
        return await self.connection.perform(exchange)

    async def perform_one(self, exchange: Smb1Exchange) -> Reply:
        """Wait for the only reply of `exchange`.  Raises: ConnectionLost, Timeout."""
        (reply,) = await self.connection.perform(exchange)
        return reply
