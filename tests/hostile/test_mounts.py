"""Real mounts of a server that lies: an errno for the program that asks, and the mount serves on."""

from collections.abc import Callable, Iterator

import pytest

from smbfuse.wire.smb1.header import Command as Command1
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.info import QueryInfoResponse
from tests.hostile.shares import CONTENT, NAMES
from tests.hostile.test_listings import (
    EVIL_NAMES,
    Page,
    alternating,
    entry,
    new_names,
    same_page,
    smb1_pages,
    smb2_pages,
)
from tests.hostile.test_patience import pending
from tests.hostile.test_reads import LIES, information, says
from tests.hostile.test_wild_replies import SMB1, SMB2
from tests.support.mounts import Mount
from tests.support.script import Action
from tests.support.scripted_server import ScriptedServer

pytestmark = pytest.mark.mounts

Start = Callable[..., ScriptedServer]
MountIt = Callable[..., Mount]

TIMEO_S = 2
IN_TIME_S = 20.0  # for any program: several calls, each with its deadline and its reconnects

# Look at a file in every way that reading has, and print what came of it; an OSError is an answer too.
LOOK = """
import os, sys
point = sys.argv[1]
def tried(name, call):
    try:
        print(name, ascii(call()))
    except OSError as error:
        print(name, "errno", error.errno)
tried("stat", lambda: os.stat(point + "/file").st_size)
tried("read", lambda: open(point + "/file", "rb").read())
tried("list", lambda: sorted(os.listdir(point + "/folder")))
tried("scan", lambda: [entry.stat().st_size for entry in os.scandir(point + "/folder")])
tried("readlink", lambda: os.readlink(point + "/file"))
tried("space", lambda: os.statvfs(point).f_blocks)
"""
# As a healthy server is seen.
HEALTHY = f"stat {len(CONTENT)}\nread {CONTENT!a}\nlist {sorted(NAMES)!a}\n"


def options(server: ScriptedServer, vers: str = "3.1.1") -> dict[str, str | int | bool]:
    return {"port": server.port, "vers": vers, "sec": "none", "timeo": TIMEO_S, "actimeo": 0, "cache": "none"}


def mounted(mount: MountIt, server: ScriptedServer, vers: str = "3.1.1") -> Mount:
    return mount("//127.0.0.1/share", options(server, vers))


def look(mount: Mount) -> str:
    return mount.python(LOOK, mount.point, timeout_s=IN_TIME_S * 3)


def serves(server: ScriptedServer, mount: Mount) -> None:
    """Demand that nothing lasts once the server is an ordinary one again, and that smbfuse still runs."""
    server.script.clear()
    assert look(mount).startswith(HEALTHY)
    assert mount.process.poll() is None


@pytest.mark.parametrize(
    "vers, nonsense, commands",
    [
        ("3.1.1", SMB2, (Command.CREATE, Command.READ, Command.QUERY_DIRECTORY, Command.QUERY_INFO)),
        ("1.0", SMB1, (Command1.OPEN_ANDX, Command1.TRANSACTION2, Command1.READ_ANDX)),
    ],
    ids=["3.1.1", "1.0"],
)
def test_every_kind_of_nonsense(
    hostile: Start, mount: MountIt, vers: str, nonsense: dict[str, Action], commands: tuple[int, ...]
) -> None:
    """One mount outlives all of it, one kind after the other, to every command in turn."""
    server = hostile()
    point = mounted(mount, server, vers)
    for number, kind in enumerate(nonsense):
        server.script.on(commands[number % len(commands)], nonsense[kind])
        assert look(point).count("\n") == 6, kind
        server.script.clear()
    serves(server, point)


@pytest.mark.parametrize("kind", LIES)
def test_a_read_that_lies(hostile: Start, mount: MountIt, kind: str) -> None:
    server = hostile()
    point = mounted(mount, server)
    server.script.on(Command.READ, says(LIES[kind]))
    assert "read errno 5" in look(point)
    serves(server, point)


@pytest.mark.parametrize(
    "vers, command, script",
    [("3.1.1", Command.QUERY_DIRECTORY, smb2_pages), ("1.0", Command1.TRANSACTION2, smb1_pages)],
    ids=["3.1.1", "1.0"],
)
@pytest.mark.parametrize("pages", [same_page, alternating])
def test_a_listing_that_never_ends(
    hostile: Start,
    mount: MountIt,
    vers: str,
    command: int,
    script: Callable[[Iterator[Page]], Action],
    pages: Callable[[], Iterator[Page]],
) -> None:
    server = hostile()
    point = mounted(mount, server, vers)
    server.script.on(command, script(pages()))
    assert "list errno 5" in look(point)
    serves(server, point)


def test_names_that_no_folder_can_hold(hostile: Start, mount: MountIt) -> None:
    server = hostile()
    point = mounted(mount, server)
    pages = iter([[entry("."), *map(entry, EVIL_NAMES), entry("good")]])
    server.script.on(Command.QUERY_DIRECTORY, smb2_pages(pages), times=1)
    names = point.run("ls", "-1", "--quoting-style=c", point.point / "folder", timeout_s=IN_TIME_S).splitlines()
    assert '"good"' in names
    assert all("/" not in name and "\\000" not in name for name in names)
    serves(server, point)
    assert "\x1b" not in point.log_text()


@pytest.mark.parametrize("size", [-1, -(2**63), 2**63 - 1])
def test_numbers_that_no_file_has(hostile: Start, mount: MountIt, size: int) -> None:
    server = hostile()
    point = mounted(mount, server)
    server.script.on(Command.QUERY_INFO, says(QueryInfoResponse(information(size, size, 2**63 - 1)).encode()))
    assert "stat" in look(point)
    serves(server, point)


def test_a_folder_without_end_holds_nobody_else_up(hostile: Start, mount: MountIt) -> None:
    server = hostile()
    point = mounted(mount, server)
    server.script.on(Command.QUERY_DIRECTORY, smb2_pages(new_names()))
    with point.start("ls", str(point.point / "folder")) as endless:
        assert point.run("cat", point.point / "file", timeout_s=IN_TIME_S) == CONTENT.decode()
        endless.kill()
    serves(server, point)


def test_a_server_that_promises_and_never_answers(hostile: Start, mount: MountIt) -> None:
    server = hostile()
    point = mounted(mount, server)
    server.script.on(Command.READ, pending)
    code, _, error = point.run_all("cat", point.point / "file", timeout_s=IN_TIME_S)
    assert code == 1
    assert "timed out" in error.lower()
    serves(server, point)
