"""The command: one sentence for every mistake, and never a traceback."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from smbfuse import __version__
from smbfuse.cli import checks, main, settings
from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.config import Config
from smbfuse.daemon import process
from smbfuse.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def smbfuse(*arguments: str, program: Sequence[str] = ("-m", "smbfuse")) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PASSWD": "x"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        ([], Exit.USAGE, "what is to be mounted?"),
        (["//host/share"], Exit.USAGE, "where is //host/share to be mounted?"),
        (["//host/share", "/nowhere/at/all"], Exit.MOUNTPOINT_MISSING, "does not exist"),
        (["share", "/tmp"], Exit.USAGE, "is no share"),
        (["//host/share", "/tmp", "extra"], Exit.USAGE, "unrecognized arguments: extra"),
        (["//host/share", "/tmp", "-x"], Exit.USAGE, "-x"),
        (["//host/share", "/tmp", "-o"], Exit.USAGE, "expected one argument"),
        (["//host/share", "/tmp", "-o", "rzise=1"], Exit.UNKNOWN_OPTION, "did you mean rsize?"),
        (["//host/share", "/tmp", "-o", "rsize=x"], Exit.BAD_VALUE, "rsize=x"),
        (["status", "/nowhere"], Exit.USAGE, "is no mount point of smbfuse"),
        (["status", "-x"], Exit.USAGE, "usage: smbfuse status"),
        (["\x1b[2J", "/tmp"], Exit.USAGE, r"\x1b[2J is no share"),
    ],
    ids=str,
)
def test_a_mistake_is_one_sentence(arguments: list[str], code: Exit, words: str) -> None:
    ran = smbfuse(*arguments)
    assert (ran.returncode, ran.stdout) == (code, "")
    assert ran.stderr.startswith("smbfuse: ")
    assert words in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["status", "release", "watch"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_a_command_of_its_own_says_how_it_is_used(command: str, flag: str) -> None:
    ran = smbfuse(command, flag)
    assert ran.returncode == 0
    assert f"smbfuse {command} " in ran.stdout
    assert not ran.stderr


def test_help_and_version() -> None:
    ran = smbfuse("--help")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("usage: smbfuse ")
    assert smbfuse("-V").stdout == f"smbfuse {__version__}\n"
    assert smbfuse("//h/s", "/tmp", "-h").stdout == ran.stdout


def test_a_reader_that_goes_away_is_no_reason_for_a_traceback() -> None:
    command = f"{sys.executable} -m smbfuse --help | head -n 1"
    ran = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert ran.stderr == ""


class Started:
    """What would have been mounted."""

    def __init__(self) -> None:
        self.configs: list[Config] = []

    def __call__(self, config: Config, *arguments: object, **options: object) -> process.Outcome:
        self.configs.append(config)
        return process.Outcome(0, "")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Started:
    """Stop short of mounting: see what would be."""
    seen = Started()
    monkeypatch.setattr(process, "run", seen)
    monkeypatch.setattr(checks, "check_fuse", lambda: None)
    monkeypatch.setenv("PASSWD", "x")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return seen


def test_flags(started: Started, folder: Path) -> None:
    point = folder / "point"
    point.mkdir()
    for flags in ([], ["-f"], ["-v"], ["-d"], ["-r", "-n", "-w"], ["-s", "-o", "nonsense"]):
        assert main.main(["//h/s", *flags, str(point)]) == 0
    assert [(one.process.foreground, one.process.verbosity) for one in started.configs] == [
        (False, 0),
        (True, 0),
        (False, 1),
        (True, 2),
        (False, 0),
        (False, 0),
    ]
    assert {one.mount.mountpoint for one in started.configs} == {str(point)}


@pytest.mark.parametrize(
    "flags, read_only",
    [([], False), (["-r"], True), (["-w"], False), (["-r", "-w"], False), (["-w", "-o", "ro"], True)],
    ids=str,
)
def test_a_mount_is_for_writing_unless_told_otherwise(
    started: Started, folder: Path, flags: list[str], read_only: bool
) -> None:
    point = folder / "point"
    point.mkdir()
    assert main.main(["//h/s", *flags, str(point)]) == 0
    assert [one.mount.read_only for one in started.configs] == [read_only]


def test_as_mount_8_calls_it(started: Started, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What mount.fuse3 makes of an fstab line, found by trying.
    point = folder / "point"
    point.mkdir()
    options = "ro,noexec,nosuid,nodev,uid=0,username=x,dev,suid"
    assert main.main(["//h/Büro, x", str(point), "-o", options]) == 0
    config = started.configs[0]
    assert config.target.share == "Büro, x"
    assert config.mount.kernel_options == ("noexec",)
    assert config.mount.read_only
    # mount(8) itself calls a helper of its own name, and means "fake" by -f.
    monkeypatch.setattr(sys, "argv", ["/sbin/mount.smbfuse"])
    assert main.main(["//h/s", str(point), "-f", "-v", "-t", "fuse.smbfuse", "-o", "rw"]) == 0
    assert len(started.configs) == 1


@pytest.mark.parametrize(
    "error, code, words",
    [
        (CannotMount(Exit.OPTION_REFUSED, "no"), Exit.OPTION_REFUSED, "no"),
        (ConfigError("cannot"), Exit.BAD_VALUE, "cannot"),
        (OSError(28, "No space left on device", "/run"), Exit.SYSTEM, "/run: No space left on device"),
        (KeyboardInterrupt(), Exit.INTERRUPTED, "interrupted"),
        (RuntimeError("oops\x1b"), Exit.INTERNAL, r"this is a bug in smbfuse (RuntimeError: oops\x1b)"),
    ],
    ids=repr,
)
def test_whatever_is_raised_ends_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: Exit, words: str
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(settings, "load", fail)
    assert main.main(["//h/s", "/tmp"]) == code
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1


def test_importing_the_command_is_quick() -> None:
    """The password must leave the command line before anything slow is imported."""
    program = (
        "import sys, smbfuse.cli.main; print([name for name in ('trio', 'pyfuse3', 'rich') if name in sys.modules])"
    )
    assert smbfuse(program=("-c", program)).stdout == "[]\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]], ids=str)
def test_a_reader_who_has_gone_is_no_reason_to_complain(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        command = [sys.executable, "-m", "smbfuse", *arguments]
        environment = {"PATH": os.environ["PATH"]}  # without PYTHONUNBUFFERED: a user's Python buffers
        ran = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=30, check=False
        )
    assert (ran.returncode, ran.stderr) == (128 + signal.SIGPIPE, "")
