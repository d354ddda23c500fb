"""What the server demands is honoured by itself, and what passes the wire is what was promised."""

from collections.abc import Callable

import pytest

from tests.relay import Relay
from tests.support.mounts import Mount
from tests.support.record import Pdu
from tests.support.samba import SambaServer

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

SECRET = "nobody on the way may read this sentence"
STATUS_PENDING = bytes.fromhex("03010000")
SIGNED_FLAG = 0x8  # SMB2_FLAGS_SIGNED, [MS-SMB2] 2.2.1
SMB1_SIGNED_FLAG = 0x4  # SMB_FLAGS2_SMB_SECURITY_SIGNATURE, [MS-CIFS] 2.2.3.1


def read(mounted: Mount, server: SambaServer) -> dict[str, object]:
    """Read a file through the mount and return what status says of the share."""
    assert mounted.run("cat", mounted.point / "secret") == SECRET
    share = mounted.status()["shares"][0]
    assert isinstance(share, dict)
    return share


def fill(server: SambaServer) -> SambaServer:
    (server.root / "secret").write_text(SECRET)
    return server


@pytest.mark.parametrize("cipher", ["AES-128-GCM", "AES-128-CCM", "AES-256-GCM", "AES-256-CCM"])
def test_each_cipher_that_a_server_may_insist_on(
    start_samba: Callable[..., SambaServer], relay_to: Callable[..., Relay], mount: Callable[..., Mount], cipher: str
) -> None:
    server = fill(start_samba(options={"server smb3 encryption algorithms": cipher, "server smb encrypt": "required"}))
    relay = relay_to(server.port)
    assert read(mount(server, {"port": relay.port}), server)["sealing"] == cipher
    assert not [pdu for pdu in relay.pdus() if SECRET.encode() in pdu.data]
    assert relay.pdus()[-1].data.startswith(b"\xfdSMB")


@pytest.mark.parametrize("algorithm", ["AES-128-GMAC", "AES-128-CMAC", "HMAC-SHA256"])
def test_each_way_of_signing_that_a_server_may_insist_on(
    start_samba: Callable[..., SambaServer], relay_to: Callable[..., Relay], mount: Callable[..., Mount], algorithm: str
) -> None:
    server = fill(start_samba(options={"server smb3 signing algorithms": algorithm, "server signing": "mandatory"}))
    relay = relay_to(server.port)
    shown = str(read(mount(server, {"port": relay.port}), server)["signing"])
    assert shown.replace("AES-", "") == algorithm.replace("AES-128-", "")
    assert all(signed(pdu) for pdu in relay.pdus()[-6:])


@pytest.mark.parametrize("vers", ["1.0", "2.0", "2.1", "3.0", "3.0.2"])
def test_signing_that_the_server_demands(
    start_samba: Callable[..., SambaServer], relay_to: Callable[..., Relay], mount: Callable[..., Mount], vers: str
) -> None:
    server = fill(start_samba(options={"server signing": "mandatory"}))
    relay = relay_to(server.port)
    assert read(mount(server, {"vers": vers, "port": relay.port}), server)["signing"]
    assert all(signed(pdu) for pdu in relay.pdus()[-6:])


@pytest.mark.parametrize("vers", ["3.0", "3.1.1"])
def test_a_share_that_alone_demands_to_be_sealed(
    start_samba: Callable[..., SambaServer], relay_to: Callable[..., Relay], mount: Callable[..., Mount], vers: str
) -> None:
    server = fill(start_samba(share_options={"smb encrypt": "required"}))
    relay = relay_to(server.port)
    read(mount(server, {"vers": vers, "port": relay.port}), server)
    assert not [pdu for pdu in relay.pdus() if SECRET.encode() in pdu.data]


def test_without_protection_the_secret_is_there_to_be_found(
    start_samba: Callable[..., SambaServer], relay_to: Callable[..., Relay], mount: Callable[..., Mount]
) -> None:
    server = fill(start_samba())
    relay = relay_to(server.port)
    read(mount(server, {"port": relay.port}), server)
    assert [pdu for pdu in relay.pdus() if SECRET.encode() in pdu.data], "the other tests here would see nothing either"


def signed(pdu: Pdu) -> bool:
    """Tell whether a message says that it is signed, and carries a signature.

    "Wait for the answer" is none, and may go without.  [MS-SMB2] 3.3.4.1.1.
    """
    if pdu.data.startswith(b"\xfeSMB") and pdu.data[8:12] == STATUS_PENDING:
        return True
    if pdu.data.startswith(b"\xffSMB"):
        return bool(pdu.data[10] & SMB1_SIGNED_FLAG) and any(pdu.data[14:22])
    return bool(pdu.data[16] & SIGNED_FLAG) and any(pdu.data[48:64])
