"""Who is taken for alive and who for dead, and when: by numbers alone."""

from collections.abc import Iterable

import pytest

from smbfuse.engine.liveness import Liveness, Patience, Progress, Verdict

PATIENCE = Patience.within(30.0, 15.0)


class Peer:
    """Follows a liveness from look to look, as a connection does, and notes what it says."""

    def __init__(self, *, delivers: bool = True, bytes_a_second: float = 0.0, queued: int = 0) -> None:
        self.liveness = Liveness(PATIENCE, 0.0)
        self.now = 0.0
        self.probes: list[float] = []
        self.died_at: float | None = None
        self.waiting = False
        self._delivers = delivers
        self._rate = bytes_a_second
        self._sent = queued

    @property
    def delivered(self) -> int:
        if not self._delivers:
            return 0
        return min(self._sent, int(self.now * self._rate)) if self._rate else self._sent

    def ask(self) -> None:
        self.liveness.ask(self.now)
        self.waiting = True

    def run(self, until: float, hears_at: Iterable[float] = ()) -> None:
        """Look whenever it wants to be looked at, until `until` or death."""
        coming = iter(hears_at)
        hears = next(coming, None)
        while self.died_at is None:
            verdict, again_at = self.liveness.look(self.now, waiting=self.waiting, delivered=self.delivered)
            if verdict is Verdict.PROBE:
                self.probes.append(self.now)
                self._sent += 100
                self.liveness.probe_sent(self._sent)
            elif verdict is Verdict.DEAD:
                self.died_at = self.now
                return
            if hears is not None and hears <= min(again_at, until):
                self.now = hears
                self.liveness.received(self.now)
                hears = next(coming, None)
            elif again_at > until:
                self.now = until
                return
            else:
                assert again_at > self.now
                self.now = again_at


@pytest.mark.parametrize("delivers", [True, False], ids=["a host that acknowledges", "nobody"])
def test_a_question_without_an_answer_is_probed_after_five_seconds_and_given_up_after_ten(delivers: bool) -> None:
    peer = Peer(delivers=delivers)
    peer.ask()
    peer.run(60)
    assert peer.probes == [5.0]
    assert peer.died_at == pytest.approx(10.0)


def test_who_gives_up_waiting_does_not_make_the_silence_shorter() -> None:
    peer = Peer()
    peer.ask()
    peer.run(4)
    peer.waiting = False
    peer.run(60)
    assert peer.died_at == pytest.approx(10.0)


def test_an_idle_connection_is_asked_after_the_interval_and_given_up_ten_seconds_later() -> None:
    peer = Peer()
    peer.run(60)
    assert peer.probes == [15.0]
    assert peer.died_at == pytest.approx(25.0)


def test_an_idle_connection_that_answers_is_asked_again_and_again() -> None:
    peer = Peer()
    peer.run(61, [15.1, 30.2, 45.3, 60.4])
    assert peer.probes == pytest.approx([15.0, 30.1, 45.2, 60.3])
    assert peer.died_at is None


def test_any_byte_is_life() -> None:
    peer = Peer()
    peer.ask()
    peer.run(100, range(4, 101, 4))
    assert peer.probes == []
    assert peer.died_at is None


def test_silence_after_the_last_byte_counts_while_somebody_still_waits() -> None:
    peer = Peer()
    peer.ask()
    peer.run(60, [3.0])
    assert peer.probes == [8.0]
    assert peer.died_at == pytest.approx(13.0)


def test_an_alarm_asks_at_once_and_only_once() -> None:
    peer = Peer()
    peer.run(3)
    peer.liveness.alarm()
    peer.run(4)
    peer.liveness.alarm()
    peer.run(60)
    assert peer.probes == [3.0]
    assert peer.died_at == pytest.approx(13.0)


def test_bytes_that_still_leave_are_life_until_the_probe_has_arrived() -> None:
    """A megabyte at 1 Mbit/s takes 8 seconds to leave, and 4 of them 32."""
    peer = Peer(bytes_a_second=125_000, queued=4_000_000)
    peer.ask()
    peer.run(60)
    assert peer.died_at == pytest.approx(37.5, abs=1.5)  # the probe arrives after 32 seconds, and has 5 to be answered


def test_a_link_that_stops_while_bytes_wait_is_dead() -> None:
    peer = Peer(bytes_a_second=125_000, queued=4_000_000)
    peer.ask()
    peer.run(20)
    peer._rate = 0.0
    peer._delivers = False
    peer.run(60)
    assert peer.died_at == pytest.approx(29.5, abs=1.5)


def test_a_short_deadline_leaves_time_to_connect_again() -> None:
    assert Patience.within(3.0, 15.0) == (0.5, 1.0, 15.0)
    assert Patience.within(float("inf"), 15.0) == (5.0, 10.0, 15.0)


def test_progress_is_that_of_the_own_exchange_or_an_earlier_one() -> None:
    progress = Progress()
    assert progress.last(5) == float("-inf")
    progress.note(3, 1.0)
    progress.note(7, 2.0)
    assert (progress.last(2), progress.last(3), progress.last(6), progress.last(7)) == (float("-inf"), 1.0, 1.0, 2.0)
    progress.note(4, 3.0)
    assert (progress.last(3), progress.last(4), progress.last(9)) == (1.0, 3.0, 3.0)
    progress.note(0, 4.0)
    assert progress.last(0) == progress.last(100) == 4.0
