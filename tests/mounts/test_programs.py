"""Programs that people work with, on real mounts, and before that on a local folder: is the work itself right?"""

import base64
import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.mounts import Mount, Options
from tests.support.samba import SambaServer
from tests.support.tree import hashes
from tests.support.users import ROOT, User
from tests.support.workplace import Workplace, local_workplace, needs

pytestmark = [pytest.mark.mounts, pytest.mark.samba, pytest.mark.timeout(240)]

LOCAL: Final = "local"
PLACES: Final[dict[str, Options]] = {
    LOCAL: {},
    "1.0": {"vers": "1.0"},
    "1.0 nounix": {"vers": "1.0", "nounix": True, "mfsymlinks": True},
    "3.1.1": {"vers": "3.1.1", "mfsymlinks": True},
}
KEEP_MODES: Final = (LOCAL, "1.0")  # elsewhere the read-only attribute is all there is.  [MS-FSCC] 2.6


@pytest.fixture(params=list(PLACES))
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def work(
    place: str, samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], user: User
) -> Iterator[Workplace]:
    """Provide an empty folder to work in."""
    if place == LOCAL:
        with local_workplace(user) as found:
            yield found
    else:
        user.owns(share_folder)
        mounted = mount(samba, PLACES[place], subfolder=f"/{share_folder.name}")
        local = user.owns_new(mounted.point.parent / "local")
        yield Workplace(mounted.point, local, share_folder, mounted.run)


@pytest.fixture
def sources(work: Workplace, user: User) -> Path:
    """Provide a local tree of source files, with a symlink, a program and old times: this package's."""
    folder = work.local / "sources"
    shutil.copytree(ROOT / "smbfuse", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "Größe [ä] 🐙").mkdir()
    (folder / "Größe [ä] 🐙" / "empty").touch()
    (folder / "program").write_text("#!/bin/sh\necho run\n")
    (folder / "link").symlink_to("cli/main.py")
    for number, path in enumerate(sorted(folder.rglob("*"))):
        path.chmod(0o755) if path.is_dir() or path.name == "program" else path.chmod(0o644)
        if not path.is_symlink():
            os.utime(path, ns=(1_500_000_000_000_000_000 + number * 1_000_000_100,) * 2)
    for path in (folder, *folder.rglob("*")):
        if not user.current:
            os.chown(path, user.uid, user.gid, follow_symlinks=False)
    return folder


# -- version control


GIT: Final = r"""
git config --global user.name Somebody
git config --global user.email somebody@example.org
git config --global init.defaultBranch main
cp -r "$1" "$HOME/origin"
cd "$HOME/origin"
git init -q; git add .; git commit -q -m "first"
echo "more" >> status.py; git commit -q -a -m "second"

cd "$0"
git clone -q "$HOME/origin" clone
cd clone
git checkout -q -b topic HEAD~1
for number in 1 2 3 4 5; do
    echo "line $number" >> "notes $number"
    git mv errors.py "errors $number.py"; git mv "errors $number.py" errors.py
    git add .; git commit -q -m "topic $number"
done
git rebase -q main
git checkout -q main
git merge -q --no-ff -m "merge" topic
git stash list
git gc -q --prune=now
git fsck --strict --no-progress
git repack -a -d -q
git status --porcelain
git log --oneline | wc -l
git push -q origin topic
git -C "$HOME/origin" rev-parse topic
git rev-parse topic
"""


def test_git_clones_commits_rebases_and_repacks(work: Workplace, sources: Path) -> None:
    needs("git")
    said = work.sh(GIT, sources).splitlines()
    commits, pushed, topic = said[-3:]
    assert commits == "8"
    assert pushed == topic
    assert said[:-3] == []  # fsck and status had nothing to say
    work.sh("git -C clone checkout -q HEAD~1^1 && git -C clone diff --exit-code && test -f clone/status.py")


# -- databases


WRITERS: Final = """
import os, sqlite3, sys
mode, writers, rows = sys.argv[1], 4, 25
first = sqlite3.connect("data.db", timeout=60)
assert first.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
first.execute("create table t (writer int, number int, text text, primary key (writer, number))")
first.commit()
first.close()
for writer in range(writers):
    if os.fork() == 0:
        code = 1
        try:
            own = sqlite3.connect("data.db", timeout=60, isolation_level="immediate")
            for number in range(rows):
                with own:
                    own.execute("insert into t values (?, ?, ?)", (writer, number, "x" * 700))
            own.close()
            code = 0
        finally:
            os._exit(code)
print([os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(writers)])
"""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite_keeps_what_four_processes_write(work: Workplace, mode: str) -> None:
    needs("sqlite3")
    assert work.python(WRITERS, mode) == "[0, 0, 0, 0]\n"
    asked = "pragma integrity_check; select count(*), count(distinct writer), sum(length(text)) from t;"
    assert work.sh('sqlite3 data.db "$1"', asked) == "ok\n100|4|70000\n"
    work.sh('sqlite3 data.db "delete from t where number % 2; vacuum;"')
    assert work.sh('sqlite3 data.db "$1"', asked).startswith("ok\n52|4|")


# -- archives and copies


def test_tar_unpacks_and_packs(work: Workplace, sources: Path) -> None:
    work.sh('tar --format=pax -C "$1" -cf "$HOME/in.tar" .; mkdir t; tar -C t -xf "$HOME/in.tar"', sources)
    assert work.sh('diff -r --no-dereference "$1" t', sources) == ""
    work.sh(
        'mkdir "$HOME/out"; tar --format=pax -C t -cf - . | tar -C "$HOME/out" -xf -\n'
        'diff -r --no-dereference "$1" "$HOME/out"',
        sources,
    )
    assert times(work, work.local / "out") == times(work, sources)


def test_unzip_unpacks(work: Workplace, sources: Path) -> None:
    needs("unzip")
    archive = work.local / "source.zip"
    work.python(
        "import shutil, sys; shutil.make_archive(sys.argv[1], 'zip', sys.argv[2])", work.local / "source", sources
    )
    with zipfile.ZipFile(archive) as packed:
        names = [name for name in packed.namelist() if not name.endswith("/")]
    work.sh('unzip -q "$1" -d z; unzip -q -o "$1" -d z', archive)
    assert int(work.sh("find z -type f | wc -l")) == len(names) > 50
    assert work.sh('diff -r "$1" z', sources) == ""


def test_rsync_transfers_nothing_the_second_time(work: Workplace, sources: Path, place: str) -> None:
    needs("rsync")
    work.sh('rsync -a "$1/" there/', sources)
    assert work.sh('diff -r --no-dereference "$1" there', sources) == ""
    again = work.sh('rsync -a --stats "$1/" there/', sources)
    assert "Number of created files: 0" in again
    assert "Number of regular files transferred: 0" in again
    changes = work.sh('rsync -a --itemize-changes "$1/" there/', sources).splitlines()
    assert not [line for line in changes if place in KEEP_MODES or "p" not in line.split()[0]], changes
    work.sh('echo more >> "$1/status.py"; rm "$1/errors.py"; rsync -a --delete "$1/" there/', sources)
    assert work.sh('diff -r --no-dereference "$1" there', sources) == ""
    work.sh('rsync -a there/ "$HOME/back/"; rsync -a --checksum "$HOME/back/" again/')
    assert work.sh('diff -r --no-dereference "$1" again', sources) == ""


def test_cp_keeps_what_can_be_kept(work: Workplace, sources: Path, place: str) -> None:
    work.sh('cp -a "$1" in; cp -a in "$HOME/out"', sources)
    for copy in (work.folder / "in", work.local / "out"):
        assert work.sh('diff -r --no-dereference "$1" "$2"', sources, copy) == ""
        assert times(work, copy) == times(work, sources)
        if place in KEEP_MODES:
            assert listed(work, copy, "%m %U %G") == listed(work, sources, "%m %U %G")
    on_server = {name: hash for name, hash in hashes(work.on_server / "in").items() if name != "link"}
    assert on_server == {name: hash for name, hash in hashes(sources).items() if name != "link"}


def times(work: Workplace, folder: Path) -> list[str]:
    """Return size and time of writing of every file; a symlink's own time is nobody's to keep."""
    return work.sh('cd "$1"; find . -type f -printf "%P %s %T@\n" | sort', folder).splitlines()


def listed(work: Workplace, folder: Path, form: str) -> list[str]:
    return work.sh('cd "$1"; find . ! -type l -printf "%P $2\n" | sort', folder, form).splitlines()


# -- building


MAKEFILE: Final = """
OBJECTS = main.o $(foreach n,1 2 3 4 5 6,part$(n).o)
program: $(OBJECTS)
\t$(CC) -o $@ $^
%.o: %.c part.h
\t$(CC) -O1 -c -o $@ $<
"""


def test_make_builds_and_knows_what_is_done(work: Workplace, user: User) -> None:
    needs("gcc", "make")
    project = user.owns_new(work.local / "project")
    calls = " + ".join(f"part{number}()" for number in range(1, 7))
    files = {
        "Makefile": MAKEFILE,
        "part.h": "".join(f"int part{number}(void);\n" for number in range(1, 7)),
        "main.c": f'#include <stdio.h>\n#include "part.h"\nint main(void) {{ printf("%d\\n", {calls}); return 0; }}\n',
        **{f"part{n}.c": f'#include "part.h"\nint part{n}(void) {{ return {n}; }}\n' for n in range(1, 7)},
    }
    for name, text in files.items():
        (project / name).write_text(text)
    work.sh('cp "$1"/* .; make -j2', project)
    assert work.sh("./program") == "21\n"
    assert "up to date" in work.sh("make -j2")
    work.sh("sleep 0.02; sed -i 's/return 6/return 60/' part6.c")
    assert work.sh("make -j2").count(" -c ") == 1
    assert work.sh("./program; ar rcs parts.a part*.o; nm parts.a | grep -c ' T part'") == "75\n6\n"


def wheel(folder: Path) -> Path:
    """Make a small wheel: what pip installs, without a network."""
    content = {
        "greeting/__init__.py": "def greet() -> str:\n    return 'hello from a wheel'\n",
        "greeting-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        "greeting-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "greeting-1.0.dist-info/RECORD"
    lines = []
    for name, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(text.encode())}\n")
    path = folder / "greeting-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in {**content, record: "".join(lines) + f"{record},,\n"}.items():
            packed.writestr(name, text)
    path.chmod(0o644)
    return path


@pytest.mark.parametrize(
    "place",
    [LOCAL, "3.1.1", *(pytest.param(one, marks=pytest.mark.soak) for one in ("1.0", "1.0 nounix"))],
    indirect=True,
)
def test_a_virtual_environment_installs_a_wheel(work: Workplace) -> None:
    said = work.sh(
        "/usr/bin/python3 -m venv --copies env\n"
        'env/bin/python -m pip --disable-pip-version-check --no-cache-dir install -q --no-index --no-deps "$1"\n'
        'env/bin/python -c "import greeting; print(greeting.greet())"\n'
        "env/bin/python -m pip --disable-pip-version-check check\n"
        "env/bin/python -m pip --disable-pip-version-check uninstall -q -y greeting\n"
        'if env/bin/python -c "import greeting" 2>/dev/null; then echo "still there"; fi',
        wheel(work.local),
        timeout_s=200,
    )
    assert said == "hello from a wheel\nNo broken requirements found.\n"


# -- editing


SAVES: Final = {
    "beside and rename": 'printf %s "$1" > .f.swp; sync .f.swp; mv -f .f.swp f',
    "backup and rewrite": 'cp -p f f~; printf %s "$1" > f; rm f~',
    "backup by renaming": 'mv f f~; printf %s "$1" > f; sync f; rm f~',
    "truncate and rewrite": 'printf %s "$1" > f',
    "link, then rename": 'printf %s "$1" > n; ln -f f f.old; mv n f; rm f.old',
    "unlink and make": 'rm f; printf %s "$1" > f',
}


@pytest.mark.parametrize("manner", list(SAVES))
def test_editors_save(work: Workplace, manner: str) -> None:
    work.sh('printf %s "the old text, which is longer" > f; exec 3< f')
    for text in ("new", "newer and longer than it was", "", "the last"):
        assert work.sh(f"exec 3< f\n{SAVES[manner]}\ncat f; ls -A | tr '\\n' ' '", text) == f"{text}f "
    assert (work.on_server / "f").read_text() == "the last"


def test_sed_edits_in_place(work: Workplace, sources: Path) -> None:
    work.sh('cp "$1"/*.py .; sed -i "s/import/IMPORT/" *.py; sed -i.orig "s/IMPORT/import/" *.py', sources)
    assert work.sh(
        'for f in *.py; do cmp "$f" "$1/$f"; done; ls *.orig | wc -l; ls -A | grep -c "^sed" || :', sources
    ) == (f"{len(list(sources.glob('*.py')))}\n0\n")


def test_other_small_tools(work: Workplace) -> None:
    said = work.sh(
        "seq 1 2000 > numbers; sort -R numbers | sort -n -o numbers; cmp numbers - <<X || exit 1\n$(seq 1 2000)\nX\n"
        "split -l 100 numbers part.; cat part.* | cmp - numbers; ls part.* | wc -l\n"
        "gzip -k numbers; gunzip -c numbers.gz | cmp - numbers; xz -k numbers 2>/dev/null || :\n"
        "dd if=/dev/zero of=image bs=64k count=16 conv=fsync status=none; stat -c %s image\n"
        "dd if=numbers of=image bs=1k seek=3 conv=notrunc status=none; stat -c %s image\n"
        "install -m 755 -D numbers deep/er/numbers; find . -name numbers | wc -l\n"
        "mktemp -d -p . tmp.XXXX | wc -l; tac numbers | head -1; cp --sparse=always image i2; cmp image i2\n"
        "find . -name 'part.*' -delete; find . -empty -type d -delete; ls | wc -l\n"
        "truncate -s 10 numbers; cat numbers | wc -c; shred -u i2; test ! -e i2; rm -rf ./*; ls -A | wc -l\n"
    )
    assert said.split()[:6] == ["20", "1048576", "1048576", "2", "1", "2000"]
    assert said.split()[-2:] == ["10", "0"]


# -- load


@pytest.mark.parametrize("engine, sizes", [("psync", "1k-16k"), ("mmap", "4k-16k")], ids=["psync", "mmap"])
def test_fio_verifies_what_it_wrote(work: Workplace, engine: str, sizes: str) -> None:
    needs("fio")
    said = work.sh(
        'fio --name=verify --directory=. --ioengine="$1" --rw=randrw --bs="$2" --size=8m --verify=crc32c '
        "--verify_fatal=1 --fsync=64 --randseed=7 --minimal",
        engine,
        sizes,
    )
    assert said.split(";")[4] == "0"  # the job's error
    assert "err" not in work.sh(
        'fio --name=verify --directory=. --ioengine="$1" --rw=write --bs=64k --size=16m --verify=crc32c --do_verify=1 '
        "--verify_fatal=1 --end_fsync=1 --minimal",
        engine,
    )


def test_dbench_with_four_clients(work: Workplace) -> None:
    needs("dbench")
    said = work.sh("dbench --directory . --timelimit 4 --loadfile /usr/share/dbench/client.txt 4 2>&1")
    assert "Throughput" in said
    complaints = [line for line in said.splitlines() if "failed" in line or "ERROR" in line or "expected" in line]
    assert [line for line in complaints if "barrier semaphore" not in line] == []  # a container has no System V ones
