"""SMB1 with a real Samba: every kind of login and protection, every way to open, the same bytes each time."""

import errno
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from smbfuse.client.smb1_share import Smb1Share
from smbfuse.config import Login, Sec, Secret, Security, Vers
from smbfuse.errors import AuthenticationFailed, NotFound, SecurityRefused, SmbError, WrongKind
from smbfuse.share import DirEntry, Features, Kind, OpenIntent
from tests.interop.smb1_shares import SECURITY, locked_files, mounted
from tests.support.samba import PASSWORD, SambaServer, samba_server

pytestmark = pytest.mark.samba

SIZES = {"empty": 0, "small": 5000, "größer 🐙.bin": 70_000, "big": 3_000_000}


def fill(folder: Path) -> None:
    for name, size in SIZES.items():
        (folder / name).write_bytes(random.Random(size).randbytes(size))
    (folder / "sub").mkdir()
    for number in range(1500):
        (folder / "sub" / f"file {number:04}").touch()
    (folder / "link").symlink_to("small")
    for entry in (folder, *folder.rglob("*")):
        if not entry.is_symlink():
            entry.chmod(0o755 if entry.is_dir() else 0o644)


WAYS: dict[str, dict[str, Any]] = {
    "unix extensions": {},
    "without unix extensions": {"unix_extensions": False},
    "bare challenge": {"unix_extensions": False, "smb1_extended_security": False},
    "code page": {"unix_extensions": False, "unicode": False},
    "NT_CREATE_ANDX": {"unix_extensions": False, "smb1_open_nt": True},
    "raw NTLMSSP": {"sec": Sec.NTLMSSP},
    "NTLMv1": {"sec": Sec.NTLM},
    "LM": {"sec": Sec.LM},
    "after a probe": {"probe": True},
}


@pytest.fixture(scope="module")
def server() -> Iterator[SambaServer]:
    """A Samba that takes every login, with some files."""
    with samba_server() as server:
        fill(server.root)
        yield server


@pytest.fixture(scope="module")
def careful() -> Iterator[SambaServer]:
    """A Samba that wants signatures and takes small messages only."""
    with samba_server(options={"server signing": "mandatory", "max xmit": "2048"}) as server:
        fill(server.root)
        yield server


@pytest.mark.parametrize("way", WAYS)
async def test_everything_is_read_as_it_lies_on_the_server(way: str, server: SambaServer) -> None:
    settings = dict(WAYS[way])
    login = Login(user=server.user.name, password=Secret(PASSWORD), sec=settings.pop("sec", Sec.DEFAULT))
    async with mounted(server, login=login, **settings) as share:
        await assert_same(share, server.root, codepage="cp850" if way == "code page" else None)


async def test_everything_is_read_over_a_netbios_session(server: SambaServer) -> None:
    async with mounted(server, port=server.netbios_port, netbios_session=True) as share:
        await assert_same(share, server.root)


async def test_everything_is_read_signed_in_small_pieces(careful: SambaServer) -> None:
    async with mounted(careful) as share:
        assert share.statistics().signing == "MD5"
        assert share.limits.read < 2048
        await assert_same(share, careful.root)


async def test_a_long_path_takes_several_signed_messages(careful: SambaServer) -> None:
    parts = [f"{number} {'é' * 60}" for number in range(25)]
    deep = careful.root
    for part in parts:
        deep /= part
        deep.mkdir(mode=0o755)
    (deep / "file").write_bytes(b"deep down")
    (deep / "file").chmod(0o644)
    async with mounted(careful, unix_extensions=False) as share:
        path = "/".join([*parts, "file"])
        assert (await share.stat(path)).size == 9
        assert (await share.stat("")).kind is Kind.DIRECTORY  # numbers of signatures still agree


async def assert_same(share: Smb1Share, folder: Path, *, codepage: str | None = None) -> None:
    for name, size in SIZES.items():
        if codepage is not None and not can_spell(name, codepage):
            with pytest.raises(NotFound):
                await share.stat(name)
            continue
        on_disk = folder / name
        file = await share.open(name, OpenIntent(first_bytes=65536))
        assert file.first is not None
        data = bytes(file.first)
        while piece := await file.read(len(data), share.limits.read):
            data += piece
        await file.aclose()
        assert data == on_disk.read_bytes()
        stat, lstat = await share.stat(name), on_disk.lstat()
        assert stat._replace(accessed_ns=None) == file.stat._replace(accessed_ns=None)
        assert (stat.kind, stat.size, stat.file_id) == (Kind.FILE, size, lstat.st_ino)
        assert stat.written_ns == lstat.st_mtime_ns // 100 * 100
    directory = await share.open_directory("sub")
    listed: list[DirEntry] = []
    while page := await directory.page():
        listed += page
    on_disk = folder / "sub"
    assert {entry.name: entry.stat.file_id for entry in listed} == {
        entry.name: entry.stat().st_ino for entry in on_disk.iterdir()
    }
    assert directory.stat is not None
    assert directory.stat.file_id == (await share.stat("sub")).file_id == on_disk.stat().st_ino
    space, disk = await share.space(), os.statvfs(folder)
    assert space.total == disk.f_blocks * disk.f_frsize


def can_spell(name: str, codepage: str) -> bool:
    try:
        name.encode(codepage)
    except UnicodeEncodeError:
        return False
    return True


async def test_a_file_above_4_gib(server: SambaServer) -> None:
    huge = server.root / "huge"
    with huge.open("wb") as file:
        file.truncate(5 << 30)
        file.seek((4 << 30) + 123)
        file.write(b"far out")
    huge.chmod(0o644)
    async with mounted(server) as share:
        opened = await share.open("huge", OpenIntent(first_bytes=10))
        assert opened.stat.size == 5 << 30
        assert bytes(opened.first or b"") == bytes(10)
        assert bytes(await opened.read((4 << 30) + 123, 7)) == b"far out"
        assert not await opened.read(5 << 30, 10)
        await opened.aclose()
    huge.unlink()


async def test_what_cannot_be_opened_is_refused_in_the_right_words(server: SambaServer) -> None:
    async with mounted(server) as share:
        with pytest.raises(NotFound):
            await share.open("nowhere", OpenIntent(first_bytes=1))
        with pytest.raises(WrongKind) as folder:
            await share.open("sub", OpenIntent(first_bytes=1))
        assert folder.value.errno == errno.EISDIR
        with pytest.raises(WrongKind) as file:
            await share.open_directory("small")
        assert file.value.errno == errno.ENOTDIR
        with pytest.raises(NotFound):
            await share.open_directory("nowhere")
        with pytest.raises(WrongKind) as no_link:
            await share.read_link("small")
        assert no_link.value.errno == errno.EINVAL


async def test_unix_extensions_show_links_modes_and_owners(server: SambaServer) -> None:
    async with mounted(server) as share:
        assert Features.POSIX in share.features
        link, small = await share.stat("link"), await share.stat("small")
        assert link.kind is Kind.SYMLINK
        assert await share.read_link("link") == "small"
        on_disk = (server.root / "small").stat()
        assert (small.mode, small.uid, small.gid) == (0o644, on_disk.st_uid, on_disk.st_gid)
        assert small.volume_id is not None


async def test_no_handle_stays_open_whenever_its_opener_gives_up(server: SambaServer) -> None:
    async with mounted(server) as share:
        for step in range(60):
            with trio.move_on_after(step / 20_000):
                file = await share.open("small", OpenIntent(first_bytes=100))
                await file.aclose()
            with trio.move_on_after(step / 20_000):
                directory = await share.open_directory("sub")
                await directory.aclose()
        with trio.fail_after(30):
            while "small" in locked_files(server):  # an ECHO may overtake the CLOSEs, for which nobody waits
                await share.echo()


async def test_wrong_passwords_and_names_are_refused(server: SambaServer) -> None:
    wrong = Login(user=server.user.name, password=Secret("wrong"))
    assert isinstance(await refusal(server, login=wrong), AuthenticationFailed)
    assert isinstance(
        await refusal(server, login=replace(wrong, sec=Sec.NTLM), smb1_extended_security=False), AuthenticationFailed
    )
    assert isinstance(await refusal(server, share="nowhere"), NotFound)
    assert isinstance(await refusal(server, security=replace(SECURITY, seal=True)), SecurityRefused)


async def test_signing_that_is_not_to_be_had_is_refused(server: SambaServer) -> None:
    assert isinstance(await refusal(server, security=replace(SECURITY, sign=True)), SecurityRefused)


async def test_auto_signs_where_the_server_can() -> None:
    with samba_server(options={"server signing": "auto"}) as able:
        async with mounted(able, security=Security(vers=Vers.AUTO), probe=True) as share:
            assert share.statistics().signing == "MD5"
        async with mounted(able) as share:
            assert share.statistics().signing == ""


async def refusal(server: SambaServer, **settings: Any) -> SmbError:
    """Return what a mount is refused with."""
    found: list[SmbError] = []
    try:
        async with mounted(server, **settings):
            pass
    except* SmbError as errors:
        for error in errors.exceptions:
            assert isinstance(error, SmbError)
            found.append(error)
    (error,) = found
    return error
