"""Credential sources: what mount.cifs reads, what editors leave behind, and what must never be shown."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.config import Secret
from smbfuse.errors import ConfigError
from smbfuse.security import secrets
from smbfuse.security.secrets import Credentials, from_environment, from_systemd, parse_credentials, split_user


def revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def values(found: Credentials) -> tuple[str | None, str | None, str | None, str | None]:
    """Return user, domain and the two passwords, revealed."""
    return found.user, found.domain, revealed(found.password), revealed(found.password2)


def parse(text: str | bytes) -> Credentials:
    return parse_credentials(text.encode() if isinstance(text, str) else text, where="file")


@pytest.mark.parametrize(
    "text, user, domain, password",
    [
        ("user", "user", None, None),
        ("DOM\\user", "user", "DOM", None),
        ("DOM/user", "user", "DOM", None),
        ("DOM/user%pass", "user", "DOM", "pass"),
        ("user%pa%ss/wo\\rd", "user", None, "pa%ss/wo\\rd"),
        ("user%", "user", None, ""),
        ("user@realm.example", "user@realm.example", None, None),
        ("\\user", "user", "", None),
        ("DOM\\us/er", "us/er", "DOM", None),
        ("", "", None, None),
    ],
)
def test_split_user(text: str, user: str, domain: str | None, password: str | None) -> None:
    found = split_user(text)
    assert (found.user, found.domain, revealed(found.password)) == (user, domain, password)


def test_every_line_of_a_file() -> None:
    found = parse("username=user\npassword=pä,ss=word\npassword2=next\ndomain=DOM\n")
    assert values(found) == ("user", "DOM", "pä,ss=word", "next")
    assert found.notes == ()


def test_keys_count_by_their_beginning_as_in_mount_cifs() -> None:
    assert values(parse("USER=u\nPass=p\npass2=q\ndom=D")) == ("u", "D", "p", "q")


def test_user_line_may_hold_everything() -> None:
    assert values(parse("username=DOM/user%secret")) == ("user", "DOM", "secret", None)
    assert values(parse("domain=A\nusername=user")) == ("user", "A", None, None)


def test_empty_values_are_values() -> None:
    assert values(parse("username=\npassword=\n")) == ("", None, "", None)


@pytest.mark.parametrize(
    "data, note",
    [
        (b"username=user\r\npassword=secret\r\n", "CR LF"),
        (b"\xef\xbb\xbfusername=user\npassword=secret", "byte order mark"),
        ("username=user\npassword=secret".encode("utf-16"), "UTF-16"),
        (b"\tusername=user\n  password=secret", "blanks around the key"),
        (b"# mine\n\nusername=user\npassword=old\npassword=secret", "the last one counts"),
        (b"username=user\npassword=secret\nwhatever", "ignored: line 3"),
    ],
)
def test_what_editors_leave_behind_is_tolerated_and_said(data: bytes, note: str) -> None:
    found = parse(data)
    assert values(found) == ("user", None, "secret", None)
    assert len(found.notes) == 1 + (b"  password" in data)
    assert all(text.startswith("file: ") and note in text for text in found.notes)


@pytest.mark.parametrize(
    "value, note", [("'secret'", "quotes"), ('"secret"', "quotes"), (" secret", "blank"), ("secret ", "blank")]
)
def test_a_password_is_taken_as_it_stands(value: str, note: str) -> None:
    found = parse(f"password={value}\n")
    assert values(found)[2] == value
    assert len(found.notes) == 1
    assert note in found.notes[0]


def test_latin_1_is_read_and_said() -> None:
    found = parse("password=Größe".encode("latin-1"))
    assert values(found)[2] == "Größe"
    assert "Latin-1" in found.notes[0]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    found = parse(data)
    assert found.password is None or isinstance(found.password, Secret)


@given(st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=8, max_size=12))
def test_no_note_and_no_repr_shows_a_word_of_the_file(word: str) -> None:
    # A file that is no credentials file may hold other secrets (CVE-2022-29869 of mount.cifs).
    word = f"zq{word}"  # no word of our own sentences: hypothesis tries those too
    found = parse(f"root:{word}\nsecret={word}\npassword='{word}'\n {word}\n")
    assert found.notes
    assert word not in repr(found)


def test_a_file_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "cred"
    path.write_text("username=user\npassword=secret\n")
    path.chmod(0o600)
    found = secrets.read_credentials_file(str(path))
    assert values(found) == ("user", None, "secret", None)
    assert found.notes == ()


@pytest.mark.parametrize("mode, who", [(0o640, "its group"), (0o644, "everybody"), (0o604, "everybody")])
def test_a_file_that_others_can_read_is_said(tmp_path: Path, mode: int, who: str) -> None:
    path = tmp_path / "cred"
    path.write_text("password=secret\n")
    path.chmod(mode)
    (note,) = secrets.read_credentials_file(str(path)).notes
    assert who in note
    assert "chmod 600" in note


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        secrets.read_credentials_file(str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="directory"):
        secrets.read_credentials_file(str(tmp_path))
    with pytest.raises(ConfigError, match="too large"):
        secrets.read_credentials_file("/dev/zero")


def test_environment_as_mount_cifs_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("from file\nsecond line\n")
    assert values(from_environment({})) == (None, None, None, None)
    assert values(from_environment({"USER": "DOM\\u%p"})) == ("u", "DOM", "p", None)
    everything = {"USER": "u%weaker", "PASSWD": "from variable", "PASSWD_FILE": str(path), "PASSWD2_FILE": str(path)}
    assert values(from_environment(everything)) == ("u", None, "from variable", "from file")
    assert values(from_environment({"PASSWD_FILE": str(path)}))[2] == "from file"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Provide a pipe, and close what is left of it."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


def test_a_descriptor_is_read_to_the_end_of_its_line_and_no_further(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, "gräßlich\r\nfor somebody else\n".encode())
    assert values(from_environment({"PASSWD_FD": str(reading)}))[2] == "gräßlich"
    assert os.read(reading, 100) == b"for somebody else\n"


def test_a_descriptor_that_ends_without_a_line(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, b"secret")
    os.close(writing)
    assert values(from_environment({"PASSWD_FD": str(reading)}))[2] == "secret"


@pytest.mark.parametrize("text", ["", "x", "-1", "3.0"])
def test_a_descriptor_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="PASSWD_FD"):
        from_environment({"PASSWD_FD": text})


def test_sources_that_are_named_and_missing(pipe: tuple[int, int], tmp_path: Path) -> None:
    reading, _ = pipe
    os.close(reading)
    with pytest.raises(ConfigError, match="PASSWD_FD"):
        from_environment({"PASSWD_FD": str(reading)})
    with pytest.raises(ConfigError, match="No such file"):
        from_environment({"PASSWD_FILE": str(tmp_path / "missing")})


def test_systemd_credentials(tmp_path: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert values(from_systemd({})) == (None, None, None, None)
    assert values(from_systemd(environ)) == (None, None, None, None)
    whole = tmp_path / secrets.CREDENTIALS_NAME
    whole.write_text("username=user\npassword=from whole\n")
    whole.chmod(0o400)
    assert values(from_systemd(environ)) == ("user", None, "from whole", None)
    (tmp_path / secrets.PASSWORD_NAME).write_text("alone\n")
    assert values(from_systemd(environ)) == ("user", None, "alone", None)


def test_a_stronger_source_is_completed_by_a_weaker_one() -> None:
    file = Credentials(user="u", domain="D", password=Secret("p"), notes=("weak",))
    assert values(Credentials().or_else(file)) == ("u", "D", "p", None)
    assert values(Credentials(password=Secret("q"), notes=("strong",)).or_else(file)) == ("u", "D", "q", None)
    assert Credentials(notes=("strong",)).or_else(file).notes == ("strong", "weak")


def test_a_password_is_not_used_for_another_user() -> None:
    file = Credentials(user="somebody", domain="D", password=Secret("p"), password2=Secret("q"))
    assert values(Credentials(user="me").or_else(file)) == ("me", None, None, None)
