"""Is the other side alive, and has it made progress? Decided without I/O and without a clock.

Any byte received is life. A question is a request that somebody waits for, or a probe (an ECHO). One that stays without
any byte for a while has a probe sent after it; a little later the other side is given up. An idle connection is asked
with a probe of its own, and whatever makes the connection doubtful (the machine has slept, the network has changed)
has one sent at once. One unanswered probe is enough.

A slow link is not a dead one: what we send may take long to leave. As long as the probe has not reached the other
host, bytes that do reach it are life too; once it has, it is given the time that a probe always has.
"""

from __future__ import annotations

import bisect
import enum
import math
from typing import Final, NamedTuple

PROBE_AFTER_S: Final = 5.0  # of silence while somebody waits: is anybody there?
DEAD_AFTER_S: Final = 10.0  # of silence: no. Both shrink with a short `timeo`, which must leave time to dial again
LOOKS: Final = 10  # at how much has left, within the time that a silent peer is given


class Patience(NamedTuple):
    """How long silence is borne, in seconds."""

    probe_after_s: float  # since a question: then it is repeated as a probe
    dead_after_s: float  # since a question: then nobody is there
    idle_s: float  # since the last byte, when nothing is asked

    @classmethod
    def within(cls, timeo_s: float, echo_interval_s: float) -> Patience:
        """Return what leaves time to connect again before a caller's deadline of `timeo_s`."""
        return cls(min(PROBE_AFTER_S, timeo_s / 6), min(DEAD_AFTER_S, timeo_s / 3), echo_interval_s)


class Verdict(enum.Enum):
    """What is to be done now."""

    WAIT = enum.auto()
    PROBE = enum.auto()  # send an ECHO, and say where it is in the stream: `probe_sent`
    DEAD = enum.auto()


class Liveness:
    """Judges one connection. `heard_at` is the time of the last byte received."""

    def __init__(self, patience: Patience, now: float) -> None:
        self.patience = patience
        self.heard_at = now
        self.left_at = -math.inf  # the latest time at which bytes of ours are known to have been on their way still
        self.probing = False  # a probe is out since the last byte
        self.asked_at: float | None = None  # the first question since the last byte
        self._alarmed = False
        self._probe_end: int | None = None  # of the probe, in bytes sent since the beginning; None: it has not left
        self._probe_arrived_at: float | None = None  # at the other host
        self._delivered = 0
        self._looked_at = now

    def received(self, now: float) -> None:
        """Hear that bytes have arrived, whatever they are."""
        self.heard_at = now
        self.asked_at = None
        self.probing = False

    def ask(self, now: float) -> None:
        """Hear that somebody begins to wait for an answer."""
        if self.asked_at is None:
            self.asked_at = now

    def alarm(self) -> None:
        """Hear of a reason to doubt: the next look asks for a probe, unless one is out already."""
        self._alarmed = True

    def probe_sent(self, end: int) -> None:
        """Hear that the probe is on its way and ends at byte `end` of all that was sent."""
        self._probe_end = end

    def look(self, now: float, *, waiting: bool, delivered: int) -> tuple[Verdict, float]:
        """Return what is to be done, and when to look again.

        `waiting`: somebody waits for an answer; `delivered`: bytes that have reached the other host so far.
        """
        self._note_delivered(now, delivered)
        alarmed, self._alarmed = self._alarmed, False
        asked_at = self.asked_at
        if asked_at is None and waiting:
            asked_at = self.heard_at
        if not self.probing:
            idle_at = self.heard_at + self.patience.idle_s
            probe_at = asked_at + self.patience.probe_after_s if asked_at is not None else idle_at
            if not alarmed and now < probe_at:
                return Verdict.WAIT, probe_at
            self.asked_at = now if asked_at is None else asked_at
            self.probing = True
            self._probe_end = self._probe_arrived_at = None
            return Verdict.PROBE, now + self._step_s
        dead_at = self._dead_at(self.heard_at if asked_at is None else asked_at)
        if now >= dead_at:
            return Verdict.DEAD, math.inf
        return Verdict.WAIT, min(dead_at, now + self._step_s)

    @property
    def _step_s(self) -> float:
        return self.patience.dead_after_s / LOOKS

    def _note_delivered(self, now: float, delivered: int) -> None:
        """Note what has left since the last look; that is the time which counts, for it may have been then."""
        if delivered > self._delivered:
            self._delivered = delivered
            self.left_at = self._looked_at
        if self._probe_arrived_at is None and self._probe_end is not None and delivered >= self._probe_end:
            self._probe_arrived_at = self._looked_at
        self._looked_at = now

    def _dead_at(self, asked_at: float) -> float:
        patience = self.patience
        if self._probe_arrived_at is None:
            return max(asked_at, self.left_at) + patience.dead_after_s
        answer_due_at = self._probe_arrived_at + patience.dead_after_s - patience.probe_after_s
        return max(asked_at + patience.dead_after_s, answer_due_at)


class Progress:
    """When did bytes last arrive that concern an exchange or one submitted before it?

    A stack of (sequence, time), both ascending: an arrival for sequence s makes every later entry obsolete, because
    whoever waits behind s has made progress too. Amortised O(1) to add, O(log n) to ask.
    """

    __slots__ = ("_sequences", "_times")

    def __init__(self) -> None:
        self._sequences: list[int] = []
        self._times: list[float] = []

    def note(self, sequence: int, now: float) -> None:
        """Record that bytes for exchange `sequence` arrived at `now`."""
        keep = bisect.bisect_left(self._sequences, sequence)
        del self._sequences[keep:], self._times[keep:]
        self._sequences.append(sequence)
        self._times.append(now)

    def last(self, sequence: int) -> float:
        """Return the time of the last progress of exchange `sequence`'s queue; -inf if there was none."""
        at = bisect.bisect_right(self._sequences, sequence) - 1
        return self._times[at] if at >= 0 else -math.inf
