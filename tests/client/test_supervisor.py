"""The supervisor: who waits, who is answered at once, when it dials, and which states it goes through."""

import errno
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from smbfuse.client import supervisor as supervisor_module
from smbfuse.client.outage import IDLE_PAUSE_S, LAST_PAUSE_S, LASTING_S, LONGEST_PAUSE_S, SOONEST_S, Outage
from smbfuse.client.reconnect import ReconnectingShare
from smbfuse.client.supervisor import NEXT, STUCK_AFTER_S, State, Supervisor
from smbfuse.errors import AuthenticationFailed, ConnectionLost, NotFound
from smbfuse.status import NtStatus
from tests.client.test_reconnect import STAT, FakeSession, FakeShare, World
from tests.conftest import ExpectedWarnings

TIMEO_S = 30.0
DOCS = Path(__file__).parents[2] / "docs"


class Network:
    """Tells of changes when a test says so."""

    def __init__(self) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.listeners = 0

    async def __call__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.listeners += 1
        try:
            await trio.sleep_forever()
        finally:
            self.listeners -= 1


@asynccontextmanager
async def supervised(
    world: World, *, timeo_s: float = TIMEO_S, network: Network | None = None
) -> AsyncIterator[tuple[Supervisor, ReconnectingShare]]:
    """Connect a share, and end everything afterwards: what goes on for ever fails the test by its time-out."""
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(world.dial, nursery, timeo_s=timeo_s, news=network)  # type: ignore[arg-type]  # fakes
        share = ReconnectingShare(supervisor, "share")
        await share.connect()
        yield supervisor, share
        await supervisor.aclose()


def unreachable(world: World) -> None:
    """Let no dial succeed until `world.refuse` is emptied."""
    world.refuse = [ConnectionLost("refused", sent=False) for _ in range(10_000)]


async def end_of_dial(supervisor: Supervisor, world: World) -> None:
    """Let the dial under way fail, if there is one."""
    if supervisor.state is State.DIALLING:
        await trio.sleep(world.dial_time_s)


async def down(share: ReconnectingShare) -> float:
    """Ask for something that cannot be had, and return how long that took."""
    began = trio.current_time()
    with pytest.raises(ConnectionLost) as caught:
        await share.stat("a")
    assert caught.value.errno == errno.EHOSTDOWN
    return trio.current_time() - began


async def test_a_lost_connection_is_made_again_though_nobody_asks(autojump_clock: MockClock) -> None:
    world = World()
    async with supervised(world) as (supervisor, _):
        seen = [supervisor.state]
        world.cut()
        seen.append(supervisor.state)
        await trio.testing.wait_all_tasks_blocked()
        seen.append(supervisor.state)
        await trio.sleep(world.dial_time_s + 0.1)
        assert [*seen, supervisor.state] == [State.CONNECTED, State.LOST, State.DIALLING, State.CONNECTED]
        assert (world.dials, supervisor.incarnation) == (2, 2)


async def test_a_connection_that_is_asked_for_a_sign_of_life_is_probing(autojump_clock: MockClock) -> None:
    world = World()
    async with supervised(world) as (supervisor, _):
        world.connections[-1].probing = True
        assert supervisor.state is State.PROBING


async def test_the_first_callers_wait_as_long_as_they_may_and_later_ones_not_at_all(autojump_clock: MockClock) -> None:
    world = World()
    async with supervised(world) as (_, share):
        unreachable(world)
        world.cut()
        waited: list[float] = []

        async def ask() -> None:
            waited.append(await down(share))

        async with trio.open_nursery() as callers:
            callers.start_soon(ask)
            await trio.sleep(10)
            callers.start_soon(ask)
        assert sorted(waited) == pytest.approx([TIMEO_S - 10, TIMEO_S])
        assert await down(share) == 0


async def test_what_is_out_of_reach_is_known_with_the_first_dial_that_fails_or_hangs(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with supervised(world) as (supervisor, share):
        world.cut()
        seen = [supervisor.reachable]
        await share.stat("a")
        seen.append(supervisor.reachable)  # connected again
        unreachable(world)
        world.cut()
        seen.append(supervisor.reachable)
        await trio.sleep(world.dial_time_s + 0.1)
        seen.append(supervisor.reachable)  # refused
        world.refuse.clear()
        await share.stat("a")
        seen.append(supervisor.reachable)
        world.dial_time_s = 100.0
        world.cut()
        await trio.sleep(LASTING_S + 0.1)
        seen.append(supervisor.reachable)  # hangs
        assert seen == [True, True, True, False, True, False]


async def test_a_silence_that_was_waited_through_counts(autojump_clock: MockClock) -> None:
    world = World()
    async with supervised(world) as (_, share):
        await trio.sleep(10)
        unreachable(world)
        world.connections[-1].silent_since = trio.current_time() - 10
        world.cut()
        assert await down(share) == pytest.approx(TIMEO_S - 10)


async def test_who_asks_in_vain_has_the_server_tried_once_for_all_and_soon(autojump_clock: MockClock) -> None:
    world = World()
    async with supervised(world) as (supervisor, share):
        unreachable(world)
        world.cut()
        await trio.sleep(TIMEO_S + 3600)
        await end_of_dial(supervisor, world)
        before = world.dials
        world.refuse.clear()
        for _ in range(100):
            assert await down(share) == 0
        await trio.sleep(SOONEST_S + world.dial_time_s + 0.1)
        assert world.dials == before + 1
        assert supervisor.state is State.CONNECTED
        assert await share.stat("a") == STAT


async def test_a_server_that_stays_away_is_tried_seldom(autojump_clock: MockClock) -> None:
    world = World(dial_time_s=0.0)
    async with supervised(world) as (supervisor, _):
        unreachable(world)
        world.cut()
        await trio.sleep(3600)
        before = world.dials
        await trio.sleep(3600)
        assert 60 <= world.dials - before <= 120
        assert supervisor.state is State.WAITING


async def test_a_change_of_network_has_the_server_tried_at_once(autojump_clock: MockClock) -> None:
    world, network = World(), Network()
    async with supervised(world, network=network) as (supervisor, _):
        await trio.testing.wait_all_tasks_blocked()
        network.changed()
        assert world.connections[-1].doubts == 1
        unreachable(world)
        world.cut()
        await trio.sleep(3600)
        await end_of_dial(supervisor, world)
        world.refuse.clear()
        network.changed()
        await trio.sleep(world.dial_time_s + 0.1)
        assert supervisor.state is State.CONNECTED
    assert network.listeners == 0


async def test_a_dial_that_hangs_is_begun_anew_when_the_network_changes(autojump_clock: MockClock) -> None:
    world, network = World(), Network()
    async with supervised(world, network=network) as (supervisor, _):
        world.dial_time_s = 1000.0
        world.cut()
        await trio.sleep(STUCK_AFTER_S - 1)
        network.changed()
        assert world.dials == 2
        await trio.sleep(2)
        world.dial_time_s = 0.0
        network.changed()
        await trio.sleep(1)
        assert supervisor.state is State.CONNECTED
        assert world.dials == 3


async def test_who_waits_for_ever_can_be_released(autojump_clock: MockClock) -> None:
    world = World()
    async with supervised(world, timeo_s=math.inf) as (supervisor, share):
        unreachable(world)
        world.cut()
        async with trio.open_nursery() as callers:
            callers.start_soon(down, share)
            await trio.sleep(10_000)
            assert len(callers.child_tasks) == 1
            supervisor.release()
            await trio.testing.wait_all_tasks_blocked()
            assert not callers.child_tasks
        assert await down(share) == 0
        world.refuse.clear()
        await trio.sleep(SOONEST_S + world.dial_time_s + 0.1)
        assert await share.stat("a") == STAT
        world.cut()  # the release was for that outage only
        assert await share.stat("a") == STAT


async def test_who_waits_for_a_server_that_only_lives_can_be_released(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()

    async def never(self: FakeShare, path: str) -> object:
        while True:
            await trio.sleep(1)
            self.connection.check()

    monkeypatch.setattr(FakeShare, "stat", never)
    async with supervised(world, timeo_s=math.inf) as (supervisor, share), trio.open_nursery() as callers:
        callers.start_soon(down, share)
        world.dial_time_s = 10.0
        await trio.sleep(1000)
        supervisor.release()
        await trio.sleep(2)  # it looks each second
        assert not callers.child_tasks


async def test_a_server_that_lets_in_and_bears_no_tree_is_the_same_outage(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(dial_time_s=0.0)
    async with supervised(world) as (_, share):

        async def dies(self: FakeSession, name: str) -> FakeShare:
            self.world.cut()
            raise ConnectionLost("cut", sent=True)

        monkeypatch.setattr(FakeSession, "connect_share", dies)
        world.cut()
        assert await down(share) == pytest.approx(TIMEO_S, abs=LONGEST_PAUSE_S)
        assert world.dials < 20
        assert await down(share) == 0


async def test_a_share_that_is_gone_is_no_proof_that_its_files_are(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOENT would say that every file has been deleted."""
    world = World()
    async with supervised(world) as (_, share):

        async def gone(self: FakeSession, name: str) -> FakeShare:
            raise NotFound("no such share", status=NtStatus.BAD_NETWORK_NAME)

        with monkeypatch.context() as patched:
            patched.setattr(FakeSession, "connect_share", gone)
            world.cut()
            await down(share)
        assert await share.stat("a") == STAT


async def test_a_refused_login_is_told_at_once_and_never_tried_again(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("not connected again, and not tried any more")
    world = World()
    async with supervised(world) as (supervisor, share):
        world.refuse = [AuthenticationFailed("wrong password")]
        world.cut()
        await trio.sleep(3600)
        assert supervisor.state is State.REFUSED
        began = trio.current_time()
        with pytest.raises(AuthenticationFailed):
            await share.stat("a")
        supervisor.network_changed()
        await trio.sleep(3600)
        assert (world.dials, began) == (2, trio.current_time() - 3600)


async def test_a_mount_that_is_being_closed_dials_no_more(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(world.dial, nursery, timeo_s=TIMEO_S)  # type: ignore[arg-type]  # fakes
        share = ReconnectingShare(supervisor, "share")
        await share.connect()
        unreachable(world)
        world.cut()
        await trio.sleep(2)
        await supervisor.aclose()
        assert await down(share) == 0
        assert supervisor.state is State.ENDED


async def test_a_connection_that_outlives_its_mount_ends_quietly(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(world.dial, nursery, timeo_s=TIMEO_S)  # type: ignore[arg-type]  # fakes
        await ReconnectingShare(supervisor, "share").connect()
    world.cut()
    assert supervisor.state is State.LOST


def test_pauses_grow_are_jittered_and_shorter_while_somebody_waits() -> None:
    for waiting, longest in ((True, LONGEST_PAUSE_S), (False, IDLE_PAUSE_S)):
        pauses = []
        for _ in range(20):
            outage = Outage(0.0, TIMEO_S, 0.0)
            for _ in range(30):
                outage.failed(100.0, waiting=waiting)
            pauses.append(outage.dial_at - 100.0)
        assert longest / 2 <= min(pauses) < max(pauses) <= longest
        assert len(set(pauses)) > 1
    outage = Outage(0.0, TIMEO_S, 0.0)
    assert outage.dial_at == 0.0
    outage.failed(0.0, waiting=False)
    assert outage.dial_at <= 0.2
    assert not outage.ask(0.0)  # it is as soon as can be


@pytest.mark.parametrize("timeo_s", [2.0, TIMEO_S, 600.0])
def test_the_last_dial_before_the_deadline_is_not_long_before_it(timeo_s: float) -> None:
    for _ in range(200):
        outage = Outage(0.0, timeo_s, 0.0)
        last, dials = 0.0, 0
        while outage.dial_at < outage.deadline:
            last = outage.dial_at
            dials += 1
            outage.failed(last, waiting=True)
        assert last >= timeo_s - LAST_PAUSE_S
        assert dials < timeo_s / SOONEST_S + 20


def test_an_outage_lasts_as_soon_as_those_who_waited_are_told() -> None:
    outage = Outage(0.0, 2.0, 0.7)  # given up late, with little time left
    assert outage.lasting_at <= outage.deadline


def test_every_state_is_in_the_table_of_the_module_and_of_the_manual() -> None:
    manual = (DOCS / "connections.md").read_text()
    for state in State:
        assert f"| `{state.value}` " in (supervisor_module.__doc__ or "")
        assert f"| `{state.value}` " in manual
    assert set(NEXT) == set(State)
