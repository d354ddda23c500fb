"""One TCP connection carrying one engine: a reader, a writer, deadlines. Knows no dialect.

The writer task alone owns the sending side, so a caller that is cancelled never cuts a PDU in half. Every exchange
ends: with its replies, with a deadline that runs from the last progress of its queue, or with the connection.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import trio

from smbfuse.client import departures
from smbfuse.client.stream import ByteStream
from smbfuse.client.waiter import Waiter
from smbfuse.engine.exchange import Engine, Exchange
from smbfuse.engine.liveness import Liveness, Patience, Progress, Verdict
from smbfuse.errors import ConnectionLost, ProtocolError, Silence, SmbError, Timeout
from smbfuse.wire import nbss
from smbfuse.wire.record import Buffer

log = logging.getLogger(__name__)

ReplyT = TypeVar("ReplyT")

SCRATCH_SIZE: Final = 64 * 1024  # many small replies a system call; a large one is received in place after its start
FAREWELL_S: Final = 2.0  # longest wait for the server while leaving
SLEEP_S: Final = 1.0  # how long this machine must have slept for that to matter


def slept_s() -> float:
    """Return how long this machine has been suspended since it was started, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class Connection:
    """Carries one engine over one stream.

    Use: `nursery.start_soon(connection.run)`, then `await connection.perform(exchange)` for each exchange that the
    engine made. After the end of the connection every call raises ConnectionLost; `lost_because` says why.
    """

    def __init__(
        self,
        stream: ByteStream,
        engine: Engine,
        *,
        timeo_s: float,
        echo_interval_s: float = math.inf,
        slept_s: Callable[[], float] = slept_s,
    ) -> None:
        self.stream = stream
        self.engine = engine
        self.timeo_s = timeo_s
        self.bytes_received = 0
        self.bytes_sent = 0
        self.lost_because: SmbError | None = None
        self.ended = trio.Event()  # set when the connection is over, whoever ended it
        self.on_ended: Callable[[], None] | None = None  # called once, before anybody who waits runs again
        self.ended_by_peer = False  # it closed or reset the connection: no time-out, nothing wrong with its messages
        self.ended_by_nonsense = False  # it sent what is no message of the protocol
        self.silent_since: float | None = None  # it was given up because of a silence that began then
        self.liveness = Liveness(Patience.within(timeo_s, echo_interval_s), trio.current_time())
        self._slept_s = slept_s
        self._slept_before_s = slept_s()
        self._probe: Exchange[Any] | None = None  # that has not left yet
        self._progress = Progress()
        self._waiting: dict[int, Waiter] = {}  # by the sequence of the exchange, the longest waiting first
        self._not_left: list[Waiter] = []  # of these: for what the writer has not taken yet
        self._standing = 0  # how many of them wait for what may never come
        self._watch_again = trio.Event()  # wakes the watchdog before its time
        self._watches_at = math.inf  # when the watchdog looks next
        self._work = trio.Event()  # wakes the writer
        self._left_over: Sequence[Buffer] = ()  # of what was sent at once: goes before anything else
        self._idle = trio.Event()  # set while the writer has nothing to send
        self._leaving = False

    def __repr__(self) -> str:
        state = f"lost: {self.lost_because}" if self.lost_because else "open"
        return f"<Connection {self.stream.peer} {state}, {self.engine.statistics()}>"

    async def run(self) -> None:
        """Carry bytes until the connection ends; never raises for what the network or the server does."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._watch)
                await self._read()
                self.ended_by_peer = True
                nursery.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as errors:
            self.ended_by_peer = isinstance(_first(errors), ConnectionResetError | BrokenPipeError)
            self._end(ConnectionLost(f"connection to {self.stream.peer} broke: {_first(errors)}", sent=True))
        except* ProtocolError as errors:
            self.ended_by_nonsense = True
            self._end(ConnectionLost(f"{self.stream.peer} broke the protocol: {_first(errors)}", sent=True))
        finally:
            self._end(ConnectionLost(f"connection to {self.stream.peer} closed", sent=True))

    async def perform(self, exchange: Exchange[ReplyT], *, timeo_s: float | None = None) -> list[ReplyT]:
        """Send what the engine has ready and wait for the exchange's replies.

        A standing exchange has no deadline, and the server's silence about it means nothing.
        Cancelled: the exchange is abandoned (CANCEL where the protocol has it), the PDU is never cut.
        Raises: ConnectionLost, Timeout (the deadline passed without progress), what the engine found wrong.
        """
        try:
            if not exchange.done:
                await self._wait(exchange, self.timeo_s if timeo_s is None else timeo_s)
        finally:
            if exchange.sent:
                departures.note()
        if exchange.error is not None:
            raise exchange.error
        return exchange.replies

    async def perform_each(self, exchanges: Sequence[Exchange[ReplyT]], ended: Callable[[int], None]) -> None:
        """Send what the engine has ready, and wait until each of several exchanges has ended, in whatever order.

        `ended` is told the index of each the moment it has: a plain call, most often from the reader, that must not
        raise. What is left is abandoned: with a Timeout when no progress is made any more, unheard when cancelled.
        """
        waiter = Waiter(exchanges, trio.current_time(), self.timeo_s)
        left = dict(enumerate(exchanges))

        def end(index: int) -> None:
            if left.pop(index, None) is not None:
                ended(index)
                if not left:
                    waiter.woken.set()

        for index, exchange in enumerate(exchanges):
            exchange.on_done = functools.partial(end, index)
        self.post()
        try:
            if left:
                await self._woken(exchanges[-1], waiter)
            for index, exchange in tuple(left.items()):
                exchange.on_done = None  # one that was not sent yet is ended as lost, and that it is not
                self._abandon(exchange)
                exchange.error = self._late(exchange, self.timeo_s)
                end(index)
        finally:
            abandoned = tuple(left.values())
            left.clear()
            for exchange in abandoned:
                self._abandon(exchange)

    def post(self) -> None:
        """Let the writer send what the engine has ready, without waiting for anything."""
        if self.lost_because is not None:
            self.engine.lost(self.lost_because)
            return
        self._work.set()

    @property
    def probing(self) -> bool:
        """Whether a sign of life was asked for, and nothing has come since."""
        return self.liveness.probing

    def doubt(self) -> None:
        """Ask the server for a sign of life now: something has happened that the connection may not have survived."""
        self.liveness.alarm()
        self._watch_again.set()

    def abort(self, error: SmbError) -> None:
        """End the connection at once with `error` for everybody who waits."""
        self._end(error)

    async def aclose(self) -> None:
        """Send what is queued, within two seconds, then close. Never raises."""
        with trio.CancelScope(deadline=trio.current_time() + FAREWELL_S, shield=True):
            while self.lost_because is None and not self._idle.is_set():
                await self._idle.wait()
        self._leaving = True
        self._end(ConnectionLost(f"connection to {self.stream.peer} was closed by us", sent=True))

    async def _wait(self, exchange: Exchange[ReplyT], patience_s: float) -> None:
        waiter = Waiter((exchange,), trio.current_time(), math.inf if exchange.standing else patience_s)
        exchange.on_done = waiter.woken.set
        if not self._sent_at_once():
            self.post()
        try:
            await self._woken(exchange, waiter)
            if not exchange.done:  # before it is abandoned: one that was not sent yet is ended as lost then
                raise self._late(exchange, patience_s)
        finally:
            self._abandon(exchange)

    async def _woken(self, exchange: Exchange[ReplyT], waiter: Waiter) -> None:
        """Wait until somebody wakes `waiter`: the watchdog at the latest. A timer for each request would cost more."""
        if exchange.standing:
            self._standing += 1
        else:
            if len(self._waiting) == self._standing:
                self._notice_sleep()
            self.liveness.ask(waiter.since)
            if waiter.since + min(waiter.patience_s, self.liveness.patience.probe_after_s) < self._watches_at:
                self._watch_again.set()
        self._waiting[exchange.sequence] = waiter
        if not waiter.has_left(self.bytes_sent):
            self._not_left.append(waiter)
        try:
            await waiter.woken.wait()
        finally:
            del self._waiting[exchange.sequence]
            self._standing -= exchange.standing

    def _late(self, exchange: Exchange[ReplyT], patience_s: float) -> Timeout:
        return Timeout(f"{exchange.label}: no answer from {self.stream.peer} within {patience_s:g} s")

    def _abandon(self, exchange: Exchange[ReplyT]) -> None:
        if not exchange.done:
            exchange.abandoned = True
            self.engine.cancel(exchange)
            self.post()

    def _sent_at_once(self) -> bool:
        """Send what the engine has ready if nobody waits for an answer; return whether nothing is left to the writer.

        Who asks for one thing after the other would wait for the writer's turn each time. What many ask for together
        leaves together.
        """
        if self._waiting or self._left_over or not self._idle.is_set() or self.lost_because is not None:
            return False
        buffers = self._taken()
        try:
            self._left_over = self.stream.send_now(buffers)
        except OSError as error:
            log.debug("%s: %s; the writer will meet it again", self.stream.peer, error)
            self._left_over = buffers
        return not self._left_over

    async def _write(self) -> None:
        while True:
            # No await between asking the engine and clearing the event, or work would be slept over.
            buffers, self._left_over = self._left_over or self._taken(), ()
            if not buffers:
                self._idle.set()
                self._work = trio.Event()
                await self._work.wait()
                continue
            self._idle = trio.Event()
            await self.stream.send_all(buffers)

    def _taken(self) -> Sequence[Buffer]:
        """Take from the engine what may leave now."""
        self.engine.flow.now = trio.current_time()
        pdus = self.engine.outgoing()
        if not pdus:
            return ()
        buffers = [buffer for pdu in pdus for buffer in pdu]
        self.bytes_sent += sum(len(buffer) for buffer in buffers)
        self._not_left = [waiter for waiter in self._not_left if not waiter.has_left(self.bytes_sent)]
        if self._probe is not None and self._probe.sent:
            self.liveness.probe_sent(self.bytes_sent)
            self._probe = None
        return buffers

    async def _watch(self) -> None:
        """Keep the deadlines; ask a silent server for a sign of life, and end the connection if none comes."""
        while True:
            self._notice_sleep()
            now = trio.current_time()
            delivered = self.bytes_sent - self.stream.undelivered()
            waiting = len(self._waiting) > self._standing
            verdict, look_at = self.liveness.look(now, waiting=waiting, delivered=delivered)
            if verdict is Verdict.DEAD:
                self.silent_since = self.liveness.asked_at
                silent_s = now - self.liveness.heard_at
                self._end(Silence(f"no sign of life from {self.stream.peer} for {silent_s:.0f} s", sent=True))
                return
            if verdict is Verdict.PROBE:
                self._probe = self.engine.ping()
                self.post()
            self._watches_at = min(look_at, self._wake_overdue(now, delivered))
            self._watch_again = trio.Event()
            with trio.move_on_at(self._watches_at):
                await self._watch_again.wait()

    def _notice_sleep(self) -> None:
        """Doubt the connection if this machine has slept: its clock stood still meanwhile, and the server's did not."""
        slept_s = self._slept_s()
        if slept_s - self._slept_before_s > SLEEP_S:
            log.info("slept for %.0f s: is %s still there?", slept_s - self._slept_before_s, self.stream.peer)
            self._slept_before_s = slept_s
            self.doubt()

    def _wake_overdue(self, now: float, delivered: int) -> float:
        """Wake those whose deadline has passed; return the next one."""
        earliest = math.inf
        for sequence, waiter in self._waiting.items():
            progress, left_at = self._progress.last(sequence), self.liveness.left_at
            deadline = waiter.look(progress, now, sent=self.bytes_sent, delivered=delivered, left_at=left_at)
            if deadline <= now:
                waiter.woken.set()
            else:
                earliest = min(earliest, deadline)
        return earliest

    async def _read(self) -> None:
        scratch = memoryview(bytearray(SCRATCH_SIZE))
        filled = 0
        while True:
            count = await self.stream.receive_into(scratch[filled:])
            if count == 0:
                return
            self._received(count)
            filled += count
            filled = await self._take_pdus(scratch, filled)

    async def _take_pdus(self, scratch: memoryview, filled: int) -> int:
        """Hand over the PDUs in `scratch[:filled]`; return how many bytes stay at its start."""
        start = 0
        while filled - start >= nbss.HEADER_SIZE:
            kind, length = nbss.decode_header(scratch[start : start + nbss.HEADER_SIZE])
            body = start + nbss.HEADER_SIZE
            if kind == nbss.KEEPALIVE:
                start = body + length
                if start > filled:
                    raise ProtocolError("a session keepalive with a body")
                continue
            if kind != nbss.SESSION_MESSAGE:
                raise ProtocolError(f"session packet of type 0x{kind:02X} within a session")
            have = min(filled - body, length)
            if have < length and body + length <= len(scratch):
                self._note_owner(scratch[body : body + have])
                break  # small and unfinished: more of it fits behind what is there
            pdu = memoryview(bytearray(length))
            pdu[:have] = scratch[body : body + have]
            start = body + have
            if have < length:
                await self._receive_rest(pdu, have)
            self._note_owner(pdu)
            self.engine.arrived(pdu)
            if self.engine.loaded:
                self.post()
        if start:
            rest = filled - start
            scratch[:rest] = bytes(scratch[start:filled])
            return rest
        return filled

    async def _receive_rest(self, pdu: memoryview, have: int) -> None:
        while have < len(pdu):
            self._note_owner(pdu[:have])
            count = await self.stream.receive_into(pdu[have:])
            if count == 0:
                raise ProtocolError(f"the connection ended after {have} of {len(pdu)} bytes of a message")
            self._received(count)
            have += count

    def _received(self, count: int) -> None:
        self.bytes_received += count
        now = trio.current_time()
        self.liveness.received(now)
        self.engine.flow.now = now

    def _note_owner(self, prefix: memoryview) -> None:
        if len(prefix) < 4:
            return
        owner = self.engine.owner(prefix)
        # What cannot be told apart (sealed, unsolicited) is life for everybody.
        self._progress.note(0 if owner is None else owner, self.liveness.heard_at)

    def _end(self, error: SmbError) -> None:
        if self.lost_because is not None:
            return
        self.lost_because = error
        if not self._leaving:
            log.info("connection ended peer=%s reason=%s", self.stream.peer, error)
        self.stream.close()
        self.engine.lost(error)
        self.ended.set()
        self._idle.set()
        if self.on_ended is not None:
            self.on_ended()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
