"""The POSIX extensions of SMB 3.1.1, against a Samba that has them (4.22 or later).

The share lets modes and names alone: by default Samba's `create mask` takes bits away from what clients ask for, and
`mangled names` shows what Windows could not hold as eight letters, in the listings of POSIX clients too.
"""

import os
import stat as modes
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from smbfuse.config import Network, Vers
from smbfuse.errors import Denied, Exists, NotEmpty, NotFound, SmbError, WrongKind
from smbfuse.share import Caching, Change, Creation, DirEntry, Features, FileStat, Kind, OpenIntent, Share
from tests.support.connected import PATIENT, connected
from tests.support.samba import SambaServer, samba_server
from tests.support.samba_programs import newer_samba

pytestmark = pytest.mark.samba

POSIX = {"smb3 unix extensions": "yes"}
UNTOUCHED = {"create mask": "0777", "directory mask": "0777", "mangled names": "no", "ea support": "yes"}
MAKE = OpenIntent(write=True, creation=Creation.EXCLUSIVE, mode=0o640)


class Keeper:
    """A holder of grants that asks for none."""

    key = b"sixteen bytes on"

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        """Hear of nothing: nothing is granted."""

    def lost(self) -> None:
        """Hear that nothing is granted any longer."""

    def regained(self) -> None:
        """Hear that nothing is granted again."""


KEEPER = Keeper()

NAMES = [
    "back\\slash",
    "col:on",
    "st*r",
    "wh?t",
    '"quoted"',
    "<less|more>",
    "dot.",
    "space ",
    " space",
    "UPPER",
    "upper",
    "tab\t",
    "CON",
    "a::$DATA",
    "Größe 🐙",
    "e\u0301",
    "é",
    "\uf022",
    "n" * 255,
]


@pytest.fixture(scope="module")
def server() -> Iterator[SambaServer]:
    with samba_server(options=POSIX, share_options=UNTOUCHED, programs=newer_samba()) as server:
        server.user.owns(server.root)
        yield server


@pytest.fixture
def folder(server: SambaServer, request: pytest.FixtureRequest) -> Path:
    """Return a new folder of the share, for one test."""
    name = f"[{request.node.name.partition('[')[0]}]"
    number = sum(path.name.startswith(name) for path in server.root.iterdir())
    return server.user.owns_new(server.root / f"{name}{number}")


@pytest.fixture
async def share(server: SambaServer) -> AsyncIterator[Share]:
    async with connected(server) as share:
        yield share


async def put(share: Share, path: str, data: bytes = b"", mode: int = 0o640) -> FileStat:
    file = await share.open(path, OpenIntent(write=True, creation=Creation.EXCLUSIVE, mode=mode))
    if data:
        await file.write(0, [data])
    await file.aclose()
    return file.stat


async def listed(share: Share, path: str) -> dict[str, FileStat]:
    listing = await share.open_directory(path)
    entries: list[DirEntry] = []
    while page := await listing.page():
        entries += page
    await listing.aclose()
    return {entry.name: entry.stat for entry in entries}


async def test_they_are_agreed_on_and_can_be_declined(server: SambaServer) -> None:
    async with connected(server) as share:
        assert Features.POSIX | Features.CASE_SENSITIVE | Features.MAKES_SYMLINKS in share.features
    for network, vers in ((Network(timeo_s=20.0, unix_extensions=False), Vers.DEFAULT), (PATIENT, Vers.SMB302)):
        async with connected(server, vers, network=network) as share:
            assert not share.features & (Features.POSIX | Features.CASE_SENSITIVE)


async def test_a_server_that_has_them_and_a_share_that_has_not() -> None:
    with samba_server(options=POSIX, share_options={"smb3 unix extensions": "no"}, programs=newer_samba()) as server:
        server.user.owns(server.root)
        (server.root / "File").write_bytes(b"x")
        async with connected(server) as share:
            assert Features.POSIX not in share.features
            assert (await share.stat("FILE")).size == 1


async def test_they_work_sealed(server: SambaServer, folder: Path) -> None:
    async with connected(server, seal=True) as share:
        assert (await put(share, f"{folder.name}/file", b"sealed")).mode == 0o640


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o400, 0o777, 0o000])
async def test_modes_are_the_servers_own(share: Share, folder: Path, mode: int) -> None:
    path = f"{folder.name}/file"
    made = await put(share, path, mode=mode)
    assert (made.mode, (await share.stat(path)).mode, (await listed(share, folder.name))["file"].mode) == (mode,) * 3
    assert modes.S_IMODE((folder / "file").stat().st_mode) == mode
    changed = await share.change(path, Change(mode=0o751))
    assert changed.mode == 0o751
    assert modes.S_IMODE((folder / "file").stat().st_mode) == 0o751


async def test_modes_of_folders_and_by_handle(share: Share, folder: Path) -> None:
    assert (await share.make_directory(f"{folder.name}/sub", 0o710)).mode == 0o710
    file = await share.open(f"{folder.name}/sub/file", MAKE)
    await file.change(Change(mode=0o604, written_ns=1_500_000_000_000_000_000))
    assert (await file.refresh()).mode == 0o604
    await file.aclose()
    seen = (folder / "sub/file").stat()
    assert (modes.S_IMODE(seen.st_mode), seen.st_mtime_ns) == (0o604, 1_500_000_000_000_000_000)


async def test_owners_and_links_are_told(share: Share, folder: Path) -> None:
    (folder / "root's").write_bytes(b"x")
    os.chown(folder / "root's", 4711, 815)
    os.link(folder / "root's", folder / "second")
    for stat in (await share.stat(f"{folder.name}/second"), (await listed(share, folder.name))["second"]):
        assert (stat.uid, stat.gid, stat.links) == (4711, 815, 2)
    made = await put(share, f"{folder.name}/mine")
    # Samba names its own users by its own domain: that tells no number.
    assert (made.uid, made.gid, made.links) == (None, (folder / "mine").stat().st_gid, 1)


async def test_files_are_not_given_away(share: Share, folder: Path) -> None:
    await put(share, f"{folder.name}/file", mode=0o700)
    with pytest.raises(Denied):
        await share.change(f"{folder.name}/file", Change(uid=4711))
    assert (folder / "file").stat().st_uid != 4711


@pytest.mark.parametrize("name", NAMES)
async def test_every_name_is_possible(share: Share, folder: Path, name: str) -> None:
    await put(share, f"{folder.name}/{name}", name.encode())
    assert os.listdir(folder) == [name]
    assert list(await listed(share, folder.name)) == [name]
    assert (await share.stat(f"{folder.name}/{name}")).size == len(name.encode())
    await share.rename(f"{folder.name}/{name}", f"{folder.name}/+{name[1:]}", replace=False)
    await share.remove(f"{folder.name}/+{name[1:]}", Kind.FILE)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o604])
async def test_the_owner_sets_times_whatever_the_mode(share: Share, folder: Path, mode: int) -> None:
    path = f"{folder.name}/file"
    await put(share, path, mode=mode)
    changed = await share.change(path, Change(written_ns=1_500_000_000_000_000_000))
    assert (changed.written_ns, changed.mode) == (1_500_000_000_000_000_000, mode)
    seen = (folder / "file").stat()
    assert (seen.st_mtime_ns, modes.S_IMODE(seen.st_mode)) == (1_500_000_000_000_000_000, mode)
    changed = await share.change(path, Change(accessed_ns=1_600_000_000_000_000_000, mode=0o640))
    assert (changed.accessed_ns, changed.mode) == (1_600_000_000_000_000_000, 0o640)


async def test_times_of_others_files_are_not_set_and_a_read_only_file_is_not_cut(share: Share, folder: Path) -> None:
    (folder / "theirs").write_bytes(b"content")
    os.chmod(folder / "theirs", 0o604)
    before = (folder / "theirs").stat()
    await put(share, f"{folder.name}/mine", b"content", mode=0o444)
    for name, change in (("theirs", Change(written_ns=0)), ("theirs", Change(mode=0)), ("mine", Change(size=0))):
        with pytest.raises(Denied):
            await share.change(f"{folder.name}/{name}", change)
    assert (folder / "theirs").stat() == before
    assert (folder / "mine").stat().st_size == 7


async def test_a_file_that_is_written_goes_with_its_last_handle_and_can_be_changed_until_then(
    server: SambaServer, share: Share, folder: Path
) -> None:
    path = f"{folder.name}/hidden"
    files = [await share.open(path, OpenIntent(write=True, creation=Creation.IF_ABSENT, holder=KEEPER)) for _ in "12"]
    await files[0].write(0, [b"content"])
    await share.remove(path, Kind.FILE, KEEPER)
    await files[0].aclose()
    await files[1].change(Change(size=3, written_ns=1_500_000_000_000_000_000))
    found = await files[1].refresh()
    assert (found.size, found.written_ns) == (3, 1_500_000_000_000_000_000)
    assert os.listdir(folder) == ["hidden"]
    await files[1].aclose()
    with trio.fail_after(30):  # nobody waits for the answer to a CLOSE, and an ECHO may be answered before it
        while os.listdir(folder):
            await share.echo()
            await trio.sleep(0.01)


async def test_case_tells_names_apart(share: Share, folder: Path) -> None:
    await put(share, f"{folder.name}/File", b"1")
    await put(share, f"{folder.name}/file", b"22")
    assert (await share.stat(f"{folder.name}/file")).size == 2
    with pytest.raises(NotFound):
        await share.stat(f"{folder.name}/FILE")


async def test_an_open_file_lives_on_without_a_name(share: Share, folder: Path) -> None:
    path = f"{folder.name}/file"
    file = await share.open(path, MAKE)
    await file.write(0, [b"still"])
    await share.remove(path, Kind.FILE)
    assert os.listdir(folder) == []
    await put(share, path, b"another")
    await file.write(5, [b" here"])
    assert bytes(await file.read(0, 100)) == b"still here"
    assert (await file.refresh()).links == 0
    await file.aclose()
    assert (folder / "file").read_bytes() == b"another"


async def test_a_file_that_another_client_has_open_is_replaced(server: SambaServer, share: Share, folder: Path) -> None:
    await put(share, f"{folder.name}/new", b"new")
    await put(share, f"{folder.name}/old", b"old")
    async with connected(server) as other:
        file = await other.open(f"{folder.name}/old", OpenIntent())
        await share.rename(f"{folder.name}/new", f"{folder.name}/old", replace=True)
        assert bytes(await file.read(0, 10)) == b"old"
        await file.aclose()
    assert (folder / "old").read_bytes() == b"new"


async def test_one_that_we_have_open_ourselves_is_not(share: Share, folder: Path) -> None:
    # What the filesystem makes of this is in tests/vfs/test_posix_servers.py.
    await put(share, f"{folder.name}/new", b"new")
    file = await share.open(f"{folder.name}/old", MAKE)
    with pytest.raises(Denied):
        await share.rename(f"{folder.name}/new", f"{folder.name}/old", replace=True)
    await share.rename(f"{folder.name}/old", f"{folder.name}/aside", replace=False)
    await share.rename(f"{folder.name}/new", f"{folder.name}/old", replace=False)
    await file.aclose()
    assert sorted(os.listdir(folder)) == ["aside", "old"]


async def test_folders_are_renamed_with_open_files_below_and_onto_empty_ones(share: Share, folder: Path) -> None:
    for name in ("a", "a/b", "empty", "full"):
        await share.make_directory(f"{folder.name}/{name}", 0o755)
    await put(share, f"{folder.name}/full/file")
    file = await share.open(f"{folder.name}/a/b/file", MAKE)
    await share.rename(f"{folder.name}/a", f"{folder.name}/c", replace=False)
    await file.write(0, [b"moved"])
    await file.aclose()
    assert (folder / "c/b/file").read_bytes() == b"moved"
    await share.rename(f"{folder.name}/c", f"{folder.name}/empty", replace=True)
    assert (folder / "empty/b/file").exists()
    with pytest.raises(NotEmpty):
        await share.rename(f"{folder.name}/empty", f"{folder.name}/full", replace=True)
    with pytest.raises(NotEmpty):
        await share.remove(f"{folder.name}/full", Kind.DIRECTORY)


@pytest.mark.parametrize("target", ["file", "../x/y", "a\\b", "/etc/hosts", "Größe 🐙", "with:colon", "dangling/"])
async def test_symlinks_are_made_and_read(share: Share, folder: Path, target: str) -> None:
    path = f"{folder.name}/link"
    made = await share.make_link(path, target)
    for stat in (made, await share.stat(path), (await listed(share, folder.name))["link"]):
        assert (stat.kind, stat.size, stat.mode) == (Kind.SYMLINK, len(target.encode()), 0o777)
    assert await share.read_link(path) == target
    with pytest.raises(WrongKind):
        await share.open(path, OpenIntent())
    with pytest.raises(Exists):
        await share.make_link(path, "other")
    await share.make_link(f"{folder.name}/another", "other")
    await share.rename(path, f"{folder.name}/another", replace=True)
    assert await share.read_link(f"{folder.name}/another") == target
    await share.remove(f"{folder.name}/another", Kind.SYMLINK)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("target", ["file", "a\\b", "/etc/hosts"])
async def test_symlinks_of_the_servers_own_are_shown_and_not_followed(share: Share, folder: Path, target: str) -> None:
    (folder / "file").write_bytes(b"content")
    (folder / "link").symlink_to(target)
    path = f"{folder.name}/link"
    for stat in (await share.stat(path), (await listed(share, folder.name))["link"]):
        assert (stat.kind, stat.size) == (Kind.SYMLINK, len(target))
    assert await share.read_link(path) == target
    await share.rename(path, f"{folder.name}/renamed", replace=False)
    await share.remove(f"{folder.name}/renamed", Kind.SYMLINK)
    assert os.listdir(folder) == ["file"]


@pytest.mark.parametrize(
    "kind, device",
    [(Kind.FIFO, None), (Kind.SOCKET, None), (Kind.CHARACTER_DEVICE, (1, 3)), (Kind.BLOCK_DEVICE, (259, 70000))],
)
async def test_special_files_are_made(share: Share, folder: Path, kind: Kind, device: tuple[int, int] | None) -> None:
    path = f"{folder.name}/node"
    made = await share.make_node(path, kind, device, 0o604)
    for stat in (made, await share.stat(path), (await listed(share, folder.name))["node"]):
        assert (stat.kind, stat.device, stat.mode) == (kind, device, 0o604)
    await share.remove(path, kind)


async def test_special_files_of_the_servers_own_are_shown(share: Share, folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "null", 0o666 | modes.S_IFCHR, os.makedev(1, 3))
    shown = await listed(share, folder.name)
    assert (shown["fifo"].kind, shown["null"].kind, shown["null"].device) == (Kind.FIFO, Kind.CHARACTER_DEVICE, (1, 3))
    assert (await share.stat(f"{folder.name}/null")).device == (1, 3)


async def test_extended_attributes_of_any_name(share: Share, folder: Path) -> None:
    path = f"{folder.name}/file"
    await put(share, path)
    for name in ("plain", "with:colon", "Größe"):
        await share.set_extended_attribute(path, name, name.encode())
    assert await share.extended_attributes(path) == {name: name.encode() for name in ("plain", "with:colon", "Größe")}


async def test_a_listing_of_many_pages(share: Share, folder: Path) -> None:
    names = {f"{number:05} {'ä' * 60}" for number in range(8000)}
    for name in names:
        (folder / name).touch()
    assert set(await listed(share, folder.name)) == names


async def test_what_is_refused_says_why(share: Share, folder: Path) -> None:
    await put(share, f"{folder.name}/file")
    await share.make_directory(f"{folder.name}/sub", 0o755)
    with pytest.raises(WrongKind):
        await share.remove(f"{folder.name}/sub", Kind.FILE)
    with pytest.raises(WrongKind):
        await share.remove(f"{folder.name}/file", Kind.DIRECTORY)
    with pytest.raises(Exists):
        await share.make_directory(f"{folder.name}/file", 0o755)
    with pytest.raises(Exists):
        await share.open(f"{folder.name}/sub", MAKE)
    with pytest.raises(WrongKind):
        await share.open(f"{folder.name}/sub", OpenIntent())
    with pytest.raises(WrongKind):
        await share.open_directory(f"{folder.name}/file")
    with pytest.raises(SmbError):
        await share.stat(f"{folder.name}/file/below")
