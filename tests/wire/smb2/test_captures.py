"""Real conversations: what Samba's client sent comes out byte for byte, and every decoder's value encodes back."""

from pathlib import Path

import pytest

from smbfuse.errors import DecodeError
from smbfuse.wire.smb2.breaks import LeaseBreak, decode_break
from smbfuse.wire.smb2.header import UNSOLICITED, Command, Header
from smbfuse.wire.smb2.message import HEADER_SIZE
from tests.wire.smb2.elements import OWN_CAPTURES, SHARED_CAPTURES, elements

OWN = sorted(OWN_CAPTURES.glob("own-sign-SMB*.pcap"))
SHARED_OWN = sorted(SHARED_CAPTURES.glob("own-*smbclient*"))
OTHERS = sorted(path for path in SHARED_CAPTURES.glob("*") if "smb2" in path.name or "smb3" in path.name)

# Captures that cannot be read to their end, and why. Nothing here is a fault of the decoder.
UNREADABLE = {
    "zeek-smb2_fscontrol.pcap": "one packet out of the middle of a message",
    "zeek-smb2_krb.pcap": "the server's segments are not all there",
}

needs_shared = pytest.mark.skipif(not SHARED_CAPTURES.is_dir(), reason="the collection of captures is not beside us")


def name(path: Path) -> str:
    return path.name.partition(".")[0]


@pytest.mark.parametrize("capture", OWN, ids=name)
def test_requests_of_sambas_client_come_out_byte_for_byte(capture: Path) -> None:
    assert_requests_equal(capture)


@needs_shared
@pytest.mark.parametrize("capture", SHARED_OWN, ids=name)
def test_requests_of_sambas_client_to_every_server_come_out_byte_for_byte(capture: Path) -> None:
    if "smb1" in capture.name or "NT1" in capture.name or "CORE" in capture.name:
        pytest.skip("SMB1")
    assert_requests_equal(capture)


def assert_requests_equal(capture: Path) -> None:
    seen = set()
    for element in elements(capture):
        if element.is_response or element.kind is None:
            continue
        encoded = element.kind.decode(element.data).encode()
        padding = element.body[len(encoded) :]
        assert encoded == element.body[: len(encoded)], Command(element.header.command).name
        assert not padding or (element.header.next_command and not any(padding))
        seen.add(element.header.command)
    # A multi-protocol NEGOTIATE was an SMB1 message in two of them.
    assert {Command.SESSION_SETUP, Command.TREE_CONNECT, Command.CREATE, Command.READ, Command.QUERY_DIRECTORY} <= seen


@pytest.mark.parametrize("capture", OWN, ids=name)
def test_what_is_decoded_encodes_to_what_decodes_alike(capture: Path) -> None:
    assert_round_trips(capture)


@needs_shared
@pytest.mark.parametrize("capture", SHARED_OWN + OTHERS, ids=name)
def test_what_is_decoded_of_any_capture_encodes_to_what_decodes_alike(capture: Path) -> None:
    if capture.name in UNREADABLE:
        with pytest.raises(DecodeError):
            list(elements(capture))
        return
    assert_round_trips(capture)


def assert_round_trips(capture: Path) -> None:
    for element in elements(capture):
        header = Header.decode(element.data)
        assert header.encode() == element.data[:HEADER_SIZE]
        if element.header.message_id == UNSOLICITED:
            notice = decode_break(element.data)
            assert decode_break(element.data[:HEADER_SIZE] + notice.encode()) == notice
        elif element.kind is not None:
            value = element.kind.decode(element.data)
            assert element.kind.decode(element.data[:HEADER_SIZE] + value.encode()) == value


@needs_shared
def test_a_lease_break_of_windows_is_read() -> None:
    breaks = [
        decode_break(element.data)
        for element in elements(SHARED_CAPTURES / "suricata-smb2-delete.pcap")
        if element.header.message_id == UNSOLICITED
    ]
    assert len(breaks) == 5
    assert all(isinstance(notice, LeaseBreak) and notice.new_lease_state == 0 for notice in breaks)
