"""`smbfuse release`: asks the one mount that is meant, and says if nobody answers for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from smbfuse.cli import release
from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.daemon import control


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Mapping[str, Any]]]:
    """Have one mount at `tmp_path`, and return what is asked of it."""
    monkeypatch.setattr(control, "folder_for", lambda uid, runtime: tmp_path)
    monkeypatch.setattr(control, "all_folders", lambda: [])
    questions = []

    def ask(path: Path, request: Mapping[str, Any], *, timeout_s: float = 5) -> Mapping[str, Any]:
        if path != control.socket_path(tmp_path, str(tmp_path)):
            raise FileNotFoundError
        questions.append((path, request))
        return {"released": True}

    monkeypatch.setattr(control, "ask", ask)
    return questions


def test_the_mount_that_is_meant_is_asked(asked: list[tuple[Path, Mapping[str, Any]]], tmp_path: Path) -> None:
    assert release.run([str(tmp_path)], {}) is Exit.OK
    assert [request for _, request in asked] == [{"request": "release"}]


@pytest.mark.parametrize("arguments", [[], ["-x"], ["/a", "/b"], ["/nobody/mounts/here"]])
def test_what_is_no_mount_of_ours_is_a_mistake(
    asked: list[tuple[Path, Mapping[str, Any]]], arguments: list[str]
) -> None:
    with pytest.raises(CannotMount) as caught:
        release.run(arguments, {})
    assert caught.value.code is Exit.USAGE
    assert asked == []
