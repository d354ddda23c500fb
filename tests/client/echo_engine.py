"""A toy protocol for the connection's own tests: four bytes of sequence number, then whatever text.

A reply carries the number of the exchange it answers. It has what every engine has, and no dialect.
"""

from collections.abc import Sequence

from smbfuse.engine.exchange import EngineStatistics, Exchange
from smbfuse.engine.flow import Flow
from smbfuse.errors import ConnectionLost, ProtocolError, SmbError
from smbfuse.wire import nbss
from smbfuse.wire.record import Buffer


class EchoEngine:
    """Answers are matched by number; an unknown number breaks the protocol."""

    def __init__(self) -> None:
        self.pending: dict[int, Exchange[bytes]] = {}
        self.cancelled: list[int] = []
        self.pings = 0
        self.flow = Flow()
        self.window = 1000  # how many may be sent in all; a ping always may
        self._queue: list[tuple[Exchange[bytes], list[Buffer]]] = []
        self._sequence = 0

    def submit(self, text: bytes) -> Exchange[bytes]:
        self._sequence += 1
        exchange: Exchange[bytes] = Exchange(self._sequence, text.decode())
        self.pending[exchange.sequence] = exchange
        body = exchange.sequence.to_bytes(4, "big") + text
        self._queue.append((exchange, [nbss.frame(len(body)), body]))
        return exchange

    def ping(self) -> Exchange[bytes]:
        self.pings += 1
        self.window += 1
        exchange = self.submit(b"ping")
        self._queue.insert(0, self._queue.pop())
        return exchange

    @property
    def loaded(self) -> bool:
        return bool(self._queue)

    def outgoing(self) -> Sequence[Sequence[Buffer]]:
        leaving, self._queue = self._queue[: self.window], self._queue[self.window :]
        self.window -= len(leaving)
        for exchange, _ in leaving:
            exchange.sent = True
        return [buffers for _, buffers in leaving]

    def owner(self, prefix: memoryview) -> int | None:
        return int.from_bytes(prefix[:4], "big")

    def arrived(self, pdu: memoryview) -> None:
        exchange = self.pending.pop(int.from_bytes(pdu[:4], "big"), None)
        if exchange is None:
            raise ProtocolError("an answer to nothing")
        exchange.replies.append(bytes(pdu[4:]))
        exchange.finish()

    def cancel(self, exchange: Exchange[bytes]) -> None:
        self.cancelled.append(exchange.sequence)
        if not exchange.sent:
            self._queue = [queued for queued in self._queue if queued[0] is not exchange]
            exchange.finish(ConnectionLost("given up before it was sent", sent=False))

    def lost(self, error: SmbError) -> None:
        while self.pending:
            _, exchange = self.pending.popitem()
            exchange.finish(ConnectionLost(str(error), sent=exchange.sent))

    def statistics(self) -> EngineStatistics:
        return EngineStatistics(self._sequence, self._sequence, len(self.pending), len(self._queue), 0)
