"""readdir(3) while the folder changes: what is there throughout comes exactly once."""

import os
from pathlib import Path

from tests.posix.behaviour import behaviour, new, opened


def fill(folder: Path, count: int) -> list[str]:
    names = [f"entry {number:04}" for number in range(count)]
    for name in names:
        new(folder / name)
    return names


@behaviour
def listing_while_its_entries_are_removed(folder: Path) -> None:
    names = fill(folder, 150)
    seen = []
    with os.scandir(folder) as entries:
        for entry in entries:
            os.unlink(entry.path)
            seen.append(entry.name)
    assert sorted(seen) == names
    assert os.listdir(folder) == []


@behaviour
def listing_while_entries_are_added(folder: Path) -> None:
    names = fill(folder, 100)
    seen = []
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number < 30:
                new(folder / f"later {number}")
    assert sorted(name for name in seen if name in names) == names
    assert len(os.listdir(folder)) == 130


@behaviour
def listing_while_entries_are_renamed(folder: Path) -> None:
    names = fill(folder, 100)
    seen = []
    with os.scandir(folder) as entries:
        for entry in entries:
            seen.append(entry.name)
            if entry.name in names[50:]:
                os.rename(entry.path, f"{folder}/renamed {entry.name}")
    assert sorted(name for name in seen if name in names[:50]) == names[:50]
    assert sorted(os.listdir(folder)) == names[:50] + [f"renamed {name}" for name in names[50:]]


@behaviour
def listing_twice_at_once(folder: Path) -> None:
    names = fill(folder, 80)
    with os.scandir(folder) as one, os.scandir(folder) as two:
        pairs = list(zip(one, two, strict=True))
    assert sorted(first.name for first, _ in pairs) == names
    assert sorted(second.name for _, second in pairs) == names


@behaviour
def listing_again_sees_what_is_new(folder: Path) -> None:
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as fd:
        assert os.listdir(fd) == []
        new(folder / "a")
        os.lseek(fd, 0, os.SEEK_SET)
        assert os.listdir(fd) == ["a"]
        (folder / "a").rename(folder / "b")
        os.lseek(fd, 0, os.SEEK_SET)
        assert os.listdir(fd) == ["b"]


@behaviour
def listing_follows_every_change_at_once(folder: Path) -> None:
    for number in range(15):
        new(folder / f"f{number}")
        assert len(os.listdir(folder)) == 1
        (folder / f"f{number}").rename(folder / "g")
        assert os.listdir(folder) == ["g"]
        (folder / "g").unlink()
        assert os.listdir(folder) == []


@behaviour
def listing_of_a_large_folder_is_whole(folder: Path) -> None:
    names = fill(folder, 400)
    assert sorted(os.listdir(folder)) == names
    (folder / names[200]).unlink()
    assert sorted(os.listdir(folder)) == names[:200] + names[201:]
