"""Whoever waits for answers on a connection, and until when. Decided without I/O and without a clock."""

from collections.abc import Sequence
from typing import Any, Final

import trio

from smbfuse.engine.exchange import Exchange

# Longest wait where another client may hold the server up: it must give back a grant first, and has 35 s for that.
OTHERS_PATIENCE_S: Final = 45.0


class Waiter:
    """Waits for an exchange, or several: woken when one has ended, or when his patience has."""

    __slots__ = ("_has_left", "_sent_before", "exchanges", "patience_s", "since", "woken")

    def __init__(self, exchanges: Sequence[Exchange[Any]], since: float, patience_s: float) -> None:
        self.exchanges = exchanges
        self.since = since
        self.patience_s = patience_s  # without progress
        self.woken = trio.Event()
        self._has_left = False  # all that he waits for was sent when he was looked at
        self._sent_before: int | None = None  # that ends no later in the stream; before: what was ahead of it

    def look(self, progress: float, now: float, *, sent: int, delivered: int, left_at: float) -> float:
        """Return when his patience ends; not later than `now`: it has.

        `progress` is when something last arrived for him or for somebody before him. Of `sent` bytes so far,
        `delivered` are known to have reached the other host, the last of them at `left_at`. To be called now and then:
        what is sent later is no reason to wait for what has left long ago.
        """
        if not self._has_left:
            self._has_left = all(exchange.sent for exchange in self.exchanges)
            if self._has_left or self._sent_before is None:
                self._sent_before = sent
        deadline = self._deadline(progress)
        if deadline <= now and self._sent_before is not None and delivered < self._sent_before:
            self.since = max(self.since, left_at)  # it is on its way, or behind what is
            deadline = self._deadline(progress)
        return deadline

    def _deadline(self, progress: float) -> float:
        held = any(exchange.in_hand and not exchange.done for exchange in self.exchanges)
        return max(self.since, progress) + (max(self.patience_s, OTHERS_PATIENCE_S) if held else self.patience_s)
