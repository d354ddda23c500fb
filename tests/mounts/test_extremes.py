"""The ends of what a share can hold: names, depths, sizes, times, folders of very many entries."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.caller import caller_on
from tests.support.mounts import Mount, Options
from tests.support.samba import SambaServer
from tests.support.script import Tree
from tests.support.scripted_server import ScriptedServer

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

FAMILIES: Final = [
    pytest.param({"vers": "1.0"}, id="1.0-unix"),
    pytest.param({"vers": "1.0", "nounix": True}, id="1.0-nounix"),
    pytest.param({"vers": "2.1"}, id="2.1"),
    pytest.param({"vers": "3.1.1"}, id="3.1.1"),
]
NO_UNIX: Final = FAMILIES[1:]

# As they lie on the server's disk: each is another trap for whoever takes names apart. None that Windows forbids (CON,
# a dot at the end): Samba shows those under short names of its own making.
NAMES: Final = (
    "n" * 255,
    "🐙" * 63,  # 252 bytes, 126 UTF-16 units
    "ä" * 127,
    "字" * 85,
    "e\u0301 combined, and é precomposed",
    "é",
    "e\u0301",
    "family 👨‍👩‍👧‍👦 flag 🇨🇭 skin 👋🏽",
    "right to left שלום مرحبا",
    "a\u202eb turned round",
    "no-break\u00a0space and zero\u200bwidth",
    "private \ue000 use",
    "last of the plane \ufffd",
    "astral 𝕬𝖇 𐍈 \U0010fffd",
    " leading space",
    "-rf",
    "~",
    "#hash; semicolon & 'quotes' $HOME `id` %41",
    ".hidden",
    "UPPER and lower",
    "[brackets] {braces}",
    "comma, equals=",
)


def found(mounted: Mount) -> list[str]:
    return sorted(mounted.run("find", mounted.point, "-mindepth", "1", "-printf", r"%P\0").split("\0")[:-1])


@pytest.mark.parametrize("options", FAMILIES)
def test_every_name_is_listed_looked_up_and_read(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], options: Options
) -> None:
    for name in NAMES:
        (share_folder / name).write_text(name)
    mounted = mount(samba, options, subfolder=f"/{share_folder.name}")
    with caller_on(mounted) as caller:  # before anything is listed
        for name in NAMES:
            assert caller.do(f"open(os.path.join(point, {name!r})).read()") == name
        assert not caller.do("os.path.exists(os.path.join(point, 'e'))")
    assert found(mounted) == sorted(NAMES)
    read = mounted.run("find", mounted.point, "-type", "f", "-exec", "cat", "{}", "+")
    assert len(read.encode()) == sum(len(name.encode()) for name in NAMES)


@pytest.mark.parametrize("options", FAMILIES)
def test_what_differs_in_its_composition_only_are_two_files(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], options: Options
) -> None:
    (share_folder / "é").write_text("composed")
    mounted = mount(samba, options, subfolder=f"/{share_folder.name}")
    code, _, _ = mounted.run_all("cat", mounted.point / "e\u0301")
    assert code != 0
    (share_folder / "o\u0308").write_text("decomposed")
    assert mounted.run("cat", mounted.point / "o\u0308") == "decomposed"
    assert mounted.run_all("cat", mounted.point / "ö")[0] != 0


# What no folder of Linux holds and Windows does: halves of surrogate pairs, and more than 255 bytes.
WINDOWS_NAMES: Final = (
    "high \ud83d",
    "\udc19 low",
    "\udc19\ud83d the wrong way round",
    "字" * 255,
    "🐙" * 127,
    "é" * 251 + ".txt",
)


@pytest.mark.parametrize("vers", ["1.0", "2.1", "3.1.1"])
def test_names_that_only_windows_has_are_listed_and_read(
    mount: Callable[..., Mount], tmp_path: Path, vers: str
) -> None:
    tree: Tree = {name: ascii(name).encode() for name in WINDOWS_NAMES}
    with ScriptedServer.started(tree, accounts=tmp_path) as server:
        mounted = mount("//127.0.0.1/share", {"port": server.port, "vers": vers, "sec": "none", "nounix": True})
        with caller_on(mounted) as caller:
            # The bytes of names, as text that JSON can carry.
            listed = caller.do("[name.decode('latin-1') for name in os.listdir(os.fsencode(point))]")
            assert len(listed) == len(WINDOWS_NAMES)
            contents = {
                caller.do(f"open(os.path.join(os.fsencode(point), {name!r}.encode('latin-1'))).read()")
                for name in listed
            }
            assert contents == {ascii(name) for name in WINDOWS_NAMES}
            names = [name.encode("latin-1") for name in listed]
            assert all(len(name) <= 255 for name in names)
            assert {"high \ud83d".encode("utf-8", "surrogatepass"), b"\xed\xb0\x99 low"} <= set(names)
            assert any(name.endswith(b".txt") for name in names)


def test_a_name_that_samba_lists_and_does_not_open_spoils_nothing(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount]
) -> None:
    """Samba's own disk may hold half a surrogate pair; it is listed, and refused when asked for."""
    strange = os.path.join(os.fsencode(share_folder), b"half \xed\xa0\x80")
    with open(strange, "wb"):
        pass
    (share_folder / "ordinary").write_text("read")
    for vers in ("1.0", "3.1.1"):
        mounted = mount(samba, {"vers": vers}, subfolder=f"/{share_folder.name}")
        with caller_on(mounted) as caller:
            listed = caller.do("[name.decode('latin-1') for name in os.listdir(os.fsencode(point))]")
            assert {name.encode("latin-1") for name in listed} == {b"half \xed\xa0\x80", b"ordinary"}
            with pytest.raises(OSError, match="half"):
                caller.do(r"open(os.path.join(os.fsencode(point), b'half \xed\xa0\x80'))")
            assert caller.do("open(os.path.join(point, 'ordinary')).read()") == "read"


# What Windows forbids in a name, and where each mapping carries it.
RESERVED: Final = {
    "mapposix": {
        'a"b': "a\uf020b",
        "a*b": "a\uf021b",
        "a:b": "a\uf022b",
        "a<b": "a\uf023b",
        "a>b": "a\uf024b",
        "a?b": "a\uf025b",
        "a\\b": "a\uf026b",
        "a|b": "a\uf027b",
        "ends with a space ": "ends with a space\uf028",
        "ends with a dot.": "ends with a dot\uf029",
        "a\tb\x01": "a\uf009b\uf001",
    },
    "mapchars": {
        "a*b": "a\uf02ab",
        "a:b": "a\uf03ab",
        "a<b": "a\uf03cb",
        "a>b": "a\uf03eb",
        "a?b": "a\uf03fb",
        "a\\b": "a\uf05cb",
        "a|b": "a\uf07cb",
    },
}


@pytest.mark.parametrize("mapping", RESERVED)
@pytest.mark.parametrize("options", NO_UNIX)
def test_reserved_characters_are_shown_as_what_they_stand_for(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], options: Options, mapping: str
) -> None:
    names = RESERVED[mapping]
    for shown, on_the_server in names.items():
        (share_folder / on_the_server).write_text(shown)
    for chosen in ({}, {mapping: True}):
        mounted = mount(samba, {**options, **chosen}, subfolder=f"/{share_folder.name}")
        with caller_on(mounted) as caller:
            for shown in names:
                assert caller.do(f"open(os.path.join(point, {shown!r})).read()") == shown
        assert found(mounted) == sorted(names)


@pytest.mark.parametrize("options", NO_UNIX)
def test_without_a_mapping_names_are_as_the_server_has_them(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], options: Options
) -> None:
    names = {on_the_server for mapping in RESERVED.values() for on_the_server in mapping.values()}
    for name in names:
        (share_folder / name).write_text(name)
    mounted = mount(samba, {**options, "nomapchars": True, "nomapposix": True}, subfolder=f"/{share_folder.name}")
    assert found(mounted) == sorted(names)
    with caller_on(mounted) as caller:
        for name in names:
            assert caller.do(f"open(os.path.join(point, {name!r})).read()") == name


def test_unix_extensions_need_no_mapping(samba: SambaServer, share_folder: Path, mount: Callable[..., Mount]) -> None:
    """The server takes POSIX names as they are: only the backslash has no way through."""
    names = [name for name in RESERVED["mapposix"] if "\\" not in name]
    for name in names:
        (share_folder / name).write_text(name)
    mounted = mount(samba, {"vers": "1.0"}, subfolder=f"/{share_folder.name}")
    assert found(mounted) == sorted(names)
    with caller_on(mounted) as caller:
        for name in names:
            assert caller.do(f"open(os.path.join(point, {name!r})).read()") == name


@pytest.mark.parametrize("options", FAMILIES)
def test_forty_levels_down(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], options: Options
) -> None:
    levels = [f"{level:02} tief [ü] 🐚 {'x' * 50}" for level in range(40)]
    bottom = share_folder.joinpath(*levels)
    bottom.mkdir(parents=True)
    (bottom / "pearl").write_text("at the bottom")
    mounted = mount(samba, options, subfolder=f"/{share_folder.name}")
    assert mounted.run("cat", mounted.point.joinpath(*levels, "pearl")) == "at the bottom"
    deepest = found(mounted)[-1]
    assert deepest == "/".join((*levels, "pearl"))
    assert mounted.run("ls", mounted.point.joinpath(*levels)) == "pearl\n"


EDGES: Final = (0, (2 << 30) - 5, 2 << 30, (4 << 30) - 5, 4 << 30, (6 << 30) - 9)

READ_AT: Final = """
import hashlib, os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
for offset in map(int, sys.argv[2:]):
    print(offset, hashlib.sha256(os.pread(file, 300_000, offset)).hexdigest(), os.pread(file, 20, offset + 3))
    print(os.lseek(file, offset, os.SEEK_SET), os.read(file, 4096)[:30])
print(os.fstat(file).st_size, os.lseek(file, 0, os.SEEK_END))
"""


@pytest.mark.parametrize("cache", ["strict", "none"])
@pytest.mark.parametrize("options", FAMILIES)
def test_beyond_4_gib(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], options: Options, cache: str
) -> None:
    big = share_folder / "big"
    with big.open("wb") as file:
        for number, edge in enumerate(EDGES):
            file.seek(edge)
            file.write(f"#{number} edge".encode())
        file.truncate((6 << 30) + 1)
    mounted = mount(samba, {**options, "cache": cache}, subfolder=f"/{share_folder.name}")
    offsets = [str(max(0, edge - back)) for edge in EDGES for back in (0, 2, 131_072)] + [str((6 << 30) + 1)]
    seen = mounted.python(READ_AT, mounted.point / "big", *offsets)
    own = mounted.start("/usr/bin/python3", "-c", READ_AT, big, *offsets)
    assert seen == own.communicate(timeout=60)[0].decode()
    listed = mounted.run("stat", "--format=%s %b", mounted.point / "big").split()
    assert int(listed[0]) == (6 << 30) + 1
    assert int(listed[1]) * 512 < 1 << 30, "the holes take no room"


TIMES_NS: Final = (
    1_700_000_000_123_456_700,
    1_699_999_999_999_999_900,
    1_000_000_000_000_000_100,
    1_000_000_000_000_000_000,
    1,  # less than SMB can say
    86_400_000_000_100,
    -1_000_000_000_000_000_000,  # 1938
    4_102_444_800_987_654_300,  # 2100
)


@pytest.mark.parametrize("options", FAMILIES)
def test_times_in_steps_of_100_ns(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], options: Options
) -> None:
    for number, time_ns in enumerate(TIMES_NS):
        path = share_folder / f"{number}"
        path.write_bytes(bytes(number))
        os.utime(path, ns=(time_ns + 1_000_000_000, time_ns))
    own = {number: os.stat(share_folder / f"{number}") for number in range(len(TIMES_NS))}
    mounted = mount(samba, options, subfolder=f"/{share_folder.name}")
    with caller_on(mounted) as caller:
        for looked_up in (True, False):
            if not looked_up:
                caller.do("os.listdir(point)")
            for number in own:
                told = caller.stat(f"{number}")
                assert told["st_mtime_ns"] // 100 == own[number].st_mtime_ns // 100, TIMES_NS[number]
                assert told["st_atime_ns"] // 100 == own[number].st_atime_ns // 100, TIMES_NS[number]
                # No word of st_ctime: Samba gives the write time for it, or makes one of both.


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")


SIZES: Final = [
    pytest.param(10_000, id="10,000"),
    pytest.param(100_000, id="100,000", marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
]


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("options", FAMILIES)
def test_a_folder_of_very_many_entries(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], options: Options, count: int
) -> None:
    """Whole and without doubles, in a time and a memory that grow with the number and no faster."""
    expected = hashlib.sha256()
    for number in range(count):
        name = f"entry {number:06} ä"
        (share_folder / name).touch()
        expected.update(f"{name}\n".encode())
    mounted = mount(samba, options, subfolder=f"/{share_folder.name}")
    pid = int(mounted.status()["pid"])
    before = resident_bytes(pid)
    began = time.monotonic()
    listed = mounted.run("ls", "-U", mounted.point, timeout_s=count / 200)
    assert time.monotonic() - began < 5 + count / 1000
    assert hashlib.sha256("".join(sorted(listed.splitlines(keepends=True))).encode()).digest() == expected.digest()
    assert mounted.run("ls", "-lU", mounted.point, timeout_s=count / 200).count("\n") == count + 1
    time.sleep(1.5)  # the listing itself is kept for a second
    known = mounted.status()["filesystem"]["inodes"]
    assert known > count, "the kernel knows every entry still"
    # Beside the inodes themselves: what the allocator keeps, and one listing that may not be let go of yet.
    assert resident_bytes(pid) - before < (16 << 20) + 2 * 500 * count
