"""Symlinks, special files, extended attributes and security descriptors in Windows' manner, against real Sambas.

Samba 4.17 keeps no reparse points and says so of each; 4.22 keeps them, for files only.
"""

import os
from collections.abc import Iterator

import pytest

from smbfuse.config import Network, Vers
from smbfuse.errors import Exists, NoSpace, NotFound, SmbError, Unsupported, WrongKind
from smbfuse.share import Creation, DirEntry, Features, Kind, LinkForm, OpenIntent, Share
from smbfuse.wire.descriptor import Descriptor, SecurityInformation, allowing, unix_user
from tests.support.connected import connected
from tests.support.samba import SambaServer, samba_server
from tests.support.samba_programs import INSTALLED, NEWER, newer_samba

pytestmark = pytest.mark.samba

EVERY_DIALECT = [Vers.SMB202, Vers.SMB210, Vers.SMB300, Vers.SMB302, Vers.SMB311]
WINDOWS = Network(timeo_s=20.0, connect_timeout_s=5.0, unix_extensions=False)
FORMS = list(LinkForm)
TARGETS = ["file", "../a/file", "Größe 🐙/x", "/mnt/c/Windows", "//host/share/x", "/etc/hosts"]
KINDS = [(Kind.FIFO, None), (Kind.SOCKET, None), (Kind.CHARACTER_DEVICE, (1, 3)), (Kind.BLOCK_DEVICE, (8, 1))]


@pytest.fixture(scope="module")
def server() -> Iterator[SambaServer]:
    with samba_server(share_options={"ea support": "yes"}) as server:
        server.user.owns(server.root)
        yield server


@pytest.fixture(scope="module")
def newer() -> Iterator[SambaServer]:
    with samba_server(share_options={"ea support": "yes"}, programs=newer_samba()) as server:
        server.user.owns(server.root)
        yield server


async def put(share: Share, path: str) -> str:
    file = await share.open(path, OpenIntent(write=True, creation=Creation.IF_ABSENT))
    await file.aclose()
    return path


@pytest.mark.parametrize("form", FORMS)
async def test_a_server_without_reparse_points_says_so_and_keeps_nothing(server: SambaServer, form: LinkForm) -> None:
    if INSTALLED.version() >= NEWER:
        pytest.skip("the installed Samba keeps reparse points")
    before = os.listdir(server.root)
    async with connected(server) as share:
        assert Features.MAKES_SYMLINKS in share.features
        with pytest.raises(Unsupported):
            await share.make_link("link", "target", form)
        assert not share.features & (Features.MAKES_SYMLINKS | Features.SPECIAL_FILES)
        requests = share.statistics().requests
        with pytest.raises(Unsupported):
            await share.make_link("link", "target", form)
        assert share.statistics().requests == requests  # one refusal is enough
    for kind, device in KINDS:
        async with connected(server) as share:
            with pytest.raises(Unsupported):
                await share.make_node("node", kind, device, 0o600, form)
    assert os.listdir(server.root) == before


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "target", ["file", "../a/file", "Größe 🐙/x", "/mnt/c/Windows", "//host/share/x", "/etc/hosts"]
)
async def test_symlinks_of_every_form_come_back_as_they_were_made(
    newer: SambaServer, form: LinkForm, target: str
) -> None:
    async with connected(newer, network=WINDOWS) as share:
        made = await share.make_link("before", target, form)
        await share.rename("before", "link", replace=False)
        try:
            (listed,) = [entry.stat for entry in await listing(share) if entry.name == "link"]
            for stat in (made, await share.stat("link"), listed):
                assert (stat.kind, stat.size) == (Kind.SYMLINK, len(target.encode()))
            assert await share.read_link("link") == target
            with pytest.raises(Exists):
                await share.make_link("link", "other", form)
            assert await share.read_link("link") == target
        finally:
            await share.remove("link", Kind.SYMLINK)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind, device", KINDS)
async def test_special_files_of_every_form(
    newer: SambaServer, form: LinkForm, kind: Kind, device: tuple[int, int] | None
) -> None:
    async with connected(newer, network=WINDOWS) as share:
        made = await share.make_node("node", kind, device, 0o600, form)
        try:
            (listed,) = [entry.stat for entry in await listing(share) if entry.name == "node"]
            for stat in (made, await share.stat("node"), listed):
                assert (stat.kind, stat.device) == (kind, device)
            with pytest.raises(WrongKind):
                await share.read_link("node")
        finally:
            await share.remove("node", kind)


async def test_a_symlink_to_a_folder_is_made_where_the_server_keeps_them_for_files_only(newer: SambaServer) -> None:
    async with connected(newer, network=WINDOWS) as share:
        await share.make_directory("folder")
        for target in ("folder", "folder/", ".", "../above"):
            assert (await share.make_link("link", target)).kind is Kind.SYMLINK
            assert await share.read_link("link") == target
            await share.remove("link", Kind.SYMLINK)
        await share.remove("folder", Kind.DIRECTORY)


async def listing(share: Share) -> list[DirEntry]:
    opened = await share.open_directory("")
    entries: list[DirEntry] = []
    while page := await opened.page():
        entries += page
    await opened.aclose()
    return entries


@pytest.mark.parametrize("vers", EVERY_DIALECT)
async def test_extended_attributes(server: SambaServer, vers: Vers) -> None:
    async with connected(server, vers) as share:
        path = await put(share, f"attributes {vers.value}")
        assert await share.extended_attributes(path) == {}
        await share.set_extended_attribute(path, "Größe", b"\0binary\xff")
        await share.set_extended_attribute(path, "other", b"2")
        assert await share.extended_attributes(path) == {"Größe": b"\0binary\xff", "other": b"2"}
        await share.set_extended_attribute(path, "OTHER", b"33")  # one and the same, in any case
        assert await share.extended_attributes(path) == {"Größe": b"\0binary\xff", "other": b"33"}
        assert os.getxattr(server.root / path, "user.other") == b"33"
        await share.set_extended_attribute(path, "other", b"")
        assert await share.extended_attributes(path) == {"Größe": b"\0binary\xff"}


async def test_extended_attributes_that_cannot_be(server: SambaServer) -> None:
    async with connected(server) as share:
        path = await put(share, "limits")
        with pytest.raises(NoSpace):
            await share.set_extended_attribute(path, "large", bytes(60000))
        for name in ("", "n" * 256, "a\0b", "with:colon"):
            with pytest.raises(SmbError):
                await share.set_extended_attribute(path, name, b"1")
        with pytest.raises(NotFound):
            await share.extended_attributes("nothing")
        assert await share.extended_attributes(path) == {}


async def test_a_share_without_extended_attributes() -> None:
    with samba_server(share_options={"ea support": "no"}) as server:
        server.user.owns(server.root)
        async with connected(server) as share:
            path = await put(share, "file")
            assert await share.extended_attributes(path) == {}
            with pytest.raises(Unsupported):
                await share.set_extended_attribute(path, "name", b"1")


@pytest.mark.parametrize("vers", EVERY_DIALECT)
async def test_security_descriptors(server: SambaServer, vers: Vers) -> None:
    async with connected(server, vers) as share:
        path = await put(share, f"descriptor {vers.value}")
        descriptor = Descriptor.decode(await share.security_descriptor(path))
        everything = SecurityInformation.OWNER | SecurityInformation.GROUP | SecurityInformation.DACL
        assert descriptor.parts == everything
        assert descriptor.owner is not None
        alone = Descriptor(dacl=allowing([descriptor.owner], mask=0x1F01FF))
        assert (server.root / path).stat().st_mode & 0o007
        await share.set_security_descriptor(path, alone.encode())
        assert not (server.root / path).stat().st_mode & 0o007
        with pytest.raises(SmbError):
            await share.set_security_descriptor(path, Descriptor(owner=unix_user(0)).encode())
        for nonsense in (b"", b"nonsense", Descriptor().encode()):
            with pytest.raises(SmbError):
                await share.set_security_descriptor(path, nonsense)
