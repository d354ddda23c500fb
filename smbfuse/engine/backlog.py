"""Exchanges that wait for a place in the window, and the fair order in which they leave."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from smbfuse.engine.credits import Window
from smbfuse.engine.flow import Flow
from smbfuse.engine.smb2_exchange import Smb2Exchange
from smbfuse.errors import ProtocolError

MOST_PASSED: Final = 32  # small exchanges that may leave before a bulk one that waits for room


class Backlog:
    """Three queues: urgent (echo, logoff), small (metadata) and bulk (reads).

    Small and bulk take turns, and bulk leaves room in the window (see `Window.admits`) that the small ones use while a
    bulk one waits, so that a stat does not wait behind a hundred megabytes. Neither waits for ever: no bulk exchange
    passes a small one that does not fit yet, and only so many small ones pass a bulk one.
    """

    def __init__(self) -> None:
        self._urgent: deque[Smb2Exchange] = deque()
        self._small: deque[Smb2Exchange] = deque()
        self._bulk: deque[Smb2Exchange] = deque()
        self._bulk_turn = False
        self._passed = 0  # small ones that left while a bulk one waited

    def __len__(self) -> int:
        return len(self._urgent) + len(self._small) + len(self._bulk)

    def __iter__(self) -> Iterator[Smb2Exchange]:
        for queue in (self._urgent, self._small, self._bulk):
            yield from queue

    def add(self, exchange: Smb2Exchange) -> None:
        """Let `exchange` wait at the end of its queue."""
        self._queue_of(exchange).append(exchange)

    def go_on(self, exchange: Smb2Exchange) -> None:
        """Let an exchange that has begun wait at the front of its queue for its next request."""
        self._queue_of(exchange).appendleft(exchange)

    def remove(self, exchange: Smb2Exchange) -> None:
        """Take back an exchange that waits."""
        self._queue_of(exchange).remove(exchange)

    def clear(self) -> None:
        """Forget everything that waits."""
        for queue in (self._urgent, self._small, self._bulk):
            queue.clear()

    def take(self, window: Window, flow: Flow, cost_of: Callable[[Smb2Exchange], int]) -> Smb2Exchange | None:
        """Take out the exchange that leaves next; None if the window admits none, or the flow no bulk one.

        An exchange that costs more than the whole window, with nothing in flight that could widen it, is finished
        with an error: it would wait for ever.
        """
        overdue = self._passed >= MOST_PASSED
        turns = (self._bulk, self._small) if self._bulk_turn or overdue else (self._small, self._bulk)
        for queue in (self._urgent, *turns):
            while queue:
                exchange = queue[0]
                if exchange.bulk and not flow.open:
                    break
                cost = cost_of(exchange)
                if window.admits(cost, urgent=exchange.urgent, bulk=exchange.bulk and not overdue):
                    self._note_turn(queue)
                    return queue.popleft()
                if not window.taken:
                    queue.popleft()
                    message = f"{exchange.label} costs {cost} credits, the server gives {window.available}"
                    exchange.finish(ProtocolError(message))
                elif queue is self._small or overdue:
                    return None
                else:
                    break
        return None

    def _note_turn(self, queue: deque[Smb2Exchange]) -> None:
        if queue is self._small:
            self._bulk_turn = True
            self._passed += 1 if self._bulk else 0
        elif queue is self._bulk:
            self._bulk_turn = False
            self._passed = 0

    def _queue_of(self, exchange: Smb2Exchange) -> deque[Smb2Exchange]:
        return self._urgent if exchange.urgent else self._bulk if exchange.bulk else self._small
