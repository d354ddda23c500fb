import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.config import NameMapping
from smbfuse.vfs.names import NAME_MAX, Names, fold, needs_listing


def names(mapping: NameMapping = NameMapping.SFM, *, posix: bool = False) -> Names:
    return Names(mapping, case_sensitive=False, posix=posix)


# Local name, as SFM writes it, as SFU writes it. The SFM column is cifs_unicode.h's SFM_*, the SFU column its UNI_*.
MAPPED = [
    ("a:b", "a\uf022b", "a\uf03ab"),
    ("a*b", "a\uf021b", "a\uf02ab"),
    ("a?b", "a\uf025b", "a\uf03fb"),
    ("a<b", "a\uf023b", "a\uf03cb"),
    ("a>b", "a\uf024b", "a\uf03eb"),
    ("a|b", "a\uf027b", "a\uf07cb"),
    ("a\\b", "a\uf026b", "a\uf05cb"),
    ('a"b', "a\uf020b", 'a"b'),
    ("a\x01\x1fb", "a\uf001\uf01fb", "a\x01\x1fb"),
    ("a ", "a\uf028", "a "),
    ("a.", "a\uf029", "a."),
    ("a. ", "a.\uf028", "a. "),
    ("...", "..\uf029", "..."),
    (" ", "\uf028", " "),
    ("plain name.txt", "plain name.txt", "plain name.txt"),
    (".hidden", ".hidden", ".hidden"),
    ("Größe 📁", "Größe 📁", "Größe 📁"),
]


@pytest.mark.parametrize("local, sfm, sfu", MAPPED)
def test_reserved_characters_are_written_as_mount_cifs_writes_them(local: str, sfm: str, sfu: str) -> None:
    assert names(NameMapping.SFM).spellings(local.encode())[0] == sfm
    assert names(NameMapping.SFU).spellings(local.encode())[0] == sfu
    assert names(NameMapping.SFM).shown(sfm) == local.encode()


@pytest.mark.parametrize("mapping", [NameMapping.SFM, NameMapping.SFU])
@pytest.mark.parametrize("local, sfm, sfu", MAPPED)
def test_both_spellings_are_read_whichever_is_written(mapping: NameMapping, local: str, sfm: str, sfu: str) -> None:
    assert names(mapping).shown(sfm) == names(mapping).shown(sfu) == local.encode()


def test_a_guessed_spelling_is_never_a_stream_or_a_wildcard() -> None:
    for spelling in names(NameMapping.SFM).spellings(b'a"b:c. ')[1:]:
        assert not set(spelling) & set(':*?"<>|')
        assert spelling[-1] not in ". "


def test_unmapped_names_go_as_they_are_and_a_backslash_names_nothing() -> None:
    plain = names(NameMapping.NONE)
    assert plain.spellings(b"a:b?") == ("a:b?",)
    assert plain.spellings(b"a\\b") == ()
    assert plain.shown("a\uf022b") == "a\uf022b".encode()


def test_a_posix_server_is_asked_for_the_name_itself_first() -> None:
    assert names(posix=True).spellings(b"a:b") == ("a:b", "a\uf022b", "a\uf03ab")
    assert names(posix=True).spellings(b"a\\b")[0] == names(posix=True).to_make(b"a\\b") == "a\\b"


def test_a_backslash_separates_only_for_servers_that_are_no_posix() -> None:
    assert names(posix=True).reachable("a\\b")
    assert not names().reachable("a\\b")
    assert not names(posix=True).reachable("a/b")


def test_trailing_characters_are_decoded_at_the_end_only() -> None:
    assert names().shown("a\uf029b") == "a\uf029b".encode()
    # Decoded they would be the folder itself and the one above.
    assert names().shown("\uf029") == "\uf029".encode()


@pytest.mark.parametrize(
    "name", [b"", b"\xff", b"a\x80", b"\xc3", b"\xed\xa0\xbd\xed\xb8\x80", b"\xc0\xaf"], ids=lambda name: name.hex()
)
def test_bytes_that_are_no_wtf8_name_nothing(name: bytes) -> None:
    assert names().spellings(name) == ()


def test_unpaired_surrogates_survive_and_pairs_are_one_character() -> None:
    assert names().shown("x\ud83d") == b"x\xed\xa0\xbd"
    assert names().spellings(b"x\xed\xa0\xbd") == ("x\ud83d",)
    assert names().shown("\ud83d\ude00") == "😀".encode()


@pytest.mark.parametrize("name", ["a/b", "a\0b", "/", "\0", "x" * 256, "é" * 255, "📁" * 127 + ".jpeg", "..\uf029"])
def test_what_no_folder_can_hold_is_shown_all_the_same(name: str) -> None:
    shown = names().shown(name)
    assert 0 < len(shown) <= NAME_MAX
    assert not set(b"/\0") & set(shown)
    assert shown.decode()  # never cut inside a character


def test_shortened_names_differ_keep_their_suffix_and_are_recognised() -> None:
    first, second = names().shown("é" * 200 + "1.jpeg"), names().shown("é" * 200 + "2.jpeg")
    assert first != second
    assert first.endswith(b".jpeg")
    assert needs_listing(first)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_dots_and_nothing_are_not_shown(name: str) -> None:
    assert names().shown(name) == b""
    assert not names().reachable(name)


@given(st.text(st.characters(codec=None, min_codepoint=1), min_size=1, max_size=60))
def test_every_name_of_a_server_is_shown_as_a_name_that_leads_back_to_it(name: str) -> None:
    for mapping in NameMapping:
        spelt = names(mapping)
        shown = spelt.shown(name)
        if name in (".", ".."):
            assert shown == b""
            continue
        assert 0 < len(shown) <= NAME_MAX
        assert not set(b"/\0") & set(shown)
        joined = name.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        if not set(name) & set('/\\"*:<>?|') and name[-1] not in ". " and min(name) > "\x1f" and len(shown) < 200:
            assert joined in spelt.spellings(shown)


@pytest.mark.parametrize(
    "first, second, same",
    [
        ("Foo", "fOO", True),
        ("ÄÖÜ", "äöü", True),
        ("Дом", "дОМ", True),
        ("ß", "SS", False),
        ("ı", "I", False),
        ("\u212a", "k", False),
        ("ς", "Σ", False),
        ("𐐀", "𐐨", False),
    ],
)
def test_names_are_folded_character_by_character_as_servers_do(first: str, second: str, same: bool) -> None:
    assert (fold(first) == fold(second)) is same


@given(st.characters(max_codepoint=0xFFFF, codec=None))
def test_folding_never_joins_more_than_a_case_pair(character: str) -> None:
    folded = fold(character)
    assert len(folded) == 1
    assert fold(folded) == folded
    assert character in (folded, folded.upper())
