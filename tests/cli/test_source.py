"""Sources: every way of writing a share."""

import pytest

from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.cli.source import Source, join_path, parse_source
from smbfuse.config import Target


@pytest.mark.parametrize(
    "text, target",
    [
        ("//host/share", Target("host", "share")),
        ("//host/share/", Target("host", "share")),
        ("//host/share/sub/dir/", Target("host", "share", "sub/dir")),
        ("//host//share//sub/./dir", Target("host", "share", "sub/dir")),
        ("//host", Target("host")),
        ("//host/", Target("host")),
        (r"\\host\share\sub dir", Target("host", "share", "sub dir")),
        ("//[::1]/share", Target("::1", "share")),
        ("//::1/share", Target("::1", "share")),
        ("//fe80::1%eth0/share", Target("fe80::1%eth0", "share")),
        ("host:share", Target("host", "share")),
        ("host:/share/sub", Target("host", "share", "sub")),
        ("[::1]:share", Target("::1", "share")),
        ("//host/Bücher, alte & neue", Target("host", "Bücher, alte & neue")),
        ("//host/100%", Target("host", "100%")),
        ("//host/C$", Target("host", "C$")),
    ],
)
def test_unc(text: str, target: Target) -> None:
    assert parse_source(text) == Source(target)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("smb://host/share", Source(Target("host", "share"))),
        ("smb://host", Source(Target("host"))),
        ("SMB://host:1445/share/a/b", Source(Target("host", "share", "a/b", port=1445))),
        ("smb://bob@host/share", Source(Target("host", "share"), username="bob")),
        ("smb://LAB;bob:p%40ss%2Fw:d@host/s", Source(Target("host", "s"), "bob", "LAB", "p@ss/w:d")),
        ("smb://bob:@host/s", Source(Target("host", "s"), "bob", None, "")),
        ("smb://bob:a@b@host/s", Source(Target("host", "s"), "bob", None, "a@b")),
        ("smb://[::1]:139/B%C3%BCro%2C%20alt", Source(Target("::1", "Büro, alt", port=139))),
        ("cifs://host/share?x=y", Source(Target("host", "share"))),
    ],
)
def test_url(text: str, expected: Source) -> None:
    assert parse_source(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "share", "/mnt/x", "//", "///share", r"\\", "http://host/x", "smb://", "smb:///share", "smb://host:99999/s",
        "smb://host:x/s", "smb://host:0/s", "//host/share/../other", "smb://host/a%2F..%2Fb", "//ho st/share",
        "//[::1/share", "smb://host/a%00b", "//\x1bhost/share",
    ],
)  # fmt: skip
def test_what_is_no_source(text: str) -> None:
    with pytest.raises(CannotMount) as caught:
        parse_source(text)
    assert caught.value.code is Exit.USAGE
    assert str(caught.value).isprintable()


def test_folders_are_joined() -> None:
    assert join_path("a/b", "", r"\c\d\\", "./e") == "a/b/c/d/e"
    assert join_path("", "") == ""
