"""`smbfuse status`: what mounts say of themselves, shown without harm to the terminal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from smbfuse.cli import status
from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.daemon import control

MOUNT = {
    "mountpoint": "/mnt/[bold]x\x1b[2J",
    "source": "//host/Büro",
    "pid": 7,
    "shares": [{"name": "Büro", "dialect": "3.1.1", "signing": "AES-GMAC", "sealing": "", "login": "NTLM bob"}],
    "filesystem": {"blocks": {"held": 1 << 20}, "inodes": 3},
    "kernel": {},
}
LOST = {"mountpoint": "/mnt/a", "source": "//host/lost", "shares": [{"name": "lost", "error": "not connected"}]}
SEALED = {
    "mountpoint": "/mnt/z",
    "source": "//h",
    "connection": "waiting",
    "reason": "connection refused by [h] port 445\x1b",
    "shares": [{"sealing": "AES-128-GCM", "bytes_received": 1500}],
}


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Three mounts that answer, one that does not, one that answers nonsense."""
    monkeypatch.setattr(control, "folder_for", lambda uid, runtime: tmp_path)
    monkeypatch.setattr(control, "all_folders", lambda: [])
    answers: dict[str, dict[str, Any]] = {
        "a": {"status": MOUNT},
        "b": {"status": LOST},
        "c": {"status": SEALED},
        "e": {"error": "unknown"},
    }
    for name in "abcde":
        (tmp_path / f"{name}.sock").touch()

    def ask(path: Path, request: Mapping[str, Any], *, timeout_s: float = 5) -> Mapping[str, Any]:
        if path.stem not in answers:
            raise ConnectionRefusedError
        return answers[path.stem]

    monkeypatch.setattr(control, "ask", ask)
    return {}


def run(environ: Mapping[str, str], capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert status.run(arguments, environ) is Exit.OK
    return capsys.readouterr().out


def test_json_lists_every_mount_that_answers_and_buries_the_dead(
    environ: Mapping[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert (tmp_path / "d.sock").exists()
    told = json.loads(run(environ, capsys, "--json"))
    assert [one["mountpoint"] for one in told] == ["/mnt/[bold]x\x1b[2J", "/mnt/a", "/mnt/z"]
    assert sorted(path.stem for path in tmp_path.glob("*.sock")) == ["a", "b", "c", "e"]


def test_the_table_shows_names_as_they_are(environ: Mapping[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    text = run(environ, capsys)
    assert "\x1b" not in text
    for part in (
        r"/mnt/[bold]x\x1b[2J",
        "//host/Büro",
        "signed, AES-GMAC",
        "not connected",
        "(waiting)",
        "encrypted, AES-128-GCM",
        r"/mnt/z: connection refused by [h] port 445\x1b",
    ):
        assert part in text


def test_a_pipe_gets_long_names_whole_and_a_terminal_folds_them(
    environ: Mapping[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"/mnt/{'long ' * 40}"
    monkeypatch.setitem(MOUNT, "mountpoint", name)
    assert name in run(environ, capsys)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")  # no colours to count
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lines = run(environ, capsys).splitlines()
    assert max(map(len, lines)) <= 80


def test_details_of_one(
    environ: Mapping[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(control, "socket_path", lambda folder, point: tmp_path / "a.sock")
    text = run(environ, capsys, "/mnt/x")
    assert "shares[0].dialect" in text
    assert "filesystem.blocks.held" in text
    assert json.loads(run(environ, capsys, "/mnt/x", "--json"))["pid"] == 7


@pytest.mark.parametrize("arguments", [["a", "b"], ["--yaml"], ["/nowhere"]])
def test_what_cannot_be_told(environ: Mapping[str, str], arguments: Sequence[str]) -> None:
    with pytest.raises(CannotMount) as caught:
        status.run(arguments, environ)
    assert caught.value.code is Exit.USAGE


def test_no_mounts(
    environ: Mapping[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "sockets", lambda folders: [])
    assert run(environ, capsys) == ""
    assert json.loads(run(environ, capsys, "--json")) == []
