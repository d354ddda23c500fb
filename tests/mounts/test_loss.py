"""Connections that end unseen, servers that fall silent, daemons that are killed: nothing of it may block a shell."""

import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.relay import Relay
from tests.support.mounts import Mount, Options, mount_options, target
from tests.support.samba import SambaServer, wait_for
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

DIALECTS = ["1.0", "2.1", "3.1.1"]


@pytest.fixture
def folders(share_folder: Path) -> Path:
    """Fill the test's folder with folders that were never listed: no cache can answer for them."""
    for name in ("first", "second", "third"):
        (share_folder / name).mkdir()
        (share_folder / name / f"within {name}").write_text(name)
    return share_folder


@pytest.mark.parametrize("vers", DIALECTS)
def test_a_forgotten_flow_serves_the_next_listing(
    samba: SambaServer, folders: Path, relay_to: Callable[..., Relay], mount: Callable[..., Mount], vers: str
) -> None:
    relay = relay_to(samba.port)
    mounted = mount(samba, {"vers": vers, "port": relay.port}, subfolder=f"/{folders.name}")
    assert mounted.run("ls", mounted.point / "first").split("\n")[0] == "within first"
    relay.forget()
    assert mounted.run("ls", mounted.point / "second", timeout_s=20).split("\n")[0] == "within second"
    assert mounted.run("cat", mounted.point / "second" / "within second", timeout_s=20) == "second"
    assert relay.accepted >= 2


@pytest.mark.parametrize("vers", ["1.0", "3.1.1"])
def test_a_flow_that_swallows_everything_is_given_up_and_dialled_again(
    samba: SambaServer, folders: Path, relay_to: Callable[..., Relay], mount: Callable[..., Mount], vers: str
) -> None:
    relay = relay_to(samba.port)
    options = {"vers": vers, "port": relay.port, "timeo": 3, "echo_interval": 1}
    mounted = mount(samba, options, subfolder=f"/{folders.name}")
    mounted.run("ls", mounted.point / "first")
    relay.forget(answer=False)
    assert mounted.run("ls", mounted.point / "second", timeout_s=30).split("\n")[0] == "within second"


@pytest.mark.parametrize("vers", ["1.0", "3.1.1"])
def test_a_restarted_server_serves_the_next_listing(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], vers: str
) -> None:
    server = start_samba()
    for name in ("first", "second"):
        (server.root / name).mkdir()
        (server.root / name / f"within {name}").write_text(name)
    mounted = mount(server, {"vers": vers})
    mounted.run("ls", mounted.point / "first")
    server.restart()
    assert mounted.run("ls", mounted.point / "second", timeout_s=20).split("\n")[0] == "within second"


def dropped(relay: Relay) -> bool:
    """Tell whether the first connection over the relay is over; a second one may stand already."""
    return relay.connections() == 0 or relay.accepted > 1


@pytest.mark.soak  # two minutes, of waiting
@pytest.mark.timeout(300)
def test_a_mount_dropped_while_idle_serves_the_next_listing(
    start_samba: Callable[..., SambaServer], relay_to: Callable[..., Relay], mount: Callable[..., Mount]
) -> None:
    server = start_samba(options={"deadtime": "1"})  # minutes: Samba counts in nothing finer
    for name in ("first", "second"):
        (server.root / name).mkdir()
        (server.root / name / f"within {name}").write_text(name)
    relays = {vers: relay_to(server.port) for vers in ("1.0", "3.1.1")}
    # A folder that is watched is an open one, which Samba counts as use.
    options: dict[str, Options] = {
        vers: {"vers": vers, "port": relay.port, "nonotify": True} for vers, relay in relays.items()
    }
    mounts = {vers: mount(server, wanted) for vers, wanted in options.items()}
    for mounted in mounts.values():
        mounted.run("ls", mounted.point / "first")
    # Signs of life are no use of the share: smbd ends what nobody has used.
    assert all(wait_for(partial(dropped, relay), 200, pause_s=1) for relay in relays.values())
    for vers, mounted in mounts.items():
        listed = mounted.run("ls", mounted.point / "second", timeout_s=20)
        assert listed.split("\n")[0] == "within second", vers
        assert relays[vers].accepted >= 2


def test_a_killed_daemon_leaves_nothing_that_blocks_and_the_next_start_clears_it(
    samba: SambaServer, folders: Path, mount: Callable[..., Mount]
) -> None:
    mounted = mount(samba, subfolder=f"/{folders.name}")
    mounted.run("ls", mounted.point / "first")
    mounted.process.send_signal(signal.SIGKILL)
    mounted.process.wait(10)
    for command, path in (("ls", mounted.point), ("stat", mounted.point / "second"), ("df", mounted.point)):
        code, _, error = mounted.run_all(command, path, timeout_s=20)  # what blocks here does so for ever
        assert code != 0
        assert "endpoint is not connected" in error

    url, options = target(samba, {})
    program, source = mounted.installation.program, f"{url}/{folders.name}"
    mounted.run(program, source, mounted.point, "-o", mount_options(options), timeout_s=30)
    assert mounted.run("ls", mounted.point / "second").split("\n")[0] == "within second"
    mounted.run("fusermount3", "-u", mounted.point)
    assert not mounted.mounted()


def test_a_daemon_killed_while_the_server_is_silent_frees_its_callers(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount]
) -> None:
    server = start_samba()
    (server.root / "file").write_bytes(bytes(5_000_000))
    mounted = mount(server)
    mounted.run("ls", mounted.point)
    with server.paused(), mounted.start("cat", mounted.point / "file") as caller:
        time.sleep(0.5)
        assert caller.poll() is None
        mounted.process.send_signal(signal.SIGKILL)
        mounted.process.wait(10)
        caller.communicate(timeout=20)  # the server would let it wait longer
        assert caller.returncode != 0


WRITER: Final = """
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o666)
print("begun", flush=True)
while True:
    os.write(fd, b"no whole pages" * 100)
"""


def test_a_daemon_killed_amid_writes_without_a_grant_frees_the_writer(
    samba: SambaServer, folders: Path, mount: Callable[..., Mount], user: User
) -> None:
    # The kernel is told of such writes, after a second of them; a thread that does so while one holds the page cannot
    # be killed.
    user.owns(folders / "first")
    mounted = mount(samba, {"nolease": True}, subfolder=f"/{folders.name}")
    with mounted.start("/usr/bin/python3", "-c", WRITER, mounted.point / "first" / "file") as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.4)
        mounted.process.send_signal(signal.SIGKILL)
        mounted.process.wait(10)
        _, complaint = writer.communicate(timeout=20)
        assert b"Error: [Errno" in complaint


@pytest.mark.parametrize("vers", ["1.0", "3.1.1"])
def test_a_silent_server_gives_errors_within_the_deadline(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], vers: str
) -> None:
    server = start_samba()
    (server.root / "folder").mkdir()
    mounted = mount(server, {"vers": vers, "timeo": 5, "echo_interval": 1})
    mounted.run("ls", mounted.point)
    with server.paused():
        began = time.monotonic()
        code, _, error = mounted.run_all("ls", mounted.point / "folder", timeout_s=40)
        assert code != 0, "an empty listing would be a lie"
        assert error
        assert time.monotonic() - began < 30
        began = time.monotonic()
        code, _, error = mounted.run_all("ls", mounted.point / "folder", timeout_s=40)
        assert "Host is down" in error, "the first one has waited for all"
        assert time.monotonic() - began < 4, "it has waited too"
    assert wait_for(lambda: mounted.run_all("ls", mounted.point / "folder", timeout_s=30)[:2] == (0, ""), 30)


def test_a_hard_mount_waits_until_it_is_released(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount]
) -> None:
    server = start_samba()
    (server.root / "folder").mkdir()
    mounted = mount(server, {"hard": True, "timeo": 1, "echo_interval": 1})
    mounted.run("ls", mounted.point)
    with server.paused(), mounted.start("ls", mounted.point / "folder") as caller:
        time.sleep(5)
        assert caller.poll() is None
        mounted.run(mounted.installation.program, "release", mounted.point)
        _, error = caller.communicate(timeout=10)
        assert caller.returncode != 0
        assert b"Host is down" in error
    assert wait_for(lambda: mounted.run_all("ls", mounted.point / "folder", timeout_s=30)[:2] == (0, ""), 30)


def test_a_hard_mount_ends_when_it_is_told_to(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount]
) -> None:
    server = start_samba()
    (server.root / "folder").mkdir()
    mounted = mount(server, {"hard": True, "echo_interval": 1})
    mounted.run("ls", mounted.point)
    with server.paused(), mounted.start("ls", mounted.point / "folder") as caller:
        time.sleep(2)
        assert caller.poll() is None
        mounted.process.send_signal(signal.SIGTERM)
        mounted.process.wait(40)
        caller.communicate(timeout=10)
        assert caller.returncode != 0


def test_a_hard_mount_that_is_unmounted_lazily_keeps_nobody_for_ever(
    samba: SambaServer, share_folder: Path, relay_to: Callable[..., Relay], mount: Callable[..., Mount]
) -> None:
    (share_folder / "file").write_text("content")
    relay = relay_to(samba.port)
    mounted = mount(samba, {"hard": True, "port": relay.port}, subfolder=f"/{share_folder.name}")
    mounted.run("ls", mounted.point)
    relay.refuse()
    relay.cut()
    with mounted.start("cat", mounted.point / "file") as caller:
        time.sleep(3)
        assert caller.poll() is None
        mounted.run("fusermount3", "-u", "-z", mounted.point)
        _, error = caller.communicate(timeout=10)
        assert b"Host is down" in error
    assert mounted.process.wait(20) == 0


def test_a_cut_in_the_middle_of_a_file_is_not_seen_by_its_reader(
    samba: SambaServer, share_folder: Path, relay_to: Callable[..., Relay], mount: Callable[..., Mount]
) -> None:
    content = bytes(range(256)) * 65536  # 16 MiB
    (share_folder / "long").write_bytes(content)
    relay = relay_to(samba.port)
    mounted = mount(samba, {"port": relay.port}, subfolder=f"/{share_folder.name}")
    relay.cut_after(5_000_000)
    mounted.run("cmp", mounted.point / "long", share_folder / "long", timeout_s=30)
    assert relay.accepted >= 2
