"""The SMB1 engine: multiplex ids, the MaxMpxCount window, signatures and transactions, without I/O.

An exchange is one message: a command, an AndX chain, or a transaction in as many messages as it takes. It waits in one
of three queues until the window admits it: urgent (echo, logoff), small (metadata) and bulk (reads, writes); small and
bulk take turns. Oplock breaks come unasked for, and their answers leave at once, past the window: whoever waits in it
may be waiting for them. Messages are encoded when they are submitted, so that what cannot be spelled fails there;
multiplex ids and signature numbers are given in the order of sending, in `outgoing`.

[MS-CIFS] 3.2.4.1 (sending), 3.2.5.1 (receiving); [MS-SMB] 3.2.4.1, 3.2.5.1.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from smbfuse.engine.credits import Window
from smbfuse.engine.exchange import EngineStatistics, Exchange
from smbfuse.engine.flow import Departure, Flow
from smbfuse.engine.protect import Smb1Protection
from smbfuse.engine.smb1_exchange import NO_TREE, Oplocks, Reply, Smb1Exchange, Tree
from smbfuse.engine.transactions import Assembly, Request, cut
from smbfuse.errors import ConnectionLost, DecodeError, ProtocolError, SmbError
from smbfuse.status import NtStatus, from_dos
from smbfuse.wire import nbss
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb1.control import OPLOCK_RELEASE, EchoMessage, LockingRequest, NtCancelRequest
from smbfuse.wire.smb1.header import (
    HEADER_SIZE,
    NO_UID,
    PROTOCOL,
    ROUTE,
    UNSOLICITED_MID,
    Command,
    Flags,
    Flags2,
    Header,
    decode_header,
)
from smbfuse.wire.smb1.message import OEM, Message, Strings, decode_chain, encode_message
from smbfuse.wire.smb1.transaction import TransactionPart

log = logging.getLogger(__name__)

FIRST_MAX_BUFFER_SIZE: Final = 4356  # of the server, until it has told; old servers' own default
ECHO_DATA: Final = b"smbfuse"
_NO_SIGNATURE: Final = bytes(8)
_MID_AT: Final = slice(30, 32)
_STATUS_AT: Final = slice(5, 9)
_CANCELLED: Final = int(NtStatus.CANCELLED).to_bytes(4, "little")
_REPLY: Final = int(Flags.REPLY)
_NT_STATUS: Final = int(Flags2.NT_STATUS)
_RESERVE_FROM: Final = 4  # places in the window from which one is kept for an ECHO


class _Pending:
    """An exchange on its way: its multiplex id, and the number that its response is signed with."""

    __slots__ = ("departure", "exchange", "mid", "sequence")

    def __init__(self, exchange: Smb1Exchange, mid: int, departure: Departure) -> None:
        self.exchange = exchange
        self.mid = mid
        self.departure = departure
        self.sequence: int | None = None


class Smb1Engine:
    """The protocol state of one connection that carries one login.

    After NEGOTIATE the session layer calls `adopt`, after each SESSION_SETUP response `login_as`, at the end of the
    login `protect`.
    """

    def __init__(self, *, pid: int) -> None:
        """Begin a connection; `pid` (16 bits) is told to the server as ours, in every request."""
        self.window = Window(1)
        self.flow = Flow()
        self.strings: Strings = OEM
        self.flags2 = int(Flags2.LONG_NAMES)
        self.uid = NO_UID
        self.max_buffer_size = FIRST_MAX_BUFFER_SIZE
        self.protection: Smb1Protection | None = None
        self.oplocks: Oplocks | None = None
        self._can_cancel = False
        self._pid = pid & 0xFFFF
        self._next_mid = 1
        self._sequence = 0
        self._urgent: deque[Smb1Exchange] = deque()
        self._small: deque[Smb1Exchange] = deque()
        self._bulk: deque[Smb1Exchange] = deque()
        self._bulk_turn = False
        self._pending: dict[int, _Pending] = {}
        self._cancels: list[_Pending] = []
        self._told: list[bytearray] = []
        self._continued: list[_Pending] = []
        self._requests = 0
        self._round_trips = 0

    def __repr__(self) -> str:
        return f"<Smb1Engine uid {self.uid}, {self.window}, {len(self._pending)} in flight>"

    # --- what the session layer sets ----------------------------------------------------------------------------------

    def adopt(
        self, *, strings: Strings, flags2: int, max_mpx_count: int, max_buffer_size: int, can_cancel: bool
    ) -> None:
        """Take over what NEGOTIATE gave. Nothing may be in flight."""
        self.strings = strings
        self.flags2 = flags2
        self.max_buffer_size = max_buffer_size
        self._can_cancel = can_cancel
        places = max(max_mpx_count, 1)
        self.window = Window(places, reserve=1 if places >= _RESERVE_FROM else 0)

    def login_as(self, uid: int) -> None:
        """Name the login, or the login under way, in every request from now on."""
        self.uid = uid

    def protect(self, protection: Smb1Protection) -> None:
        """Sign and verify from now on. Nothing may be in flight."""
        self.protection = protection

    # --- the share's side ---------------------------------------------------------------------------------------------

    def submit(
        self,
        chain: Sequence[Message],
        *,
        tree: Tree = NO_TREE,
        payload: Sequence[Buffer] = (),
        moves: int = 0,
        urgent: bool = False,
    ) -> Smb1Exchange:
        """Queue one command, or several as an AndX chain; return the exchange to wait for.

        `payload` is what the last command's data block goes on with; it is sent from where it lies. `moves` is how many
        bytes a read or write may move: these queue by themselves.
        Raises NotFound for a name that the server's code page cannot spell.
        """
        message = encode_message(self._header(chain[0].command, tree), chain, self.strings)
        commands = [part.command for part in chain]
        return self._queue(message, commands, payload=payload, moves=moves, urgent=urgent)

    def transact(self, request: Request, *, tree: Tree, standing: bool = False) -> Smb1Exchange:
        """Queue a transaction, in as many messages as the server's buffer asks for. Its only reply has the whole.

        `standing`: it is answered when something happens, perhaps never.
        """
        first, later = cut(request, self.max_buffer_size)
        message = encode_message(self._header(request.command, tree), (first,), self.strings)
        exchange = self._queue(message, [request.command])
        exchange.later = [encode_message(self._header(part.command, tree), (part,), self.strings) for part in later]
        exchange.assembly = Assembly(request.max_parameter_count, request.max_data_count)
        exchange.standing = standing
        return exchange

    def tell(self, message: Message, *, tree: Tree) -> None:
        """Queue what is never answered and waits for nothing: the acknowledgment of an oplock break."""
        self._told.append(encode_message(self._header(message.command, tree), (message,), self.strings))

    def ping(self) -> Smb1Exchange:
        """Submit an ECHO."""
        return self.submit((EchoMessage(1, ECHO_DATA),), urgent=True)

    def cancel(self, exchange: Exchange[Reply]) -> None:
        """Stop waiting for `exchange`; see `Engine.cancel`."""
        assert isinstance(exchange, Smb1Exchange)
        exchange.abandoned = True
        if exchange.done:
            return
        if not exchange.sent:
            self._queue_of(exchange).remove(exchange)
            exchange.finish(ConnectionLost(f"{exchange.label}: given up before it was sent", sent=False))
            return
        given_up = [pending for pending in self._pending.values() if pending.exchange is exchange]
        for pending in given_up:
            pending.departure = self.flow.given_up(pending.departure)
        if self._can_cancel:
            self._cancels += given_up

    def statistics(self) -> EngineStatistics:
        """Return the counters."""
        return EngineStatistics(
            requests=self._requests,
            round_trips=self._round_trips,
            in_flight=len(self._pending),
            queued=sum(len(queue) for queue in self._queues()),
            credits=self.window.available,
        )

    def _header(self, command: int, tree: Tree) -> Header:
        return Header(command, 0, tree.flags, self.flags2, 0, _NO_SIGNATURE, tree.tid, self._pid, self.uid, 0)

    def _queue(
        self,
        message: bytearray,
        commands: Sequence[int],
        *,
        payload: Sequence[Buffer] = (),
        moves: int = 0,
        urgent: bool = False,
    ) -> Smb1Exchange:
        self._sequence += 1
        exchange = Smb1Exchange(self._sequence, message, commands, payload=payload, moves=moves, urgent=urgent)
        self._queue_of(exchange).append(exchange)
        return exchange

    # --- sending ------------------------------------------------------------------------------------------------------

    @property
    def loaded(self) -> bool:
        """Whether anything waits to leave; see `Engine.loaded`."""
        return any((self._cancels, self._told, self._continued, *self._queues()))

    def outgoing(self) -> list[list[Buffer]]:
        """Return the PDUs that may leave now; see `Engine.outgoing`."""
        pdus = [self._cancel_pdu(pending) for pending in self._cancels if pending.mid in self._pending]
        self._cancels.clear()
        pdus += [self._finished(message, (), self._free_mid())[0] for message in self._told]
        self._told.clear()
        for pending in self._continued:
            # Each takes numbers like any request, though only the last one is answered: [MS-CIFS] 3.2.4.1.3.
            if pending.mid in self._pending:
                pdus += [self._sealed(message, pending) for message in pending.exchange.later]
            pending.exchange.later = []
        self._continued.clear()
        while (exchange := self._admitted()) is not None:
            sent = len(exchange.message) + sum(map(len, exchange.payload))
            pending = _Pending(exchange, self._free_mid(), self.flow.leave(exchange.moves, sent))
            self._pending[pending.mid] = pending
            self.window.take(1, standing=exchange.standing)
            exchange.sent = True
            self._round_trips += 1
            pdus.append(self._sealed(exchange.message, pending, exchange.payload))
            exchange.payload = ()  # the caller's memory, which may be gone when the answer is here
        return pdus

    def _admitted(self) -> Smb1Exchange | None:
        """Take the next exchange that may leave out of its queue."""
        turns = (self._bulk, self._small) if self._bulk_turn else (self._small, self._bulk)
        for queue in (self._urgent, *turns):
            if queue is self._bulk and not self.flow.open:
                continue
            if queue and self.window.admits(1, urgent=queue[0].urgent, bulk=queue[0].bulk):
                self._bulk_turn = queue is self._small
                return queue.popleft()
        return None

    def _free_mid(self) -> int:
        """Return a multiplex id that no request in flight has; 0xFFFF belongs to oplock breaks."""
        while self._next_mid in self._pending or self._next_mid == UNSOLICITED_MID:
            self._next_mid = (self._next_mid + 1) % UNSOLICITED_MID
        mid = self._next_mid
        self._next_mid = (mid + 1) % UNSOLICITED_MID
        return mid

    def _sealed(self, message: bytearray, pending: _Pending, payload: Sequence[Buffer] = ()) -> list[Buffer]:
        """Write multiplex id and signature into an encoded message of `pending`, and frame it."""
        pdu, pending.sequence = self._finished(message, payload, pending.mid)
        return pdu

    def _finished(self, message: bytearray, payload: Sequence[Buffer], mid: int) -> tuple[list[Buffer], int | None]:
        """Return an encoded message with multiplex id and signature, framed, and the number that it is signed with."""
        message[_MID_AT] = mid.to_bytes(2, "little")
        sequence = None
        if self.protection is not None:
            sequence = self.protection.take_sequence()
            self.protection.sign(message, payload, sequence)
        self._requests += 1
        size = len(message) + sum(map(len, payload))
        return [nbss.frame(size), message, *payload], sequence

    def _cancel_pdu(self, pending: _Pending) -> list[Buffer]:
        """Return an NT_CANCEL: it has the multiplex id of what it cancels, and is never answered."""
        given_up = decode_header(pending.exchange.message)
        header = replace(given_up, command=Command.NT_CANCEL, security_features=_NO_SIGNATURE, flags2=self.flags2)
        message = encode_message(header, (NtCancelRequest(),), self.strings)
        if self.protection is not None:
            self.protection.sign(message, (), self.protection.take_sequence(is_cancel=True))
        return [nbss.frame(len(message)), message]

    def _queue_of(self, exchange: Smb1Exchange) -> deque[Smb1Exchange]:
        return self._urgent if exchange.urgent else self._bulk if exchange.bulk else self._small

    def _queues(self) -> Iterator[deque[Smb1Exchange]]:
        return iter((self._urgent, self._small, self._bulk))

    # --- receiving ----------------------------------------------------------------------------------------------------

    def owner(self, prefix: memoryview) -> int | None:
        """Return the sequence of the exchange that a PDU beginning with `prefix` answers; see `Engine.owner`."""
        if bytes(prefix[1:4]) != PROTOCOL[1:]:
            raise ProtocolError(f"a message that is not SMB: {bytes(prefix[:4]).hex()}")
        if len(prefix) < HEADER_SIZE or bytes(prefix[:4]) != PROTOCOL:
            return None
        pending = self._pending.get(int.from_bytes(prefix[_MID_AT], "little"))
        if pending is None:
            return None
        given_up = pending.exchange.abandoned and prefix[_STATUS_AT] == _CANCELLED
        return self._sequence + 1 if given_up else pending.exchange.sequence

    def arrived(self, pdu: memoryview) -> None:
        """Take one whole PDU; see `Engine.arrived`."""
        if len(pdu) < HEADER_SIZE or bytes(pdu[:4]) != PROTOCOL:
            raise DecodeError(f"a message that is not SMB1: {bytes(pdu[:4]).hex()}, {len(pdu)} bytes")
        _, command, status, flags, flags2, pid_high, tid, pid_low, uid, mid = ROUTE.unpack_from(pdu)
        if not flags & _REPLY:
            self._take_break(pdu, command, mid)
            return
        pending = self._pending.get(mid)
        if pending is None and command == Command.LOCKING_ANDX:
            return  # to the acknowledgment of a break, which servers are not to answer: [MS-CIFS] 3.3.5.30
        if pending is None or (pid_high, pid_low) != (0, self._pid):
            raise ProtocolError(f"an answer to a request that was never made (command 0x{command:02X}, MID {mid})")
        if command != pending.exchange.commands[0]:
            raise ProtocolError(f"an answer of command 0x{command:02X} to {pending.exchange.label}")
        if pending.sequence is not None and self.protection is not None:
            self.protection.check(pdu, pending.sequence + 1)
        if not flags2 & _NT_STATUS:
            status = from_dos(status)
        blocks = decode_chain(pdu, command)
        if pending.exchange.assembly is not None:
            self._take_part(pending, pending.exchange.assembly, Reply(status, blocks[0], uid, tid), len(pdu))
            return
        if [block.command for block in blocks] != list(pending.exchange.commands[: len(blocks)]):
            raise ProtocolError(f"an answer to {pending.exchange.label} with other commands in its chain")
        # The header's status is that of the last command executed; those before it succeeded.
        replies = [Reply(0, block, uid, tid) for block in blocks[:-1]]
        self._complete(pending, [*replies, Reply(status, blocks[-1], uid, tid)], len(pdu))

    def lost(self, error: SmbError) -> None:
        """End every exchange with `error`; see `Engine.lost`. Callable again."""
        exchanges = [pending.exchange for pending in self._pending.values()]
        exchanges += [queued for queue in self._queues() for queued in queue]
        self._pending.clear()
        self._cancels.clear()
        self._told.clear()
        self._continued.clear()
        for queue in self._queues():
            queue.clear()
        for exchange in exchanges:
            own = error.of_request(sent=exchange.sent) if isinstance(error, ConnectionLost) else error
            exchange.finish(own)
        if self.oplocks is not None:
            self.oplocks.lost()

    def _take_part(self, pending: _Pending, assembly: Assembly, reply: Reply, received: int) -> None:
        """Take one message of a transaction's response, of so many bytes."""
        if not reply.block.words:
            # No words: an error, a success without content, or the leave to send the rest of the request.
            if pending.exchange.later and reply.status == NtStatus.SUCCESS:
                self._continued.append(pending)
                return
            self._complete(pending, [reply], received)
            return
        part = TransactionPart.decode_block(reply.block, self.strings)
        if assembly.add(part):
            parameters, data = assembly.result()
            self._complete(pending, [reply._replace(parameters=parameters, data=data)], received)

    def _complete(self, pending: _Pending, replies: list[Reply], received: int) -> None:
        del self._pending[pending.mid]
        self.flow.answered(pending.departure, received)
        self.window.answered(1, standing=pending.exchange.standing)
        self.window.granted(1)
        pending.exchange.replies = replies
        pending.exchange.finish()

    def _take_break(self, pdu: memoryview, command: int, mid: int) -> None:
        """Take the one request that a server may send: an oplock break. It is not signed: [MS-CIFS] 3.2.5.42."""
        if command != Command.LOCKING_ANDX or mid != UNSOLICITED_MID:
            raise ProtocolError(f"a request from the server (command 0x{command:02X}, MID {mid})")
        broken = LockingRequest.decode_block(decode_chain(pdu, command)[0], self.strings)
        if not broken.type_of_lock & OPLOCK_RELEASE:
            raise ProtocolError("a lock request from the server")
        if self.oplocks is not None:
            self.oplocks.broken(broken.fid, broken.new_oplock_level)
