"""Servers that no longer exist, in memory: no Unicode, DOS errors, no NT commands, share passwords, one at a time."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio

from smbfuse.client.smb1_session import Smb1Session
from smbfuse.client.smb1_share import Smb1Share
from smbfuse.config import Login, Sec, Secret, Security, Vers
from smbfuse.errors import (
    AuthenticationFailed,
    ConfigError,
    NotFound,
    ProtocolError,
    SecurityRefused,
    SmbError,
    Unsupported,
)
from smbfuse.share import Kind, OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire.smb1.levels import FsLevel, PathLevel
from smbfuse.wire.smb1.negotiate import Capabilities, CoreNegotiateResponse, SecurityMode
from smbfuse.wire.smb1.session import SessionSetupRequest, TreeConnectRequest, TreeConnectResponse
from tests.client.smb1_server import NT, PASSWORD, WRITTEN, Refused, Server, settings

NTLM = Login(user="ursula", password=Secret(PASSWORD), sec=Sec.NTLM)
NT_LEVELS = frozenset({PathLevel.QUERY_FILE_ALL_INFO, PathLevel.INFO_STANDARD, FsLevel.INFO_ALLOCATION})


@asynccontextmanager
async def logged_in(server: Server, login: Login = NTLM, **changes: Any) -> AsyncIterator[Smb1Session]:
    async with trio.open_nursery() as nursery:
        session = await Smb1Session.establish(server, nursery, **{**settings(), "login": login, **changes})
        yield session
        await session.aclose()


@asynccontextmanager
async def mounted(server: Server, login: Login = NTLM, **changes: Any) -> AsyncIterator[Smb1Share]:
    async with logged_in(server, login, **changes) as session:
        share = await session.connect_share("share")
        yield share
        await share.aclose()


async def read_all(share: Smb1Share, path: str) -> bytes:
    file = await share.open(path, OpenIntent())
    data = b""
    while piece := await file.read(len(data), 1 << 20):
        data += piece
    await file.aclose()
    return data


async def listed(share: Smb1Share, path: str = "") -> list[str]:
    directory = await share.open_directory(path)
    names = []
    while page := await directory.page():
        names += [entry.name for entry in page]
    await directory.aclose()
    return names


SERVERS: dict[str, Callable[[], Server]] = {
    "the oldest": Server,
    "one request at a time": lambda: Server(max_mpx_count=1),
    "attributes by the oldest command": lambda: Server(path_information=False),
    "NT without large files": lambda: Server(capabilities=NT & ~Capabilities.LARGE_FILES, known_levels=NT_LEVELS),
    "NT without Unicode": lambda: Server(capabilities=NT & ~Capabilities.UNICODE, known_levels=NT_LEVELS),
    "NT with DOS errors": lambda: Server(capabilities=NT & ~Capabilities.STATUS32, known_levels=NT_LEVELS),
    "NT without OPEN_ANDX": lambda: Server(capabilities=NT, known_levels=NT_LEVELS, open_andx=False),
    "NT without chains": lambda: Server(capabilities=NT, known_levels=NT_LEVELS, chains=False),
    "short reads": lambda: Server(capabilities=NT, known_levels=NT_LEVELS, most_read=1000),
}


@pytest.mark.parametrize("what", SERVERS)
async def test_files_are_listed_described_and_read(what: str) -> None:
    server = SERVERS[what]()
    async with mounted(server) as share:
        assert await listed(share) == list(server.files)
        for name, content in server.files.items():
            assert await read_all(share, name) == content
            stat = await share.stat(name)
            assert (stat.kind, stat.size) == (Kind.FILE, len(content))
            opened = await share.open(name, OpenIntent(first_bytes=4096))
            assert opened.stat == stat
            assert opened.first is None or bytes(opened.first) == content[: len(opened.first)]
            await opened.aclose()
        assert (await share.stat("")).kind is Kind.DIRECTORY
        with pytest.raises(NotFound):
            await share.stat("nowhere")
        with pytest.raises(NotFound):
            await share.open("nowhere", OpenIntent(first_bytes=1))
        space = await share.space()
        assert (space.total, space.free) == (1000 * 4 * 512, 500 * 4 * 512)
        await share.echo()
    assert server.most_in_flight <= server.max_mpx_count


async def test_names_travel_in_the_servers_code_page() -> None:
    server = Server()
    async with mounted(server) as share:
        assert (await share.stat("größe")).size == 9000
        with pytest.raises(NotFound):
            await share.stat("🐙")


async def test_dos_times_are_the_servers_local_ones() -> None:
    async with mounted(Server()) as share:
        stat = await share.stat("a.txt")
    assert stat.written_ns == WRITTEN * 1_000_000_000
    assert stat.changed_ns is None


async def test_a_small_file_costs_one_flight() -> None:
    server = Server(capabilities=NT, known_levels=NT_LEVELS)
    async with mounted(server) as share:
        await share.stat("a.txt")
        before = len(server.requests)
        file = await share.open("a.txt", OpenIntent(first_bytes=4096))
        assert bytes(file.first or b"") == b"hello"
        assert server.commands[before:] == ["OPEN_ANDX+READ_ANDX", "TRANSACTION2"]
        assert server.most_in_flight == 2
        await file.aclose()


async def test_open_nt_is_obeyed() -> None:
    server = Server(capabilities=NT, known_levels=NT_LEVELS)
    network = replace(settings()["network"], smb1_open_nt=True)
    async with mounted(server, network=network) as share:
        assert await read_all(share, "a.txt") == b"hello"
    assert not any("OPEN_ANDX" in command for command in server.commands)


async def test_what_a_server_lacks_is_asked_for_once() -> None:
    server = Server(capabilities=NT, known_levels=NT_LEVELS, open_andx=False)
    async with mounted(server) as share:
        await read_all(share, "a.txt")
        await read_all(share, "a.txt")
    assert sum(command.startswith("OPEN_ANDX") for command in server.commands) == 1


async def test_a_short_read_in_the_middle_tells_how_much_to_ask_for() -> None:
    async with mounted(Server(capabilities=NT, known_levels=NT_LEVELS, most_read=1000)) as share:
        await read_all(share, "größe")
        assert share.limits.read == 512


async def test_beyond_4_gib_needs_large_files() -> None:
    async with mounted(Server()) as share:
        file = await share.open("a.txt", OpenIntent())
        with pytest.raises(Unsupported):
            await file.read(1 << 32, 1)


async def test_a_listing_that_does_not_lead_on_is_refused() -> None:
    class Stuck(Server):
        def _page(self, sid: int, level: int) -> tuple[int, int, bytes]:
            self._searches[sid] = [".", "..", "a", "b"]
            count, _, data = super()._page(sid, level)
            return count, 0, data

    async with mounted(Stuck()) as share:
        with pytest.raises(ProtocolError):
            await listed(share)


# --- logins -----------------------------------------------------------------------------------------------------------


def passwords(server: Server) -> list[bytes]:
    found = []
    for _, blocks in server.requests:
        for block in blocks:
            if block.command == SessionSetupRequest.command:
                setup = SessionSetupRequest.decode_block(block, server.strings)
                found += [setup.oem_password, setup.unicode_password]
            elif block.command == TreeConnectRequest.command:
                found.append(TreeConnectRequest.decode_block(block, server.strings).password)
    return found


async def test_a_share_has_its_password_where_users_have_none() -> None:
    server = Server(security_mode=SecurityMode.ENCRYPT_PASSWORDS)
    async with mounted(server, Login(password=Secret(PASSWORD), sec=Sec.LM)) as share:
        assert await read_all(share, "a.txt") == b"hello"
    setup_oem, setup_unicode, tree = passwords(server)
    assert (setup_oem, setup_unicode, len(tree)) == (b"", b"", 24)


async def test_a_wrong_share_password_is_a_refused_login() -> None:
    server = Server(security_mode=SecurityMode.ENCRYPT_PASSWORDS)
    async with logged_in(server, Login(password=Secret("wrong"), sec=Sec.LM)) as session:
        with pytest.raises((AuthenticationFailed, NotFound), match="password"):
            await session.connect_share("share")


async def test_plaintext_travels_only_when_asked_for() -> None:
    server = Server(security_mode=SecurityMode.USER_LEVEL)
    with pytest.raises(ConfigError, match="plaintext"):
        await establish(server, Login(user="ursula", password=Secret(PASSWORD)))
    assert not passwords(server)
    async with mounted(Server(security_mode=SecurityMode.USER_LEVEL), replace(NTLM, sec=Sec.PLAINTEXT)) as share:
        assert await read_all(share, "a.txt") == b"hello"


async def test_plaintext_is_not_given_to_a_server_that_needs_none() -> None:
    server = Server()
    with pytest.raises(SecurityRefused, match="plaintext"):
        await establish(server, replace(NTLM, sec=Sec.PLAINTEXT))
    assert not passwords(server)


async def test_a_wrong_password_is_said_in_a_sentence() -> None:
    with pytest.raises(AuthenticationFailed, match="wrong user name or password"):
        await establish(Server(), replace(NTLM, password=Secret("wrong")))


@pytest.mark.parametrize("demand", [{"sign": True}, {"seal": True}])
async def test_what_is_demanded_and_not_to_be_had_is_refused_before_the_password(demand: dict[str, Any]) -> None:
    server = Server()
    with pytest.raises(SecurityRefused):
        await establish(server, NTLM, security=Security(vers=Vers.SMB1, **demand))
    assert not passwords(server)


async def test_a_guest_is_refused_unless_asked_for() -> None:
    class Generous(Server):
        def _log_in(self, asked: SessionSetupRequest) -> Any:
            return replace(super()._log_in(asked), action=1)

    with pytest.raises(AuthenticationFailed, match="guest"):
        await establish(Generous(), NTLM)
    async with mounted(Generous(), replace(NTLM, guest=True)) as share:
        assert "guest" in share.statistics().login


async def test_no_such_share() -> None:
    async with logged_in(Server()) as session:
        with pytest.raises(NotFound):
            await session.connect_share("other")


async def test_a_server_of_other_dialects_is_named() -> None:
    class Older(Server):
        def _reply(self, block: Any) -> Any:
            if block.command == 0x72:
                return CoreNegotiateResponse(0xFFFF)
            return super()._reply(block)

    with pytest.raises(ProtocolError, match=r"NT LM 0\.12"):
        await establish(Older(), NTLM)


async def establish(server: Server, login: Login, **changes: Any) -> None:
    """Log in where that must fail; the nursery's group of one is taken apart."""
    failure: SmbError | None = None
    async with trio.open_nursery() as nursery:
        try:
            await Smb1Session.establish(server, nursery, **{**settings(), "login": login, **changes})
        except SmbError as error:
            failure = error
    assert failure is not None
    raise failure


class Shouting(Server):
    """Knows its share in capitals only, and misses a path when it is asked for another."""

    def __init__(self) -> None:
        super().__init__(capabilities=NT, known_levels=NT_LEVELS)
        self.asked: list[str] = []

    def _connect(self, asked: TreeConnectRequest) -> TreeConnectResponse:
        self.asked.append(asked.path.rsplit("\\", 1)[1])
        if not asked.path.endswith("\\SHARE"):
            raise Refused(NtStatus.OBJECT_PATH_NOT_FOUND)
        return super()._connect(asked)


async def test_a_share_that_is_known_in_capitals_only_is_found() -> None:
    server = Shouting()
    async with mounted(server) as share:
        assert await listed(share) == list(server.files)
    assert server.asked == ["share", "SHARE"]


async def test_a_share_that_is_not_there_is_not_said_to_lack_a_folder() -> None:
    server = Shouting()
    async with logged_in(server) as session:
        with pytest.raises(NotFound) as caught:
            await session.connect_share("photos")
    assert caught.value.status == NtStatus.BAD_NETWORK_NAME
    assert server.asked == ["photos", "PHOTOS"]
