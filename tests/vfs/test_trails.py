"""Paths that are gone again when nothing of them is believed any longer: how long that takes, and what it must find."""

import pytest
import trio
from trio.testing import MockClock

from smbfuse.config import Cache, CacheMode
from smbfuse.share import FileStat
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, Mounted

ROUND_TRIP_S = 0.05
PATH = "a/b/c/file"


def deep() -> MemShare:
    share = MemShare()
    share.add(PATH, b"content")
    share.add("a/b/other", b"another")
    share.delays["stat"] = ROUND_TRIP_S
    return share


async def gone(mounted: Mounted, path: str = PATH) -> float:
    """Return how long it takes to find a path when nothing of it is believed any longer."""
    await trio.sleep(2.0)
    began = trio.current_time()
    assert await mounted.ino(path)
    return trio.current_time() - began


async def test_a_path_gone_again_takes_one_round_trip(mount: Mount, autojump_clock: MockClock) -> None:
    share = deep()
    mounted = await mount(share)
    assert await gone(mounted) == pytest.approx(4 * ROUND_TRIP_S + ROUND_TRIP_S), "the root's attributes too"
    before = share.calls["stat"]
    for _ in range(3):
        assert await gone(mounted) == pytest.approx(2 * ROUND_TRIP_S)
    assert share.calls["stat"] - before == 3 * 5, "no more questions than before"


async def test_an_answer_that_comes_late_is_waited_for(
    mount: Mount, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = deep()
    mounted = await mount(share)
    await gone(mounted)
    before, stat = share.calls["stat"], share.stat

    async def stat_late(path: str) -> FileStat:
        if path == PATH:
            await trio.sleep(0.5)
        return await stat(path)

    monkeypatch.setattr(share, "stat", stat_late)
    assert await gone(mounted) == pytest.approx(0.5 + 2 * ROUND_TRIP_S)
    assert share.calls["stat"] - before == 5, "it was not asked for twice"


async def test_another_way_is_gone_as_it_is(mount: Mount, autojump_clock: MockClock) -> None:
    share = deep()
    mounted = await mount(share)
    await gone(mounted)
    await gone(mounted, "a/b/other")
    before = share.calls["stat"]
    await gone(mounted, "a/b/other")
    await gone(mounted, "a")
    await gone(mounted, "a")
    await gone(mounted, "a")
    # a, a/b, a/b/other; then once more in vain, then a alone.
    assert share.calls["stat"] - before == 4 + 4 + 2 + 2


async def test_what_has_changed_meanwhile_is_seen(mount: Mount, autojump_clock: MockClock) -> None:
    share = deep()
    mounted = await mount(share)
    await gone(mounted)
    former = await mounted.ino(PATH)
    share.write(PATH, b"longer than it was")
    await gone(mounted)
    assert (await mounted.find(PATH)).stat.size == 18
    share.disk.remove(PATH)
    share.add(PATH, b"new")
    await gone(mounted)
    entry = await mounted.find(PATH)
    assert (entry.stat.size, entry.stat.ino == former) == (3, False)
    share.disk.remove(PATH)
    await trio.sleep(2.0)
    assert await mounted.ino(PATH) == 0
    await trio.sleep(2.0)
    assert await mounted.ino(PATH) == 0


@pytest.mark.parametrize("cache", [Cache(mode=CacheMode.NONE), Cache(attributes_s=0.0, directories_s=0.0)])
async def test_nothing_is_asked_ahead_that_would_not_be_believed(
    mount: Mount, autojump_clock: MockClock, cache: Cache
) -> None:
    share = deep()
    mounted = await mount(share, cache=cache)
    before = share.calls["stat"]
    await gone(mounted)
    await gone(mounted)
    assert share.calls["stat"] - before == 2 * 5
