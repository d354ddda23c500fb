"""What a dialect cannot have: each behaviour with what is given instead, and the section that says why.

The outcome is the errno that the program gets, or `differs` where it gets a result that POSIX does not know. An entry
that is not true any more fails the test as a lack that is not listed does.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple


class Lack(NamedTuple):
    """Where a behaviour is not had, how that shows, and why."""

    places: Sequence[str]
    outcome: str
    why: str


# Without UNIX or POSIX extensions a server knows no modes, no owners by number, no FIFOs, and no names by case.
PLAIN: Final = ("1.0 nounix", "2.0", "2.1", "3.1.1", "3.1.1 sealed")
DIFFERS: Final = "differs"

_ONE_BIT = (Lack(PLAIN, DIFFERS, "[MS-FSCC] 2.6: of a mode the attribute READONLY is kept, and nothing else"),)
_FOLDERS = (Lack(PLAIN, DIFFERS, "[MS-FSCC] 2.6: a folder that is READONLY cannot be deleted, but it takes new files"),)
_SIDS = (
    Lack(
        PLAIN, DIFFERS, "[MS-DTYP] 2.4.6: owners are SIDs, not numbers; modechanges=quiet lets programs go on that try"
    ),
)
_NO_SPECIAL_FILES = (
    Lack(PLAIN, "EPERM", "[MS-FSCC] 2.3.81: special files are reparse points, which Samba 4.17 does not make"),
)
_NO_SYMLINKS = (
    Lack(PLAIN, "EOPNOTSUPP", "[MS-FSCC] 2.3.81: symlinks are reparse points, which Samba 4.17 does not make"),
)
_CASE = (Lack(PLAIN, DIFFERS, "[MS-FSA] 2.1.5.1: names are searched without regard to case"),)
_SHORT_NAMES = (
    Lack(PLAIN, DIFFERS, "[MS-FSCC] 2.1.5.2.1: Samba lists what Windows takes for a device by an 8.3 name instead"),
)

TABLE: Final[Mapping[str, Sequence[Lack]]] = {
    "create_respects_mode_and_umask": _ONE_BIT,
    "mkdir_respects_mode_and_umask": _ONE_BIT,
    "chmod_keeps_every_bit": _ONE_BIT,
    "chmod_of_a_folder_keeps_every_bit": _ONE_BIT,
    "read_only_folder_takes_no_new_file": _FOLDERS,
    "chown_to_another_is_refused": _SIDS,
    "mkfifo_makes_a_pipe": _NO_SPECIAL_FILES,
    "socket_has_a_name": _NO_SPECIAL_FILES,
    "names_differ_by_case": _CASE,
    "name_in_another_case_is_not_found": _CASE,
    "names_of_devices": _SHORT_NAMES,
    "symlink_reads_back": _NO_SYMLINKS,
    "symlink_is_one": _NO_SYMLINKS,
    "symlink_is_listed_as_one": _NO_SYMLINKS,
    "symlink_is_followed_by_stat_and_open": _NO_SYMLINKS,
    "symlink_is_written_through": _NO_SYMLINKS,
    "symlink_to_a_folder_is_walked_through": _NO_SYMLINKS,
    "symlink_upwards_and_sideways": _NO_SYMLINKS,
    "symlink_to_nothing_is_not_found": _NO_SYMLINKS,
    "symlink_to_nothing_is_created_through": _NO_SYMLINKS,
    "symlink_to_nothing_refuses_exclusive_create": _NO_SYMLINKS,
    "symlink_in_a_circle_is_refused": _NO_SYMLINKS,
    "symlink_is_not_followed_where_it_is_forbidden": _NO_SYMLINKS,
    "symlink_is_removed_and_its_target_is_not": _NO_SYMLINKS,
    "symlink_is_renamed_and_its_target_is_not": _NO_SYMLINKS,
    "symlink_is_replaced_by_a_file": _NO_SYMLINKS,
    "symlink_replaces_a_symlink": _NO_SYMLINKS,
}


def lacks_of(place: str) -> dict[str, Lack]:
    """Return what the mount called `place` does not have, by behaviour."""
    return {name: lack for name, lacks in TABLE.items() for lack in lacks if place in lack.places}
