"""How much may wait: by memory, by the server's speed, and for how long."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.vfs.budget import BREAK_S, GATHER_S, LEAST, Budget, Pace

MIB = 1 << 20


class Writer:
    """Unsaved bytes of a file that only counts how often it was pressed."""

    def __init__(self) -> None:
        self.pressed: list[float] = []

    def press(self) -> None:
        self.pressed.append(trio.current_time())


def test_the_pace_is_that_of_the_time_in_which_something_was_under_way() -> None:
    pace = Pace()
    assert pace.bytes_per_s is None
    for second in range(4):
        pace.sent(second * 100.0)
        pace.answered(MIB, second * 100.0 + 0.5)
    assert pace.bytes_per_s == pytest.approx(2 * MIB)


def test_a_moment_says_nothing_about_the_pace() -> None:
    pace = Pace()
    pace.sent(0.0)
    pace.answered(10, 0.001)
    assert pace.bytes_per_s is None


def test_several_requests_at_once_are_one_pace() -> None:
    pace = Pace()
    for _ in range(8):
        pace.sent(0.0)
    for _ in range(8):
        pace.answered(MIB, 1.0)
    assert pace.bytes_per_s is not None
    assert pace.bytes_per_s >= MIB


async def test_what_waits_is_pressed_after_a_short_time_and_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    budget, writer = Budget(MIB, nursery.start_soon), Writer()
    budget.account(writer, 10)
    await trio.sleep(2.5 * GATHER_S)
    assert writer.pressed == pytest.approx([GATHER_S, 2 * GATHER_S])
    budget.account(writer, 0)
    await trio.sleep(5 * GATHER_S)
    assert len(writer.pressed) == 2


async def test_who_has_no_room_waits_until_there_is_some(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    budget, writer, entered = Budget(100, nursery.start_soon), Writer(), trio.Event()
    budget.account(writer, 80)

    async def enter() -> None:
        await budget.room(30)
        entered.set()

    nursery.start_soon(enter)
    await wait_all_tasks_blocked()
    assert not entered.is_set()
    assert writer.pressed  # nothing is waited for that nobody sends
    budget.account(writer, 71)
    await wait_all_tasks_blocked()
    assert not entered.is_set()
    budget.account(writer, 70)
    await wait_all_tasks_blocked()
    assert entered.is_set()
    budget.account(writer, 0)


async def test_a_write_larger_than_the_limit_goes_alone(nursery: trio.Nursery) -> None:
    budget = Budget(100, nursery.start_soon)
    await budget.room(1000)


async def test_a_slow_server_lets_less_wait(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    budget = Budget(64 * MIB, nursery.start_soon)
    assert budget.limit == 64 * MIB
    budget.sent()
    await trio.sleep(1)
    budget.answered(MIB)
    assert budget.limit == int(MIB * BREAK_S)
    for _ in range(30):
        budget.sent()
        await trio.sleep(1)
        budget.answered(1000)
    assert budget.limit == LEAST
