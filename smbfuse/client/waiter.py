"""Whoever waits for answers on a connection, and until when. Decided without I/O and without a clock."""

from collections.abc import Sequence
from typing import Any, Final

import trio

from smbfuse.engine.exchange import Exchange

# Longest wait where another client may hold the server up: it must give back a grant first, and has 35 s for that.
OTHERS_PATIENCE_S: Final = 45.0


class Waiter:
    """Waits for an exchange, or several: woken when one has ended, or when his patience has."""

    __slots__ = ("_sent_before", "exchanges", "patience_s", "since", "woken")

    def __init__(self, exchanges: Sequence[Exchange[Any]], since: float, patience_s: float) -> None:
        self.exchanges = exchanges
        self.since = since
        self.patience_s = patience_s  # without progress
        self.woken = trio.Event()
        # Bytes of the stream to the end of what he waits for; until that leaves, to the end of what is ahead of it.
        self._sent_before: int | None = None

    def has_left(self, sent: int) -> bool:
        """Hear that `sent` bytes have left so far; return whether all that he waits for is among them, or has ended."""
        if not all(exchange.sent or exchange.done for exchange in self.exchanges):
            return False
        self._sent_before = sent
        return True

    def look(self, progress: float, now: float, *, sent: int, delivered: int, left_at: float) -> float:
        """Return when his patience ends; not later than `now`: it has.

        `progress` is when something last arrived for him or for somebody before him. Of `sent` bytes so far,
        `delivered` are known to have reached the other host, the last of them at `left_at`. What is sent later is no
        reason to wait for what has left long ago.
        """
        if self._sent_before is None:
            self._sent_before = sent
        deadline = self._deadline(progress)
        if deadline <= now and delivered < self._sent_before:
            self.since = max(self.since, left_at)  # it is on its way, or behind what is
            deadline = self._deadline(progress)
        return deadline

    def _deadline(self, progress: float) -> float:
        held = any(exchange.in_hand and not exchange.done for exchange in self.exchanges)
        return max(self.since, progress) + (max(self.patience_s, OTHERS_PATIENCE_S) if held else self.patience_s)
