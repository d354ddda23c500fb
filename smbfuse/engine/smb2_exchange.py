"""What is submitted to the SMB2 engine, what comes back, and what is remembered of it on its way."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from smbfuse.engine.exchange import Exchange
from smbfuse.engine.flow import Departure
from smbfuse.errors import DecodeError
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb2.header import RELATED_FILE_ID, Command
from smbfuse.wire.smb2.message import HEADER_SIZE

# Where a request that may follow a CREATE carries its FileId, from the start of the body.
_FILE_ID_AT: Final = {
    Command.CLOSE: 8,
    Command.FLUSH: 8,
    Command.READ: 16,
    Command.WRITE: 16,
    Command.IOCTL: 8,
    Command.QUERY_DIRECTORY: 8,
    Command.QUERY_INFO: 24,
    Command.SET_INFO: 16,
}
_CREATED_FILE_ID_AT: Final = HEADER_SIZE + 64  # in a CREATE response
_FILE_ID_SIZE: Final = len(RELATED_FILE_ID)


class Request(NamedTuple):
    """One element of an exchange: `payload` is the larger of the bytes sent and of those that may come back.

    `data` goes out behind `body` as it is, never copied: nobody may change it until the exchange has ended. `replay`:
    it was sent before and may have been executed, which is said to servers of 3.x.
    """

    command: Command
    body: bytes
    payload: int = 0
    data: Sequence[Buffer] = ()
    replay: bool = False

    def with_file_id(self, file_id: bytes) -> bytes:
        """Return the body with `file_id` in place of "the file just opened"."""
        at = _FILE_ID_AT[self.command]
        if self.body[at : at + _FILE_ID_SIZE] != RELATED_FILE_ID:
            return self.body
        return self.body[:at] + file_id + self.body[at + _FILE_ID_SIZE :]


class Reply(NamedTuple):
    """One response. `element` begins at its header and is the receiver's to keep."""

    status: int
    element: memoryview
    session_id: int
    tree_id: int

    def created_file_id(self) -> bytes:
        """Return the FileId of a successful CREATE response; raises DecodeError."""
        file_id = bytes(self.element[_CREATED_FILE_ID_AT : _CREATED_FILE_ID_AT + _FILE_ID_SIZE])
        if len(file_id) < _FILE_ID_SIZE:
            raise DecodeError(f"CREATE response of {len(self.element)} bytes")
        return file_id


class Tree(NamedTuple):
    """A connected tree, as requests name it."""

    tree_id: int
    seal: bool  # the share demands encryption


NO_TREE: Final = Tree(0, seal=False)


class Smb2Exchange(Exchange[Reply]):
    """An exchange with what the engine must know of it. For everybody else it is an `Exchange[Reply]`.

    `replies` has one entry for each request; in an unrolled compound it ends with a CREATE that failed.
    `on_first_reply` is given the final reply to the first request the moment it arrives, before anything that the
    server has sent after it is looked at: what a CREATE grants is known before it can break.
    """

    __slots__ = (
        "answers",
        "bulk",
        "costs",
        "file_id",
        "on_first_reply",
        "requests",
        "signed",
        "tree",
        "under_way",
        "urgent",
    )

    def __init__(
        self,
        sequence: int,
        requests: Sequence[Request],
        costs: Sequence[int],
        tree: Tree,
        *,
        bulk: bool,
        urgent: bool,
        signed: bool,
    ) -> None:
        super().__init__(sequence, "+".join(request.command.name for request in requests))
        self.requests = requests
        self.costs = costs  # credits that each of them takes
        self.tree = tree
        self.bulk = bulk
        self.urgent = urgent
        self.signed = signed  # whatever the session says
        self.answers: dict[int, Reply] = {}
        self.under_way = 0  # requests of it that are in flight
        self.file_id: bytes | None = None  # of the CREATE in an unrolled compound
        self.on_first_reply: Callable[[Reply], None] | None = None


class Pending:
    """A request on its way: what its response must be, and what it holds."""

    __slots__ = (
        "async_id",
        "command",
        "cost",
        "departure",
        "exchange",
        "extra",
        "guarded",
        "index",
        "message_id",
        "sealed",
        "signed",
    )

    def __init__(
        self,
        exchange: Smb2Exchange,
        index: int,
        message_id: int,
        departure: Departure,
        *,
        cost: int,
        extra: int,
        guarded: bool,
        signed: bool,
        sealed: bool,
    ) -> None:
        self.exchange = exchange
        self.index = index
        self.command = exchange.requests[index].command
        self.message_id = message_id
        self.departure = departure
        self.cost = cost
        self.extra = extra  # credits asked for beyond the cost; negative: fewer
        self.guarded = guarded  # sent after the login: then the session's rules hold for the response
        self.signed = signed
        self.sealed = sealed
        self.async_id: int | None = None
