"""The gate: whom it refuses and with what, whom it lets in, and that nobody waits for longer than he may."""

import errno
from collections.abc import Awaitable, Callable

import pytest
import trio
from pyfuse3 import FUSEError
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.fuse.boundary import total, unawaited, untimed
from smbfuse.fuse.gate import CHANGES, OPENS, Gate
from smbfuse.fuse.operations import Operations
from smbfuse.fuse.xattrs import OperationsWithXattrs


class Handlers:
    """Handlers by the names that the gate knows. `answered` lets those end that wait."""

    patience_s = 60.0

    def __init__(self) -> None:
        self.gate = Gate()
        self.gate.may_sleep = True
        self.answered = trio.Event()

    @total
    async def getattr(self, known: bool) -> str:
        if not known:
            await self.answered.wait()
        return "attributes"

    @total
    async def open(self) -> str:
        await self.answered.wait()
        return "handle"

    @total
    async def mkdir(self) -> str:
        await self.answered.wait()
        return "made"

    @untimed
    async def write(self) -> str:
        await self.answered.wait()
        return "written"

    @untimed
    async def flush(self, unsaved: bool) -> str:
        if unsaved:
            await self.answered.wait()
        return "flushed"

    @unawaited
    async def release(self) -> str:
        await self.answered.wait()
        return "closed"


async def outcome(call: Callable[..., Awaitable[str]], *arguments: object) -> str:
    try:
        return await call(*arguments)
    except FUSEError as error:
        return errno.errorcode[error.errno]


async def test_a_mount_that_ends_opens_nothing_and_serves_the_rest() -> None:
    handlers = Handlers()
    handlers.answered.set()
    handlers.gate.close()
    assert await outcome(handlers.open) == "ESHUTDOWN"
    assert await outcome(handlers.getattr, False) == "attributes"
    assert await outcome(handlers.mkdir) == "made"
    assert await outcome(handlers.write) == "written"
    handlers.gate.wake()  # which ends no end
    assert await outcome(handlers.open) == "ESHUTDOWN"


async def test_asleep_nobody_waits(autojump_clock: MockClock) -> None:
    handlers = Handlers()
    await handlers.gate.sleep(trio.current_time() + 2)
    assert trio.current_time() == 0  # nobody was there
    assert await outcome(handlers.getattr, True) == "attributes"
    assert await outcome(handlers.getattr, False) == "EHOSTDOWN"
    assert await outcome(handlers.flush, False) == "flushed"
    assert await outcome(handlers.flush, True) == "EHOSTDOWN"
    for change in (handlers.open, handlers.mkdir, handlers.write):
        assert await outcome(change) == "EHOSTDOWN"
    assert trio.current_time() == 0
    assert len(handlers.gate) == 0
    handlers.gate.wake()
    handlers.answered.set()
    assert await outcome(handlers.open) == "handle"
    assert await outcome(handlers.write) == "written"


async def test_who_waits_already_has_some_time(autojump_clock: MockClock) -> None:
    for answered_s, said, ended_s in ((1, ["attributes", "made", "written", "flushed"], 1), (5, ["EHOSTDOWN"] * 4, 2)):
        handlers = Handlers()
        heard: list[str] = []

        async def ask(call: Callable[..., Awaitable[str]], *arguments: object, heard: list[str] = heard) -> None:
            heard.append(await outcome(call, *arguments))

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, handlers.getattr, False)
            nursery.start_soon(ask, handlers.mkdir)
            nursery.start_soon(ask, handlers.write)
            nursery.start_soon(ask, handlers.flush, True)
            nursery.start_soon(ask, handlers.release)
            await wait_all_tasks_blocked()
            assert len(handlers.gate) == 4
            async with trio.open_nursery() as sleeping:
                sleeping.start_soon(handlers.gate.sleep, began + 2)
                await trio.sleep_until(began + min(answered_s, 2))
                if answered_s < 2:
                    handlers.answered.set()
            assert trio.current_time() == began + ended_s
            await wait_all_tasks_blocked()
            assert len(handlers.gate) == 0
            handlers.answered.set()
        assert sorted(heard) == sorted([*said, "closed"])


async def test_where_nobody_tells_of_sleep_a_write_needs_no_scope_and_is_served(autojump_clock: MockClock) -> None:
    handlers = Handlers()
    handlers.gate.may_sleep = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handlers.write)
        await wait_all_tasks_blocked()
        assert len(handlers.gate) == 0
        handlers.answered.set()
    assert await outcome(handlers.write) == "written"


async def test_a_request_that_is_given_up_is_no_longer_inside(autojump_clock: MockClock) -> None:
    handlers = Handlers()
    with trio.move_on_after(1):
        await handlers.write()
    assert len(handlers.gate) == 0


@pytest.mark.parametrize("name", sorted(OPENS | CHANGES))
def test_what_the_gate_refuses_is_a_handler(name: str) -> None:
    assert hasattr(OperationsWithXattrs, name)
    assert name in vars(Operations) or name in vars(OperationsWithXattrs)
