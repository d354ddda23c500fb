"""What passed a relay: whole session packets with their times, and what can be counted in them.

A packet is told by its 4-byte session header alone (RFC 1002 4.3.1), so a record knows 445 and 139, SMB1 and SMB2,
plain and sealed. Nothing here uses the product's own decoders: a record is evidence about them.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

HEADER_SIZE: Final = 4
SESSION_MESSAGE: Final = 0x00
SMB1_ID: Final = b"\xffSMB"
SMB2_ID: Final = b"\xfeSMB"


@dataclass(slots=True)
class Pdu:
    """One session packet. Times are seconds since the relay began."""

    connection: int  # counted from 0
    to_server: bool
    kind: int  # 0x00 is a session message, 0x81 a session request …
    length: int  # bytes behind the session header
    data: bytes  # the packet behind its header; its start only, if the record keeps no more
    arrived_s: float  # its last byte came to the relay
    left_s: float | None = None  # its last byte went on; None: held, swallowed or cut

    @property
    def framed(self) -> bytes:
        """The packet with its session header, if all of it was kept."""
        return struct.pack(">I", self.kind << 24 | self.length) + self.data

    @property
    def identity(self) -> int | None:
        """What joins a reply to its request: SMB2's MessageId, SMB1's PID and MID; None where it cannot be read."""
        if self.kind != SESSION_MESSAGE:
            return None
        if self.data.startswith(SMB2_ID) and len(self.data) >= 32:
            return int(struct.unpack_from("<Q", self.data, 24)[0])
        if self.data.startswith(SMB1_ID) and len(self.data) >= 32:
            return int(struct.unpack_from("<H", self.data, 30)[0])
        return None


def requests(pdus: Iterable[Pdu]) -> int:
    """Count the session messages that went to the server. A compound is one."""
    return sum(pdu.to_server and pdu.kind == SESSION_MESSAGE for pdu in pdus)


def commands(pdus: Iterable[Pdu]) -> list[tuple[int, bool]]:
    """Return each command sent to the server, those of a compound too, and whether its answer was a success.

    SMB1's are bytes, SMB2's words. For messages in the clear, of one connection.
    """
    sent: list[tuple[int, bytes]] = []
    statuses: dict[bytes, int] = {}
    for pdu in pdus:
        if pdu.kind != SESSION_MESSAGE:
            continue
        if pdu.data.startswith(SMB1_ID):
            key = pdu.data[30:32]
            if pdu.to_server:
                sent.append((pdu.data[4], key))
            else:
                statuses[key] = struct.unpack_from("<I", pdu.data, 5)[0]
            continue
        at = 0
        while pdu.data[at : at + 4] == SMB2_ID:
            key = pdu.data[at + 24 : at + 32]
            if pdu.to_server:
                sent.append((struct.unpack_from("<H", pdu.data, at + 12)[0], key))
            else:
                statuses[key] = struct.unpack_from("<I", pdu.data, at + 8)[0]
            (following,) = struct.unpack_from("<I", pdu.data, at + 20)
            if not following:
                break
            at += following
    return [(command, statuses.get(key) == 0) for command, key in sent]


def dependent_round_trips(pdus: Iterable[Pdu]) -> int:
    """Return the length of the longest chain of requests of which each was sent after the reply to the one before.

    This is what latency costs: requests sent together count once. A request depends on every reply that had left the
    relay when it came, so the figure is exact if the relay delays (a request on its way cannot be mistaken for an
    answer to what crosses it) and too high, never too low, if it does not.
    """
    depth_of: dict[tuple[int, int | None], int] = {}
    latest = 0  # the deepest request so far: what a reply without identity is taken to answer
    delivered: list[tuple[float, int]] = []
    reached = 0
    for pdu in sorted(pdus, key=lambda pdu: pdu.arrived_s):
        key = (pdu.connection, pdu.identity)
        if pdu.to_server:
            ready = [entry for entry in delivered if entry[0] <= pdu.arrived_s]
            if ready:
                reached = max(reached, *(depth for _, depth in ready))
                delivered = [entry for entry in delivered if entry[0] > pdu.arrived_s]
            depth_of[key] = reached + 1
            latest = max(latest, reached + 1)
        elif pdu.left_s is not None:
            delivered.append((pdu.left_s, depth_of.get(key, latest) if key[1] is not None else latest))
    return latest


@dataclass(slots=True)
class PacketStream:
    """One direction of one connection: bytes in, whole packets out, and the times when they left.

    `keep` bounds how many bytes of a packet are kept: enough for the headers, or all of it.
    """

    connection: int
    to_server: bool
    keep: int
    pdus: list[Pdu] = field(default_factory=list)
    _pending: bytearray = field(default_factory=bytearray)
    _missing: int = 0  # bytes of the current packet that are not worth keeping and have not come
    _head: tuple[int, int] | None = None  # kind and length of the packet under way
    _came: int = 0
    _gone: int = 0
    _ends: list[tuple[int, Pdu]] = field(default_factory=list)

    @property
    def between(self) -> bool:
        """Whether the last packet is whole, and nothing of the next one has come."""
        return self._head is None and not self._pending

    def arrived(self, chunk: bytes, now: float) -> Sequence[Pdu]:
        """Take bytes that came; return the packets that they complete."""
        complete: list[Pdu] = []
        view = memoryview(chunk)
        while view:
            if self._missing:
                skipped = min(self._missing, len(view))
                self._missing -= skipped
                self._came += skipped
                view = view[skipped:]
                if not self._missing:
                    complete.append(self._finish(now))
                continue
            if self._head is None:
                wanted = HEADER_SIZE - len(self._pending)
            else:
                wanted = min(self._head[1], self.keep) - len(self._pending)
            taken = view[:wanted]
            self._pending += taken
            self._came += len(taken)
            view = view[len(taken) :]
            if len(taken) < wanted:
                break
            if self._head is None:
                word = int.from_bytes(self._pending, "big")
                self._pending.clear()
                self._head = (word >> 24, word & 0xFFFFFF)
                if self._head[1]:
                    continue
            self._missing = self._head[1] - len(self._pending)
            if not self._missing:
                complete.append(self._finish(now))
        return complete

    def left(self, count: int, now: float) -> None:
        """Note that `count` more bytes went on."""
        self._gone += count
        while self._ends and self._ends[0][0] <= self._gone:
            self._ends.pop(0)[1].left_s = now

    def _finish(self, now: float) -> Pdu:
        assert self._head is not None
        kind, length = self._head
        pdu = Pdu(self.connection, self.to_server, kind, length, bytes(self._pending), now)
        self._head = None
        self._pending.clear()
        self._ends.append((self._came, pdu))
        self.pdus.append(pdu)
        return pdu
