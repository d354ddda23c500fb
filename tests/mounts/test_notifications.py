"""What another client changes is seen at once where the server tells of it, however long it would be believed."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.mounts.test_coherence import look_at_names
from tests.relay import Relay
from tests.support.caller import Caller, caller_on
from tests.support.listings import listings, notifications
from tests.support.mounts import Mount, Options
from tests.support.pair import LONG_S, SOON_S, Pair, content, names, open_to_write, save, soon, write
from tests.support.samba import SambaServer, wait_for
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

every_dialect = pytest.mark.parametrize(
    "options",
    [{"vers": "1.0"}, {"vers": "1.0", "nounix": True}, {"vers": "2.0"}, {"vers": "2.1"}, {"vers": "3.1.1"}],
    ids=["1.0-unix", "1.0-nounix", "2.0", "2.1", "3.1.1"],
)
TOLD: Final[Options] = {"nonotify": False, "nolease": True, "actimeo": LONG_S}
QUIET_S: Final = 0.5  # without a message: what was told has been taken in


@every_dialect
def test_names_are_seen_at_once_without_any_grant(pair_of: Callable[..., Pair], options: Options) -> None:
    pair = pair_of({**options, **TOLD})
    look_at_names(pair, SOON_S)


@every_dialect
def test_sizes_and_content_are_seen_at_once_without_any_grant(pair_of: Callable[..., Pair], options: Options) -> None:
    pair = pair_of({**options, **TOLD})
    save(pair.first, b"before")
    assert soon(lambda: pair.second.do("os.listdir(point)") == ["f"])
    assert pair.second.stat("f")["st_size"] == 6
    save(pair.first, b"after, and longer")
    assert soon(lambda: pair.second.stat("f")["st_size"] == 17)
    assert content(pair.second) == b"after, and longer"


@every_dialect
def test_what_is_written_is_seen_soon_while_the_file_is_open(pair_of: Callable[..., Pair], options: Options) -> None:
    pair = pair_of({**options, **TOLD})
    save(pair.first, b"before")
    assert soon(lambda: names(pair.second) == ["f"] and pair.second.stat("f")["st_size"] == 6)
    pair.second.open("r", "f")
    assert pair.second.read("r") == b"before"
    open_to_write(pair.first)
    write(pair.first, b"BEHIND")
    assert soon(lambda: pair.second.read("r") == b"BEHIND")
    write(pair.first, b"longer than it was")
    assert soon(lambda: pair.second.stat("f")["st_size"] == 18)
    assert soon(lambda: pair.second.read("r") == b"longer than it was")
    pair.first.do("os.ftruncate(kept['w'], 3)")
    assert soon(lambda: pair.second.read("r") == b"lon")


@pytest.mark.parametrize("dialect", ["1.0", "3.1.1"])
def test_loose_sees_names_times_and_what_was_closed_at_once_as_well(pair_of: Callable[..., Pair], dialect: str) -> None:
    pair = pair_of({"vers": dialect, **TOLD, "cache": "loose"})
    look_at_names(pair, SOON_S)
    save(pair.first, b"before")
    assert soon(lambda: names(pair.second) == ["f"] and content(pair.second) == b"before")
    save(pair.first, b"after, and longer")
    assert soon(lambda: pair.second.stat("f")["st_size"] == 17)
    assert content(pair.second) == b"after, and longer"
    pair.first.do("os.utime(os.path.join(point, 'f'), (1e9, 1e9))")
    assert soon(lambda: pair.second.stat("f")["st_mtime"] == 1e9)


@every_dialect
def test_times_and_modes_are_seen_at_once_without_any_grant(pair_of: Callable[..., Pair], options: Options) -> None:
    pair = pair_of({**options, **TOLD})
    save(pair.first, b"content")
    assert soon(lambda: names(pair.second) == ["f"] and pair.second.stat("f")["st_size"] == 7)
    pair.first.do("os.utime(os.path.join(point, 'f'), (1e9, 1e9))")
    assert soon(lambda: pair.second.stat("f")["st_mtime"] == 1e9)
    pair.first.do("os.chmod(os.path.join(point, 'f'), 0o444)")
    assert soon(lambda: not pair.second.stat("f")["st_mode"] & 0o222)


class Looking(NamedTuple):
    """Two mounts of one folder: one changes it, the other looks at it through a relay."""

    changes: Caller
    looks: Caller
    relay: Relay

    def told(self) -> bool:
        """Wait until nothing passes the relay any more: what was told has been taken in."""
        before = -1
        while before != (before := self.relay.mark()):
            wait_for(lambda: False, QUIET_S)
        return True


@pytest.fixture
def looking(
    samba: SambaServer, share_folder: Path, user: User, mount: Callable[..., Mount], relay_to: Callable[..., Relay]
) -> Iterator[Callable[[Options], Looking]]:
    """Provide `looking(options)`: what is in the folder then is there before it is mounted."""
    with contextlib.ExitStack() as stack:

        def make(options: Options) -> Looking:
            relay = relay_to(samba.port)
            user.owns(share_folder)
            options = {**options, "noseal": True}
            first, second = (
                mount(samba, each, subfolder=f"/{share_folder.name}")
                for each in (options, {**options, "port": relay.port})
            )
            changes, looks = (stack.enter_context(caller_on(each)) for each in (first, second))
            return Looking(changes, looks, relay)

        yield make


FOLDERS: Final = 14
CHANGED: Final = 10
EACH: Final = 100  # names in each folder: a thousand are changed


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"vers": "1.0"}, id="1.0-unix"),
        pytest.param({"vers": "1.0", "nounix": True}, id="1.0-nounix", marks=pytest.mark.soak),
        pytest.param({"vers": "2.1"}, id="2.1", marks=pytest.mark.soak),
        pytest.param({"vers": "3.1.1"}, id="3.1.1"),
    ],
)
def test_a_thousand_names_that_another_changes_cost_one_listing_of_each_changed_folder(
    looking: Callable[[Options], Looking], share_folder: Path, user: User, options: Options
) -> None:
    for number in range(FOLDERS):
        folder = user.owns_new(share_folder / f"d{number}")
        for name in range(EACH):
            user.owns(_touched(folder / f"f{name}"))
    two = looking({**options, "actimeo": 600})
    two.told()  # what is listed before the watch stands is asked for once more
    look = "{d: sorted(os.listdir(os.path.join(point, d))) for d in os.listdir(point)}"
    listed = two.looks.do(look)
    assert listed == {f"d{number}": sorted(f"f{name}" for name in range(EACH)) for number in range(FOLDERS)}
    begun = listings(two.relay.pdus())
    assert {path.rpartition("/")[2] for path in begun} >= set(listed)
    two.told()
    mark = two.relay.mark()
    for number in range(CHANGED):
        at = f"os.path.join(point, 'd{number}', 'f' + str(n))"
        two.changes.do(f"[os.unlink({at}) for n in range(25)]")
        two.changes.do(f"[os.rename({at}, {at} + '-moved') for n in range(25, 75)]")
        two.changes.do(f"[open({at} + '-new', 'w').close() for n in range(75, 100)]")
    moved = [f"f{name}-moved" for name in range(25, 75)]
    changed = sorted(moved + [f"f{name}{new}" for name in range(75, 100) for new in ("", "-new")])
    expected = {**listed, **{f"d{number}": changed for number in range(CHANGED)}}
    two.told()
    assert notifications(two.relay.pdus(mark))[1] == 0  # it was never too much
    for _ in range(2):
        assert two.looks.do(look) == expected
    begun = listings(two.relay.pdus(mark))
    assert max(begun.values()) == 1
    assert {path.rpartition("/")[2] for path in begun} == {f"d{number}" for number in range(CHANGED)}


def _touched(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize("options", [{"vers": "1.0"}, {"vers": "3.1.1"}], ids=["1.0", "3.1.1"])
@pytest.mark.parametrize("nonotify", [False, True], ids=["default", "nonotify"])
def test_a_share_is_watched_once_unless_that_is_turned_off(
    looking: Callable[[Options], Looking], options: Options, nonotify: bool
) -> None:
    two = looking({**options, "nonotify": nonotify})
    two.told()
    assert notifications(two.relay.pdus()) == (0 if nonotify else 1, 0)
    save(two.changes, b"new")
    assert soon(lambda: names(two.looks) == ["f"])
    two.told()
    asked, _ = notifications(two.relay.pdus())
    assert asked > 1 or nonotify
    assert not (asked and nonotify)
