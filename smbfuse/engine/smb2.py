"""The SMB2 engine: message ids, credits, compounds, signatures and encryption, without I/O.

An exchange is one request or one related compound. It waits in the backlog until the window admits it. Everything that
depends on the order of sending (message ids, signatures, nonces, the login's hash) happens in `outgoing`. What arrives
is told in the order of the wire: first replies to `Smb2Exchange.on_first_reply`, breaks to `on_break`.

[MS-SMB2] 3.2.4.1 (sending), 3.2.5.1 (receiving).
"""

from collections.abc import Callable, Sequence
from typing import Final

from smbfuse.engine.backlog import Backlog
from smbfuse.engine.compounds import Compounds
from smbfuse.engine.credits import Window
from smbfuse.engine.exchange import EngineStatistics, Exchange
from smbfuse.engine.flow import Flow
from smbfuse.engine.protect import PreauthHash, Smb2Protection
from smbfuse.engine.smb2_exchange import NO_TREE, Pending, Reply, Request, Smb2Exchange, Tree
from smbfuse.errors import ConnectionLost, DecodeError, ProtocolError, SmbError
from smbfuse.status import NtStatus
from smbfuse.wire import nbss
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb2.breaks import LeaseBreak, OplockBreak, decode_break
from smbfuse.wire.smb2.control import CancelRequest, EchoRequest
from smbfuse.wire.smb2.header import (
    COMPRESSION_PROTOCOL_ID,
    HEADER,
    NO_SIGNATURE,
    PROTOCOL_ID,
    TRANSFORM_PROTOCOL_ID,
    UNSOLICITED,
    Arrived,
    Command,
    HeaderFlags,
    split_compound,
)
from smbfuse.wire.smb2.message import ALIGNMENT, HEADER_SIZE

CREDIT_SIZE: Final = 65536  # bytes of payload that one credit pays for.  [MS-SMB2] 3.1.5.2
RESERVED_CREDITS: Final = 1  # kept for an ECHO while everything else waits
MOST_REQUESTED: Final = 0xFFFF  # CreditRequest is a 16-bit field

# Plain numbers: these are looked at in every response.
_SERVER_TO_REDIR: Final = int(HeaderFlags.SERVER_TO_REDIR)
_ASYNC: Final = int(HeaderFlags.ASYNC_COMMAND)
_RELATED: Final = int(HeaderFlags.RELATED_OPERATIONS)
_REPLAY: Final = int(HeaderFlags.REPLAY_OPERATION)
_PENDING: Final = int(NtStatus.PENDING)
_CANCELLED: Final = int(NtStatus.CANCELLED).to_bytes(4, "little")
_MORE_PROCESSING: Final = int(NtStatus.MORE_PROCESSING_REQUIRED)


class Smb2Engine:
    """The protocol state of one connection that carries one session.

    After NEGOTIATE the session layer calls `adopt`, during the login it keeps `session_id`, after it `protect`.
    `on_break` hears each break that the server sends, `on_lost` that the connection has ended, after every exchange.
    """

    def __init__(self, *, max_credits: int, first_message_id: int = 0) -> None:
        """Begin a connection, with one credit. Message id 0 is used up by a multi-protocol NEGOTIATE: begin with 1."""
        self.window = Window(1, reserve=RESERVED_CREDITS)
        self.flow = Flow()
        self.preauth = PreauthHash()
        self.compounds = Compounds()
        self.session_id = 0
        self.channel_sequence = 0  # 16 bits; counts on with each connection that reclaims open files.  3.x
        self.protection: Smb2Protection | None = None
        self.on_break: Callable[[OplockBreak | LeaseBreak], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self._multi_credit = False
        self._max_credits = max_credits
        self._next_message_id = first_message_id
        self._asked = 0  # credits asked for beyond the cost of what is in flight, not yet granted or refused
        self._sequence = 0
        self._backlog = Backlog()
        self._pending: dict[int, Pending] = {}
        self._cancels: list[Pending] = []
        self._requests = 0
        self._round_trips = 0

    def __repr__(self) -> str:
        return f"<Smb2Engine session 0x{self.session_id:X}, {self.window}, {len(self._pending)} in flight>"

    # --- what the session layer sets ----------------------------------------------------------------------------------

    def adopt(self, *, multi_credit: bool) -> None:
        """Take over what NEGOTIATE gave: whether requests may cost more than one credit."""
        self._multi_credit = multi_credit

    def protect(self, protection: Smb2Protection) -> None:
        """Sign, seal, verify and unseal from now on. Nothing may be in flight."""
        self.protection = protection

    def cost(self, payload: int) -> int:
        """Return the credits that a request with `payload` bytes, sent or received, takes.  [MS-SMB2] 3.1.5.2."""
        return 1 + max(0, payload - 1) // CREDIT_SIZE if self._multi_credit else 1

    # --- the share's side ---------------------------------------------------------------------------------------------

    def submit(
        self,
        requests: Sequence[Request],
        *,
        tree: Tree = NO_TREE,
        bulk: bool = False,
        urgent: bool = False,
        signed: bool = False,
        standing: bool = False,
    ) -> Smb2Exchange:
        """Queue one request, or several as one related compound; return the exchange to wait for.

        In a compound, FileIds of all ones mean the file that its CREATE opens. `bulk` and `urgent` choose the queue;
        `signed` demands a signature, and one on the response, where the session itself does not. `standing`: it is
        answered when something happens, perhaps never.
        """
        self._sequence += 1
        costs = [self.cost(request.payload) for request in requests]
        exchange = Smb2Exchange(self._sequence, requests, costs, tree, bulk=bulk, urgent=urgent, signed=signed)
        exchange.standing = standing
        self._backlog.add(exchange)
        return exchange

    def ping(self) -> Smb2Exchange:
        """Submit an ECHO."""
        return self.submit((Request(Command.ECHO, EchoRequest().encode()),), urgent=True)

    def cancel(self, exchange: Exchange[Reply]) -> None:
        """Stop waiting for `exchange`; see `Engine.cancel`.

        An unrolled compound that has begun goes on to its end, so that what it opened is closed.
        """
        assert isinstance(exchange, Smb2Exchange)
        exchange.abandoned = True
        if exchange.done:
            return
        if not exchange.sent:
            self._backlog.remove(exchange)
            exchange.finish(ConnectionLost(f"{exchange.label}: given up before it was sent", sent=False))
            return
        given_up = [pending for pending in self._pending.values() if pending.exchange is exchange]
        for pending in given_up:
            pending.departure = self.flow.given_up(pending.departure)
        self._cancels += given_up

    def statistics(self) -> EngineStatistics:
        """Return the counters."""
        return EngineStatistics(
            requests=self._requests,
            round_trips=self._round_trips,
            in_flight=len(self._pending),
            queued=len(self._backlog),
            credits=self.window.available,
        )

    # --- sending ------------------------------------------------------------------------------------------------------

    @property
    def loaded(self) -> bool:
        """Whether anything waits to leave; see `Engine.loaded`."""
        return bool(self._backlog or self._cancels)

    def outgoing(self) -> list[list[Buffer]]:
        """Return the PDUs that may leave now; see `Engine.outgoing`."""
        pdus = [self._cancel_pdu(pending) for pending in self._cancels if pending.message_id in self._pending]
        self._cancels.clear()
        while (exchange := self._backlog.take(self.window, self.flow, self._next_cost)) is not None:
            pdus.append(self._pdu(exchange))
        return pdus

    def _next_cost(self, exchange: Smb2Exchange) -> int:
        return sum([exchange.costs[index] for index in self._next_elements(exchange)])

    def _next_elements(self, exchange: Smb2Exchange) -> Sequence[int]:
        return self.compounds.leave_together(exchange, fits=sum(exchange.costs) <= self.window.capacity)

    def _pdu(self, exchange: Smb2Exchange) -> list[Buffer]:
        indices = self._next_elements(exchange)
        protection = self.protection
        sealed = protection is not None and (protection.seal_all or exchange.tree.seal)
        elements: list[Buffer] = []
        for position, index in enumerate(indices):
            request = exchange.requests[index]
            body = request.body
            if exchange.file_id is not None and index:
                body = request.with_file_id(exchange.file_id)
            size = HEADER_SIZE + len(body) + sum(len(piece) for piece in request.data)
            padding = -size % ALIGNMENT if position + 1 < len(indices) else 0
            cost = exchange.costs[index]
            # At least 1 is asked for, or the window could close for good. Samba adds the cost to what is asked, so the
            # window may outgrow the wish: then less is asked for until it is back.
            extra = min(max(self._max_credits - self.window.capacity - self._asked, 1 - cost), MOST_REQUESTED - cost)
            message_id = self._next_message_id
            signed = (
                protection is not None and not sealed and (exchange.signed or protection.must_sign(request.command))
            )
            element = bytearray(
                HEADER.pack(
                    PROTOCOL_ID,
                    HEADER_SIZE,
                    cost if self._multi_credit else 0,
                    self.channel_sequence,
                    request.command,
                    cost + extra,
                    (_RELATED if position else 0) | (_REPLAY if request.replay else 0),
                    size + padding if position + 1 < len(indices) else 0,
                    message_id,
                    0,
                    exchange.tree.tree_id,
                    self.session_id,
                    NO_SIGNATURE,
                )
            )
            element += body
            behind = list(request.data)
            if padding:
                behind.append(bytes(padding))
            if signed and protection is not None:
                protection.sign(element, behind, message_id)
            if request.command in (Command.NEGOTIATE, Command.SESSION_SETUP):
                self.preauth.update(element)
            self._pending[message_id] = Pending(
                exchange,
                index,
                message_id,
                self.flow.leave(request.payload if exchange.bulk else 0, size),
                cost=cost,
                extra=extra,
                guarded=protection is not None,
                signed=signed,
                sealed=sealed,
            )
            exchange.under_way += 1
            self._next_message_id += cost
            self._asked += extra
            self.window.take(cost, standing=exchange.standing)
            elements += (element, *behind)
        exchange.sent = True
        self._requests += len(indices)
        return self._framed(elements, sealed=sealed)

    def _cancel_pdu(self, pending: Pending) -> list[Buffer]:
        """Return a CANCEL: it has the message id of what it cancels, costs nothing and is never answered."""
        async_id = pending.async_id
        flags, low, high = 0, 0, pending.exchange.tree.tree_id
        if async_id is not None:
            flags, low, high = _ASYNC, async_id & 0xFFFFFFFF, async_id >> 32
        head = HEADER.pack(
            PROTOCOL_ID,
            HEADER_SIZE,
            0,
            0,
            Command.CANCEL,
            0,
            flags,
            0,
            pending.message_id,
            low,
            high,
            self.session_id,
            NO_SIGNATURE,
        )
        element = bytearray(head + CancelRequest().encode())
        if pending.signed and self.protection is not None:
            self.protection.sign(element, (), pending.message_id, is_cancel=True)
        return self._framed([element], sealed=pending.sealed)

    def _framed(self, elements: list[Buffer], *, sealed: bool) -> list[Buffer]:
        if sealed and self.protection is not None:
            elements = self.protection.seal(self.session_id, elements)
        return [nbss.frame(sum(len(element) for element in elements)), *elements]

    # --- receiving ----------------------------------------------------------------------------------------------------

    def owner(self, prefix: memoryview) -> int | None:
        """Return the sequence of the exchange that a PDU beginning with `prefix` answers; see `Engine.owner`."""
        if bytes(prefix[1:4]) != PROTOCOL_ID[1:]:
            raise ProtocolError(f"a message that is not SMB: {bytes(prefix[:4]).hex()}")
        if len(prefix) < 32 or bytes(prefix[:4]) != PROTOCOL_ID:
            return None
        pending = self._pending.get(int.from_bytes(prefix[24:32], "little"))
        if pending is None:
            return None
        given_up = pending.exchange.abandoned and prefix[8:12] == _CANCELLED
        return self._sequence + 1 if given_up else pending.exchange.sequence

    def arrived(self, pdu: memoryview) -> None:
        """Take one whole PDU; see `Engine.arrived`."""
        magic = bytes(pdu[:4])
        unsealed = magic == TRANSFORM_PROTOCOL_ID
        if unsealed:
            if self.protection is None:
                raise ProtocolError("an encrypted message outside of any session")
            pdu = self.protection.unseal(pdu)
        elif magic == COMPRESSION_PROTOCOL_ID:
            raise ProtocolError("a compressed message, though no compression was agreed on")
        for header, element in split_compound(pdu):
            self._take(header, element, unsealed=unsealed)
        if not self.window.taken and not self.window.available:
            raise ProtocolError("the server has taken back all credits")

    def lost(self, error: SmbError) -> None:
        """End every exchange with `error`; see `Engine.lost`. Callable again."""
        exchanges = {id(pending.exchange): pending.exchange for pending in self._pending.values()}
        self.compounds.unanswered |= any(exchange.under_way > 1 for exchange in exchanges.values())
        exchanges |= {id(exchange): exchange for exchange in self._backlog}
        self._pending.clear()
        self._cancels.clear()
        self._backlog.clear()
        for exchange in exchanges.values():
            own = error.of_request(sent=exchange.sent) if isinstance(error, ConnectionLost) else error
            exchange.finish(own)
        if self.on_lost is not None:
            self.on_lost()

    def _take(self, header: Arrived, element: memoryview, *, unsealed: bool) -> None:
        if not header.flags & _SERVER_TO_REDIR:
            raise ProtocolError(f"a request from the server (command {header.command})")
        if header.message_id == UNSOLICITED:
            self._unsolicited(header, element)
            return
        pending = self._pending.get(header.message_id)
        if pending is None:
            raise ProtocolError(f"a response to message {header.message_id}, which nobody waits for")
        if header.command != pending.command:
            raise ProtocolError(
                f"message {header.message_id} is {pending.command.name}, answered as command {header.command}"
            )
        if self.protection is not None and pending.guarded:
            self.protection.check(
                header, element, unsealed=unsealed, sealed_request=pending.sealed, signed_request=pending.signed
            )
        self._asked -= pending.extra
        pending.extra = 0
        self.window.granted(header.credits)
        if header.status == _PENDING and header.flags & _ASYNC:
            pending.async_id = header.process_id | header.tree_id << 32
            if pending.exchange.standing:
                # Its credits are those that the interim response brings back.  [MS-SMB2] 3.3.4.2
                returned = min(pending.cost, header.credits)
                self.window.answered(returned, standing=True)
                pending.cost -= returned
            # What names a file may have to wait for another client's grant on it; a READ may not.
            pending.exchange.in_hand = pending.exchange.requests[0].command == Command.CREATE
            return
        del self._pending[header.message_id]
        self.flow.answered(pending.departure, len(element))
        self.window.answered(pending.cost, standing=pending.exchange.standing)
        if header.command == Command.NEGOTIATE or (
            header.command == Command.SESSION_SETUP and header.status == _MORE_PROCESSING
        ):
            self.preauth.update(element)
        self._answered(pending, Reply(header.status, element, header.session_id, header.tree_id))

    def _answered(self, pending: Pending, reply: Reply) -> None:
        exchange = pending.exchange
        exchange.under_way -= 1
        exchange.answers[pending.index] = reply
        if not exchange.under_way and exchange.on_done is not None:
            self._round_trips += 1
        if not pending.index and exchange.on_first_reply is not None:
            exchange.on_first_reply(reply)
        if exchange.under_way:
            return
        try:
            more = self.compounds.go_on(exchange)
        except DecodeError:
            self._backlog.go_on(exchange)  # what waits nowhere would never end: now it ends with the connection
            raise
        if more:
            self._backlog.go_on(exchange)
            return
        exchange.replies = [exchange.answers[index] for index in range(len(exchange.answers))]
        exchange.finish()

    def _unsolicited(self, header: Arrived, element: memoryview) -> None:
        if header.command != Command.OPLOCK_BREAK:
            raise ProtocolError(f"an unsolicited response to command {header.command}")
        notification = decode_break(element)
        if self.on_break is not None:
            self.on_break(notification)
