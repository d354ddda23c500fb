"""The SMB2 engine: message ids, credits, compounds, signatures and encryption, without I/O.

An exchange is one request or one related compound. It waits in the backlog until the window admits it. Everything that
depends on the order of sending (message ids, signatures, nonces, the login's hash) happens in `outgoing`.

Some servers do not execute compounds. With `compounds` off the engine unrolls them: the elements go out one by one, and
the FileId that the CREATE gave is put in where a related request says "the file just opened". So does a window too
small for a whole compound. Whoever submitted it sees the same replies either way. A server that opens the file of its
first compound but does not know what "just opened" means is found out here, by its answers; one that breaks down over
a compound whose CREATE fails (scapy 2.8.0) is found out by the next connection, from `compound_unanswered`.

[MS-SMB2] 3.2.4.1 (sending), 3.2.5.1 (receiving).
"""

import logging
from collections.abc import Sequence
from typing import Final

from smbfuse.engine.backlog import Backlog
from smbfuse.engine.credits import Window
from smbfuse.engine.exchange import EngineStatistics, Exchange
from smbfuse.engine.protect import PreauthHash, Smb2Protection
from smbfuse.engine.smb2_exchange import NO_TREE, Pending, Reply, Request, Smb2Exchange, Tree
from smbfuse.errors import ConnectionLost, ProtocolError, SmbError
from smbfuse.status import NtStatus
from smbfuse.wire import nbss
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb2.breaks import decode_break
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

log = logging.getLogger(__name__)

CREDIT_SIZE: Final = 65536  # bytes of payload that one credit pays for.  [MS-SMB2] 3.1.5.2
RESERVED_CREDITS: Final = 1  # kept for an ECHO while everything else waits
MOST_REQUESTED: Final = 0xFFFF  # CreditRequest is a 16-bit field

# Plain numbers: these are looked at in every response.
_SERVER_TO_REDIR: Final = int(HeaderFlags.SERVER_TO_REDIR)
_ASYNC: Final = int(HeaderFlags.ASYNC_COMMAND)
_RELATED: Final = int(HeaderFlags.RELATED_OPERATIONS)
_PENDING: Final = int(NtStatus.PENDING)
_MORE_PROCESSING: Final = int(NtStatus.MORE_PROCESSING_REQUIRED)

# A session that the server has forgotten cannot be signed or encrypted for. Believing these unprotected statuses costs
# nothing: whoever can forge them can cut the connection as well.
_SESSION_ENDED: Final = frozenset({NtStatus.USER_SESSION_DELETED, NtStatus.NETWORK_SESSION_EXPIRED})

# What is said of a related request by a server that does not know which file it means.
_WHICH_FILE: Final = frozenset(
    {
        NtStatus.INVALID_PARAMETER,
        NtStatus.INVALID_HANDLE,
        NtStatus.FILE_CLOSED,
        NtStatus.NOT_SUPPORTED,
        NtStatus.NOT_IMPLEMENTED,
    }
)


class Smb2Engine:
    """The protocol state of one connection that carries one session.

    After NEGOTIATE the session layer calls `adopt`, during the login it keeps `session_id`, after it `protect`.
    """

    def __init__(self, *, max_credits: int, first_message_id: int = 0) -> None:
        """Begin a connection, with one credit. Message id 0 is used up by a multi-protocol NEGOTIATE: begin with 1."""
        self.window = Window(1, reserve=RESERVED_CREDITS)
        self.preauth = PreauthHash()
        self.compounds = True
        self.related_works = False  # a related request has been carried out
        self.refused_compound = False  # a compound whose CREATE failed has been answered as it should be
        self.compound_unanswered = False  # the connection ended while a compound was under way
        self.session_id = 0
        self.protection: Smb2Protection | None = None
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
    ) -> Smb2Exchange:
        """Queue one request, or several as one related compound; return the exchange to wait for.

        In a compound, FileIds of all ones mean the file that its CREATE opens. `bulk` and `urgent` choose the queue;
        `signed` demands a signature, and one on the response, where the session itself does not.
        """
        self._sequence += 1
        exchange = Smb2Exchange(self._sequence, requests, tree, bulk=bulk, urgent=urgent, signed=signed)
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
        self._cancels += [pending for pending in self._pending.values() if pending.exchange is exchange]

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

    def outgoing(self) -> list[list[Buffer]]:
        """Return the PDUs that may leave now; see `Engine.outgoing`."""
        pdus = [self._cancel_pdu(pending) for pending in self._cancels if pending.message_id in self._pending]
        self._cancels.clear()
        while (exchange := self._backlog.take(self.window, self._next_cost)) is not None:
            pdus.append(self._pdu(exchange))
        return pdus

    def _next_cost(self, exchange: Smb2Exchange) -> int:
        return sum(self.cost(exchange.requests[index].payload) for index in self._next_elements(exchange))

    def _next_elements(self, exchange: Smb2Exchange) -> Sequence[int]:
        """Return which requests of the exchange leave together: all, or the next one of an unrolled compound."""
        count = len(exchange.requests)
        if exchange.answers:
            return (len(exchange.answers),)
        whole = count == 1 or (
            self.compounds and sum(self.cost(request.payload) for request in exchange.requests) <= self.window.capacity
        )
        return range(count) if whole else (0,)

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
            padding = -len(body) % ALIGNMENT if position + 1 < len(indices) else 0
            cost = self.cost(request.payload)
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
                    0,
                    request.command,
                    cost + extra,
                    _RELATED if position else 0,
                    HEADER_SIZE + len(body) + padding if position + 1 < len(indices) else 0,
                    message_id,
                    0,
                    exchange.tree.tree_id,
                    self.session_id,
                    NO_SIGNATURE,
                )
            )
            element += body
            element += bytes(padding)
            if signed and protection is not None:
                protection.sign(element, (), message_id)
            if request.command in (Command.NEGOTIATE, Command.SESSION_SETUP):
                self.preauth.update(element)
            self._pending[message_id] = Pending(
                exchange,
                index,
                message_id,
                cost=cost,
                extra=extra,
                guarded=protection is not None,
                signed=signed,
                sealed=sealed,
            )
            exchange.under_way += 1
            self._next_message_id += cost
            self._asked += extra
            self.window.take(cost)
            elements.append(element)
        exchange.sent = True
        self._requests += len(elements)
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
        return pending.exchange.sequence if pending is not None else None

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
        if not self._pending and not self.window.available:
            raise ProtocolError("the server has taken back all credits")

    def lost(self, error: SmbError) -> None:
        """End every exchange with `error`; see `Engine.lost`. Callable again."""
        exchanges = {id(pending.exchange): pending.exchange for pending in self._pending.values()}
        self.compound_unanswered |= any(exchange.under_way > 1 for exchange in exchanges.values())
        exchanges |= {id(exchange): exchange for exchange in self._backlog}
        self._pending.clear()
        self._cancels.clear()
        self._backlog.clear()
        for exchange in exchanges.values():
            own = error
            if isinstance(error, ConnectionLost):
                own = ConnectionLost(str(error), sent=exchange.sent, errno=error.errno)
            exchange.finish(own)

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
        if self.protection is not None and pending.guarded and header.status not in _SESSION_ENDED:
            self.protection.check(
                header, element, unsealed=unsealed, sealed_request=pending.sealed, signed_request=pending.signed
            )
        self._asked -= pending.extra
        pending.extra = 0
        self.window.granted(header.credits)
        if header.status == _PENDING and header.flags & _ASYNC:
            pending.async_id = header.process_id | header.tree_id << 32
            return
        del self._pending[header.message_id]
        self.window.answered(pending.cost)
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
        expected = len(exchange.requests)
        if len(exchange.answers) == expected > 1 and exchange.file_id is None:
            self._judge_compound(exchange)
        if len(exchange.answers) < expected and not exchange.under_way:
            # Unrolled. There is more to send, unless there is no file to go on with.
            created = exchange.answers[0]
            if exchange.file_id is not None:
                self._backlog.go_on(exchange)
            elif created.status == NtStatus.SUCCESS:
                self._backlog.go_on(exchange)  # before anything is raised: what waits nowhere would never end
                exchange.file_id = created.created_file_id()
            else:
                expected = len(exchange.answers)
        if len(exchange.answers) == expected:
            exchange.replies = [exchange.answers[index] for index in range(expected)]
            exchange.finish()

    def _judge_compound(self, exchange: Smb2Exchange) -> None:
        """Learn from a compound that was answered. One that only its CREATE has survived is begun again behind that."""
        created, *related = (exchange.answers[index] for index in range(len(exchange.requests)))
        if created.status != NtStatus.SUCCESS:
            if any(reply.status == NtStatus.SUCCESS for reply in related):
                # Done with what was opened before, by somebody else (scapy 2.8.0): never again.
                self._give_up_compounds()
            else:
                self.refused_compound = True
        elif any(reply.status not in _WHICH_FILE for reply in related):
            self.related_works = True
        elif not self.related_works:
            self._give_up_compounds()
            exchange.answers = {0: created}

    def _give_up_compounds(self) -> None:
        if self.compounds:
            log.info("the server does not execute compounds: requests go out one by one")
            self.compounds = False

    def _unsolicited(self, header: Arrived, element: memoryview) -> None:
        if header.command != Command.OPLOCK_BREAK:
            raise ProtocolError(f"an unsolicited response to command {header.command}")
        # Nothing was granted to us that could break: a confused server, or a break meant for an earlier owner.
        log.debug("break ignored: %s", decode_break(element))
