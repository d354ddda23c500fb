import gc
import math
import tracemalloc
from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from smbfuse.config import Cache, CacheMode, NameMapping
from smbfuse.share import FileStat, Kind
from smbfuse.vfs.attrs import AbsentNames, Asked, Lifetimes, asked_of, name_of, pack, reasked, refined, unpack
from smbfuse.vfs.inode import Folder, Node, ShareRoot
from smbfuse.vfs.names import Names
from smbfuse.vfs.nodes import NodeTable
from tests.support.mem_share import MemShare

TIMES = st.none() | st.integers(-(10**20), 9 * 10**20).map(lambda ticks: ticks - ticks % 100)
U32 = st.integers(0, (1 << 32) - 2)
U64 = st.integers(0, (1 << 64) - 1)
SIZES = st.integers(0, (1 << 63) - 1)
STATS = st.builds(
    FileStat,
    kind=st.sampled_from(Kind),
    size=SIZES,
    allocation=SIZES,
    attributes=U32,
    created_ns=TIMES,
    accessed_ns=TIMES,
    written_ns=TIMES,
    changed_ns=TIMES,
    file_id=U64,
    volume_id=st.none() | U64,
    links=st.none() | U32,
    mode=st.none() | st.integers(0, 0o7777),
    uid=st.none() | U32,
    gid=st.none() | U32,
    device=st.none() | st.tuples(st.integers(0, 0xFFF), st.integers(0, 0xFFFFF)),
)
WILD = st.integers(-(1 << 80), 1 << 80)


@given(STATS, st.text(st.characters(codec=None), max_size=30), st.integers(0, 1 << 60), st.floats(0, 1e9))
def test_a_record_gives_back_what_was_packed(stat: FileStat, name: str, number: int, at: float) -> None:
    record = pack(Asked(number, at), 3, stat, name)
    known = unpack(record)
    assert (known.asked, known.generation, known.stat) == (Asked(number, at), 3, stat)
    assert known.name.encode("utf-16", "surrogatepass") == name.encode("utf-16", "surrogatepass")
    assert asked_of(record) == Asked(number, at)
    assert name_of(record) == known.name


def test_a_record_takes_another_question_without_being_decoded() -> None:
    stat = FileStat(Kind.FILE, 5, 4096, 32, 100, None, 300, 400, 7, 8, 1, None, None, None, None)
    asked = Asked(99, -math.inf)
    assert reasked(pack(Asked(1, 2.5), 3, stat, "ä"), asked) == pack(asked, 3, stat, "ä")


@given(WILD, WILD, WILD, WILD)
def test_wild_values_are_brought_into_range(size: int, time: int, number: int, mode: int) -> None:
    stat = FileStat(
        Kind.FILE, size, -size, number, time, time, time, time, number, number, number, mode, number, number
    )
    shown = unpack(pack(Asked(1, 0.0), 0, stat, "x")).stat
    assert 0 <= shown.size < 1 << 63
    assert 0 <= shown.allocation < 1 << 63
    assert shown.mode is not None
    assert 0 <= shown.mode <= 0o7777


def test_a_poor_answer_takes_nothing_away() -> None:
    rich = FileStat(Kind.FILE, 5, 8, 32, 100, 200, 1_700_000_000_123_456_700, 400, 77, 9, 1, 0o644, 1, 2, None)
    poor = FileStat(Kind.FILE, 5, 8, 32, None, None, 1_700_000_000_000_000_000, None)
    assert refined(poor, rich) == rich
    later = poor._replace(written_ns=1_700_000_003_000_000_000)
    assert refined(later, rich).written_ns == later.written_ns


def test_lifetimes_run_from_when_the_question_was_sent() -> None:
    strict = Lifetimes(Cache(attributes_s=2.0))
    assert strict.left(100.0, 101.5) == 0.5
    assert strict.left(100.0, 102.5) == 0.0
    assert Lifetimes(Cache(mode=CacheMode.NONE, attributes_s=2.0)).left(100.0, 100.0) == 0.0
    assert Lifetimes(Cache(mode=CacheMode.LOOSE, attributes_s=2.0)).left(100.0, 102.5) > 2.0


def test_absent_names_are_bounded_and_know_their_spellings() -> None:
    absent = AbsentNames(most=3)
    for number, name in enumerate("abcd"):
        absent.note(1, name, name.encode(), Asked(number, 0.0))
    assert len(absent) == 3
    assert absent.asked(1, "a", b"a") is None
    absent.note(1, "d", b"D", Asked(9, 0.0))
    assert absent.asked(1, "d", b"D") == Asked(9, 0.0)
    assert absent.asked(1, "d", b"d") == Asked(3, 0.0)
    assert absent.asked(2, "d", b"d") is None
    assert absent.appeared(1, "d") == {b"d", b"D"}
    assert absent.appeared(1, "d") == set()
    assert len(absent) == 1


class _Nobody:
    def content_changed(self, node: Node, stat: FileStat) -> None: ...

    def name_gone(self, folder: Folder, key: str, shown: Collection[bytes]) -> None: ...

    def node_gone(self, ino: int) -> None: ...


def _tree(files: int, name: str) -> tuple[NodeTable, int]:
    """Return a table of 100 folders with files of the given name pattern, and the bytes that a file costs."""
    share = MemShare()
    stat = share.root.stat()
    names = Names(NameMapping.SFM, case_sensitive=False, posix=False)
    root = ShareRoot(1, None, "", pack(Asked(0, 0.0), 0, stat, ""), share=share, names=names, trusts_ids=True)
    table = NodeTable(root, _Nobody())
    now = 1_700_000_000_000_000_000
    folders = []
    for number in range(100):
        folder = table.place(root, f"folder {number}", stat._replace(file_id=1000 + number), table.ask(1.0))
        table.count(folder)
        folders.append(table.folder(folder.ino))
    gc.collect()
    tracemalloc.start()
    for number in range(files):
        listed = FileStat(
            Kind.FILE, number, number, 0x20, now + number * 100, now + 100, now + 200, now + 300, (7 << 48) + number
        )
        node = table.place(folders[number % 100], name % number, listed, table.ask(float(number)))
        table.count(node)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return table, used // files


def test_a_known_inode_costs_at_most_500_bytes() -> None:
    for pattern in ("IMG_2026-11-21_%05d.JPEG", "photo-%05d.jpg"):
        table, each = _tree(20_000, pattern)
        assert len(table) == 20_101
        assert each <= 500
