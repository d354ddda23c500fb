"""The tools that people read with, on a real mount: what they copy out is what lies on the server."""

import filecmp
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.mounts import Mount, Options
from tests.support.samba import SambaServer
from tests.support.tree import Tree, hashes
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba, pytest.mark.timeout(240)]

FAMILIES: Final = [
    pytest.param({"vers": "1.0"}, id="1.0-unix"),
    pytest.param({"vers": "1.0", "nounix": True}, id="1.0-nounix"),
    pytest.param({"vers": "2.1"}, id="2.1"),
    pytest.param({"vers": "3.1.1", "seal": True}, id="3.1.1-sealed"),
]


@pytest.fixture(params=FAMILIES)
def options(request: pytest.FixtureRequest) -> Options:
    return dict(request.param)


@pytest.fixture
def mounted(samba: SambaServer, tree: Tree, mount: Callable[..., Mount], options: Options) -> Mount:
    """Provide a mount of 300 files and 64 MiB."""
    return mount(samba, options, subfolder=f"/{tree.folder.name}")


@pytest.fixture
def out(mounted: Mount, user: User) -> Iterator[Path]:
    """Provide an empty folder of the user's, beside the mount point."""
    folder = user.owns_new(mounted.point.parent / "out")
    yield folder
    shutil.rmtree(folder)


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def local(*command: str | Path, folder: Path) -> str:
    environment = {"LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True, timeout=60)
    return ran.stdout.decode(errors="surrogateescape")


def on(mount: Mount, script: str, *arguments: str | Path) -> str:
    """Run a shell script as the user with the mount's root as its folder."""
    return mount.run("sh", "-c", f'cd "$0" && {script}', mount.point, *arguments, timeout_s=120)


def test_cp_keeps_bytes_and_times(mounted: Mount, tree: Tree, out: Path) -> None:
    mounted.run("cp", "-a", f"{mounted.point}/.", out, timeout_s=120)
    assert hashes(out) == tree.hashes()
    for copied in out.rglob("*"):
        original = tree.folder / copied.relative_to(out)
        if original.is_file():
            assert copied.stat().st_mtime_ns // 100 == original.stat().st_mtime_ns // 100


def test_rsync_copies_once_and_finds_nothing_to_do_twice(mounted: Mount, tree: Tree, out: Path) -> None:
    needs("rsync")
    command = ("rsync", "--archive", "--itemize-changes", f"{mounted.point}/", f"{out}/")
    mounted.run(*command, timeout_s=120)
    assert hashes(out) == tree.hashes()
    assert [line for line in mounted.run(*command, timeout_s=120).splitlines() if line.startswith(">")] == []
    assert mounted.run(*command, "--checksum", "--dry-run", timeout_s=120).count(">f") == 0


def test_tar_packs_it(mounted: Mount, tree: Tree, out: Path) -> None:
    on(mounted, 'tar --create --file "$1" .', out / "all.tar")
    (out / "unpacked").mkdir()
    local("tar", "--extract", "--file", out / "all.tar", folder=out / "unpacked")
    assert hashes(out / "unpacked") == tree.hashes()


def test_grep_finds_what_is_there_and_no_more(mounted: Mount, tree: Tree) -> None:
    seen = on(mounted, "grep --recursive --files-with-matches --text --fixed-strings ab .")
    expected = local("grep", "-r", "-l", "--text", "--fixed-strings", "ab", ".", folder=tree.folder)
    assert sorted(seen.splitlines()) == sorted(expected.splitlines())


def test_find_and_du_count_as_on_the_server(mounted: Mount, tree: Tree) -> None:
    find = "find . -type f -newer './plain 120'"
    expected = sorted(local("sh", "-c", find, folder=tree.folder).splitlines())
    assert 0 < len(expected) < tree.files
    assert sorted(on(mounted, find).splitlines()) == expected
    sizes = "find . -type f -printf '%s\\n'"
    assert sorted(on(mounted, sizes).split()) == sorted(local("sh", "-c", sizes, folder=tree.folder).split())
    # A folder's own size is its server's affair: files alone are counted.
    du = "find . -type f -print0 | du --apparent-size --bytes --files0-from=- | cut -f 1"
    assert sorted(on(mounted, du).split()) == sorted(local("sh", "-c", du, folder=tree.folder).split())


def test_four_at_once_read_every_byte(mounted: Mount, tree: Tree) -> None:
    readers = [
        mounted.start("sh", "-c", 'cd "$0" && find . -type f -exec sha256sum --zero {} +', mounted.point)
        for _ in range(4)
    ]
    for reader in readers:
        told, error = reader.communicate(timeout=120)
        assert reader.returncode == 0, error
        lines = [line.split("  ", 1) for line in told.decode().split("\0") if line]
        assert {name.removeprefix("./"): digest for digest, name in lines} == tree.hashes()


def test_diff_finds_no_difference(mounted: Mount, tree: Tree, out: Path) -> None:
    on(mounted, 'diff --recursive --brief . "$1"', tree.folder)


@pytest.fixture
def repository(share_folder: Path) -> Path:
    """Make a git repository on the server, with loose objects, packs and a work tree."""
    needs("git")
    work = share_folder / "work"
    work.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(share_folder), "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]

    def git(*arguments: str) -> None:
        command = ["git", *identity, *arguments]
        subprocess.run(command, cwd=work, env=environment, capture_output=True, check=True, timeout=60)

    git("init", "--quiet")
    for number in range(30):
        (work / f"Datei [{number}] 🐙").write_text(f"{number}\n" * (number * 500 + 1))
        git("add", ".")
        git("commit", "--quiet", "--message", f"Number {number}")
        if number == 15:
            git("gc", "--quiet")
    return work


def test_git_clones_a_repository_on_the_share(
    samba: SambaServer, repository: Path, mount: Callable[..., Mount], options: Options, user: User
) -> None:
    mounted = mount(samba, options, subfolder=f"/{repository.parent.name}")
    out = user.owns_new(mounted.point.parent / "out")
    try:
        # With UNIX extensions files belong to whom they belong on the server: git wants to be told that this is well.
        (out / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
        git = ("env", f"HOME={out}", "git")
        mounted.run(*git, "clone", "--quiet", "--no-local", mounted.point / "work", out / "clone")
        mounted.run(*git, "-C", out / "clone", "fsck", "--strict", "--no-progress")
        assert mounted.run(*git, "-C", out / "clone", "rev-list", "--count", "HEAD") == "30\n"
        compared = filecmp.dircmp(repository, out / "clone", ignore=[".git"])
        assert (compared.left_only, compared.right_only, compared.diff_files) == ([], [], [])
        assert mounted.run(*git, "-C", mounted.point / "work", "log", "--oneline").count("\n") == 30
        assert mounted.run(*git, "-C", mounted.point / "work", "fsck", "--no-progress") == ""
    finally:
        shutil.rmtree(out)
