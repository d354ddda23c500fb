"""From all sources to one configuration: who wins, and whose password is whose."""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

import pytest

from smbfuse.cli import settings
from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.cli.settings import Loaded, Request
from smbfuse.config import Sec, Target
from smbfuse.errors import ConfigError

OWN_NAME = pwd.getpwuid(os.getuid()).pw_name


def load(
    options: str = "",
    *,
    source: str = "//Host/Share",
    environ: Mapping[str, str] | None = None,
    files: tuple[Path, ...] = (),
) -> Loaded:
    return settings.load(Request(source, "/mnt", [options]), environ or {}, files)


def login(loaded: Loaded) -> tuple[str, str, str | None]:
    one = loaded.config.login
    return one.user, one.domain, one.password.reveal() if one.password is not None else None


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.write_text("username=file\npassword=of-file\ndomain=FILE\n")
    path.chmod(0o600)
    return path


def test_defaults() -> None:
    loaded = load()
    config = loaded.config
    assert config.target == Target("Host", "Share")
    assert (config.view.uid, config.view.gid) == (os.getuid(), os.getgid())
    assert config.mount.mountpoint == "/mnt"
    assert login(loaded) == (OWN_NAME, "", None)
    assert loaded.needs_password


def test_the_name_comes_from_the_environment_if_from_nowhere_else(credentials: Path) -> None:
    assert login(load(environ={"USER": "env"})) == ("env", "", None)
    assert login(load(environ={"USER": "LAB/env%pw"})) == ("env", "LAB", "pw")
    assert login(load(f"credentials={credentials}", environ={"USER": "env"})) == ("file", "FILE", "of-file")
    assert login(load("username=opt", environ={"USER": "env"})) == ("opt", "", None)


def test_the_order_of_passwords(credentials: Path, tmp_path: Path) -> None:
    from_file = f"credentials={credentials}"
    assert login(load(from_file, environ={"PASSWD": "env"})) == ("file", "FILE", "env")
    assert login(load(f"{from_file},password=opt", environ={"PASSWD": "env"})) == ("file", "FILE", "opt")
    assert login(load(f"{from_file},username=other")) == ("other", "", None)
    assert login(load(f"{from_file},username=file,domain=OPT")) == ("file", "OPT", "of-file")
    secret = tmp_path / "secret"
    secret.write_text("from the file\n")
    assert login(load("username=u", environ={"PASSWD_FILE": str(secret)})) == ("u", "", "from the file")


def test_a_url_is_a_login(credentials: Path) -> None:
    url = "smb://LAB;bob:pw@host:1445/share/sub"
    loaded = load(source=url, environ={"USER": "env"})
    assert login(loaded) == ("bob", "LAB", "pw")
    assert loaded.config.target == Target("host", "share", "sub", port=1445)
    assert load("port=445", source=url).config.target.port == 445
    assert login(load("username=opt,password=x", source=url)) == ("opt", "", "x")


@pytest.mark.parametrize(
    "text, expected",
    [
        (r"username=LAB\bob%pw", ("bob", "LAB", "pw")),
        ("username=LAB/bob", ("bob", "LAB", None)),
        ("username=bob@REALM.EXAMPLE", ("bob@REALM.EXAMPLE", "", None)),
        ("username=bob,workgroup=WG", ("bob", "WG", None)),
        ("username=LAB/bob%old,password=new", ("bob", "LAB", "new")),
    ],
)
def test_names_are_taken_apart(text: str, expected: tuple[str, str, str | None]) -> None:
    assert login(load(text)) == expected


def test_who_needs_no_password() -> None:
    assert not load("guest").needs_password
    assert login(load("guest")) == ("guest", "", "")
    assert login(load("guest,username=bob")) == ("bob", "", "")
    assert login(load("username=")) == ("", "", "")
    anonymous = load("sec=none,username=bob,password=x")
    assert login(anonymous) == ("", "", "")
    assert anonymous.config.login.sec is Sec.NONE
    kerberos = load("sec=krb5i")
    assert not kerberos.needs_password
    assert kerberos.config.security.sign


def test_files_have_sections(tmp_path: Path) -> None:
    system, own = tmp_path / "system", tmp_path / "own"
    system.write_text("[default]\nrsize = 1M\nsign\nusername=sys\n[other]\nrsize=7\n[HOST:share]\nacregmax=9\n")
    own.write_text("[host]\nrsize=2M\nunix\n[default]\nacregmax=3\nrsize=3M\n")
    config = load(files=(system, own)).config
    # The user's file counts more than the system's; within a file, the closer section.
    assert config.network.rsize == 2 << 20
    assert config.security.sign
    assert config.cache.attributes_s == 3
    assert config.login.user == "sys"
    assert load("rsize=4M,nosign", files=(system, own)).config.network.rsize == 4 << 20
    assert not load("nosign", files=(system,)).config.security.sign
    assert login(load("username=opt", files=(system,)))[0] == "opt"


def test_a_files_password_is_that_of_its_user(tmp_path: Path) -> None:
    path = tmp_path / "smbfuse.conf"
    path.write_text("[host]\nusername=bob\npassword=of-bob\n")
    path.chmod(0o600)
    assert login(load(files=(path,))) == ("bob", "", "of-bob")
    assert login(load("username=eve", files=(path,))) == ("eve", "", None)
    path.chmod(0o644)
    assert "others can read the password" in load(files=(path,)).warnings[0]


@pytest.mark.parametrize(
    "text, code, words",
    [
        ("[host]\nrzise=1M\n", Exit.UNKNOWN_OPTION, "did you mean rsize?"),
        ("[host]\nrsize=x\n", Exit.BAD_VALUE, "[host]"),
        ("rsize=1M\n", Exit.BAD_VALUE, "no section headers"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_place(tmp_path: Path, text: str, code: Exit, words: str) -> None:
    path = tmp_path / "smbfuse.conf"
    path.write_text(text)
    with pytest.raises(CannotMount) as caught:
        load(files=(path,))
    assert caught.value.code is code
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(files=(tmp_path,))
    assert load(files=(tmp_path / "missing",)).warnings == ()


def test_where_files_are() -> None:
    system = Path("/etc/smbfuse.conf")
    assert settings.configuration_files({}) == [system]
    assert settings.configuration_files({"HOME": "/home/me"})[1] == Path("/home/me/.config/smbfuse/smbfuse.conf")
    assert settings.configuration_files({"HOME": "/x", "XDG_CONFIG_HOME": "/c"})[1] == Path("/c/smbfuse/smbfuse.conf")
    assert settings.configuration_files({"XDG_CONFIG_HOME": "relative"}) == [system]


def test_credentials_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CannotMount) as caught:
        load(f"credentials={tmp_path / 'missing'}")
    assert caught.value.code is Exit.CREDENTIALS


def test_a_credentials_file_that_others_read_is_warned_of(credentials: Path) -> None:
    credentials.chmod(0o644)
    assert "chmod 600" in " ".join(load(f"credentials={credentials}").warnings)


def test_where_it_is_mounted_from() -> None:
    assert load("prefixpath=sub/dir").config.target.path == "sub/dir"
    assert load("prefixpath=deep", source="//h/s/sub").config.target.path == "sub/deep"
    assert load("source=//other/share").config.target == Target("other", "share")


def test_permissions() -> None:
    view = load("umask=027").config.view
    assert (view.file_mode, view.dir_mode) == (0o750, 0o750)
    view = load("umask=027,file_mode=0600").config.view
    assert (view.file_mode, view.dir_mode) == (0o600, 0o750)


@pytest.mark.parametrize(
    "uid, options, expected",
    [
        (0, "", (True, True)),
        (0, "noperm", (True, False)),
        (0, "noallow_other", (False, False)),
        (1000, "", (False, False)),
        (1000, "allow_other", (True, True)),
        (1000, "allow_other,noperm", (True, False)),
        (1000, "perm", (False, True)),
    ],
)
def test_others_are_let_in_by_root_and_with_the_kernels_check(
    monkeypatch: pytest.MonkeyPatch, uid: int, options: str, expected: tuple[bool, bool]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    mount = load(options).config.mount
    assert (mount.allow_other, mount.check_permissions) == expected


def test_no_secret_shows() -> None:
    loaded = load("username=u,password=hidden-word,password2=hidden-too")
    assert "hidden" not in repr(loaded)
    assert loaded.config.login.password2 is not None
