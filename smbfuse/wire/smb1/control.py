"""Messages about the connection itself: ECHO, NT_CANCEL, and the server's oplock breaks.

[MS-CIFS] 2.2.4.32, 2.2.4.39, 2.2.4.65.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Final

from smbfuse.wire.record import record
from smbfuse.wire.smb1.header import Command
from smbfuse.wire.smb1.message import Block, PlainMessage, Strings, encode_block

_ECHO: Final = Struct("<H")
_LOCKING: Final = Struct("<HBBIHH")

OPLOCK_RELEASE: Final = 0x02  # a bit of TypeOfLock
BREAK_TO_NONE: Final = 0  # NewOpLockLevel, of a break and of its acknowledgment
BREAK_TO_LEVEL_II: Final = 1


@dataclass(frozen=True, slots=True)
class EchoMessage:
    """ECHO: `number` is how many responses a request wants, and which of them a response is; `data` comes back."""

    number: int
    data: bytes

    command: ClassVar[int] = Command.ECHO

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        return encode_block(self.command, _ECHO.pack(self.number), self.data)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> EchoMessage:
        """Read a request or a response."""
        (number,) = _ECHO.unpack(block.want_words(_ECHO.size, cls.__name__))
        return cls(number, bytes(block.data))


@record()
class NtCancelRequest(PlainMessage):
    """NT_CANCEL: its header carries the MID of the request that is given up; it has no answer of its own."""

    command: ClassVar[int] = Command.NT_CANCEL


@dataclass(frozen=True, slots=True)
class LockingRequest:
    """LOCKING_ANDX. With OPLOCK_RELEASE in `type_of_lock` it breaks an oplock, or acknowledges the break.

    The ranges are kept as they lie there: this client asks for none.
    """

    fid: int
    type_of_lock: int
    new_oplock_level: int
    timeout: int
    number_of_unlocks: int
    number_of_locks: int
    ranges: bytes

    command: ClassVar[int] = Command.LOCKING_ANDX

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        words = _LOCKING.pack(
            self.fid,
            self.type_of_lock,
            self.new_oplock_level,
            self.timeout,
            self.number_of_unlocks,
            self.number_of_locks,
        )
        return encode_block(self.command, words, self.ranges)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> LockingRequest:
        """Read a request."""
        words = _LOCKING.unpack(block.want_words(_LOCKING.size, cls.__name__))
        return cls(*(*words, bytes(block.data)))
