"""The process around a mount: how it starts, what it shows, how it ends, and several of them at once."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.relay import Relay
from tests.support.folders import mount_table, public_folder
from tests.support.mounts import Mount, mount_options, target
from tests.support.record import commands
from tests.support.samba import SambaServer, wait_for
from tests.support.users import Installation, User

pytestmark = [pytest.mark.mounts, pytest.mark.samba]


@pytest.fixture
def point(user: User) -> Iterator[Path]:
    """Provide an empty mount point of the user's, where nothing stays mounted."""
    with public_folder("smbfuse-point-") as folder:
        made = user.owns_new(folder / "Punkt [ü] 🐌")
        yield made
        if made in mount_table():
            subprocess.run(["fusermount3", "-uz", made], timeout=20, check=False, **user.run_options())


@pytest.fixture
def smbfuse(user: User, installation: Installation) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Provide `smbfuse(*arguments)`: run it as the user until it returns to the shell."""

    def run(*arguments: str | Path, timeout_s: float = 40) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installation.program, *arguments],
            cwd="/",
            env=dict(installation.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            **user.run_options(),
        )

    return run


def test_it_returns_to_the_shell_with_the_mount_ready(
    samba: SambaServer,
    share_folder: Path,
    point: Path,
    smbfuse: Callable[..., subprocess.CompletedProcess[str]],
    user: User,
) -> None:
    (share_folder / "there").touch()
    url, options = target(samba, {})
    started = smbfuse(f"{url}/{share_folder.name}", point, "-o", mount_options(options))
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
    listed = subprocess.run(["ls", point], capture_output=True, text=True, timeout=20, check=True, **user.run_options())
    assert listed.stdout == "there\n"
    status = json.loads(smbfuse("status", "--json", point).stdout)
    assert status["shares"][0]["dialect"] == "3.1.1"
    subprocess.run(["fusermount3", "-u", point], timeout=20, check=True, **user.run_options())
    assert wait_for(lambda: smbfuse("status", "--json", point).returncode != 0, 20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("vers, farewell", [("1.0", [0x71, 0x74]), ("2.1", [4, 2])], ids=["1.0", "2.1"])
def test_a_signal_ends_it_and_it_takes_its_leave_of_the_server(
    samba: SambaServer,
    relay_to: Callable[..., Relay],
    mount: Callable[..., Mount],
    number: signal.Signals,
    vers: str,
    farewell: list[int],
) -> None:
    relay = relay_to(samba.port)
    mounted = mount(samba, {"vers": vers, "port": relay.port})
    mounted.run("ls", mounted.point)
    mounted.process.send_signal(number)
    assert mounted.process.wait(15) == 0
    assert not mounted.mounted()
    assert commands(relay.pdus())[-2:] == [(command, True) for command in farewell]


def test_unmounting_takes_leave_too(
    samba: SambaServer, relay_to: Callable[..., Relay], mount: Callable[..., Mount]
) -> None:
    relay = relay_to(samba.port)
    mounted = mount(samba, {"vers": "3.0", "port": relay.port})
    assert mounted.unmount() == 0
    assert commands(relay.pdus())[-2:] == [(4, True), (2, True)]


def test_old_and_new_and_twice_the_same_at_once(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount]
) -> None:
    (share_folder / "file").write_text("content")
    mounts = [mount(samba, {"vers": vers}, subfolder=f"/{share_folder.name}") for vers in ("1.0", "3.1.1", "3.1.1")]
    assert [mounted.run("cat", mounted.point / "file") for mounted in mounts] == ["content"] * 3
    mounts[1].unmount()
    assert mounts[2].run("cat", mounts[2].point / "file") == "content"


def test_a_folder_of_the_share_and_a_url(samba: SambaServer, share_folder: Path, mount: Callable[..., Mount]) -> None:
    deep = share_folder / "sub" / "dir"
    deep.mkdir(parents=True)
    (deep / "file").touch()
    assert mount(samba, subfolder=f"/{share_folder.name}/sub/dir").run("true") == ""
    _, options = target(samba, {})
    del options["port"]
    mounted = mount(f"smb://127.0.0.1:{samba.port}/share/{share_folder.name}", options)
    assert mounted.run("find", mounted.point, "-printf", r"%P\n").split() == ["sub", "sub/dir", "sub/dir/file"]


@pytest.mark.parametrize("vers", ["1.0", "3.1.1"])
def test_a_whole_server_shows_its_shares_by_their_names(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], vers: str
) -> None:
    server = start_samba()
    (server.root / "file").write_text("one")
    _, options = target(server, {"vers": vers})
    mounted = mount("//127.0.0.1", options)
    assert mounted.run("cat", mounted.point / "share" / "file") == "one"
    code, _, error = mounted.run_all("ls", mounted.point / "nothing")
    assert code != 0
    assert "No such file or directory" in error


def test_strange_share_names_mount_and_show_rightly(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], share_folder: Path
) -> None:
    name = "Bücher, alte & neue"
    server = start_samba(shares={name: share_folder})
    (share_folder / "file").write_text("read")
    _, options = target(server, {})
    mounted = mount(f"//127.0.0.1/{name}", options)
    assert mounted.run("cat", mounted.point / "file") == "read"
    shown = mounted.run("findmnt", "--noheadings", "--output", "SOURCE,FSTYPE", "--mountpoint", mounted.point)
    assert shown.strip() == f"//127.0.0.1/{name} fuse.smbfuse"


def test_the_mount_is_the_users_own_and_with_ro_only_to_be_read(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], user: User
) -> None:
    (share_folder / "file").write_text("x")
    (share_folder / "folder").mkdir()
    mounted = mount(samba, {"ro": True}, subfolder=f"/{share_folder.name}")
    owners = mounted.run("stat", "--format=%u %g", mounted.point, mounted.point / "file", mounted.point / "folder")
    assert owners.split("\n")[:-1] == [f"{user.uid} {user.gid}"] * 3
    for command in (["touch"], ["mkdir"], ["ln", "-s", "target"]):
        code, _, error = mounted.run_all(*command, mounted.point / "new")
        assert code != 0
        assert "Read-only file system" in error
    code, _, error = mounted.run_all("rm", mounted.point / "file")
    assert "Read-only file system" in error
    flags = mounted.run("findmnt", "--noheadings", "--output", "OPTIONS", "--mountpoint", mounted.point)
    assert {"nosuid", "nodev", "ro"} <= set(flags.strip().split(","))


def test_symlinks_of_unix_extensions_are_links_and_stay_inside(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount]
) -> None:
    (share_folder / "file").write_text("inside")
    (share_folder / "link").symlink_to("file")
    (share_folder / "out").symlink_to("/etc/passwd")
    mounted = mount(samba, {"vers": "1.0"}, subfolder=f"/{share_folder.name}")
    assert mounted.run("readlink", mounted.point / "link").strip() == "file"
    assert mounted.run("cat", mounted.point / "link") == "inside"
    code, out, _ = mounted.run_all("cat", mounted.point / "out")
    assert code != 0
    assert "root" not in out


# mount(8) looks for helpers in the system's folders alone: a private mount namespace has room for ours there.
MOUNT_8 = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /usr/local/bin
ln -s "$1" /usr/local/bin/smbfuse
mount -t fuse.smbfuse "$2" "$3" -o "$4"
setpriv --reuid "$5" --regid "$6" --clear-groups cat "$3/file"
findmnt --noheadings --output OPTIONS --mountpoint "$3"
umount "$3"
"""


@pytest.mark.root
@pytest.mark.parametrize("vers", ["1.0", "3.1.1"])
def test_mount_8_and_its_fstab_words_work(
    samba: SambaServer, share_folder: Path, point: Path, installation: Installation, user: User, vers: str
) -> None:
    alone = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, timeout=20, check=False)
    if alone.returncode != 0:
        pytest.skip(f"no mount namespace of our own here, as in a chroot: {alone.stderr.strip()}")
    (share_folder / "file").write_text("through mount(8)\n")
    url, options = target(samba, {"vers": vers, "uid": user.uid, "_netdev": True, "nofail": True, "dev": True})
    arguments = [installation.program, f"{url}/{share_folder.name}", point, mount_options(options), user.uid, user.gid]
    command = ["unshare", "--mount", "sh", "-c", MOUNT_8, "sh", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    content, flags = ran.stdout.splitlines()
    assert content == "through mount(8)"
    # Root's mount is everybody's, with the kernel's permission check.
    assert {"nosuid", "nodev", "allow_other", "default_permissions"} <= set(flags.strip().split(","))
