"""How many bytes of reads and writes may be on their way at once: what the link carries in a quarter of a second.

More would only lie in queues on the way, and whoever asks for something small would wait behind it. What the link
carries is measured: each answer tells how many bytes were moved between its request and itself. The best of the last
seconds counts, and answers while little was on its way count only if they are better still: then the link was not the
limit. The time of a round trip is added, so that a long way is filled too.

No clock: the connection sets `now`.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

QUEUED_S: Final = 0.25  # how much of the link's time may be on its way
FIRST_WINDOW: Final = 128 * 1024  # bytes, until something is measured: a second of 1 Mbit/s
LEAST_REQUEST: Final = 32 * 1024  # bytes: a quarter of a second of 1 Mbit/s
PERIOD_S: Final = 4.0  # the best of this one and of the last one counts


class Departure(NamedTuple):
    """What was known when a request left."""

    at: float
    size: int  # bytes that it may move
    sent: int  # of these: with the request
    moved: int  # bytes that had been moved before
    limited: bool  # much was on its way: what comes back tells how fast the link is


class Flow:
    """Counts what is on its way, and measures. Contract: 0 <= `in_flight`; one request may always leave."""

    __slots__ = (
        "_best",
        "_former_best",
        "_moved",
        "_period_ends_at",
        "in_flight",
        "now",
        "request",
        "round_trip_s",
        "window",
    )

    def __init__(self) -> None:
        self.now = 0.0
        self.in_flight = 0  # bytes
        self.window = FIRST_WINDOW  # bytes
        self.request = FIRST_WINDOW // 4  # bytes of one: a quarter of the window, down to a power of two
        self.round_trip_s = math.inf  # the shortest
        self._moved = 0
        self._best = 0.0  # bytes a second, in this period
        self._former_best = 0.0
        self._period_ends_at = -math.inf

    def __repr__(self) -> str:
        return f"<Flow {self.in_flight} of {self.window} bytes in flight>"

    @property
    def open(self) -> bool:
        """Whether another read or write may leave now, whatever its size."""
        return self.in_flight < self.window

    def leave(self, size: int, sent: int) -> Departure:
        """Note that a request of `sent` bytes leaves now; `size` is what a read or write may move, 0 for others."""
        self.in_flight += size
        return Departure(self.now, size, sent, self._moved, 2 * self.in_flight >= self.window)

    def given_up(self, departure: Departure) -> Departure:
        """Note that nobody waits for a request any longer: its answer may never come, and others are to leave."""
        self.in_flight -= departure.size
        return departure._replace(size=0)

    def answered(self, departure: Departure, received: int) -> None:
        """Note that a request was answered now, in so many bytes."""
        self.in_flight -= departure.size
        self._moved += departure.sent + received
        elapsed_s = self.now - departure.at
        if elapsed_s <= 0:
            return
        self.round_trip_s = min(self.round_trip_s, elapsed_s)
        if departure.size:
            self._measured((self._moved - departure.moved) / elapsed_s, limited=departure.limited)

    def _measured(self, rate: float, *, limited: bool) -> None:
        if not limited and rate <= max(self._best, self._former_best):
            return
        if self.now >= self._period_ends_at:
            self._former_best, self._best = self._best, 0.0
            self._period_ends_at = self.now + PERIOD_S
        self._best = max(self._best, rate)
        best = max(self._best, self._former_best)
        self.window = max(LEAST_REQUEST, int(best * (QUEUED_S + self.round_trip_s)))
        self.request = max(LEAST_REQUEST, 1 << (self.window >> 2).bit_length() - 1)
