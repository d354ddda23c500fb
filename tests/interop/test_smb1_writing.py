"""Writing over SMB1 on a real Samba, with its UNIX extensions and without: what lies on its disk is what counts.

The waist's whole contract is held to in `test_share_writing.py`; here is what is SMB1's own: each way to log in and to
open, small signed messages, handles that stand aside, renames in steps, and oplocks with the server's word for them.
"""

import errno
import itertools
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from smbfuse.client.smb1_share import Smb1Share
from smbfuse.errors import Busy, ConnectionLost, Denied, Exists, NotEmpty, NotFound, StaleHandle, WrongKind
from smbfuse.share import Attributes, Caching, Change, Creation, Features, Kind, OpenFile, OpenIntent
from smbfuse.wire.descriptor import Descriptor, unix_user
from tests.interop.contract import EVERYTHING, MAKING, READING, WRITING, Holder
from tests.interop.smb1_shares import locked_files, mounted
from tests.support.samba import SambaServer, samba_server

pytestmark = pytest.mark.samba

SETTLED_S: Final = 15.0  # far below the 35 that a server waits for the answer to a break
_numbers = itertools.count()

WAYS: dict[str, dict[str, Any]] = {
    "unix extensions": {},
    "without unix extensions": {"unix_extensions": False},
    "bare challenge": {"unix_extensions": False, "smb1_extended_security": False},
    "code page": {"unix_extensions": False, "unicode": False},
    "NT_CREATE_ANDX": {"unix_extensions": False, "smb1_open_nt": True},
}
BOTH: dict[str, dict[str, Any]] = {"unix extensions": {}, "without": {"unix_extensions": False}}
both = pytest.mark.parametrize("settings", BOTH.values(), ids=BOTH)


@pytest.fixture(scope="module")
def server() -> Iterator[SambaServer]:
    with samba_server() as server:
        server.user.owns(server.root)
        yield server


@pytest.fixture(scope="module")
def careful() -> Iterator[SambaServer]:
    """A Samba that wants signatures and takes small messages only."""
    with samba_server(options={"server signing": "mandatory", "max xmit": "2048"}) as server:
        server.user.owns(server.root)
        yield server


@pytest.fixture
def folder(server: SambaServer) -> Path:
    """A folder of the test's own, given to the user who logs in."""
    return server.user.owns_new(server.root / f"Stück {next(_numbers)}")


@asynccontextmanager
async def two(server: SambaServer, **settings: Any) -> AsyncIterator[tuple[Smb1Share, Smb1Share]]:
    async with mounted(server, **settings) as one, mounted(server, **settings) as other:
        yield one, other


async def make(share: Smb1Share, path: str, data: bytes = b"") -> None:
    file = await share.open(path, MAKING)
    if data:
        assert await file.write(0, [data]) == len(data)
    await closed(share, file)


async def closed(share: Smb1Share, file: OpenFile) -> None:
    """Give a handle back and wait until the server has taken it."""
    await file.aclose()
    await share.echo()
    await share.echo()


async def read(share: Smb1Share, path: str) -> bytes:
    file = await share.open(path, READING)
    data = b""
    while piece := await file.read(len(data), share.limits.read):
        data += piece
    await file.aclose()
    return data


def oplocks(server: SambaServer, name: str) -> list[str]:
    """Return the oplock of every handle of a file, in the server's words."""
    lines = [line for line in locked_files(server).splitlines() if f"{name} " in line]
    known = ("EXCLUSIVE+BATCH", "EXCLUSIVE", "BATCH", "LEVEL_II", "NONE")
    return sorted(next(word for word in line.split() if word in known) for line in lines)


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_written_lies_on_the_servers_disk(way: str, server: SambaServer, folder: Path) -> None:
    async with mounted(server, **WAYS[way]) as share:
        await write_and_compare(share, folder)


async def test_what_is_written_in_small_signed_messages_lies_there_too(careful: SambaServer) -> None:
    folder = careful.user.owns_new(careful.root / "small")
    async with mounted(careful) as share:
        assert share.statistics().signing == "MD5"
        assert share.limits.write < 2048
        await write_and_compare(share, folder)


async def write_and_compare(share: Smb1Share, folder: Path) -> None:
    data = random.Random(3).randbytes(700_001)
    path = f"{folder.name}/größe.bin"
    file = await share.open(path, MAKING)
    assert file.created
    limit = share.limits.write

    async def write(at: int) -> None:
        piece = data[at : at + limit]
        half = len(piece) // 2
        assert await file.write(at, [piece[:half], memoryview(piece)[half:]]) == len(piece)

    async with trio.open_nursery() as nursery:  # as many at once as the server takes
        for at in range(0, len(data), limit):
            nursery.start_soon(write, at)
    await file.write((4 << 30) + 5, [b"far out"])
    await file.flush()
    on_disk = folder / "größe.bin"
    assert on_disk.stat().st_size == (4 << 30) + 12
    await file.change(Change(size=len(data)))
    assert on_disk.read_bytes() == data
    assert (await file.refresh()).size == len(data)
    await file.aclose()
    assert await read(share, path) == data


async def test_more_than_the_limit_is_written_as_far_as_it_goes(server: SambaServer, folder: Path) -> None:
    async with mounted(server, wsize=4096) as share:
        file = await share.open(f"{folder.name}/file", MAKING)
        assert await file.write(0, [b"a" * 4000, b"b" * 4000, b"c"]) == 4096
        assert await file.write(0, []) == 0
        await file.aclose()
    assert (folder / "file").read_bytes() == b"a" * 4000 + b"b" * 96


async def test_a_file_that_shrinks_does_not_make_reads_small(server: SambaServer, folder: Path) -> None:
    async with mounted(server) as share:
        await make(share, f"{folder.name}/file", b"x" * 50_000)
        reader, writer = (
            await share.open(f"{folder.name}/file", READING),
            await share.open(f"{folder.name}/file", WRITING),
        )
        before = share.limits.read
        await writer.change(Change(size=1000))
        assert len(await reader.read(0, 50_000)) == 1000
        assert not await reader.read(1000, 50_000)
        assert share.limits.read == before
        await reader.aclose()
        await writer.aclose()


# --- what an open makes and empties -----------------------------------------------------------------------------------


@both
async def test_an_open_makes_takes_or_empties_what_it_was_told_to(
    settings: dict[str, Any], server: SambaServer, folder: Path
) -> None:
    expected = {  # creation, truncate -> of a file that is there, and of one that is not: its content then
        (Creation.NEVER, False): (b"old", None),
        (Creation.NEVER, True): (b"", None),
        (Creation.IF_ABSENT, False): (b"old", b""),
        (Creation.IF_ABSENT, True): (b"", b""),
        (Creation.EXCLUSIVE, False): (None, b""),
        (Creation.EXCLUSIVE, True): (None, b""),
    }
    async with mounted(server, **settings) as share:
        for (creation, truncate), (of_old, of_new) in expected.items():
            intent = OpenIntent(write=True, creation=creation, truncate=truncate)
            for name, content in (("old", of_old), ("new", of_new)):
                (folder / "new").unlink(missing_ok=True)
                server.user.owns(folder / "old") if (folder / "old").write_bytes(b"old") else None
                path = f"{folder.name}/{name}"
                if content is None:
                    with pytest.raises(Exists if name == "old" else NotFound):
                        await share.open(path, intent)
                    continue
                file = await share.open(path, intent)
                assert file.created == (name == "new")
                assert file.stat.size == len(content)
                await closed(share, file)
                assert (folder / name).read_bytes() == content


async def test_a_hidden_file_is_emptied_though_the_open_does_not_know_that_it_is_hidden(
    server: SambaServer, folder: Path
) -> None:
    async with mounted(server, unix_extensions=False) as share:
        path = f"{folder.name}/file"
        await make(share, path, b"content")
        await share.change(path, Change(attributes=Attributes.HIDDEN))
        file = await share.open(path, OpenIntent(write=True, truncate=True))
        assert file.stat.size == 0
        await file.aclose()
        assert (await share.stat(path)).attributes & Attributes.HIDDEN


async def test_emptying_by_an_open_that_would_make_read_only_protects_no_file_that_is_there(
    server: SambaServer, folder: Path
) -> None:
    async with mounted(server, unix_extensions=False) as share:
        path = f"{folder.name}/file"
        await make(share, path, b"content")
        for created in (False, True):
            if created:
                await share.remove(path, Kind.FILE)
            intent = OpenIntent(write=True, creation=Creation.IF_ABSENT, truncate=True, mode=0o444)
            file = await share.open(path, intent)
            assert file.created == created
            assert await file.write(0, [b"new"]) == 3
            await closed(share, file)
            assert bool((await share.stat(path)).attributes & Attributes.READONLY) == created
        assert await read(share, path) == b"new"


async def test_a_mode_is_kept_whatever_the_servers_masks_cut_off(server: SambaServer, folder: Path) -> None:
    async with mounted(server) as share:
        for mode in (0o600, 0o644, 0o775, 0o777, 0o444, 0o4755):
            file = await share.open(
                f"{folder.name}/{mode:o}", OpenIntent(write=True, creation=Creation.EXCLUSIVE, mode=mode)
            )
            assert file.stat.mode == mode
            await file.aclose()
            assert (folder / f"{mode:o}").stat().st_mode & 0o7777 == mode
        made = await share.make_directory(f"{folder.name}/d", 0o777)
        assert made.mode == 0o777


@both
async def test_no_handle_stays_open_whenever_its_opener_gives_up(
    settings: dict[str, Any], server: SambaServer, folder: Path
) -> None:
    async with mounted(server, **settings) as share:
        intent = OpenIntent(write=True, creation=Creation.IF_ABSENT, holder=Holder(), wanted=EVERYTHING)
        for step in range(60):
            with trio.move_on_after(step / 20_000):
                file = await share.open(f"{folder.name}/dropped", intent)
                await file.aclose()
        with trio.fail_after(30):
            while oplocks(server, "dropped"):  # an ECHO may overtake the CLOSEs, for which nobody waits
                await share.echo()


# --- attributes -------------------------------------------------------------------------------------------------------


@both
async def test_a_time_that_was_set_by_a_handle_outlives_its_writes_and_its_close(
    settings: dict[str, Any], server: SambaServer, folder: Path
) -> None:
    written = 1_600_000_000_123_456_700
    async with mounted(server, **settings) as share:
        file = await share.open(f"{folder.name}/file", MAKING)
        await file.write(0, [b"before"])
        await file.change(Change(written_ns=written, accessed_ns=written - 1_000_000_000))
        await file.write(0, [b"behind"])
        await closed(share, file)
        assert (folder / "file").stat().st_mtime_ns == written
        assert (await share.stat(f"{folder.name}/file")).written_ns == written


async def test_a_file_without_a_name_takes_sizes_and_times_while_it_is_written(
    server: SambaServer, folder: Path
) -> None:
    holder = Holder()
    async with mounted(server) as share:
        path = f"{folder.name}/.smbfuse-0123456789abcdef"
        first, second = await share.open(path, MAKING), await share.open(path, WRITING)
        await share.remove(path, Kind.FILE, holder)
        await first.write(0, [b"content"])
        await first.change(Change(size=3))
        await closed(share, first)
        await second.change(Change(written_ns=1_600_000_000_000_000_000))
        assert (await second.refresh()).size == 3
        await closed(share, second)
        assert os.listdir(folder) == []


async def test_what_is_not_there_is_said_so_by_every_change(server: SambaServer, folder: Path) -> None:
    path = f"{folder.name}/nowhere"
    for settings in BOTH.values():
        async with mounted(server, **settings) as share:
            for change in (Change(size=1), Change(written_ns=10**18), Change(attributes=Attributes.HIDDEN)):
                with pytest.raises(NotFound):
                    await share.change(path, change)
            with pytest.raises(NotFound):
                await share.set_extended_attribute(path, "name", b"value")  # Samba 4.17 would die of it, by path
            with pytest.raises(NotFound):
                await share.remove(path, Kind.FILE)
            await share.echo()


async def test_security_descriptors_of_a_file_that_nobody_may_execute(server: SambaServer, folder: Path) -> None:
    async with mounted(server) as share:
        path = f"{folder.name}/file"
        await make(share, path)
        await share.change(path, Change(mode=0o640))
        descriptor = await share.security_descriptor(path)
        await share.set_security_descriptor(path, descriptor)  # with owners, which may not be set, but are as they were
        owners = Descriptor.decode(await share.security_descriptor(path))
        assert (owners.owner, owners.group) == (
            Descriptor.decode(descriptor).owner,
            Descriptor.decode(descriptor).group,
        )
        other = Descriptor(unix_user(12345), owners.group, owners.dacl)
        with pytest.raises(Denied):
            await share.set_security_descriptor(path, other.encode())


# --- names ------------------------------------------------------------------------------------------------------------


@both
async def test_renaming_replaces_within_and_across_folders_and_leaves_nothing_behind(
    settings: dict[str, Any], server: SambaServer, folder: Path
) -> None:
    async with mounted(server, **settings) as share:
        at = folder.name
        await share.make_directory(f"{at}/sub")
        for number, target in enumerate((f"{at}/target", f"{at}/sub/target")):
            await make(share, target, b"old")
            await make(share, f"{at}/source", b"new %d" % number)
            with pytest.raises(Exists):
                await share.rename(f"{at}/source", target, replace=False)
            await share.rename(f"{at}/source", target, replace=True)
            assert await read(share, target) == b"new %d" % number
        assert sorted(os.listdir(folder)) == ["sub", "target"]
        assert os.listdir(folder / "sub") == ["target"]


async def test_a_hidden_file_replaces_another_without_unix_extensions(server: SambaServer, folder: Path) -> None:
    async with mounted(server, unix_extensions=False) as share:
        source, target = f"{folder.name}/source", f"{folder.name}/target"
        await make(share, source, b"new")
        await make(share, target, b"old")
        await share.change(source, Change(attributes=Attributes.HIDDEN))
        await share.rename(source, target, replace=True)
        assert await read(share, target) == b"new"
        assert os.listdir(folder) == ["target"]


async def test_with_unix_extensions_folders_and_open_files_are_replaced(server: SambaServer, folder: Path) -> None:
    async with mounted(server) as share:
        at = folder.name
        for name in ("empty", "full", "folder"):
            await share.make_directory(f"{at}/{name}")
        await make(share, f"{at}/full/file", b"kept")
        await make(share, f"{at}/new", b"new")
        await share.rename(f"{at}/folder", f"{at}/empty", replace=True)
        with pytest.raises(NotEmpty):
            await share.rename(f"{at}/empty", f"{at}/full", replace=True)
        with pytest.raises(WrongKind) as file_over_folder:
            await share.rename(f"{at}/new", f"{at}/empty", replace=True)
        assert file_over_folder.value.errno == errno.EISDIR
        with pytest.raises(WrongKind) as folder_over_file:
            await share.rename(f"{at}/empty", f"{at}/new", replace=True)
        assert folder_over_file.value.errno == errno.ENOTDIR
        assert await read(share, f"{at}/full/file") == b"kept"
        for intent in (READING, WRITING):
            name = f"{at}/open {intent.write}"
            await make(share, name, b"old")
            await make(share, f"{at}/next", b"next")
            file = await share.open(name, intent)
            await share.rename(f"{at}/next", name, replace=True)
            assert bytes(await file.read(0, 10)) == b"old" if intent.read else True
            await file.aclose()
            assert await read(share, name) == b"next"
        assert sorted(os.listdir(folder)) == ["empty", "full", "new", "open False", "open True"]


async def test_two_names_of_one_file_both_stay_when_one_is_renamed_to_the_other(
    server: SambaServer, folder: Path
) -> None:
    async with mounted(server) as share:
        one, other = f"{folder.name}/one", f"{folder.name}/other"
        await make(share, one, b"x")
        await share.link(one, other)
        os.mkdir(folder / "sub")
        server.user.owns(folder / "sub")
        await share.link(one, f"{folder.name}/sub/third")
        await share.rename(one, f"{folder.name}/sub/third", replace=True)
        assert (folder / "one").stat().st_nlink == 3


@both
async def test_only_the_case_of_a_name_is_changed(settings: dict[str, Any], server: SambaServer, folder: Path) -> None:
    async with mounted(server, **settings) as share:
        await make(share, f"{folder.name}/größe", b"x")
        for replace, (before, after) in zip(
            (False, True), (("größe", "GRÖSSE und"), ("GRÖSSE und", "größe UND")), strict=True
        ):
            await share.rename(f"{folder.name}/{before}", f"{folder.name}/{after}", replace=replace)
        for replace, name in ((False, "GRÖßE und"), (True, "größe und")):
            (before,) = os.listdir(folder)
            await share.rename(f"{folder.name}/{before}", f"{folder.name}/{name}", replace=replace)
            assert os.listdir(folder) == [name]


async def test_wildcards_and_separators_in_a_name_do_no_harm(server: SambaServer, folder: Path) -> None:
    async with mounted(server, unix_extensions=False) as share:
        await make(share, f"{folder.name}/kept")
        for path in (f"{folder.name}/*", f"{folder.name}/kep?", f"{folder.name}\\kept", f"{folder.name}/<"):
            with pytest.raises(NotFound):
                await share.remove(path, Kind.FILE)
            with pytest.raises(NotFound):
                await share.rename(path, f"{folder.name}/other", replace=True)
        with pytest.raises(NotFound):
            await share.rename(f"{folder.name}/kept", f"{folder.name}/*", replace=True)
        assert os.listdir(folder) == ["kept"]


async def test_with_unix_extensions_a_backslash_is_a_character_like_any_other(
    server: SambaServer, folder: Path
) -> None:
    async with mounted(server) as share:
        for name in ("a\\b", '*?<>|":', "ends with a dot.", "two\nlines"):
            path = f"{folder.name}/{name}"
            await make(share, path, b"content")
            assert os.listdir(folder) == [name]
            directory = await share.open_directory(folder.name)
            assert [entry.name for entry in await directory.page()] == [name]
            await directory.aclose()
            assert await read(share, path) == b"content"
            await share.rename(path, f"{folder.name}/plain", replace=True)
            await share.rename(f"{folder.name}/plain", path, replace=False)
            await share.change(path, Change(size=1))
            await share.remove(path, Kind.FILE)


async def test_links_and_special_files_of_the_unix_extensions(server: SambaServer, folder: Path) -> None:
    async with mounted(server) as share:
        at = folder.name
        made = await share.make_link(f"{at}/link", "../irgendwo/größe")
        assert made.kind is Kind.SYMLINK
        assert os.readlink(folder / "link") == "../irgendwo/größe"
        assert await share.read_link(f"{at}/link") == "../irgendwo/größe"
        for intent in (READING, WRITING):
            with pytest.raises(WrongKind) as refused:
                await share.open(f"{at}/link", intent)
            assert refused.value.errno == errno.ELOOP
        for name, kind in (("fifo", Kind.FIFO), ("socket", Kind.SOCKET)):
            assert (await share.make_node(f"{at}/{name}", kind, None, 0o620)).kind is kind
            assert (folder / name).stat().st_mode & 0o777 == 0o620
            with pytest.raises(Exists):
                await share.make_node(f"{at}/{name}", kind, None, 0o777)
            assert (folder / name).stat().st_mode & 0o777 == 0o620
        with pytest.raises(Denied):
            await share.make_node(f"{at}/device", Kind.CHARACTER_DEVICE, (1, 3), 0o600)


async def test_a_folder_that_its_owner_may_not_read_is_removed_if_it_is_empty(
    server: SambaServer, folder: Path
) -> None:
    async with mounted(server) as share:
        await share.make_directory(f"{folder.name}/empty", 0)
        await share.remove(f"{folder.name}/empty", Kind.DIRECTORY)
        await share.make_directory(f"{folder.name}/full")
        await make(share, f"{folder.name}/full/file")
        await share.change(f"{folder.name}/full", Change(mode=0o100))
        with pytest.raises(NotEmpty):
            await share.remove(f"{folder.name}/full", Kind.DIRECTORY)
        assert (folder / "full").stat().st_mode & 0o777 == 0o100


# --- handles that stand aside -----------------------------------------------------------------------------------------


@both
async def test_a_plain_handle_forbids_deletion_to_others_until_it_stands_aside(
    settings: dict[str, Any], server: SambaServer, folder: Path
) -> None:
    path = f"{folder.name}/file"
    async with two(server, **settings) as (one, other):
        await make(one, path, b"content")
        file = await one.open(path, READING)
        with pytest.raises(Busy):
            await other.remove(path, Kind.FILE)
        await file.stand_aside()
        await file.stand_aside()  # is done already
        await other.remove(path, Kind.FILE)
        assert bytes(await file.read(0, 100)) == b"content"
        await closed(one, file)
        assert os.listdir(folder) == []


@both
async def test_a_plain_handle_stands_aside_under_any_name_of_its_file(
    settings: dict[str, Any], server: SambaServer, folder: Path
) -> None:
    (folder / "one").write_bytes(b"linked")
    os.link(folder / "one", folder / "two")
    os.link(folder / "one", folder / "three")
    async with mounted(server, **settings) as share:
        file = await share.open(f"{folder.name}/one", READING)
        await share.remove(f"{folder.name}/two", Kind.FILE)
        await share.rename(f"{folder.name}/three", f"{folder.name}/four", replace=False)
        assert bytes(await file.read(0, 10)) == b"linked"
        await file.aclose()
    assert sorted(os.listdir(folder)) == ["four", "one"]


@both
async def test_reads_go_on_while_a_handle_stands_aside(
    settings: dict[str, Any], server: SambaServer, folder: Path
) -> None:
    path = f"{folder.name}/file"
    async with mounted(server, **settings) as share:
        await make(share, path, b"content")
        file = await share.open(path, READING)

        async def read_often() -> None:
            for _ in range(30):
                assert bytes(await file.read(0, 100)) == b"content"

        with trio.fail_after(SETTLED_S):
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(read_often)
                await trio.lowlevel.checkpoint()
                await file.stand_aside()
        await closed(share, file)
        assert not oplocks(server, path.rpartition("/")[2])


async def test_a_handle_stands_aside_wherever_its_folder_was_renamed_to(server: SambaServer, folder: Path) -> None:
    async with mounted(server, unix_extensions=False) as share:
        await share.make_directory(f"{folder.name}/before")
        await make(share, f"{folder.name}/before/file", b"content")
        file = await share.open(f"{folder.name}/before/file", READING)
        await share.rename(f"{folder.name}/before", f"{folder.name}/behind", replace=False)
        await share.remove(f"{folder.name}/behind/file", Kind.FILE)
        assert bytes(await file.read(0, 100)) == b"content"
        await file.aclose()


@both
async def test_a_handle_does_not_stand_aside_for_another_file(
    settings: dict[str, Any], server: SambaServer, folder: Path
) -> None:
    path = f"{folder.name}/file"
    async with mounted(server, **settings) as share:
        await make(share, path, b"content")
        file = await share.open(path, READING)
        (folder / "file").rename(folder / "elsewhere")
        with pytest.raises(StaleHandle):
            await file.stand_aside()
        server.user.owns(folder / "file") if (folder / "file").write_bytes(b"another") else None
        with pytest.raises(StaleHandle):
            await file.stand_aside()
        assert bytes(await file.read(0, 100)) == b"content"
        await closed(share, file)
        assert oplocks(server, "file") == []


# --- oplocks ----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "wanted, write, kept, servers_word",
    [
        (EVERYTHING, True, EVERYTHING, "BATCH"),
        (Caching.READ | Caching.WRITE, True, Caching.READ | Caching.WRITE, "EXCLUSIVE"),
        (EVERYTHING, False, Caching.READ, "EXCLUSIVE"),
        (Caching.NONE, True, Caching.NONE, "NONE"),
    ],
)
async def test_an_oplock_is_granted_and_broken_when_another_client_opens(
    settings: dict[str, Any],
    wanted: Caching,
    write: bool,
    kept: Caching,
    servers_word: str,
    server: SambaServer,
    folder: Path,
) -> None:
    path, holder = f"{folder.name}/granted", Holder()
    async with two(server, **settings) as (one, other):
        await make(one, path, b"old")
        file = await one.open(path, OpenIntent(write=write, holder=holder, wanted=wanted))
        assert file.caching == kept
        assert oplocks(server, "granted") == [servers_word]
        opened = trio.Event()

        async def open_there() -> None:
            there = await other.open(path, WRITING)
            assert bytes(await there.read(0, 10)) == (b"new" if Caching.WRITE in kept else b"old")
            opened.set()
            await there.write(0, [b"theirs"])
            await there.aclose()

        with trio.fail_after(SETTLED_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_there)
                if Caching.WRITE in kept:
                    await holder.heard.wait()
                    assert holder.breaks == [(Caching.READ, True)]
                    assert not opened.is_set()  # it waits for what was kept here
                    await file.write(0, [b"new"])
                    await file.acknowledge(Caching.READ)
            while Caching.READ in file.caching:  # a Level II oplock ends with the other's write, and nobody is asked
                holder.heard = trio.Event()
                await holder.heard.wait()
        if kept:
            assert holder.breaks[-1] == (Caching.NONE, False)
        assert file.caching is Caching.NONE
        await file.aclose()


async def test_breaks_are_heard_on_a_signed_connection(careful: SambaServer) -> None:
    folder = careful.user.owns_new(careful.root / "oplocks")
    holder = Holder()
    async with two(careful) as (one, other):
        file = await one.open(
            f"{folder.name}/signed",
            OpenIntent(write=True, creation=Creation.EXCLUSIVE, holder=holder, wanted=EVERYTHING),
        )
        assert oplocks(careful, "signed") == ["BATCH"]
        with trio.fail_after(SETTLED_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, other, f"{folder.name}/signed")
                await holder.heard.wait()
                await file.acknowledge(Caching.NONE)  # less than was offered
        assert file.caching is Caching.NONE
        assert set(oplocks(careful, "signed")) == {"NONE"}  # the reader's handle may be there still
        await file.write(0, [b"the numbers of signatures still agree"])
        await file.aclose()


async def test_a_close_answers_a_break(server: SambaServer, folder: Path) -> None:
    path, holder = f"{folder.name}/file", Holder()
    async with two(server) as (one, other):
        await make(one, path)
        file = await one.open(path, OpenIntent(write=True, holder=holder, wanted=EVERYTHING))
        with trio.fail_after(SETTLED_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, other, path)
                await holder.heard.wait()
                await file.aclose()
                await file.acknowledge(Caching.READ)  # of nothing any more


async def test_opens_that_cross_each_other_leave_nobody_waiting(server: SambaServer, folder: Path) -> None:
    """Breaks race with the answers to opens here: whichever comes first, every open is answered at once."""
    path = f"{folder.name}/contested"
    async with two(server, unix_extensions=False) as (one, other):
        await make(one, path)

        async def open_often(share: Smb1Share) -> None:
            for _ in range(25):
                holder = Holder()
                file = await share.open(path, OpenIntent(write=True, holder=holder, wanted=EVERYTHING))
                await trio.lowlevel.checkpoint()
                while any(acknowledge for _, acknowledge in holder.breaks):
                    holder.breaks.clear()
                    await file.acknowledge(file.caching)
                await file.aclose()

        with trio.fail_after(2 * SETTLED_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_often, one)
                nursery.start_soon(open_often, other)


async def test_our_own_second_open_breaks_the_first_ones_oplock(server: SambaServer, folder: Path) -> None:
    path, holder = f"{folder.name}/file", Holder()
    async with mounted(server) as share:
        await make(share, path)
        intent = OpenIntent(write=True, holder=holder, wanted=EVERYTHING)
        first = await share.open(path, intent)

        async def acknowledge() -> None:
            await holder.heard.wait()
            await first.acknowledge(holder.breaks[-1][0])

        with trio.fail_after(SETTLED_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(acknowledge)
                second = await share.open(path, intent)
        assert first.caching == second.caching == Caching.READ
        assert oplocks(server, "file") == ["LEVEL_II", "LEVEL_II"]
        await first.aclose()
        await second.aclose()


@both
async def test_standing_aside_keeps_what_may_still_be_kept_and_asks_nobody(
    settings: dict[str, Any], server: SambaServer, folder: Path
) -> None:
    path, holder = f"{folder.name}/file", Holder()
    async with mounted(server, **settings) as share:
        await make(share, path, b"content")
        file = await share.open(path, OpenIntent(holder=holder, wanted=EVERYTHING))
        assert file.caching == Caching.READ
        with trio.fail_after(SETTLED_S):
            await file.stand_aside()
        assert file.caching == Caching.READ
        assert holder.breaks == []
        assert oplocks(server, "file") == ["LEVEL_II"]
        await file.aclose()


async def test_the_end_of_the_connection_is_told_to_who_keeps_something(server: SambaServer, folder: Path) -> None:
    holder = Holder()
    async with mounted(server) as share:
        intent = OpenIntent(write=True, creation=Creation.EXCLUSIVE, holder=holder, wanted=EVERYTHING)
        files = [await share.open(f"{folder.name}/{name}", intent) for name in "ab"]
        assert all(file.caching == EVERYTHING for file in files)
        server_gone = ConnectionLost("cut", sent=True)
        share._session.connection.abort(server_gone)
        assert holder.losses == 1
        assert all(file.caching is Caching.NONE for file in files)


async def test_nothing_is_asked_for_without_leases(server: SambaServer, folder: Path) -> None:
    holder = Holder()
    async with mounted(server, leases=False) as share:
        intent = OpenIntent(write=True, creation=Creation.EXCLUSIVE, holder=holder, wanted=EVERYTHING)
        file = await share.open(f"{folder.name}/unasked", intent)
        assert file.caching is Caching.NONE
        assert oplocks(server, "unasked") == ["NONE"]
        await file.aclose()


async def test_what_the_share_can_do_is_said_beforehand(server: SambaServer) -> None:
    async with mounted(server) as share:
        assert Features.POSIX | Features.MAKES_SYMLINKS | Features.SPECIAL_FILES | Features.HARD_LINKS in share.features
        assert share.limits.write == 124 * 1024
    async with mounted(server, unix_extensions=False) as share:
        assert not share.features & (
            Features.POSIX | Features.MAKES_SYMLINKS | Features.SPECIAL_FILES | Features.LEASES
        )
        assert share.limits.write == 64 * 1024
