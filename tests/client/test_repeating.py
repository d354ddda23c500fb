"""Calls that lose their connection beside others: what is lost by chance is never given up, and the oldest is first."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from smbfuse.client.supervisor import Supervisor
from smbfuse.client.tree import MOST_REPEATS, Tree
from smbfuse.errors import ConnectionLost, SmbError
from tests.client.test_reconnect import STRONG, FakeConnection, FakeSession, World

TIMEO_S = 30.0


class FrailShare:
    """Answers so many calls, those that came first; then its connection ends."""

    def __init__(self, connection: FakeConnection, bears: int) -> None:
        self.connection = connection
        self.bears = bears
        self.begun = 0
        self.ended = trio.Event()
        hear = connection.on_ended

        def end() -> None:
            self.ended.set()
            if hear is not None:
                hear()

        connection.on_ended = end

    async def ask(self) -> None:
        if self.connection.lost_because is not None:
            raise ConnectionLost("it has ended", sent=False)
        self.begun += 1
        number = self.begun
        if number <= self.bears:
            with trio.move_on_after(number / 10):
                await self.ended.wait()
            if not self.ended.is_set():
                if number == self.bears:
                    self.connection.abort(ConnectionLost("cut", sent=True))
                return
        await self.ended.wait()
        raise ConnectionLost("cut", sent=True)


class FrailSession(FakeSession):
    bears = 3

    async def connect_share(self, name: str) -> Any:
        await trio.lowlevel.checkpoint()
        return FrailShare(self.connection, self.bears)


async def _nothing(share: Any) -> None:
    pass


async def with_tree(use: Callable[[Tree, World], Awaitable[None]]) -> None:
    world = World(dial_time_s=0.1)

    async def dial(nursery: trio.Nursery) -> FrailSession:
        session = await world.dial(nursery)
        return FrailSession(world, session.connection, STRONG)

    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(dial, nursery, timeo_s=TIMEO_S)  # type: ignore[arg-type]  # fakes
        tree = Tree(supervisor, "share", lambda: None)
        await tree.repeat(_nothing)
        await use(tree, world)
        await supervisor.aclose()


@pytest.mark.parametrize("count", [3, 20, 40])
async def test_every_connection_brings_the_oldest_on(autojump_clock: MockClock, count: int) -> None:
    done: list[int] = []

    async def use(tree: Tree, world: World) -> None:
        async def ask(number: int) -> None:
            await tree.repeat(lambda share: share.ask())  # type: ignore[attr-defined]  # a fake
            done.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(ask, number)
                await trio.lowlevel.checkpoint()
        assert world.dials == -(-count // FrailSession.bears)

    await with_tree(use)
    turns = [sorted(done[at : at + FrailSession.bears]) for at in range(0, count, FrailSession.bears)]
    assert [number for turn in turns for number in turn] == list(range(count))


async def test_what_kills_every_connection_is_given_up_though_others_are_served_between(
    autojump_clock: MockClock,
) -> None:
    async def use(tree: Tree, world: World) -> None:
        async def kill(share: Any) -> None:
            share.connection.abort(ConnectionLost("killed by this", sent=True))
            raise ConnectionLost("killed by this", sent=True)

        async def ask_for_ever() -> None:
            while True:
                await tree.repeat(lambda share: share.ask())  # type: ignore[attr-defined]  # a fake
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_for_ever)
            began = trio.current_time()
            with pytest.raises(SmbError, match="killed by this"):
                await tree.repeat(kill)
            assert trio.current_time() - began < TIMEO_S + 2
            assert MOST_REPEATS < world.dials < 100
            nursery.cancel_scope.cancel()

    await with_tree(use)


async def test_a_caller_who_goes_away_holds_up_nobody(autojump_clock: MockClock) -> None:
    async def use(tree: Tree, world: World) -> None:
        scopes = [trio.CancelScope() for _ in range(12)]
        done: list[int] = []

        async def ask(number: int) -> None:
            with scopes[number]:
                await tree.repeat(lambda share: share.ask())  # type: ignore[attr-defined]  # a fake
                done.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(ask, number)
                await trio.lowlevel.checkpoint()
            world.cut()
            for number in (0, 3, 4, 11):
                scopes[number].cancel()
        assert sorted(done) == [1, 2, 5, 6, 7, 8, 9, 10]

    await with_tree(use)
