"""When it cannot: one sentence with the cause and what to do, an exit code of its own, and never a traceback."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from smbfuse.cli.exits import Exit
from tests.support.mounts import Options, target
from tests.support.samba import SambaServer, free_ports
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba]


def login(samba: SambaServer, **more: str | int | bool) -> tuple[str, Options]:
    return target(samba, more)


def test_no_such_host(samba: SambaServer, refused: Callable[..., str]) -> None:
    _, options = login(samba)
    assert "no-such-host.invalid" in refused(Exit.NO_SUCH_HOST, "//no-such-host.invalid/share", options)


def test_nothing_listens(samba: SambaServer, refused: Callable[..., str]) -> None:
    (port,) = free_ports(1)
    url, options = login(samba, port=port)
    assert str(port) in refused(Exit.CONNECTION_REFUSED, url, options)


def test_what_listens_is_no_smb_server(samba: SambaServer, refused: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url, options = login(samba, port=silent.getsockname()[1], timeo=2)
        refused(Exit.NO_ANSWER, url, options)


def test_the_server_speaks_only_smb1(start_samba: Callable[..., SambaServer], refused: Callable[..., str]) -> None:
    server = start_samba(options={"server max protocol": "NT1"})
    url, options = login(server)
    assert "vers=" in refused(Exit.SMB1_ONLY, url, options)


def test_the_server_speaks_no_smb1(start_samba: Callable[..., SambaServer], refused: Callable[..., str]) -> None:
    server = start_samba(permissive=False)
    url, options = login(server, vers="1.0")
    refused(Exit.SMB2_ONLY, url, options)


@pytest.mark.parametrize("vers", ["1.0", "3.1.1"])
def test_a_wrong_password(samba: SambaServer, refused: Callable[..., str], vers: str) -> None:
    url, options = login(samba, vers=vers, credentials=str(samba.credentials("wrong")))
    assert samba.user.name in refused(Exit.BAD_LOGIN, url, options)


def test_a_disabled_account(start_samba: Callable[..., SambaServer], refused: Callable[..., str]) -> None:
    server = start_samba()
    server.set_account("[D]")
    url, options = login(server)
    refused(Exit.LOGIN_NOT_ALLOWED, url, options)


def test_a_guest_who_did_not_ask_to_be_one(
    start_samba: Callable[..., SambaServer], refused: Callable[..., str], user: User
) -> None:
    server = start_samba(options={"map to guest": "Bad User"}, share_options={"guest ok": "yes"})
    credentials = server.folder / "nobody-known"
    credentials.write_text("username=nobody-known\npassword=whatever\n")
    user.owns(credentials).chmod(0o600)
    url, options = login(server, credentials=str(credentials))
    assert "guest" in refused(Exit.GUEST_REFUSED, url, options)


@pytest.mark.parametrize("vers", ["1.0", "2.1"])
def test_sealing_that_the_dialect_has_not(samba: SambaServer, refused: Callable[..., str], vers: str) -> None:
    url, options = login(samba, vers=vers, seal=True)
    refused(Exit.SECURITY_REFUSED, url, options)


@pytest.mark.parametrize("vers", ["1.0", "3.1.1"])
def test_no_such_share(samba: SambaServer, refused: Callable[..., str], vers: str) -> None:
    _, options = login(samba, vers=vers)
    assert "nowhere" in refused(Exit.NO_SUCH_SHARE, "//127.0.0.1/nowhere", options)


def test_a_share_that_lets_the_user_not_in(
    start_samba: Callable[..., SambaServer], refused: Callable[..., str]
) -> None:
    server = start_samba(share_options={"valid users": "nobody"})
    url, options = login(server)
    refused(Exit.ACCESS_DENIED, url, options)


def test_no_such_folder_of_the_share(samba: SambaServer, refused: Callable[..., str]) -> None:
    url, options = login(samba)
    assert "missing" in refused(Exit.NO_SUCH_FOLDER, f"{url}/missing", options)


def test_mount_points_that_cannot_be(samba: SambaServer, refused: Callable[..., str], point: Path) -> None:
    url, options = login(samba)
    refused(Exit.MOUNTPOINT_MISSING, url, options, at=point / "missing")
    (point / "file").touch()
    refused(Exit.MOUNTPOINT_NOT_A_FOLDER, url, options, at=point / "file")
    refused(Exit.MOUNTPOINT_NOT_EMPTY, url, options, at=point)


@pytest.mark.root
def test_a_mount_point_of_somebody_else(samba: SambaServer, refused: Callable[..., str], point: Path) -> None:
    url, options = login(samba)
    roots = point.parent / "roots"
    roots.mkdir()
    refused(Exit.MOUNTPOINT_NOT_OURS, url, options, at=roots)


def test_options_that_are_not(samba: SambaServer, refused: Callable[..., str]) -> None:
    url, options = login(samba)
    assert "credentials" in refused(Exit.UNKNOWN_OPTION, url, {**options, "credential": "x"})
    refused(Exit.BAD_VALUE, url, {**options, "vers": "4.0"})
    assert "credentials" in refused(Exit.CREDENTIALS, url, {**options, "credentials": "/nowhere"})
