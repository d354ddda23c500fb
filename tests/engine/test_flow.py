"""What may be on its way: driven by links that are nothing but arithmetic."""

from collections import deque

import pytest

from smbfuse.engine.flow import FIRST_WINDOW, LEAST_REQUEST, QUEUED_S, Departure, Flow

MIB = 1 << 20


class Link:
    """A link of so many bytes a second and so long a round trip, and a copy that always has more to move."""

    def __init__(self, rate: float, round_trip_s: float = 0.001) -> None:
        self.flow = Flow()
        self.rate = rate
        self.round_trip_s = round_trip_s
        self.moved = 0
        self._busy_until = 0.0
        self._arrivals: deque[tuple[float, Departure]] = deque()
        self.ask()

    def ask(self) -> None:
        """Ask for something small, as a login does."""
        departure = self.flow.leave(0, 100)
        self.flow.now += self.round_trip_s
        self.flow.answered(departure, 100)

    def copy(self, seconds: float) -> float:
        """Copy for so long; return how long the queue was at the worst, in seconds, after the first half."""
        flow = self.flow
        began = flow.now
        worst = 0.0
        while flow.now < began + seconds:
            while flow.open:
                size = min(flow.request, MIB)
                departure = flow.leave(size, size // 2)  # half goes there, half comes back
                self._busy_until = max(self._busy_until, flow.now) + size / self.rate
                self._arrivals.append((self._busy_until + self.round_trip_s, departure))
            if flow.now > began + seconds / 2:
                worst = max(worst, self._busy_until - flow.now)
            self._answer()
        return worst

    def drain(self) -> None:
        """Stop copying, and let everything arrive."""
        while self._arrivals:
            self._answer()

    def _answer(self) -> None:
        self.flow.now, departure = self._arrivals.popleft()
        self.moved += departure.size
        self.flow.answered(departure, departure.size - departure.sent)


@pytest.mark.parametrize("megabits", [1, 10, 100, 1000, 10_000])
@pytest.mark.parametrize("round_trip_s", [0.0002, 0.02, 0.6])
def test_a_link_is_filled_and_its_queue_is_short(megabits: int, round_trip_s: float) -> None:
    rate = megabits * 1e6 / 8
    link = Link(rate, round_trip_s)
    link.copy(20)
    before, began = link.moved, link.flow.now
    worst = link.copy(20)
    assert link.moved - before >= 0.85 * rate * (link.flow.now - began)
    # As much as is on its way without any queue too; and what exceeds the window begins within it.
    begun = max(0.25 * QUEUED_S, LEAST_REQUEST / rate)
    assert worst <= 1.2 * (QUEUED_S + 2 * round_trip_s) + begun


def test_a_link_that_becomes_slow_is_noticed() -> None:
    link = Link(125e6)
    link.copy(5)
    link.drain()
    link.rate = 125e3
    link.copy(600)
    assert link.flow.request == LEAST_REQUEST
    assert link.copy(10) <= 1


def test_small_reads_on_a_fast_link_do_not_make_it_slow() -> None:
    link = Link(125e6)
    link.copy(5)
    link.drain()
    window = link.flow.window
    for _ in range(10_000):
        departure = link.flow.leave(4096, 100)
        link.flow.now += 0.002
        link.flow.answered(departure, 4096)
    assert link.flow.window == window


def test_reads_that_bring_little_do_not_make_a_link_fast() -> None:
    link = Link(125e3)
    link.copy(20)
    link.drain()
    for _ in range(1000):
        departure = link.flow.leave(MIB, 100)
        link.flow.now += 0.01
        link.flow.answered(departure, 1000)
    assert link.flow.request == LEAST_REQUEST


def test_one_request_may_always_leave_however_large() -> None:
    flow = Flow()
    departure = flow.leave(1 << 30, 0)
    seen = [flow.open]
    flow.now = 1.0
    flow.answered(departure, 1 << 30)
    assert flow.in_flight == 0
    assert [*seen, flow.open] == [False, True]


def test_before_anything_is_measured_a_second_of_a_slow_link_leaves() -> None:
    flow = Flow()
    assert flow.request == LEAST_REQUEST
    for _ in range(FIRST_WINDOW // LEAST_REQUEST):
        assert flow.open
        flow.leave(flow.request, 0)
    assert not flow.open
