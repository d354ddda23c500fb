"""How many bytes are on their way at once: more on a long way, no more than needed on a short or a narrow one."""

import pytest
import trio
from trio.testing import MockClock

from smbfuse.vfs.transit import LEAST, MOST, Transit
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount

MIB = 1 << 20


def carried(transit: Transit, *, round_trip_s: float, bytes_per_s: float, requests: int = 200) -> float:
    """Keep a link busy with requests of 1 MiB, as many as `transit` allows; return the bytes a second it carried."""
    now, free_at = 0.0, 0.0
    under_way: list[tuple[float, float, int]] = []  # answered at, sent at, beside
    sent = 0
    while sent < requests or under_way:
        pending = len(under_way) * MIB
        if sent < requests and pending + MIB <= transit.bytes:
            free_at = max(free_at, now) + MIB / bytes_per_s
            under_way.append((free_at + round_trip_s, now, pending))
            sent += 1
            continue
        answered_at, sent_at, beside = under_way.pop(0)
        now = answered_at
        transit.answered(MIB, beside, now - sent_at)
    return requests * MIB / now


def test_a_long_way_is_filled() -> None:
    transit = Transit()
    rate = carried(transit, round_trip_s=0.05, bytes_per_s=1e9)
    assert transit.bytes == MOST
    assert rate > 0.8 * MOST / 0.06


@pytest.mark.parametrize(
    "round_trip_s, bytes_per_s", [pytest.param(0.0003, 1e9, id="loopback"), pytest.param(0.01, 1e8, id="1 Gbit/s")]
)
def test_no_queue_is_made_longer(round_trip_s: float, bytes_per_s: float) -> None:
    transit = Transit()
    rate = carried(transit, round_trip_s=round_trip_s, bytes_per_s=bytes_per_s)
    assert transit.bytes == LEAST
    assert rate > 0.95 * bytes_per_s


def test_a_link_that_becomes_narrow_is_found_out() -> None:
    transit = Transit()
    carried(transit, round_trip_s=0.05, bytes_per_s=1e9)
    carried(transit, round_trip_s=0.05, bytes_per_s=5e7)
    assert transit.bytes == LEAST


@pytest.mark.parametrize("elapsed_s", [0.0, 1e-9, 1e9])
def test_strange_times_keep_it_within_bounds(elapsed_s: float) -> None:
    transit = Transit()
    for _ in range(50):
        transit.answered(MIB, transit.bytes, elapsed_s)
        assert LEAST <= transit.bytes <= MOST


async def test_a_long_file_far_away_is_read_with_more_at_once(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("large", bytes(96 * MIB))
    share.delays["read"] = 0.4
    mounted = await mount(share)
    ino = await mounted.ino("large")
    opened = await mounted.fs.open(ino, 0)
    began = trio.current_time()
    for offset in range(0, 96 * MIB, 128 << 10):
        assert len(await mounted.fs.read(opened.fh, offset, 128 << 10)) == 128 << 10
    assert trio.current_time() - began < 0.4 * 10, "96 MiB: the first of them, 8 MiB, then up to 16 MiB at a time"
    await mounted.fs.release(opened.fh)
