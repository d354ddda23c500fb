"""What a relay does to the bytes of one direction, told apart from how it gets them.

Every kind of harm is counted where it strikes: a test that did no harm has proven nothing.
"""

import contextlib
import fcntl
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

import trio

Manner = Literal["fin", "rst"]
Fault = Literal[
    "cut",
    "swallow",
    "hold",
    "delay",
    "throttle",
    "trickle",
    "flip",
    "refuse",
    "forget",
    "deny",
    "ignore",
    "lead",
    "move",
]

FLIPPED: Final = 0x20  # the bit of a byte that `flip` turns: neither a sign nor a parity
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close() sends RST

_SIOCOUTQNSD: Final = 0x894B  # bytes that the kernel has not sent; Python has no name for it
_QUEUED: Final = struct.Struct("i")


@dataclass(slots=True)
class Harm:
    """What is being done to one direction of all connections; `struck` is shared with the other one."""

    struck: Counter[Fault]
    swallow: bool = False
    gate: trio.Event | None = None  # bytes wait here while it is not set
    trickle: float = 0  # so many bytes go in segments of their own
    rate: float | None = None  # bytes a second
    cut_after: int | None = None  # bytes that may still pass
    cut_manner: Manner = "fin"
    flip_at: int | None = None  # bytes that pass before the one that is changed
    _next_free_s: float = field(default=0.0, init=False)  # a throttled direction is busy until then

    def heal(self) -> None:
        """Do nothing to what comes from now on, but for its rate; what waits goes on."""
        if self.gate is not None:
            self.gate.set()
        self.gate, self.swallow, self.trickle = None, False, 0
        self.cut_after = self.flip_at = None

    async def passed(self, count: int) -> bool:
        """Wait at the gate, and tell whether `count` bytes come through or vanish."""
        while self.gate is not None:
            self.struck["hold"] += 1
            await self.gate.wait()
        if self.swallow:
            self.struck["swallow"] += count
        return not self.swallow

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the chunk in pieces that leave one by one; what is set meanwhile holds for the rest."""
        at = 0
        while at < len(chunk):
            # A throttled chunk goes in pieces of a twentieth of a second: a slow link is slow, it does not stutter.
            step = len(chunk) if self.rate is None else max(1, int(self.rate / 20))
            if self.trickle:
                step = 1
                self.trickle -= 1
                self.struck["trickle"] += 1
            piece = chunk[at : at + step]
            at += len(piece)
            yield self._flipped(piece)

    async def in_turn(self, count: int) -> None:
        """Wait until a throttled direction has carried `count` bytes more."""
        if self.rate is None:
            return
        self.struck["throttle"] += 1
        self._next_free_s = max(self._next_free_s, trio.current_time()) + count / self.rate
        await trio.sleep_until(self._next_free_s)

    def within_cut(self, piece: bytes) -> tuple[bytes, bool]:
        """Return what of a piece may still pass, and whether the connection is cut behind it."""
        if self.cut_after is None:
            return piece, False
        if len(piece) < self.cut_after:
            self.cut_after -= len(piece)
            return piece, False
        rest, self.cut_after = piece[: self.cut_after], None
        return rest, True

    async def segment_sent(self, sink: trio.socket.SocketType) -> None:
        """Wait, while bytes go one by one, until the kernel has sent the last one: it would join the next to it."""
        while self.trickle and _unsent(sink):  # noqa: ASYNC110  # the kernel has no event for it
            await trio.sleep(0.0005)

    def _flipped(self, piece: bytes) -> bytes:
        if self.flip_at is None:
            return piece
        if self.flip_at >= len(piece):
            self.flip_at -= len(piece)
            return piece
        changed = bytearray(piece)
        changed[self.flip_at] ^= FLIPPED
        self.flip_at = None
        self.struck["flip"] += 1
        return bytes(changed)


@dataclass(slots=True, eq=False)
class Flow:
    """One client's connection and its twin to the server."""

    number: int
    client: trio.socket.SocketType
    server: trio.socket.SocketType
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    forgotten: frozenset[bool] = frozenset()  # the directions, by to_server, in which nothing passes any more
    resets: bool = False  # what the client sends is answered with RST
    denied: int | None = None  # the status that all requests are answered with
    manner: Manner = "fin"

    def cut(self, manner: Manner) -> None:
        """End both connections soon."""
        self.manner = manner
        self.scope.cancel()

    def close(self) -> None:
        """Close both sockets, as the manner of the cut has it."""
        for one in (self.client, self.server):
            if self.manner == "rst":
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            one.close()


def somewhere(within: int, seed: str) -> int:
    """Return a number of bytes from 1 to `within`, the same for the same seed."""
    return random.Random(seed).randint(1, within)


def _unsent(sink: trio.socket.SocketType) -> int:
    return int(_QUEUED.unpack(fcntl.ioctl(sink.fileno(), _SIOCOUTQNSD, bytes(_QUEUED.size)))[0])
