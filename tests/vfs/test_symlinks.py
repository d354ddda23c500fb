import errno

import pytest

from smbfuse.config import NameMapping
from smbfuse.errors import SmbError
from smbfuse.vfs.names import Names
from smbfuse.vfs.symlinks import contained, show_target

NAMES = Names(NameMapping.SFM, case_sensitive=False, posix=False)


@pytest.mark.parametrize(
    "target, depth, shown",
    [
        ("file", 0, "file"),
        ("./file", 0, "./file"),
        ("folder/file", 0, "folder/file"),
        ("../file", 1, "../file"),
        ("../../a//b", 2, "../../a//b"),
        (".", 0, "."),
        ("..", 1, ".."),
        ("a/../b", 0, "b"),
        ("a/..", 0, "."),
        ("a/b/../../../c", 1, "../c"),
        ("./../x", 1, "../x"),
    ],
)
def test_a_target_inside_is_shown_with_every_step_up_at_its_start(target: str, depth: int, shown: str) -> None:
    assert contained(target, depth) == shown


@pytest.mark.parametrize(
    "target, depth",
    [
        ("/etc/passwd", 5),
        ("//host/share/x", 5),
        ("/??/C:/Windows", 5),
        ("C:/Windows", 5),
        ("c:", 5),
        ("..", 0),
        ("../x", 0),
        ("../../x", 1),
        ("a/../../x", 0),
        ("a/b/../../../../x", 1),
        ("./../../x", 1),
    ],
)
def test_a_target_outside_is_not_read(target: str, depth: int) -> None:
    with pytest.raises(SmbError) as refused:
        contained(target, depth)
    assert refused.value.errno == errno.EPERM


def test_a_target_through_another_symlink_cannot_climb_out() -> None:
    # `deep/up` may be a link to `..`; the kernel would resolve what follows from where it leads.
    assert contained("deep/up/../../x", 0) == "x"


def test_every_target_is_shown_where_that_was_asked_for() -> None:
    assert show_target("/etc/passwd", depth=0, names=NAMES, contain=False) == b"/etc/passwd"
    assert show_target("/??/C:/x", depth=0, names=NAMES, contain=False) == b"/??/C:/x"


def test_components_are_shown_as_the_folder_shows_them() -> None:
    assert show_target("../a\uf022b/ü", depth=1, names=NAMES, contain=True) == "../a:b/ü".encode()


@pytest.mark.parametrize("target, code", [("", errno.EIO), ("a\0b", errno.EIO), ("x/" * 3000, errno.ENAMETOOLONG)])
def test_a_target_that_no_link_can_hold_is_an_error(target: str, code: int) -> None:
    with pytest.raises(SmbError) as refused:
        show_target(target, depth=0, names=NAMES, contain=True)
    assert refused.value.errno == code
