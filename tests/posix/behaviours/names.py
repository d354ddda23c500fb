"""Names: any bytes but '/' and NUL, up to 255 of them, and case counts."""

import errno
import itertools
import os
from pathlib import Path

from tests.posix.behaviour import behaviour, errno_of, new, refused


def keeps(folder: Path, *names: str) -> None:
    """Hold that files with these names can be made, listed, read and removed."""
    for name in names:
        new(folder / name, name.encode("utf-8", "surrogateescape"))
    assert sorted(os.listdir(folder)) == sorted(names)
    for name in names:
        assert (folder / name).read_bytes() == name.encode("utf-8", "surrogateescape")
        (folder / name).unlink()
    assert os.listdir(folder) == []


@behaviour
def names_from_every_script(folder: Path) -> None:
    keeps(
        folder,
        "Größe",
        "Ελληνικά",
        "Русский",
        "日本語",
        "한국어",
        "עברית",
        "हिन्दी",
        "ไทย",
        "🐙📁👨‍👩‍👧",
        "ﬁ",
        "ſ",
        "İı",
    )


@behaviour
def names_composed_and_decomposed_are_two(folder: Path) -> None:
    keeps(folder, "caf\u00e9", "cafe\u0301")


@behaviour
def names_that_windows_forbids(folder: Path) -> None:
    keeps(folder, "a:b", "what?", "*", "<in>", "pipe|", 'say "so"', "back\\slash", "a\x01b", "line\nbreak", "tab\t")


@behaviour
def names_that_end_in_dot_or_space(folder: Path) -> None:
    keeps(folder, "etc.", "more...", "space ", "two  ", " . ")


@behaviour
def names_of_devices(folder: Path) -> None:
    keeps(folder, "con", "nul", "aux.txt", "com1", "LPT1", "prn")


@behaviour
def names_like_short_names(folder: Path) -> None:
    keeps(folder, "PROGRA~1", "longname~2.txt", "~", "a~b")


@behaviour
def names_with_spaces_and_signs(folder: Path) -> None:
    keeps(
        folder, " leading", "in the middle", "-rf", "--", "%41", "%", "$HOME", "`x`", "'", "#", "a;b", "&", "(1)", "[x]"
    )


@behaviour
def names_of_dots(folder: Path) -> None:
    keeps(folder, ".hidden", "..two", "a.b.c", ".a.")


@behaviour
def names_that_are_not_utf_8_are_kept_or_refused(folder: Path) -> None:
    for name in (b"caf\xe9", b"\xff\xfe"):
        number = errno_of(lambda name=name: (folder / os.fsdecode(name)).touch())  # type: ignore[misc]
        assert number in (0, errno.EILSEQ, errno.EINVAL)
        assert os.listdir(os.fsencode(folder)) == ([] if number else [name])
        assert (folder / os.fsdecode(name)).exists() == (number == 0)
        if number == 0:
            (folder / os.fsdecode(name)).unlink()


@behaviour
def name_of_255_bytes(folder: Path) -> None:
    keeps(folder, "n" * 255, "ü" * 127, "日" * 85)


@behaviour
def name_of_256_bytes_is_refused(folder: Path) -> None:
    with refused(errno.ENAMETOOLONG):
        new(folder / ("n" * 256))
    with refused(errno.ENAMETOOLONG):
        (folder / ("n" * 300)).stat()
    with refused(errno.ENAMETOOLONG):
        (folder / ("n" * 256)).mkdir()


@behaviour
def path_of_more_than_4096_bytes_is_refused(folder: Path) -> None:
    with refused(errno.ENAMETOOLONG):
        os.stat(f"{folder}/" + "d/" * 2100)


@behaviour
def names_differ_by_case(folder: Path) -> None:
    keeps(folder, "name", "Name", "NAME")


@behaviour
def name_in_another_case_is_not_found(folder: Path) -> None:
    new(folder / "Name")
    with refused(errno.ENOENT):
        (folder / "name").stat()


@behaviour
def name_keeps_the_case_it_was_made_with(folder: Path) -> None:
    assert not (folder / "readme").exists()
    new(folder / "ReadMe", b"content")
    assert os.listdir(folder) == ["ReadMe"]
    assert (folder / "ReadMe").read_bytes() == b"content"


@behaviour
def name_can_come_back_in_another_case(folder: Path) -> None:
    new(folder / "Name", b"first").unlink()
    new(folder / "NAME", b"second")
    assert os.listdir(folder) == ["NAME"]
    assert (folder / "NAME").read_bytes() == b"second"


@behaviour
def folders_can_have_any_of_these_names(folder: Path) -> None:
    for name in ("Größe [ä] 🐙", "a:b", "end.", "x" * 200):
        (folder / name).mkdir()
        new(folder / name / name, b"content")
        assert os.listdir(folder / name) == [name]
        (folder / name / name).rename(folder / name / "plain")
        (folder / name / "plain").unlink()
        (folder / name).rmdir()
    assert os.listdir(folder) == []


@behaviour
def rename_between_strange_names(folder: Path) -> None:
    names = ("plain", "Größe 🐙", "a:b?", "end. ", ".x")
    new(folder / names[0], b"content")
    for before, after in itertools.pairwise(names):
        (folder / before).rename(folder / after)
        assert os.listdir(folder) == [after]
    assert (folder / names[-1]).read_bytes() == b"content"
