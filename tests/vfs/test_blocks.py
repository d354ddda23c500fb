"""The block cache alone, over a source that is a bytes object."""

import random
from collections import Counter

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from smbfuse.errors import SmbError, Timeout
from smbfuse.vfs.attrs import Version
from smbfuse.vfs.blocks import OVERHEAD, BlockCache, request_size
from smbfuse.vfs.fileblocks import FileBlocks

KIB, MIB = 1 << 10, 1 << 20
V1, V2 = Version(1, 1, 1), Version(2, 2, 2)


class BytesSource:
    """A file on a server: counts reads, holders, and answers when `gate` is open."""

    def __init__(self, data: bytes, *, most: int = 1 << 30) -> None:
        self.data = data
        self.most = most  # bytes that one answer brings
        self.holders = 0
        self.reads: list[tuple[int, int]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.error: SmbError | None = None

    def hold(self) -> None:
        self.holders += 1

    def let_go(self) -> None:
        self.holders -= 1

    async def read(self, offset: int, length: int) -> memoryview:
        self.reads.append((offset, length))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return memoryview(bytearray(self.data[offset : offset + min(length, self.most)]))


async def read(
    cache: BlockCache, file: FileBlocks, source: BytesSource, start: int, end: int, request: int = MIB
) -> bytes:
    view = file.hit(start, end)
    if view is not None:
        return bytes(view)
    blocks, fresh = file.claim(start, end, request)
    cache.fetch(fresh, source, ahead=False)
    return bytes(await cache.gather(blocks, start, end))


@pytest.fixture
def data() -> bytes:
    return random.Random(1).randbytes(3 * MIB)


async def test_a_hit_is_a_view_and_not_a_copy(nursery: trio.Nursery, data: bytes) -> None:
    cache, source = BlockCache(8 * MIB, nursery.start_soon), BytesSource(data)
    file = cache.file(5, V1)
    await read(cache, file, source, 0, MIB)
    first, second = file.hit(0, 128 * KIB), file.hit(128 * KIB, 256 * KIB)
    assert first is not None
    assert second is not None
    assert first.obj is second.obj
    assert first.readonly
    assert second == data[128 * KIB : 256 * KIB]


async def test_one_request_a_block_whoever_asks(nursery: trio.Nursery, data: bytes) -> None:
    cache, source = BlockCache(8 * MIB, nursery.start_soon), BytesSource(data)
    file = cache.file(5, V1)
    source.gate = trio.Event()
    results: list[bytes] = []

    async def reader(start: int) -> None:
        results.append(await read(cache, file, source, start, start + 128 * KIB))

    _, fresh = file.claim(0, MIB, MIB)
    cache.fetch(fresh, source, ahead=True)
    async with trio.open_nursery() as readers:
        for number in range(20):
            readers.start_soon(reader, number % 8 * 128 * KIB)
        await trio.testing.wait_all_tasks_blocked()
        source.gate.set()
    assert source.reads == [(0, MIB)]
    assert len(results) == 20
    assert source.holders == 0


async def test_a_cancelled_first_reader_takes_nothing_from_the_second(nursery: trio.Nursery, data: bytes) -> None:
    cache, source = BlockCache(8 * MIB, nursery.start_soon), BytesSource(data)
    file = cache.file(5, V1)
    source.gate = trio.Event()
    results: list[bytes] = []

    async def second() -> None:
        results.append(await read(cache, file, source, 0, 100))

    async with trio.open_nursery() as readers:
        with trio.CancelScope() as first:
            readers.start_soon(second)
            nursery.start_soon(trio.testing.wait_all_tasks_blocked)
            first.deadline = trio.current_time() + 0.05
            await read(cache, file, source, 0, 100)
        assert first.cancelled_caught
        source.gate.set()
    assert results == [data[:100]]
    assert len(source.reads) == 1


async def test_a_failed_block_fails_its_readers_and_is_asked_for_again(nursery: trio.Nursery, data: bytes) -> None:
    cache, source = BlockCache(8 * MIB, nursery.start_soon), BytesSource(data)
    file = cache.file(5, V1)
    source.error = Timeout("no answer")
    with pytest.raises(Timeout):
        await read(cache, file, source, 0, 100)
    source.error = None
    assert await read(cache, file, source, 0, 100) == data[:100]
    assert source.holders == 0


async def test_the_end_of_the_filesystem_leaves_nobody_waiting(data: bytes) -> None:
    source = BytesSource(data)
    source.gate = trio.Event()
    failed: list[SmbError] = []
    async with trio.open_nursery() as nursery, trio.open_nursery() as background:
        cache = BlockCache(8 * MIB, background.start_soon)
        file = cache.file(5, V1)

        async def reader() -> None:
            try:
                await read(cache, file, source, 0, 100)
            except SmbError as error:
                failed.append(error)

        nursery.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked()
        background.cancel_scope.cancel()
    assert len(failed) == 1


async def test_who_waits_for_a_block_gets_it_though_the_one_who_fetched_it_has_gone(
    nursery: trio.Nursery, data: bytes
) -> None:
    cache, source = BlockCache(8 * MIB, nursery.start_soon), BytesSource(data)
    source.gate = trio.Event()
    file = cache.file(5, V1)
    gone = trio.CancelScope()

    async def fetcher() -> None:
        _, (block,) = file.claim(0, MIB, MIB)
        with gone:
            await cache.fetch_here(block, source)

    nursery.start_soon(fetcher)
    await trio.testing.wait_all_tasks_blocked()
    received: list[bytes] = []

    async def waiter() -> None:
        received.append(await read(cache, file, source, 0, 100))

    nursery.start_soon(waiter)
    await trio.testing.wait_all_tasks_blocked()
    gone.cancel()
    await trio.testing.wait_all_tasks_blocked()
    source.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert received == [data[:100]]
    assert gone.cancelled_caught
    assert source.holders == 0


async def test_short_answers_are_put_together(nursery: trio.Nursery, data: bytes) -> None:
    cache, source = BlockCache(8 * MIB, nursery.start_soon), BytesSource(data, most=100_000)
    assert await read(cache, cache.file(5, V1), source, 0, MIB) == data[:MIB]


async def test_a_file_that_was_cut_reads_short_and_is_asked_for_again(nursery: trio.Nursery, data: bytes) -> None:
    cache, source = BlockCache(8 * MIB, nursery.start_soon), BytesSource(data[:1000])
    file = cache.file(5, V1)
    assert await read(cache, file, source, 0, 5000) == data[:1000]
    assert await read(cache, file, source, 2000, 5000) == b""
    source.data = data
    assert await read(cache, file, source, 0, 5000) == data[:5000]


async def test_memory_stays_within_the_bound_whatever_is_read(nursery: trio.Nursery, data: bytes) -> None:
    size = 2 * MIB
    cache, source = BlockCache(size, nursery.start_soon), BytesSource(data)
    choose = random.Random(3)
    for _ in range(300):
        file = cache.file(choose.randrange(4), V1)
        start = choose.randrange(len(data) - 1)
        end = min(len(data), start + choose.choice([10, 4096, 200_000]))
        assert await read(cache, file, source, start, end) == data[start:end]
        assert cache.statistics().held <= size
    assert cache.statistics().evicted > 10


async def test_a_cache_too_small_for_a_block_still_reads(nursery: trio.Nursery, data: bytes) -> None:
    cache, source = BlockCache(1000, nursery.start_soon), BytesSource(data)
    assert await read(cache, cache.file(5, V1), source, 0, MIB) == data[:MIB]
    assert cache.statistics().held == 0


async def test_a_small_slice_of_a_large_buffer_is_copied(nursery: trio.Nursery) -> None:
    cache = BlockCache(8 * MIB, nursery.start_soon)
    file = cache.file(5, V1)
    cache.put(file, memoryview(bytearray(MIB))[:1000])
    assert cache.statistics().held == 1000 + OVERHEAD
    other = cache.file(6, V1)
    cache.put(other, memoryview(bytearray(1500))[:1000])
    assert cache.statistics().held == 1000 + 1500 + 2 * OVERHEAD


async def test_a_scan_does_not_push_out_what_is_read_again(nursery: trio.Nursery, data: bytes) -> None:
    cache, source = BlockCache(8 * MIB, nursery.start_soon), BytesSource(data)
    used = cache.file(5, V1)
    for _ in range(2):
        await read(cache, used, source, 0, MIB)
    scanned = BytesSource(bytes(64 * MIB))
    scan = cache.file(6, V1)
    for start in range(0, 64 * MIB, 128 * KIB):
        await read(cache, scan, scanned, start, start + 128 * KIB)
    assert used.holds(0, MIB)
    before = len(source.reads)
    await read(cache, used, source, 0, MIB)
    assert len(source.reads) == before


async def test_what_was_read_through_goes_before_what_was_not_read_yet(nursery: trio.Nursery, data: bytes) -> None:
    cache, source = BlockCache(3 * MIB + 10 * OVERHEAD, nursery.start_soon), BytesSource(data)
    file = cache.file(5, V1)
    _, ahead = file.claim(0, MIB, MIB)
    cache.fetch(ahead, source, ahead=True)
    await trio.testing.wait_all_tasks_blocked()
    await read(cache, file, source, MIB, 2 * MIB)
    other = cache.file(6, V1)
    await read(cache, other, source, 0, MIB)
    await read(cache, other, source, MIB, 2 * MIB)
    assert file.holds(0, MIB)
    assert not file.holds(MIB, 2 * MIB)


async def test_another_version_drops_the_former_blocks(nursery: trio.Nursery, data: bytes) -> None:
    cache, source = BlockCache(8 * MIB, nursery.start_soon), BytesSource(data)
    await read(cache, cache.file(5, V1), source, 0, MIB)
    assert cache.file(5, V1).hit(0, 100) is not None
    assert cache.file(5, V2).hit(0, 100) is None
    assert cache.statistics().held == 0


async def test_a_block_that_arrives_after_its_file_was_dropped_is_given_to_its_reader_only(
    nursery: trio.Nursery, data: bytes
) -> None:
    cache, source = BlockCache(8 * MIB, nursery.start_soon), BytesSource(data)
    source.gate = trio.Event()
    results: list[bytes] = []

    async def reader() -> None:
        results.append(await read(cache, cache.file(5, V1), source, 0, 100))

    async with trio.open_nursery() as readers:
        readers.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked()
        cache.drop(5)
        source.gate.set()
    assert results == [data[:100]]
    assert cache.statistics().held == cache.statistics().pending == 0


async def test_a_range_that_was_written_goes_and_the_rest_stays(nursery: trio.Nursery, data: bytes) -> None:
    cache, source = BlockCache(8 * MIB, nursery.start_soon), BytesSource(data)
    file = cache.file(5, V1)
    await read(cache, file, source, 0, 2 * MIB)
    cache.cut(file, MIB - 100, MIB + 300 * KIB)
    assert file.hit(MIB - 100, MIB) is None
    assert file.hit(MIB + 200 * KIB, MIB + 201 * KIB) is None
    for start, end in ((0, MIB - 100), (MIB + 300 * KIB, 2 * MIB)):
        view = file.hit(start, end)
        assert view is not None
        assert bytes(view) == data[start:end]
    # A small rest of a large buffer is copied, so that what is counted is what is there.
    assert cache.statistics().held <= 2 * MIB + 2 * OVERHEAD
    cache.cut(file, 0)
    assert cache.statistics().held == cache.statistics().blocks == 0


async def test_a_block_on_its_way_when_its_range_is_written_is_for_those_alone_who_wait(
    nursery: trio.Nursery, data: bytes
) -> None:
    cache, source = BlockCache(8 * MIB, nursery.start_soon), BytesSource(data)
    file = cache.file(5, V1)
    source.gate = trio.Event()
    results: list[bytes] = []

    async def reader() -> None:
        results.append(await read(cache, file, source, 0, MIB))

    async with trio.open_nursery() as readers:
        readers.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked()
        cache.cut(file, 10, 20)
        source.gate.set()
    assert results == [data[:MIB]]
    assert file.hit(0, 100) is None
    assert cache.statistics().held == cache.statistics().pending == 0


async def test_what_was_written_is_kept_and_goes_first(nursery: trio.Nursery, data: bytes) -> None:
    cache, source = BlockCache(3 * MIB, nursery.start_soon), BytesSource(data)
    other = cache.file(1, V1)
    _, ahead = other.claim(0, MIB // 2, MIB)
    cache.fetch(ahead, source, ahead=True)
    await trio.testing.wait_all_tasks_blocked()
    file = cache.file(5, V1)
    for start in range(0, 8 * MIB, MIB // 4):
        cache.cut(file, start, start + MIB // 4)
        cache.keep(file, start, data[: MIB // 4])
    cache.keep(file, 9 * MIB, b"small")
    assert file.hit(9 * MIB, 9 * MIB + 5) is None
    assert other.hit(0, 100) is not None
    view = file.hit(8 * MIB - MIB // 4, 8 * MIB)
    assert view is not None
    assert bytes(view) == data[: MIB // 4]
    assert cache.statistics().held <= 3 * MIB


@pytest.mark.parametrize(
    "largest, size",
    [
        (8 * MIB, MIB),
        (MIB, MIB),
        (MIB - 1, 512 * KIB),
        (130_000, 126_976),
        (65_536, 65_536),
        (65_535, 61_440),
        (61_440, 61_440),
        (5000, 4096),
        (1000, 1000),
    ],
)
def test_requests_are_the_measured_best_within_what_the_server_takes(largest: int, size: int) -> None:
    assert request_size(largest) == size


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 300), st.integers(1, 120), st.booleans()), max_size=40),
    st.sampled_from([4, 60, 64]),
    st.sampled_from([1, 100, 10_000]),
)
@settings(deadline=None, max_examples=60)
def test_any_reads_return_the_files_bytes(
    steps: list[tuple[int, int, int, bool]], request_kib: int, size_kib: int
) -> None:
    files = [random.Random(number).randbytes(300 * KIB) for number in range(3)]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            cache = BlockCache(size_kib * KIB, nursery.start_soon)
            sources = [BytesSource(content) for content in files]
            for number, start, length, ahead in steps:
                file, source, content = cache.file(number, V1), sources[number], files[number]
                first, last = min(start * KIB, len(content)), min((start + length) * KIB, len(content))
                if ahead:
                    _, fresh = file.claim(first, last, request_kib * KIB)
                    cache.fetch(fresh, source, ahead=True)
                elif first < last:
                    assert await read(cache, file, source, first, last, request_kib * KIB) == content[first:last]
                assert cache.statistics().held <= cache.size
                covered = Counter(byte for block in file.blocks() for byte in range(block.start, block.end, KIB))
                assert max(covered.values(), default=0) <= 1

    trio.run(main)
