"""Inode numbers: never two files under one, and never another number for a file that lives on."""

import contextlib
import os
import selectors
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.support.caller import Caller, caller_on
from tests.support.mounts import Mount, Options
from tests.support.samba import SambaServer, wait_for

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

FAMILIES: Final = [
    pytest.param({"vers": "1.0"}, id="1.0-unix"),
    pytest.param({"vers": "1.0", "nounix": True}, id="1.0-nounix"),
    pytest.param({"vers": "2.1"}, id="2.1"),
    pytest.param({"vers": "3.1.1"}, id="3.1.1"),
]


def unmount(point: Path) -> None:
    subprocess.run(["umount", "--lazy", point], check=True, timeout=20)


@contextlib.contextmanager
def disks(*points: Path) -> Iterator[None]:
    """Mount a new tmpfs at each point; they number their files alike, from 1 on."""
    with contextlib.ExitStack() as stack:
        for point in points:
            point.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(point)]
            made = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
            if made.returncode:
                pytest.skip(f"nothing can be mounted here: {made.stderr.strip()}")
            stack.callback(unmount, point)
        yield


@pytest.mark.root
@pytest.mark.parametrize("options", FAMILIES)
def test_files_of_several_disks_below_one_share_never_share_a_number(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], options: Options
) -> None:
    one, two = share_folder / "one", share_folder / "two"
    with disks(one, two):
        for folder in (share_folder, one, two):
            (folder / "sub").mkdir()
            for number in range(30):
                (folder / "sub" / f"{number}").write_text(f"{folder.name} {number}")
        os.link(share_folder / "sub" / "0", share_folder / "linked")
        (numbers_one, numbers_two) = ({path.stat().st_ino for path in (at / "sub").iterdir()} for at in (one, two))
        assert numbers_one & numbers_two, "the two disks do not number alike: this proves nothing"

        mounted = mount(samba, {**options, "actimeo": 0}, subfolder=f"/{share_folder.name}")
        with caller_on(mounted) as caller:
            # Listed, looked up, and open, in both orders of asking.
            for order in (("one", "two"), ("two", "one")):
                for number in range(15):
                    for place in order:
                        caller.open(f"{place} {number}", f"{place}/sub/{number}")
                shown = mounted.run("find", mounted.point, "-printf", r"%i %P\n").splitlines()
                paths = defaultdict(set)
                for line in shown:
                    number_of, _, path = line.partition(" ")
                    paths[number_of].add(path)
                shared = [names for names in paths.values() if len(names) > 1]
                assert shared in ([], [{"sub/0", "linked"}])
                assert len(shown) == 1 + 2 + 3 * 31 + 1
                for number in range(15):
                    for place in order:
                        key = f"{place} {number}"
                        assert caller.read(key) == key.encode()
                        assert caller.fstat(key)["st_ino"] == caller.stat(f"{place}/sub/{number}")["st_ino"]
                        caller.close(key)


@pytest.mark.parametrize("options", FAMILIES)
def test_a_file_made_again_while_the_old_one_is_open_is_another(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], options: Options
) -> None:
    mounted = mount(samba, {**options, "actimeo": 0}, subfolder=f"/{share_folder.name}")
    file = share_folder / "file"
    with caller_on(mounted) as caller:
        numbers: dict[str, int] = {}
        for number in range(12):
            key = f"{number}"
            file.write_text(key)
            caller.open(key, "file")
            assert caller.read(key) == key.encode()
            numbers[key] = caller.stat("file")["st_ino"]
            assert caller.fstat(key)["st_ino"] == numbers[key]
            if number % 2:
                file.unlink()
                with pytest.raises(FileNotFoundError):
                    caller.stat("file")
            else:
                (share_folder / "next").write_text("to be replaced")
                (share_folder / "next").rename(file)
        # All of them are open still: each has a number of its own, the one that it had.
        assert len(set(numbers.values())) == len(numbers)
        for key, ino in numbers.items():
            assert caller.fstat(key)["st_ino"] == ino


@pytest.mark.parametrize("options", FAMILIES)
def test_who_reads_a_file_that_is_replaced_reads_on_in_the_old_one(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], options: Options
) -> None:
    size = 20 << 20  # more than is read ahead
    file, new = share_folder / "file", share_folder / "new"
    file.write_bytes(b"o" * size)
    new.write_bytes(b"n" * size)
    mounted = mount(samba, {**options, "actimeo": 0}, subfolder=f"/{share_folder.name}")
    with caller_on(mounted) as caller:
        caller.open("old", "file")
        assert caller.read("old", 4096) == b"o" * 4096
        new.rename(file)
        caller.open("new", "file")
        for offset in (0, 100_000, size - 4096):
            assert caller.read("new", 4096, offset) == b"n" * 4096
            assert caller.read("old", 4096, offset) == b"o" * 4096


@pytest.mark.parametrize("options", FAMILIES)
def test_a_file_made_again_and_again_is_read_as_it_is(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], options: Options
) -> None:
    """Nobody has it open in between, so the server's disk gives the same number again."""
    mounted = mount(samba, {**options, "actimeo": 0}, subfolder=f"/{share_folder.name}")
    file = share_folder / "file"
    with caller_on(mounted) as caller:
        for number in range(20):
            content = f"{number:03}".encode()
            file.write_bytes(content)
            caller.open("now", "file")
            assert caller.read("now") == content
            assert caller.fstat("now")["st_ino"] == caller.stat("file")["st_ino"]
            caller.close("now")
            file.unlink()


def shows(caller: Caller, key: str, content: bytes) -> bool:
    return caller.read(key) == content


@pytest.mark.parametrize("options", FAMILIES)
def test_readers_of_growing_files_keep_their_numbers_and_see_the_growth(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], options: Options
) -> None:
    count, rounds = 30, 6
    files = [share_folder / f"log {number}" for number in range(count)]
    for file in files:
        file.write_bytes(b"")
    mounted = mount(samba, {**options, "actimeo": 1}, subfolder=f"/{share_folder.name}")
    follower = mounted.start("tail", "-f", "-n", "+1", "--sleep-interval=0.2", mounted.point / files[0].name)
    with caller_on(mounted) as caller:
        for file in files:
            caller.open(file.name, file.name)
        numbers = [caller.fstat(file.name)["st_ino"] for file in files]
        expected = b""
        for line in range(rounds):
            added = f"line {line}\n".encode()
            expected += added
            for file in files:
                with file.open("ab") as growing:
                    growing.write(added)
            time.sleep(0.4)
            mounted.run("ls", "-l", mounted.point)  # a listing brings creation times too
        for file in files:
            assert wait_for(partial(shows, caller, file.name, expected), 5), file.name
        assert [caller.fstat(file.name)["st_ino"] for file in files] == numbers
        assert [caller.stat(file.name)["st_ino"] for file in files] == numbers
    # What others have been shown, the follower may see a second later.
    assert follower.stdout is not None
    followed = b""
    with selectors.DefaultSelector() as selector:
        selector.register(follower.stdout, selectors.EVENT_READ)
        while len(followed) < len(expected) and selector.select(20):
            followed += os.read(follower.stdout.fileno(), 65536)
    follower.terminate()
    rest, _ = follower.communicate(timeout=20)
    assert followed + rest == expected
