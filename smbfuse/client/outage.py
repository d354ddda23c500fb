"""One time without a connection: when to dial, and until when callers wait. Decided without I/O and without a clock."""

from __future__ import annotations

import math
import random
from typing import Final

FIRST_PAUSE_S: Final = 0.2  # between dials; doubled with each failure and jittered
LONGEST_PAUSE_S: Final = 10.0  # while somebody waits, or has asked since the last dial
LAST_PAUSE_S: Final = 0.5  # while somebody waits, and not for long any more: what ends before he is told is no outage
IDLE_PAUSE_S: Final = 60.0  # when nobody has: the mount is to come back by itself, and a laptop's battery is to last
MOST_DOUBLINGS: Final = 16
LASTING_S: Final = 2.0  # what is over sooner, with the first dial, is no outage to those who ask
SOONEST_S: Final = 1.0  # after a dial, for those who ask: a thousand callers are no reason for a thousand dials


class Outage:
    """Says when to dial and who waits, from the loss of a connection until the next one has proven itself.

    Callers wait until `deadline`: `timeo` after the silence began. Who comes later is answered at once, because the
    first ones have waited for all. Whoever asks has the next dial come soon.
    """

    def __init__(self, began: float, timeo_s: float, now: float) -> None:
        """Begin: with a silence at `began`, which is taken for a loss now."""
        self.began = began
        self.deadline = began + timeo_s  # math.inf: callers wait until they are released
        self.dial_at = began
        self.failures = 0
        # From then on there is no hope to be connected in a moment: at the latest when the first callers are told so.
        self.lasting_at = min(now + LASTING_S, self.deadline)
        self._soonest_at = -math.inf  # for those who ask
        self._wanted = False  # since the last dial

    def failed(self, now: float, *, waiting: bool) -> None:
        """Plan the next dial, after one that has failed or has led to nothing; `waiting`: for somebody."""
        longest = LONGEST_PAUSE_S if waiting or self._wanted else IDLE_PAUSE_S
        if waiting and now < self.deadline:
            longest = min(longest, max(LAST_PAUSE_S, (self.deadline - now) / 4))
        pause = min(FIRST_PAUSE_S * 2**self.failures, longest)
        self.failures = min(self.failures + 1, MOST_DOUBLINGS)
        self.lasting_at = min(self.lasting_at, now)
        self.dial_at = now + pause * random.uniform(0.5, 1.0)
        self._soonest_at = now + SOONEST_S * random.uniform(0.5, 1.0)
        self._wanted = False

    def ask(self, now: float) -> bool:
        """Hear that somebody needs the connection; return whether the next dial comes sooner for it."""
        self._wanted = True
        return self._advance(max(now, self._soonest_at))

    def hurry(self, now: float) -> bool:
        """Hear that the network has changed: what failed before may work now. Return whether the dial comes sooner."""
        self.failures = 0
        return self._advance(now)

    def release(self) -> None:
        """Let nobody wait any more."""
        self.deadline = self.lasting_at = -math.inf

    def _advance(self, dial_at: float) -> bool:
        sooner = dial_at < self.dial_at
        self.dial_at = min(self.dial_at, dial_at)
        return sooner
