"""XSym files shown and made as symlinks: the format, what it costs, and what is no link."""

import errno
import hashlib

import pytest

from smbfuse.config import Cache, SymlinkKind, View
from smbfuse.errors import NotFound, SmbError
from smbfuse.share import Features, Kind, OpenFile, OpenIntent
from smbfuse.status import NtStatus, error
from smbfuse.vfs import mfsymlinks
from smbfuse.vfs.mfsymlinks import MfSymlinks
from smbfuse.vfs.posix import Caller
from smbfuse.vfs.undoing import Undoing
from tests.support.mem_share import MemShare
from tests.support.mem_source import MemSource
from tests.vfs.mounted import Mount

VIEW = View(uid=1000, gid=1000, mf_symlinks=True)
CALLER = Caller(1000, 1000, 0o022)
TARGET = "Größe/../ziel".encode()


def xsym(target: bytes) -> bytes:
    """Return such a file, put together as the format is described."""
    head = f"XSym\n{len(target):04}\n{hashlib.md5(target).hexdigest()}\n".encode() + target
    return head + b"\n" + b" " * (1067 - len(head) - 1) if len(head) < 1067 else head


def test_the_form_of_minshall_and_french() -> None:
    made = mfsymlinks.encode(b"../a/target")
    assert made.startswith(b"XSym\n0011\nc3fbc3aedd30f57ec6d99763e26075f6\n../a/target\n   ")
    assert len(made) == 1067
    assert made == xsym(b"../a/target")


@pytest.mark.parametrize("target", [b"x", TARGET, b"\xff", b"/" * 1023, b"t" * 1024])
def test_every_target_that_fits_comes_out_as_it_went_in(target: bytes) -> None:
    assert mfsymlinks.encode(target) == xsym(target)
    assert mfsymlinks.decode(memoryview(xsym(target))) == target


def test_a_target_that_does_not_fit_is_refused() -> None:
    with pytest.raises(SmbError) as refused:
        mfsymlinks.encode(b"t" * 1025)
    assert refused.value.errno == errno.ENAMETOOLONG


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" " * 1067,
        xsym(TARGET)[:-1],
        xsym(TARGET) + b" ",
        xsym(TARGET).replace(b"XSym", b"XSYM"),
        xsym(TARGET).replace(TARGET, TARGET[::-1]),  # another target than the hash is of
        xsym(TARGET).replace(b"0015", b"00xx"),
        xsym(TARGET).replace(b"0015", b"1025"),
        xsym(b""),
    ],
    ids=range(9),
)
def test_what_is_not_of_that_form_is_a_file(content: bytes) -> None:
    assert mfsymlinks.decode(content) is None


@pytest.fixture
def share() -> MemShare:
    share = MemShare()
    share.add("Ordner [é]/link", xsym(TARGET))
    share.add("Ordner [é]/looks like one", b"x" * 1067)
    share.add("Ordner [é]/file", b"content")
    return share


async def test_a_listing_and_a_stat_show_the_link_and_its_length(share: MemShare) -> None:
    covered = MfSymlinks(share)
    listing = await covered.open_directory("Ordner [é]")
    shown = {entry.name: entry.stat for entry in await listing.page()}
    assert {name: stat.kind for name, stat in shown.items()} == {
        "link": Kind.SYMLINK,
        "looks like one": Kind.FILE,
        "file": Kind.FILE,
    }
    assert shown["link"].size == len(TARGET)
    assert (await covered.stat("Ordner [é]/link")).kind is Kind.SYMLINK
    assert await covered.read_link("Ordner [é]/link") == TARGET.decode()
    assert share.open_files == 0


async def test_each_file_of_that_size_is_read_once_as_long_as_it_stays_the_same(share: MemShare) -> None:
    covered = MfSymlinks(share)
    for _ in range(3):
        await covered.stat("Ordner [é]/link")
        await covered.stat("Ordner [é]/looks like one")
        await covered.stat("Ordner [é]/file")
    assert [path for path, _ in share.opened] == ["Ordner [é]/link", "Ordner [é]/looks like one"]
    share.write("Ordner [é]/link", xsym(b"elsewhere"))
    assert await covered.read_link("Ordner [é]/link") == "elsewhere"
    share.write("Ordner [é]/link", b"y" * 1067)
    assert (await covered.stat("Ordner [é]/link")).kind is Kind.FILE


async def test_what_may_be_a_link_is_not_opened_ahead(share: MemShare) -> None:
    share.add("link", xsym(TARGET))
    share.add("file", b"content")
    told: dict[int, OpenFile | SmbError] = {}
    intent = OpenIntent(first_bytes=2000)
    await MfSymlinks(share).open_ahead([("link", intent), ("file", intent), ("none", intent)], told.__setitem__)
    link, file, none = (told[index] for index in range(3))
    assert isinstance(link, SmbError)
    assert isinstance(none, NotFound)
    assert not isinstance(file, SmbError)
    assert share.open_files == 1
    await file.aclose()


async def test_a_link_is_not_opened_but_a_file_that_looks_like_one_is(share: MemShare) -> None:
    covered = MfSymlinks(share)
    for first_bytes in (0, 2000):
        with pytest.raises(SmbError) as refused:
            await covered.open("Ordner [é]/link", OpenIntent(first_bytes=first_bytes))
        assert refused.value.errno == errno.ELOOP
        file = await covered.open("Ordner [é]/looks like one", OpenIntent(first_bytes=first_bytes))
        await file.aclose()
    assert share.open_files == 0


async def test_a_link_that_cannot_be_read_is_shown_as_the_file_it_is(share: MemShare) -> None:
    share.fail("open", error(NtStatus.ACCESS_DENIED, "OPEN", "link"))
    assert (await MfSymlinks(share).stat("Ordner [é]/link")).kind is Kind.FILE


async def test_symlinks_of_the_servers_own_are_read_as_ever(share: MemShare) -> None:
    share.add_symlink("native", "file")
    assert await MfSymlinks(share).read_link("native") == "file"


async def test_a_link_is_made_and_read_through_the_filesystem(mount: Mount) -> None:
    share = MemShare()
    share.add_folder("folder")
    mounted = await mount(share, view=VIEW, cache=Cache(attributes_s=0, directories_s=0))
    made = await mounted.fs.symlink(await mounted.ino("folder"), b"l", b"../a:b/t", CALLER)
    assert share.node("folder/l").data == xsym(b"../a:b/t")
    assert made.stat.size == 8
    assert await mounted.fs.readlink(made.stat.ino) == b"../a:b/t"
    found = await mounted.find("folder/l")
    assert (found.stat.ino, found.stat.size) == (made.stat.ino, 8)
    assert share.open_files == 0


def undoing(share: MemShare) -> Undoing:
    def spawn(*work: object) -> None:
        raise AssertionError("nothing is left for later")

    return Undoing(MemSource(share), spawn)


async def test_nothing_stays_of_a_link_that_could_not_be_written(share: MemShare) -> None:
    share.fail("write", error(NtStatus.DISK_FULL, "WRITE", "new"))
    with pytest.raises(SmbError) as refused:
        await mfsymlinks.make(share, "new", b"target", undoing(share))
    assert refused.value.errno == errno.ENOSPC
    assert "new" not in share.root.children
    assert share.open_files == 0


async def test_a_link_replaces_nothing(share: MemShare) -> None:
    with pytest.raises(SmbError) as refused:
        await mfsymlinks.make(share, "Ordner [é]/file", b"target", undoing(share))
    assert refused.value.errno == errno.EEXIST
    assert share.node("Ordner [é]/file").data == b"content"


async def test_without_the_option_the_file_is_a_file(mount: Mount) -> None:
    share = MemShare()
    share.add("link", xsym(TARGET))
    mounted = await mount(share)
    assert (await mounted.find("link")).stat.size == 1067


async def test_the_servers_own_symlinks_are_preferred_where_it_has_posix_ones(mount: Mount) -> None:
    share = MemShare(features=Features.POSIX | Features.SYMLINKS | Features.MAKES_SYMLINKS)
    mounted = await mount(share, view=VIEW)
    await mounted.fs.symlink(1, b"l", b"t", CALLER)
    assert share.node("l").kind is Kind.SYMLINK


@pytest.mark.parametrize("kind", [SymlinkKind.DEFAULT, SymlinkKind.MFSYMLINKS])
async def test_which_form_is_made_is_asked_of_the_options(mount: Mount, kind: SymlinkKind) -> None:
    share = MemShare(features=Features.SYMLINKS | Features.MAKES_SYMLINKS)
    view = View(uid=1000, gid=1000, mf_symlinks=kind is SymlinkKind.DEFAULT, symlink=kind)
    mounted = await mount(share, view=view)
    await mounted.fs.symlink(1, b"l", b"t", CALLER)
    assert share.node("l").data == xsym(b"t")
