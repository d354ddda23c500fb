"""What the SMB1 engine is asked and what it answers: trees, replies, and exchanges under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from smbfuse.engine.exchange import Exchange
from smbfuse.engine.transactions import Assembly
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb1.header import NO_TID, Command, Flags
from smbfuse.wire.smb1.message import Block

_EMPTY: Final = memoryview(b"")


class Reply(NamedTuple):
    """One command's response. The memory is the receiver's to keep.

    A chain that failed ends with the reply that says so. Of a transaction, `parameters` and `data` are all its parts
    together and `block` is the last one's.
    """

    status: int  # NTSTATUS; a DOS error is given as the NTSTATUS of the same meaning
    block: Block
    uid: int
    tid: int
    parameters: memoryview = _EMPTY
    data: memoryview = _EMPTY


class Tree(NamedTuple):
    """A connected tree, as requests name it, and how names are to be taken there."""

    tid: int
    flags: int


NO_TREE: Final = Tree(NO_TID, int(Flags.CASE_INSENSITIVE | Flags.CANONICALIZED_PATHS))


class Oplocks(Protocol):
    """Who is told of the server's oplock breaks. Both calls come from inside `arrived` and `lost`."""

    def broken(self, fid: int, level: int) -> None:
        """Hear that the oplock of `fid` is broken to `level`: 0 is none, 1 is Level II.  [MS-CIFS] 2.2.4.32.1."""
        ...

    def lost(self) -> None:
        """Hear that the connection has ended, and every oplock with it. May be told more than once."""
        ...


class Smb1Exchange(Exchange[Reply]):
    """An exchange with what the engine must know of it. For everybody else it is an `Exchange[Reply]`."""

    __slots__ = ("assembly", "bulk", "commands", "later", "message", "moves", "payload", "urgent")

    def __init__(
        self,
        sequence: int,
        message: bytearray,
        commands: Sequence[int],
        *,
        payload: Sequence[Buffer] = (),
        moves: int = 0,
        urgent: bool = False,
    ) -> None:
        super().__init__(sequence, "+".join(Command(command).name for command in commands))
        self.message = message
        self.payload = payload  # what the message goes on with, from where it lies
        self.commands = commands
        self.moves = moves  # bytes that a read or write may move; 0 for what is neither
        self.bulk = moves > 0
        self.urgent = urgent
        self.later: list[bytearray] = []  # messages to follow when the server asks for them
        self.assembly: Assembly | None = None
