"""Logins with tickets, from a real KDC at a real Samba: `sec=krb5`, by a ticket cache or by a password."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smbfuse.cli.exits import Exit
from tests.relay import Relay
from tests.support.kdc import REALM, Kdc, kdc, missing_kerberos
from tests.support.mounts import Mount, Options
from tests.support.samba import SambaServer, samba_server, wait_for
from tests.support.users import User

pytestmark = [
    pytest.mark.mounts,
    pytest.mark.samba,
    pytest.mark.skipif(missing_kerberos() is not None, reason=str(missing_kerberos())),
]

PASSWORD = "Ticket, please"
BACK_WITHIN_S = 30.0
DIALECTS = [
    pytest.param({"vers": "1.0"}, id="1.0"),
    pytest.param({"vers": "2.1"}, id="2.1"),
    pytest.param({"vers": "3.1.1"}, id="3.1.1"),
    pytest.param({"vers": "3.1.1", "sign": True}, id="3.1.1 signed"),
    pytest.param({"vers": "3.1.1", "seal": True}, id="3.1.1 sealed"),
]


@pytest.fixture(scope="module")
def realm(user: User) -> Iterator[Kdc]:
    """Provide a realm that knows the mounting user."""
    with kdc() as one:
        one.add_user(user.name, PASSWORD)
        yield one


@pytest.fixture(scope="module")
def kerberized(realm: Kdc) -> Iterator[SambaServer]:
    """Provide a server that takes tickets of the realm, and no NTLM."""
    options = {
        "realm": REALM,
        "kerberos method": "dedicated keytab",
        "dedicated keytab file": f"FILE:{realm.add_service('cifs/127.0.0.1')}",
        "ntlm auth": "disabled",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in realm.environment.items():
            patch.setenv(name, value)  # for smbd: it inherits ours
        with samba_server(options=options) as server:
            yield server


@pytest.fixture
def letters(kerberized: SambaServer, user: User) -> str:
    """Provide a folder of the user's with a letter in it: its name."""
    folder = user.owns_new(kerberized.root / f"letters {secrets.token_hex(4)}")
    (folder / "letter").write_text("by ticket")
    return folder.name


def by_ticket(server: SambaServer, **more: str | int | bool) -> Options:
    return {"port": server.port, "sec": "krb5", **more}


def use(mounted: Mount, folder: Path, user: User) -> None:
    """Read and write by a mount, and see that it was the user who did, by a ticket."""
    assert mounted.run("cat", mounted.point / "letter") == "by ticket"
    mounted.run("cp", mounted.point / "letter", mounted.point / "copy")
    assert (folder / "copy").owner() == user.name
    assert mounted.status()["shares"][0]["login"].startswith("Kerberos")


@pytest.mark.parametrize("options", DIALECTS)
def test_a_ticket_is_a_login(
    kerberized: SambaServer, letters: str, realm: Kdc, user: User, mount: Callable[..., Mount], options: Options
) -> None:
    environment = realm.ticket(user.name, PASSWORD, user)
    mounted = mount(kerberized.url, by_ticket(kerberized, **options), subfolder=f"/{letters}", environment=environment)
    use(mounted, kerberized.root / letters, user)


def test_a_password_gets_its_own_ticket(
    kerberized: SambaServer, letters: str, realm: Kdc, user: User, mount: Callable[..., Mount]
) -> None:
    options = by_ticket(kerberized, credentials=str(kerberized.credentials(PASSWORD)), domain=REALM)
    mounted = mount(kerberized.url, options, subfolder=f"/{letters}", environment=realm.environment)
    use(mounted, kerberized.root / letters, user)


def test_a_lost_connection_is_made_again_by_the_same_ticket(
    kerberized: SambaServer, letters: str, realm: Kdc, user: User, mount: Callable[..., Mount]
) -> None:
    with Relay.started(("127.0.0.1", kerberized.port)) as relay:
        mounted = mount(
            kerberized.url,
            {**by_ticket(kerberized), "port": relay.port},
            subfolder=f"/{letters}",
            environment=realm.ticket(user.name, PASSWORD, user),
        )
        relay.cut()
        use(mounted, kerberized.root / letters, user)
        assert relay.accepted > 1


def test_a_mount_without_a_ticket_is_back_with_the_next_one(
    kerberized: SambaServer,
    letters: str,
    realm: Kdc,
    user: User,
    mount: Callable[..., Mount],
) -> None:
    announced = ["not connected again as long as there is no ticket"]
    environment = realm.ticket(user.name, PASSWORD, user)
    cache = Path(environment["KRB5CCNAME"].removeprefix("FILE:"))
    with Relay.started(("127.0.0.1", kerberized.port)) as relay:
        options = {**by_ticket(kerberized, timeo="3"), "port": relay.port}
        settings = {"subfolder": f"/{letters}", "environment": environment, "announced": announced}
        mounted = mount(kerberized.url, options, **settings)
        kept = cache.rename(cache.with_name("kept"))
        relay.cut()
        code, _, said = mounted.run_all("cat", mounted.point / "letter")
        assert (code, "Host is down" in said) == (1, True)
        kept.rename(cache)
        assert wait_for(lambda: mounted.run_all("cat", mounted.point / "letter")[0] == 0, BACK_WITHIN_S)
        use(mounted, kerberized.root / letters, user)
        assert announced[0] in mounted.log_text()


def test_without_a_ticket_the_user_is_told_how_to_get_one(
    kerberized: SambaServer, realm: Kdc, refused: Callable[..., str]
) -> None:
    nothing = {**realm.environment, "KRB5CCNAME": f"FILE:{realm.folder}/no-such-cache"}
    said = refused(Exit.BAD_LOGIN, kerberized.url, by_ticket(kerberized), environment=nothing)
    assert "kinit gets a ticket" in said


def test_a_wrong_password_is_told_as_the_kdc_tells_it(
    kerberized: SambaServer, realm: Kdc, refused: Callable[..., str]
) -> None:
    options = by_ticket(kerberized, credentials=str(kerberized.credentials("not this")), domain=REALM)
    said = refused(Exit.BAD_LOGIN, kerberized.url, options, environment=realm.environment)
    assert "kinit" not in said
    assert "wrong password" in said


def test_a_server_that_the_realm_does_not_know_is_named(
    kerberized: SambaServer, realm: Kdc, user: User, refused: Callable[..., str]
) -> None:
    environment = realm.ticket(user.name, PASSWORD, user)
    said = refused(Exit.BAD_LOGIN, "//localhost/share", by_ticket(kerberized), environment=environment)
    assert "cifs/localhost" in said
