"""Several mounts at once, whole servers, and shares with strange names or closed doors."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.caller import caller_on
from tests.support.mounts import Mount, target
from tests.support.samba import SambaServer

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

DIALECTS: Final = ["1.0", "2.1", "3.1.1"]
STRANGE: Final = ("Bücher, alte & neue", "Ablage (é)", "with space", "per%cent", "back`tick'")


def test_old_new_and_twice_the_same_side_by_side(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount]
) -> None:
    """Each reads while the others do, each sees the same numbers, and one that ends takes none along."""
    content = bytes(range(256)) * 40_000
    (share_folder / "file").write_bytes(content)
    (share_folder / "sub").mkdir()
    (share_folder / "sub" / "file").write_bytes(content[::-1])
    options = [{"vers": "1.0", "nounix": True}, {"vers": "3.1.1"}, {"vers": "3.1.1"}, {"vers": "3.0", "seal": True}]
    mounts = [mount(samba, one, subfolder=f"/{share_folder.name}") for one in options]
    _, login = target(samba, {"vers": "3.1.1"})
    del login["port"]
    mounts.append(mount(f"smb://127.0.0.1:{samba.port}/share/{share_folder.name}", login))
    below = mount(samba, {"vers": "3.1.1"}, subfolder=f"/{share_folder.name}/sub")
    readers = [one.start("cmp", one.point / "file", share_folder / "file") for one in mounts]
    readers.append(below.start("cmp", below.point / "file", share_folder / "sub" / "file"))
    for reader in readers:
        out, error = reader.communicate(timeout=60)
        assert (reader.returncode, out, error) == (0, b"", b"")
    numbers = {one.run("stat", "--format=%i", one.point / "sub" / "file") for one in mounts}
    assert numbers == {below.run("stat", "--format=%i", below.point / "file")}
    dialects = [one.status()["shares"][0]["dialect"] for one in mounts]
    assert dialects == ["1.0", "3.1.1", "3.1.1", "3.0", "3.1.1"]
    assert mounts[1].unmount() == 0
    for one in (mounts[0], *mounts[2:]):
        assert one.run("ls", one.point) == "file\nsub\n"


@pytest.mark.parametrize("vers", DIALECTS)
def test_a_whole_server_with_strange_names_and_closed_doors(
    start_samba: Callable[..., SambaServer],
    mount: Callable[..., Mount],
    vers: str,
) -> None:
    server = start_samba(shares={})
    server.kill()
    for name in STRANGE:
        server.shares[name] = server.folder / "shares" / name
    server.shares["locked"] = server.folder / "shares" / "locked"
    server.start()
    for name in STRANGE:
        (server.shares[name] / "file").write_text(name)
    with server.configuration.open("a", encoding="utf-8") as configuration:
        configuration.write("  valid users = nobody\n")  # of the last share, which is `locked`
    _, options = target(server, {"vers": vers})
    mounted = mount("//127.0.0.1", options)
    with caller_on(mounted) as caller:
        for name in STRANGE:
            assert caller.do(f"open(os.path.join(point, {name!r}, 'file')).read()") == name
        with pytest.raises(PermissionError) as refused:
            caller.stat("locked/file")
        assert refused.value.errno == errno.EACCES
        with pytest.raises(FileNotFoundError):
            caller.stat("no such share/file")
        # What was asked for is listed; what was refused or is not there is not.
        assert set(caller.do("os.listdir(point)")) >= set(STRANGE)
        assert "no such share" not in caller.do("os.listdir(point)")
        # Two shares are two filesystems for inode numbers: none may be shared.
        inodes = [caller.stat(f"{name}/file")["st_ino"] for name in STRANGE]
        assert len(set(inodes)) == len(STRANGE)
        # The root is a folder like any other.
        assert caller.stat("")["st_ino"] == 1
    assert mounted.run("df", "--output=fstype", mounted.point).split()[-1] == "fuse.smbfuse"
    shown = mounted.run("findmnt", "--noheadings", "--output", "SOURCE,FSTYPE", "--mountpoint", mounted.point)
    assert shown.split() == ["//127.0.0.1", "fuse.smbfuse"]


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_share_name_is_shown_as_it_is(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], share_folder: Path, name: str
) -> None:
    server = start_samba(shares={name: share_folder})
    _, options = target(server, {})
    mounted = mount(f"//127.0.0.1/{name}", options)
    for column in ("SOURCE", "TARGET"):
        shown = mounted.run("findmnt", "--noheadings", "--output", column, "--mountpoint", mounted.point).strip()
        assert shown == {"SOURCE": f"//127.0.0.1/{name}", "TARGET": str(mounted.point)}[column]
    assert f"//127.0.0.1/{name}" in mounted.run("df", mounted.point)
    assert f"//127.0.0.1/{name}" in mounted.run(mounted.installation.program, "status")
