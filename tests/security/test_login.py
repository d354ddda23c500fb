"""Logins against pyspnego's own acceptor, in this process, and against servers that misbehave."""

from pathlib import Path

import pytest
import spnego
from hypothesis import given
from hypothesis import strategies as st
from spnego.exceptions import SpnegoError

from smbfuse.config import Login, Sec, Secret
from smbfuse.errors import AuthenticationFailed, ConfigError, SecurityRefused
from smbfuse.security.login import MOST_STEPS, LoginExchange, begin_login

PASSWORD = "Größe 🐙"
NTLM_OID = bytes.fromhex("06 0a 2b 06 01 04 01 82 37 02 02 0a")
MIC_FLAG = bytes.fromhex("0600 0400 02000000")  # MsvAvFlags, [MS-NLMP] 2.2.2.1


@pytest.fixture(autouse=True)
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the acceptor its accounts; it looks them up by the domain that the client names."""
    file = tmp_path / "accounts"
    file.write_text(f"DOM:user:{PASSWORD}\n:user:{PASSWORD}\n:user@dom.example:{PASSWORD}\n", encoding="utf-8")
    monkeypatch.setenv("NTLM_USER_FILE", str(file))
    monkeypatch.delenv("LM_COMPAT_LEVEL", raising=False)


def acceptor(*, raw: bool) -> spnego.ContextProxy:
    options = spnego.NegotiateOptions.use_ntlm if raw else spnego.NegotiateOptions.use_negotiate
    return spnego.server(protocol="ntlm" if raw else "negotiate", options=options)


def login(sec: Sec = Sec.DEFAULT, *, user: str = "user", domain: str = "DOM", password: str = PASSWORD) -> Login:
    return Login(user, domain, Secret(password), sec=sec)


def begin(who: Login | None = None, hint: bytes | None = None) -> LoginExchange:
    return begin_login(who or login(), host="server.example", hint=hint)


def converse(client: LoginExchange, server: spnego.ContextProxy) -> tuple[list[bytes], bytes]:
    """Carry tokens until the server is satisfied; return what the client sent, and the server's last token."""
    sent, answer = [], b""
    while not server.complete:
        sent.append(client.step(answer))
        answer = server.step(sent[-1]) or b""
    return sent, answer


@pytest.mark.parametrize("who", [login(), login(domain=""), login(user="user@dom.example", domain="")], ids=str)
def test_spnego_ntlm(who: Login) -> None:
    client, server = begin(who), acceptor(raw=False)
    sent, last = converse(client, server)
    client.finish(last)
    assert client.name == "SPNEGO/NTLM"
    assert client.complete
    assert client.session_key == server.session_key
    assert len(client.session_key) == 16
    assert "cifs/server.example".encode("utf-16-le") in sent[-1]  # MsvAvTargetName
    assert MIC_FLAG in sent[-1]
    assert NTLM_OID in sent[0]


def test_spnego_offers_ntlm_alone() -> None:
    first = begin().step(b"")
    assert first.count(b"\x06") >= 1
    assert bytes.fromhex("2a864886f712010202") not in first  # Kerberos
    assert bytes.fromhex("2a864882f712010202") not in first  # Kerberos by Microsoft's older number


def test_spnego_takes_the_hint_of_the_negotiate_response() -> None:
    hint = acceptor(raw=False).step()
    assert hint is not None
    client, server = begin(hint=hint), acceptor(raw=False)
    client.finish(converse(client, server)[1])
    assert client.session_key == server.session_key


def test_a_hint_without_ntlm_ends_the_login() -> None:
    hint = acceptor(raw=False).step()
    assert hint is not None
    with pytest.raises(AuthenticationFailed, match="SPNEGO/NTLM login"):
        begin(hint=hint.replace(NTLM_OID, NTLM_OID[:-1] + b"\x7f")).step(b"")


@pytest.mark.parametrize("sec, hint", [(Sec.DEFAULT, b""), (Sec.NTLMSSP, None), (Sec.NTLMSSP, b"`\x03")])
def test_ms_smb_3_2_5_2_raw_ntlmssp(sec: Sec, hint: bytes | None) -> None:
    client, server = begin(login(sec), hint), acceptor(raw=True)
    sent, last = converse(client, server)
    client.finish(last)
    assert client.name == "NTLMSSP"
    assert [token[:12] for token in sent] == [b"NTLMSSP\0\1\0\0\0", b"NTLMSSP\0\3\0\0\0"]
    assert client.session_key == server.session_key
    assert MIC_FLAG in sent[-1]


def test_success_without_a_last_token_is_enough_for_ntlm() -> None:
    client = begin()
    converse(client, acceptor(raw=False))
    client.finish(b"")
    assert len(client.session_key) == 16


def test_rfc_4178_5_a_wrong_mech_list_mic_is_refused() -> None:
    client = begin()
    _, last = converse(client, acceptor(raw=False))
    assert len(last) > 16
    with pytest.raises(AuthenticationFailed, match="MIC"):
        client.finish(last[:-1] + bytes((last[-1] ^ 1,)))


def test_success_before_the_login_is_complete_is_refused() -> None:
    for client in (begin(), begin(Login()), begin(login(Sec.NTLMSSP))):
        client.step(b"")
        assert not client.complete
        with pytest.raises(AuthenticationFailed, match="before it was complete"):
            client.finish(b"")


def test_a_server_that_never_ends_is_left() -> None:
    client = begin()
    sent, _ = converse(client, acceptor(raw=False))
    incomplete = bytes.fromhex("a1073005a0030a0101")  # NegTokenResp: accept-incomplete, and nothing else
    for _ in range(MOST_STEPS - len(sent)):
        client.step(incomplete)
    with pytest.raises(AuthenticationFailed, match="never comes to an end"):
        client.step(incomplete)


@given(token=st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: b"NTLMSSP\0\2\0\0\0" + tail))
@pytest.mark.parametrize("who", [login(), login(Sec.NTLMSSP), Login()], ids=["spnego", "raw", "anonymous"])
def test_whatever_the_server_answers_it_is_a_token_or_a_refusal(who: Login, token: bytes) -> None:
    client = begin(who)
    client.step(b"")
    try:
        assert client.step(token or b"\0")
    except AuthenticationFailed:
        assert not client.complete


def test_no_variable_of_the_environment_brings_ntlm_v1_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_COMPAT_LEVEL", "1")
    for raw in (False, True):
        client = begin(login(Sec.NTLMSSP if raw else Sec.DEFAULT))
        with pytest.raises(SecurityRefused, match="LM_COMPAT_LEVEL"):
            converse(client, acceptor(raw=raw))


def test_a_backslash_in_a_name_without_domain_stays_in_the_name() -> None:
    challenge = acceptor(raw=True).step(begin(login(Sec.NTLMSSP)).step(b""))
    assert challenge is not None
    client = begin(login(Sec.NTLMSSP, user="a\\b", domain=""))
    client.step(b"")
    assert "a\\b".encode("utf-16-le") in client.step(challenge)


@pytest.mark.parametrize("who", [Login(), Login("user", sec=Sec.NONE), Login(guest=True)], ids=str)
def test_ms_nlmp_3_1_5_1_2_anonymous(who: Login) -> None:
    client = begin(who)
    negotiate = client.step(b"")
    challenge = acceptor(raw=True).step(negotiate)
    assert challenge is not None
    authenticate = client.step(challenge)
    lm_size, lm_at = int.from_bytes(authenticate[12:14], "little"), int.from_bytes(authenticate[16:20], "little")
    assert authenticate[lm_at : lm_at + lm_size] == b"\0"
    assert [int.from_bytes(authenticate[at : at + 2], "little") for at in (20, 28, 36, 44, 52)] == [0] * 5
    assert int.from_bytes(authenticate[60:64], "little") & 0x0800  # NTLMSSP_NEGOTIATE_ANONYMOUS
    client.finish(b"")
    assert (client.name, client.session_key) == ("anonymous", b"")


@pytest.mark.parametrize("sec", [Sec.NTLM, Sec.LM, Sec.PLAINTEXT])
def test_the_weak_logins_exist_only_without_extended_security(sec: Sec) -> None:
    with pytest.raises(ConfigError, match=f"sec={sec.value}.*vers=1.0"):
        begin(login(sec))


def test_kerberos_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spnego._gss.HAS_GSSAPI", False)
    for who in (login(Sec.KRB5), Login(sec=Sec.KRB5)):
        with pytest.raises(ConfigError, match=r"pip install 'smbfuse\[kerberos\]'"):
            begin(who).step(b"")


class FakeContext:
    """Stands for a context of pyspnego with GSSAPI behind it, which is not installed everywhere."""

    session_key = bytes(range(32))

    def __init__(self, *, protocol: str = "kerberos", error: Exception | None = None) -> None:
        self.negotiated_protocol = protocol
        self.complete = False
        self.error = error
        self.taken: list[bytes | None] = []

    def step(self, token: bytes | None = None) -> bytes | None:
        if self.error is not None:
            raise self.error
        self.taken.append(token)
        self.complete = len(self.taken) == 2
        return None if self.complete else b"AP-REQ"


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeContext]:
    """Provide the contexts that pyspnego will give, by protocol, for a test to change."""
    made = {"negotiate": FakeContext(), "kerberos": FakeContext()}

    def client(_: object, **request: object) -> FakeContext:
        assert (request["service"], request["hostname"]) == ("cifs", "server.example")
        return made[str(request["protocol"])]

    monkeypatch.setattr("smbfuse.security.login.spnego.client", client)
    return made


def test_kerberos(contexts: dict[str, FakeContext]) -> None:
    client = begin(login(Sec.KRB5), hint=b"hint")
    assert contexts["negotiate"].taken == []  # nothing is asked of the network before the first step
    assert client.step(b"") == b"AP-REQ"
    assert client.session_key == b""
    with pytest.raises(AuthenticationFailed, match="before it was complete"):
        client.finish(b"")  # the server has not proved itself
    client.finish(b"AP-REP")
    assert contexts["negotiate"].taken == [b"hint", b"AP-REP"]
    assert (client.name, client.session_key) == ("Kerberos", bytes(range(32)))


def test_kerberos_never_becomes_ntlm(contexts: dict[str, FakeContext]) -> None:
    contexts["negotiate"] = FakeContext(protocol="ntlm")
    with pytest.raises(AuthenticationFailed, match="does not offer Kerberos"):
        begin(login(Sec.KRB5)).step(b"")
    contexts["negotiate"] = FakeContext()
    client = begin(login(Sec.KRB5))
    client.step(b"")
    contexts["negotiate"].negotiated_protocol = "ntlm"
    with pytest.raises(AuthenticationFailed, match="another mechanism"):
        client.step(b"token")


@pytest.mark.parametrize("password, hint", [(None, "; kinit gets a ticket"), (Secret("x"), "")])
def test_kerberos_says_why_there_is_no_ticket(
    contexts: dict[str, FakeContext], password: Secret | None, hint: str
) -> None:
    words = "Major (458752): No credentials, Minor (2529639053): No cache at all"
    no_ticket = SpnegoError(1, context_msg="Processing security token")
    no_ticket.base_error = Exception(words)
    contexts["negotiate"], contexts["kerberos"] = FakeContext(protocol="ntlm"), FakeContext(error=no_ticket)
    with pytest.raises(AuthenticationFailed) as caught:
        begin(Login("user", "dom.example", password, sec=Sec.KRB5)).step(b"")
    assert str(caught.value).startswith(f"Kerberos login: No cache at all{hint}")


def test_a_wrong_password_is_called_so_whatever_kerberos_calls_it(contexts: dict[str, FakeContext]) -> None:
    refused = type("Krb5Error", (Exception,), {"err_code": -1765328353})("Decrypt integrity check failed -1765328353")
    contexts["negotiate"], contexts["kerberos"] = FakeContext(protocol="ntlm"), FakeContext(error=refused)
    with pytest.raises(AuthenticationFailed, match="wrong password"):
        begin(Login("user", "dom.example", Secret("x"), sec=Sec.KRB5)).step(b"")


def test_numbers_of_the_library_are_not_for_users(contexts: dict[str, FakeContext]) -> None:
    unreachable = Exception("Cannot contact any KDC for realm 'DOM.EXAMPLE' -1765328228")
    contexts["negotiate"], contexts["kerberos"] = FakeContext(protocol="ntlm"), FakeContext(error=unreachable)
    with pytest.raises(AuthenticationFailed, match=r"'DOM.EXAMPLE'$"):
        begin(Login("user", "dom.example", Secret("x"), sec=Sec.KRB5)).step(b"")


@pytest.mark.parametrize(
    "who, credential",
    [
        (Login("user", "dom.example", Secret("x"), sec=Sec.KRB5), spnego.Password("user@DOM.EXAMPLE", "x")),
        (Login("user@A.B", "dom", Secret("x"), sec=Sec.KRB5), spnego.Password("user@A.B", "x")),
        (Login("user", sec=Sec.KRB5), spnego.CredentialCache("user")),
        (Login(sec=Sec.KRB5), spnego.CredentialCache(None)),
    ],
    ids=str,
)
def test_kerberos_principal(monkeypatch: pytest.MonkeyPatch, who: Login, credential: spnego.Credential) -> None:
    seen: list[object] = []

    def client(credential: object, **_: object) -> FakeContext:
        seen.append(credential)
        return FakeContext()

    monkeypatch.setattr("smbfuse.security.login.spnego.client", client)
    begin(who).step(b"")
    assert seen == [credential]


def test_the_password_is_in_no_token_and_no_repr() -> None:
    client = begin()
    sent, _ = converse(client, acceptor(raw=False))
    for encoding in ("utf-8", "utf-16-le"):
        assert not any(PASSWORD.encode(encoding) in token for token in sent)
    assert PASSWORD not in repr(vars(client))
