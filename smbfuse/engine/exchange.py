"""What both engines have in common: an exchange under way, and the face that a connection sees.

An engine is protocol state without I/O: no trio, no socket, no clock ("now" is an argument, seconds of any monotonic
clock). The connection carries bytes:

    exchange = engine.submit(...)        # dialect's own signature; may wait inside for credits
    for buffers in engine.outgoing(): …  # framed PDUs that may leave now, in this order
    engine.arrived(pdu)                  # one whole PDU, without its 4-byte session header
    engine.lost(error)                   # the connection has ended: every exchange ends with it

Exchanges are completed inside `arrived` and `lost`, by calling `Exchange.on_done`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from smbfuse.engine.flow import Flow
from smbfuse.errors import SmbError
from smbfuse.wire.record import Buffer

ReplyT = TypeVar("ReplyT")


class Exchange(Generic[ReplyT]):
    """One request (or compound, or transaction) and what became of it.

    `sequence` counts submissions on the connection: deadlines run from the last progress of this exchange or of an
    earlier one. `in_hand`: the server has said that it is at work on it, and another client may be what keeps it.
    `sent` tells whether any byte of it may have left. Exactly one of `error` and `replies` is meaningful
    once `done`; a reply carries its own status, so an error status from the server is a reply, not an `error`.
    `standing`: it is answered when something happens, perhaps never; see `credits.Window`.
    """

    __slots__ = ("abandoned", "done", "error", "in_hand", "label", "on_done", "replies", "sent", "sequence", "standing")

    def __init__(self, sequence: int, label: str) -> None:
        self.sequence = sequence
        self.label = label  # command names, for logs and errors: "CREATE+READ"
        self.replies: list[ReplyT] = []
        self.error: SmbError | None = None
        self.done = False
        self.sent = False
        self.in_hand = False
        self.abandoned = False
        self.standing = False
        self.on_done: Callable[[], None] | None = None

    def finish(self, error: SmbError | None = None) -> None:
        """End the exchange once; later calls change nothing."""
        if self.done:
            return
        self.error = error
        self.done = True
        if self.on_done is not None:
            self.on_done()

    def __repr__(self) -> str:
        state = "done" if self.done else "sent" if self.sent else "queued"
        return f"<Exchange #{self.sequence} {self.label} {state}>"


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """Counters of one engine since its connection was made."""

    requests: int
    round_trips: int  # requests that a reply was waited for; a compound counts once
    in_flight: int
    queued: int  # exchanges waiting for credits
    credits: int  # free places in the window


class Engine(Protocol):
    """The face of `Smb1Engine` and `Smb2Engine` towards the connection."""

    @property
    def flow(self) -> Flow:
        """What bounds reads and writes on their way; the connection sets its `now` before each call below."""
        ...

    @property
    def loaded(self) -> bool:
        """Whether anything waits to leave: `outgoing` may have something, if the window and the flow admit it."""
        ...

    def outgoing(self) -> Sequence[Sequence[Buffer]]:
        """Return the PDUs that may leave now, each a list of buffers that begins with its session header.

        The caller sends all of them, in order, and nothing in between; they are counted as sent from this call on.
        """
        ...

    def arrived(self, pdu: memoryview) -> None:
        """Take one whole PDU from the server. The memory is the engine's to keep and to change in place.

        Raises ProtocolError (DecodeError among them) if the connection cannot be trusted any longer.
        """
        ...

    def owner(self, prefix: memoryview) -> int | None:
        """Return the `sequence` of the exchange that a PDU beginning with `prefix` (4 to 64 bytes or more) answers.

        None if that cannot be told (sealed, unsolicited, malformed). That one was cancelled is nobody's progress but of
        who comes later: those who have waited as long would wait as long again. Used for deadlines only, never trusted.
        Raises ProtocolError if it begins no message of SMB: to wait for the rest of it would keep everybody waiting.
        """
        ...

    def cancel(self, exchange: Exchange[Any]) -> None:
        """Stop waiting for `exchange`: CANCEL is sent where the protocol has it.

        Its message id, credits and buffers stay held until the final reply; one that was not sent yet never will be.
        """
        ...

    def lost(self, error: SmbError) -> None:
        """End every exchange with `error` (a ConnectionLost is copied for each, with its own `sent`)."""
        ...

    def ping(self) -> Exchange[Any]:
        """Submit an ECHO, and return its exchange."""
        ...

    def statistics(self) -> EngineStatistics: ...
