"""The list, on a local folder as the oracle and on a mount of each dialect; the table is held to both ways."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

import tests.posix.behaviours  # noqa: F401  # fills the list
from tests.posix.behaviour import BEHAVIOURS
from tests.posix.places import PLACES, Place, Result, command, copy_list, results
from tests.posix.table import TABLE, Lack, lacks_of
from tests.support.folders import public_folder
from tests.support.mounts import Mount
from tests.support.samba import SambaServer
from tests.support.samba_programs import newer_samba
from tests.support.users import User

WHOLE_LIST_S: Final = 110.0


# Samba shows names that Windows forbids in a short form, even to those who asked for POSIX; mangling is for Windows.
POSIX_SHARE: Final = {"smb3 unix extensions": "yes", "server min protocol": "SMB3_11", "mangled names": "no"}


@pytest.fixture(scope="module")
def list_path() -> Iterator[Path]:
    """Provide the folder from which an ordinary user can run the list."""
    with public_folder("smbfuse-posix-") as folder:
        yield copy_list(folder)


def complaints(found: Mapping[str, Result], names: list[str], lacks: Mapping[str, Lack]) -> list[str]:
    """Say what is not as it should be: a behaviour that is missing, and a lack that is none."""
    told = []
    for name in names:
        result, lack = found.get(name), lacks.get(name)
        if result is None:
            told.append(f"{name}: not tried")
        elif lack is None and result.outcome != "passed":
            told.append(str(result))
        elif lack is not None and result.outcome == "passed":
            told.append(f"{name}: is had, though the table says {lack.outcome}")
        elif lack is not None and (result.errno or result.outcome) != lack.outcome:
            told.append(f"{result} (the table says {lack.outcome})")
    return told


def test_a_local_folder_has_every_behaviour(user: User, list_path: Path) -> None:
    with public_folder("smbfuse-oracle-") as parent:
        folder = user.owns_new(parent / "oracle")
        ran = subprocess.run(
            command(list_path, folder, []),
            capture_output=True,
            text=True,
            cwd="/",
            timeout=WHOLE_LIST_S,
            check=False,
            **user.run_options(),
        )
    assert ran.returncode == 0, ran.stderr
    assert complaints(results(ran.stdout), list(BEHAVIOURS), {}) == []


@pytest.mark.samba
@pytest.mark.mounts
@pytest.mark.parametrize(
    "place", [pytest.param(one, id=one.name, marks=[pytest.mark.soak] if one.soak else []) for one in PLACES]
)
def test_a_mount_has_every_behaviour_but_those_of_the_table(
    place: Place,
    list_path: Path,
    user: User,
    samba: SambaServer,
    start_samba: Callable[..., SambaServer],
    mount: Callable[..., Mount],
) -> None:
    server = start_samba(options=POSIX_SHARE, programs=newer_samba()) if place.posix_extensions else samba
    folder = user.owns_new(server.root / f"posix [{place.name}] ü")
    mounted = mount(server, place.options, subfolder=f"/{folder.name}")
    names = names_of(place)
    said = mounted.run(*command(list_path, mounted.point, names), timeout_s=WHOLE_LIST_S)
    found = results(said)
    told = complaints(found, names, lacks_of(place.name))
    assert not told, f"{len(told)} of {len(names)}:\n" + "\n".join(told)


def names_of(place: Place) -> list[str]:
    modules = {f"tests.posix.behaviours.{subject}" for subject in place.subjects}
    return [name for name, function in BEHAVIOURS.items() if not modules or function.__module__ in modules]


def test_the_list_is_as_long_as_promised() -> None:
    assert len(BEHAVIOURS) >= 150


def test_the_table_speaks_of_the_list_and_its_places() -> None:
    assert set(TABLE) <= set(BEHAVIOURS)
    assert {place for lacks in TABLE.values() for lack in lacks for place in lack.places} <= {
        place.name for place in PLACES
    }


def test_the_table_gives_reasons() -> None:
    assert all("[MS-" in lack.why for lacks in TABLE.values() for lack in lacks)


def test_with_posix_extensions_nothing_is_lacking() -> None:
    assert lacks_of("3.1.1 posix") == {}


def test_complaints_are_made_both_ways() -> None:
    lack = Lack(("2.0",), "EPERM", "[MS-SMB2] 1")

    def told(outcome: str, errno: str | None, lacks: Mapping[str, Lack]) -> list[str]:
        return complaints({"f": Result("f", outcome, errno, "", 0.0)}, ["f"], lacks)

    assert told("passed", None, {}) == []
    assert told("refused", "EPERM", {"f": lack}) == []
    assert len(told("differs", None, {})) == 1
    assert len(told("passed", None, {"f": lack})) == 1
    assert len(told("refused", "EIO", {"f": lack})) == 1
    assert len(complaints({}, ["f"], {})) == 1
