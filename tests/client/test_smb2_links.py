"""Making reparse points over SMB2, with a scripted server: what is sent, what it costs, and that nothing stays."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from smbfuse.client.smb2_links import link_point, node_point
from smbfuse.client.smb2_share import Smb2Share
from smbfuse.errors import Denied, Exists, ProtocolError, StatusError, Unsupported
from smbfuse.share import FileStat, Kind, LinkForm
from smbfuse.status import NtStatus
from smbfuse.wire import reparse
from smbfuse.wire.fscc import FileInformation
from smbfuse.wire.fscc_ea import decode_attributes
from smbfuse.wire.reparse import NfsReparse, NfsType, OtherReparse, ReparsePoint, SymlinkReparse, WslSymlinkReparse
from smbfuse.wire.smb2.control import ControlCode, IoctlRequest, IoctlResponse
from smbfuse.wire.smb2.create import CreateOptions, CreateRequest, Disposition
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.info import QueryInfoResponse, SetInfoRequest, SetInfoResponse
from tests.client.smb2_fixtures import fake_login, session, settled
from tests.client.smb2_server import Answer, Node, Smb2Server, entry

__all__ = ["fake_login"]

C, Q, S, X = Command.CREATE, Command.QUERY_INFO, Command.SET_INFO, Command.CLOSE
D, I = Command.QUERY_DIRECTORY, Command.IOCTL  # noqa: E741 - one letter for each command


class Maker:
    """Makes a scripted server keep what is made, or refuse some step of it."""

    def __init__(self, server: Smb2Server) -> None:
        self.server = server
        self.refusal: int = NtStatus.SUCCESS
        self.deletion: int = NtStatus.SUCCESS
        self.keeps_folders = True
        self.attributes: dict[str, bytes] = {}
        server.answers |= {C: self.create, I: self.control, S: self.set_info}

    def create(self, element: bytes) -> Answer | None:
        request = CreateRequest.decode(element)
        if request.create_disposition == Disposition.CREATE:
            if request.name in self.server.nodes:
                return NtStatus.OBJECT_NAME_COLLISION, ErrorResponse().encode()
            folder = request.create_options & CreateOptions.DIRECTORY_FILE
            self.server.nodes[request.name] = Node(None if folder else b"", attributes=0x10 if folder else 0x20)
        return None

    def control(self, element: bytes) -> Answer | None:
        request = IoctlRequest.decode(element)
        if request.ctl_code != ControlCode.FSCTL_SET_REPARSE_POINT:
            return None
        node = self.server.handles[request.file_id].node
        refusal = self.refusal
        if node.data is None and not self.keeps_folders:
            refusal = NtStatus.ACCESS_DENIED
        if refusal:
            return refusal, ErrorResponse().encode()
        node.point = reparse.decode(request.input)
        node.attributes |= 0x400
        return 0, IoctlResponse(request.ctl_code, request.file_id, b"", b"", 0).encode()

    def set_info(self, element: bytes) -> Answer | None:
        request = SetInfoRequest.decode(element)
        if request.file_info_class == FileInformation.FULL_EA:
            self.attributes |= {attribute.name: attribute.value for attribute in decode_attributes(request.data)}
        elif self.deletion:
            return self.deletion, ErrorResponse().encode()
        else:
            node = self.server.handles[request.file_id].node
            self.server.nodes = {name: kept for name, kept in self.server.nodes.items() if kept is not node}
        return 0, SetInfoResponse().encode()


@asynccontextmanager
async def making() -> AsyncIterator[tuple[Smb2Share, Maker]]:
    async with session() as (established, server):
        share = await established.connect_share("share")
        server.commands()
        yield share, Maker(server)


@pytest.mark.parametrize(
    "target, substitute, printed, relative",
    [
        ("a/b", "a\\b", "a\\b", True),
        ("../é", "..\\é", "..\\é", True),
        ("/mnt/c/x/y", "\\??\\C:\\x\\y", "C:\\x\\y", False),
        ("/mnt/c", "\\??\\C:\\", "C:\\", False),
        ("/mnt/share/x", "\\mnt\\share\\x", "\\mnt\\share\\x", False),
        ("//host/share/x", "\\??\\UNC\\host\\share\\x", "\\host\\share\\x", False),
        ("/etc/hosts", "\\etc\\hosts", "\\etc\\hosts", False),
    ],
)
def test_windows_own_symlinks(target: str, substitute: str, printed: str, relative: bool) -> None:
    point = link_point(target, LinkForm.NATIVE, posix=False)
    assert isinstance(point, SymlinkReparse)
    assert (point.substitute_name, point.print_name, point.relative) == (substitute, printed, relative)


@pytest.mark.parametrize(
    "form, point",
    [
        (LinkForm.NATIVE, SymlinkReparse("a\\b/c", "a\\b/c", reparse.SYMLINK_FLAG_RELATIVE)),
        (LinkForm.NFS, NfsReparse(NfsType.SYMLINK, "a\\b/c")),
        (LinkForm.WSL, WslSymlinkReparse("a\\b/c")),
    ],
)
def test_where_paths_are_posix_own_a_target_stays_as_it_is(form: LinkForm, point: ReparsePoint) -> None:
    assert link_point("a\\b/c", form, posix=True) == point


@pytest.mark.parametrize("form", [LinkForm.NATIVE, LinkForm.NFS])
def test_special_files_as_nfs_keeps_them(form: LinkForm) -> None:
    assert node_point(Kind.FIFO, None, 0o600, form) == (NfsReparse(NfsType.FIFO), ())
    assert node_point(Kind.BLOCK_DEVICE, (8, 1), None, form) == (NfsReparse(NfsType.BLOCK, device=(8, 1)), ())


def test_special_files_as_wsl_keeps_them() -> None:
    point, attributes = node_point(Kind.CHARACTER_DEVICE, (1, 3), 0o640, LinkForm.WSL)
    assert point == OtherReparse(reparse.ReparseTag.LX_CHR, b"")
    assert {attribute.name: attribute.value.hex() for attribute in attributes} == {
        "$LXMOD": "a0210000",  # S_IFCHR and the permissions
        "$LXDEV": "0100000003000000",
    }


@pytest.mark.parametrize("form", [LinkForm.NFS, LinkForm.WSL])
async def test_a_symlink_is_one_round_trip_and_a_close_nobody_waits_for(form: LinkForm) -> None:
    async with making() as (share, maker):
        made = await share.make_link("link", "target", form)
        assert (made.kind, made.size) == (Kind.SYMLINK, 6)
        assert await settled(share, maker.server) == [[C, I, Q], [X]]
        assert maker.server.nodes["link"].point == link_point("target", form, posix=False)
        assert maker.server.handles == {}


@pytest.mark.parametrize(
    "target, folder, looks",
    [
        ("folder", True, 1),
        ("x/../folder", True, 1),
        ("file", False, 1),
        ("nowhere", False, 1),
        ("../up", False, 0),
        (".", True, 0),
        ("x/", True, 0),
        ("/mnt/c", False, 0),
    ],
)
async def test_a_native_one_to_a_folder_is_a_folder_itself(target: str, folder: bool, looks: int) -> None:
    async with making() as (share, maker):
        maker.server.nodes |= {"folder": Node(None, attributes=0x10), "file": Node()}
        await share.make_link("link", target)
        assert await settled(share, maker.server) == [[C, Q, X]] * looks + [[C, I, Q], [X]]
        assert (maker.server.nodes["link"].data is None) == folder


async def test_a_server_that_keeps_links_for_files_only_gets_one_of_a_file() -> None:
    async with making() as (share, maker):
        maker.keeps_folders = False
        assert (await share.make_link("link", "x/")).kind is Kind.SYMLINK
        assert await settled(share, maker.server) == [[C, I, Q], [S], [X], [C, I, Q], [X]]
        assert maker.server.nodes["link"].data == b""
        assert maker.server.handles == {}


async def test_a_device_of_wsl_has_its_number_beside_it() -> None:
    async with making() as (share, maker):
        made = await share.make_node("node", Kind.BLOCK_DEVICE, (8, 1), 0o660, LinkForm.WSL)
        assert (made.kind, made.device) == (Kind.BLOCK_DEVICE, (8, 1))
        assert await settled(share, maker.server) == [[C, S, I, Q], [X]]
        assert set(maker.attributes) == {"$LXMOD", "$LXDEV"}


def _link(share: Smb2Share) -> Awaitable[FileStat]:
    return share.make_link("new", "target", LinkForm.NFS)


def _fifo(share: Smb2Share) -> Awaitable[FileStat]:
    return share.make_node("new", Kind.FIFO, None, None, LinkForm.WSL)


@pytest.mark.parametrize("make", [_link, _fifo])
@pytest.mark.parametrize(
    "refusal, error",
    [
        (NtStatus.NOT_A_REPARSE_POINT, Unsupported),  # Samba 4.17
        (NtStatus.INVALID_DEVICE_REQUEST, Unsupported),
        (NtStatus.NOT_SUPPORTED, Unsupported),
        (NtStatus.ACCESS_DENIED, Denied),
        (NtStatus.IO_REPARSE_DATA_INVALID, StatusError),
    ],
)
async def test_what_was_made_goes_by_its_handle_if_the_rest_is_refused(
    make: object, refusal: int, error: type[StatusError]
) -> None:
    async with making() as (share, maker):
        maker.refusal = refusal
        with pytest.raises(error):
            await make(share)  # type: ignore[operator]  # one of the two above
        assert (await settled(share, maker.server))[1:] == [[S], [X]]
        assert "new" not in maker.server.nodes
        assert maker.server.handles == {}


async def test_one_refusal_of_reparse_points_is_enough_but_of_rights_is_not() -> None:
    async with making() as (share, maker):
        maker.refusal = NtStatus.ACCESS_DENIED
        for _ in range(2):
            with pytest.raises(Denied):
                await _link(share)
        maker.refusal = NtStatus.NOT_SUPPORTED
        with pytest.raises(Unsupported):
            await _link(share)
        await settled(share, maker.server)
        with pytest.raises(Unsupported):
            await _fifo(share)
        assert await settled(share, maker.server) == []


async def test_what_cannot_be_taken_back_is_left_and_the_refusal_told() -> None:
    async with making() as (share, maker):
        maker.refusal, maker.deletion = NtStatus.NOT_SUPPORTED, NtStatus.CANNOT_DELETE
        with pytest.raises(Unsupported):
            await _link(share)
        await settled(share, maker.server)
        assert "new" in maker.server.nodes
        assert maker.server.handles == {}


async def test_a_name_that_is_taken_stays_what_it_is() -> None:
    async with making() as (share, maker):
        maker.server.nodes["new"] = Node(b"kept")
        with pytest.raises(Exists):
            await _link(share)
        assert await settled(share, maker.server) == [[C, I, Q]]
        assert maker.server.nodes["new"].data == b"kept"


async def test_an_answer_that_is_nonsense_leaves_nothing_either() -> None:
    async with making() as (share, maker):
        maker.server.answers[Q] = lambda _element: (0, QueryInfoResponse(b"nonsense").encode())
        with pytest.raises(ProtocolError):
            await _link(share)
        await settled(share, maker.server)
        assert "new" not in maker.server.nodes
        assert maker.server.handles == {}


async def test_a_listing_tells_what_its_reparse_points_are() -> None:
    points: dict[str, ReparsePoint] = {
        "link": SymlinkReparse("..\\é", "..\\é", reparse.SYMLINK_FLAG_RELATIVE),
        "nfs link": NfsReparse(NfsType.SYMLINK, "t"),
        "nfs fifo": NfsReparse(NfsType.FIFO),
        "nfs device": NfsReparse(NfsType.CHARACTER, device=(1, 3)),
        "fifo": OtherReparse(reparse.ReparseTag.LX_FIFO, b""),
    }
    async with making() as (share, maker):
        names = [entry(name, attributes=0x400, ea_size=point.tag) for name, point in points.items()]
        names += [entry("file"), entry("junction", attributes=0x400, ea_size=reparse.ReparseTag.MOUNT_POINT)]
        for one in names:
            one_point = points.get(one.file_name)
            maker.server.nodes[one.file_name] = Node(b"", attributes=one.file_attributes, point=one_point)
        maker.server.nodes[""].names = [one._replace(end_of_file=0) for one in names]
        del maker.server.nodes["nfs device"]  # gone since: it stays what the listing says
        listing = await share.open_directory("")
        entries = {one.name: one.stat for one in await listing.page()}
        await listing.aclose()
        commands = await settled(share, maker.server)
    assert {name: stat.kind for name, stat in entries.items()} == {
        "link": Kind.SYMLINK,
        "nfs link": Kind.SYMLINK,
        "nfs fifo": Kind.FIFO,
        "nfs device": Kind.SYMLINK,
        "fifo": Kind.FIFO,
        "file": Kind.FILE,
        "junction": Kind.FILE,
    }
    assert (entries["link"].size, entries["nfs link"].size) == (len("../é".encode()), 1)
    assert commands.count([C, I, X]) == 4


async def test_a_reparse_point_that_a_renaming_undoes_is_made_again() -> None:
    async with making() as (share, maker):
        await share.make_link("old", "target", LinkForm.NFS)
        point = maker.server.nodes["old"].point

        def rename(element: bytes) -> Answer:
            request = SetInfoRequest.decode(element)
            node = maker.server.nodes.pop("old")
            node.attributes &= ~0x400  # as Samba does
            maker.server.nodes["new"] = node
            assert request.file_info_class == FileInformation.RENAME
            return 0, SetInfoResponse().encode()

        maker.server.answers[S] = rename
        await settled(share, maker.server)
        await share.rename("old", "new", replace=False)
        assert await settled(share, maker.server) == [[C, I, S, X], [C, X], [C, I, X]]
        assert maker.server.nodes["new"].point == point
        assert maker.server.nodes["new"].attributes & 0x400
        assert (await share.stat("new")).kind is Kind.SYMLINK
        assert maker.server.handles == {}


async def test_renaming_asks_for_reparse_points_only_where_there_are_any() -> None:
    async with making() as (share, maker):
        maker.server.nodes |= {"file": Node(b"content"), "link": Node(attributes=0x420, point=NfsReparse(NfsType.FIFO))}
        maker.server.answers[S] = lambda _element: (0, SetInfoResponse().encode())
        await share.rename("file", "file", replace=False)
        assert await settled(share, maker.server) == [[C, S, X]]
        await share.stat("link")
        await settled(share, maker.server)
        await share.rename("file", "file", replace=False)
        assert await settled(share, maker.server) == [[C, I, S, X]]
        await share.rename("link", "link", replace=False)
        assert await settled(share, maker.server) == [[C, I, S, X], [C, X]]  # it is one still
