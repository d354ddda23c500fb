"""Any writes, reads and cuts of any files, through two clients, against bytes in a dict.

Everything is made tiny, so that every border is crossed: requests of some hundred bytes, little room for what waits,
grants that break at any time, a server that refuses now and then. What a program was told is what must hold: bytes that
were taken are read back by everybody, and are on the server in the end.
"""

import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from smbfuse.config import Cache, CacheMode, View
from smbfuse.errors import NoSpace
from smbfuse.share import Caching, Features, Limits
from smbfuse.vfs.posix import NewAttributes
from tests.support.mem_share import MemShare
from tests.support.mem_source import MemSource
from tests.vfs.mounted import Mounted

DISK_FULL = 0xC000007F
NOTHING = Caching.NONE
R, RH = Caching.READ, Caching.READ | Caching.HANDLE
RWH = RH | Caching.WRITE
FLAGS = [os.O_RDWR, os.O_WRONLY, os.O_RDONLY, os.O_RDWR | os.O_APPEND, os.O_RDWR | os.O_DIRECT, os.O_RDWR | os.O_SYNC]
FLAGS += [os.O_RDWR | os.O_TRUNC]
FILES = ("a", "b")

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["open", "open", "write", "write", "write", "write", "read", "read", "truncate", "sync", "close", "break"]
        ),
        st.integers(0, 1),  # which client, or which file
        st.integers(0, 1500),  # where, or which
        st.integers(1, 700),  # how much
        st.booleans(),
    ),
    min_size=5,
    max_size=40,
)


@dataclass
class Open:
    """One open(2), and what it may do."""

    client: Mounted
    file: str
    fh: int
    flags: int


class World:
    """Two clients, their open files, and what the files ought to hold."""

    def __init__(self, clients: list[Mounted], share: MemShare) -> None:
        self.clients = clients
        self.share = share
        self.model = {file: bytearray() for file in FILES}
        self.opens: list[Open] = []
        self.written = 0

    async def step(self, action: str, which: int, place: int, length: int, odd: bool) -> None:
        if action == "open":
            await self.open(self.clients[which], FILES[odd], FLAGS[place % len(FLAGS)])
        elif action == "break":
            for grant in list(self.share.node(FILES[which]).grants):
                if grant.answered is None and grant.caching:
                    grant.take(grant.caching & (NOTHING, R, RH)[place % 3])
        elif self.opens:
            one = self.opens[place % len(self.opens)]
            await getattr(self, action)(one, place, length, odd)

    async def open(self, client: Mounted, file: str, flags: int) -> None:
        opened = await client.fs.open(await client.ino(file), flags)
        self.opens.append(Open(client, file, opened.fh, flags))
        if flags & os.O_TRUNC:
            self.model[file].clear()

    async def write(self, one: Open, place: int, length: int, odd: bool) -> None:
        if one.flags & os.O_ACCMODE == os.O_RDONLY:
            return
        self.written += 1
        content = bytes([self.written % 255 + 1]) * length
        data = self.model[one.file]
        offset = len(data) if one.flags & os.O_APPEND else place
        written = await one.client.fs.write(one.fh, offset, content)
        data.extend(bytes(max(0, offset - len(data))))
        data[offset : offset + written] = content[:written]
        if written < length:
            raise NoSpace("the rest was refused", status=DISK_FULL)

    async def read(self, one: Open, place: int, length: int, odd: bool) -> None:
        if one.flags & os.O_ACCMODE == os.O_WRONLY:
            return
        # The kernel asks for attributes that are no longer good before it reads behind what it knows to be the end.
        await one.client.fs.getattr(await one.client.ino(one.file))
        got = bytes(await one.client.fs.read(one.fh, place, length))
        assert got == bytes(self.model[one.file][place : place + length])

    async def truncate(self, one: Open, place: int, length: int, odd: bool) -> None:
        by_handle = odd and one.flags & os.O_ACCMODE != os.O_RDONLY
        ino = await one.client.ino(one.file)
        await one.client.fs.setattr(ino, NewAttributes(size=place), one.fh if by_handle else None)
        data = self.model[one.file]
        data[:] = data[:place] + bytes(max(0, place - len(data)))

    async def sync(self, one: Open, place: int, length: int, odd: bool) -> None:
        await one.client.fs.fsync(one.fh, odd)

    async def close(self, one: Open, place: int, length: int, odd: bool) -> None:
        self.opens.remove(one)
        await one.client.fs.flush(one.fh)
        await one.client.fs.release(one.fh)

    async def learn(self, place: int, length: int) -> None:
        """Take what a refused write has left, which may be a part of it: the rest must be as it was."""
        for file, data in self.model.items():
            now = bytearray(await self.clients[0].read_all(file, chunk=333))
            after = bytearray(data) + bytes(max(0, len(now) - len(data)))
            touched = range(min(place, len(data)), max(place, len(data)) + length)
            assert len(now) >= len(data)
            assert all(now[at] == after[at] for at in range(len(now)) if at not in touched)
            data[:] = now

    async def check(self) -> None:
        """Compare what every client sees with the model."""
        for client in self.clients:
            for file, data in self.model.items():
                # A size that is only asked for breaks no grant: it is the other's last one on the server until an open.
                assert await client.read_all(file, chunk=333) == bytes(data)
                assert (await client.find(file)).stat.size == len(data)


def run(main: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    async def inside() -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                await main(nursery)
                nursery.cancel_scope.cancel()

    trio.run(inside)


async def world(nursery: trio.Nursery, grants: Caching, *, oplocks: bool, mode: CacheMode, clients: int) -> World:
    limits = Limits(read=200, write=150, transact=1000, in_flight=6)
    share = MemShare(limits=limits, grants=grants, oplocks=oplocks, features=Features.COMPOUND)
    cache = Cache(
        mode=mode, size=3000, readahead=700, dirty_limit=500, attributes_s=0.0, directories_s=0.0, close_timeout_s=0.005
    )
    mounts = []
    for one in [share, share.other_client()][:clients]:
        mounted = Mounted(MemSource(one), cache, View())
        await nursery.start(mounted.fs.run)
        mounts.append(mounted)
    for file in FILES:
        share.add(file)
    return World(mounts, share)


async def finish(there: World) -> None:
    """Close everything; nothing may be left, and all must be on the server."""
    await there.check()
    for one in list(there.opens):
        await there.close(one, 0, 0, False)
    await wait_all_tasks_blocked(0.02)  # longer than handles are kept
    for file, data in there.model.items():
        assert bytes(there.share.node(file).data) == bytes(data)
        assert there.share.node(file).handles == []
    for client in there.clients:
        assert await client.fs.drain(trio.current_time() + 1) == []


@given(STEPS, st.sampled_from([NOTHING, R, RH, RWH]), st.booleans(), st.sampled_from(list(CacheMode)))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_two_clients_see_each_others_bytes(
    steps: list[tuple[str, int, int, int, bool]], grants: Caching, oplocks: bool, mode: CacheMode
) -> None:
    async def main(nursery: trio.Nursery) -> None:
        # `loose` promises nothing to a second client.
        clients = 1 if mode is CacheMode.LOOSE else 2
        there = await world(nursery, grants, oplocks=oplocks, mode=mode, clients=clients)
        for action, which, place, length, odd in steps:
            await there.step(action, which % clients if action == "open" else which, place, length, odd)
        await finish(there)

    run(main)


@given(STEPS, st.sampled_from([NOTHING, RWH]), st.lists(st.integers(0, 6), max_size=12))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_what_a_full_disk_refuses_is_told_and_not_lost(
    steps: list[tuple[str, int, int, int, bool]], grants: Caching, refusals: list[int]
) -> None:
    """What was taken is read back, and saved when there is room; what was not may be there in part."""

    async def main(nursery: trio.Nursery) -> None:
        there = await world(nursery, grants, oplocks=False, mode=CacheMode.STRICT, clients=1)
        countdown = list(refusals)
        perform = there.share.perform

        async def refuse_sometimes(operation: str, path: str) -> None:
            await perform(operation, path)
            if operation == "write" and countdown:
                countdown[0] -= 1
                if countdown[0] < 0:
                    countdown.pop(0)
                    raise NoSpace("disk full", status=DISK_FULL)

        there.share.perform = refuse_sometimes  # type: ignore[method-assign]
        for action, which, place, length, odd in steps:
            if action in ("close", "read") or (action == "open" and FLAGS[place % len(FLAGS)] & os.O_TRUNC):
                continue  # the last close gives up what is refused at that time
            with contextlib.suppress(NoSpace):
                await there.step(action, 0 if action == "open" else which, place, length, odd)
                continue
            await there.learn(place, length)
        countdown.clear()
        for one in there.opens:
            for _ in range(len(refusals) + 2):
                with contextlib.suppress(NoSpace):
                    await there.sync(one, 0, 0, True)
                    break
            else:
                pytest.fail("an error is told again and again")
        await finish(there)

    logging.disable(logging.WARNING)
    try:
        run(main)
    finally:
        logging.disable(logging.NOTSET)
