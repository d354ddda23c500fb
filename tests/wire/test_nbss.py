"""NetBIOS framing and names: published encodings, real packets, and what is refused."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.errors import DecodeError
from smbfuse.wire import nbss


def test_a_session_message_has_a_24_bit_length() -> None:
    assert nbss.frame(0x01FFFF) == bytes.fromhex("0001ffff")
    assert nbss.decode_header(bytes.fromhex("00fffffe")) == (nbss.SESSION_MESSAGE, 0xFFFFFE)
    assert nbss.decode_header(bytes.fromhex("85000000")) == (nbss.KEEPALIVE, 0)


# RFC 1001 14.1; the second is the RFC's own example, which is printed wrong there (it decodes to "Tge NetBIOS tame").
ENCODED = [
    ("FRED", nbss.SUFFIX_SERVER, b"EGFCEFEECACACACACACACACACACACACA"),
    ("*", 0, b"CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ("*SMBSERVER", nbss.SUFFIX_SERVER, b"CKFDENECFDEFFCFGEFFCCACACACACACA"),
]


@pytest.mark.parametrize("name, suffix, encoded", ENCODED)
def test_a_name_is_encoded_as_letters(name: str, suffix: int, encoded: bytes) -> None:
    assert nbss.encode_name(name, suffix) == encoded
    assert nbss.decode_name(encoded) == (name, suffix)


def test_names_are_upper_cased_cut_and_spelled_in_ascii() -> None:
    assert nbss.decode_name(nbss.encode_name("gröbste-maschine-von-allen", 0)) == ("GR?BSTE-MASCHIN", 0)


def test_a_mixed_case_name_of_a_strange_node_decodes_as_it_is() -> None:
    assert nbss.decode_name(b"FEGIGFCAEOGFHEECEJEPFDCAGOGBGNGF") == ("The NetBIOS nam", ord("e"))


def test_a_session_request_is_what_samba_takes() -> None:
    packet = nbss.encode_session_request(nbss.ANY_SERVER, "client")
    assert packet[:4] == bytes.fromhex("81000044")
    assert packet[4:38] == b"\x20CKFDENECFDEFFCFGEFFCCACACACACACA\0"
    assert nbss.decode_session_request(packet[4:]) == ("*SMBSERVER", "CLIENT")


@pytest.mark.parametrize("code", [0x80, 0x81, 0x82, 0x83, 0x8F])
def test_each_refusal_has_words_of_its_own(code: int) -> None:
    assert nbss.refusal(bytes((code,)))[0] == code
    assert "error 0x" not in nbss.refusal(bytes((code,)))[1]


def test_an_unknown_refusal_names_its_number() -> None:
    assert nbss.refusal(b"\x42") == (0x42, "error 0x42")


def test_a_retarget_says_where_to() -> None:
    assert nbss.decode_retarget(bytes.fromhex("c0a80102008b")) == ("192.168.1.2", 139)


STATUS = nbss.NodeStatus(
    transaction_id=0x1234,
    names=(
        nbss.NodeName("LABSRV", nbss.SUFFIX_WORKSTATION, group=False),
        nbss.NodeName("LABGRP", 0x00, group=True),
        nbss.NodeName("LABGRP", nbss.SUFFIX_SERVER, group=True),
        nbss.NodeName("LABSRV", nbss.SUFFIX_SERVER, group=False),
    ),
    unit_id=bytes(range(6)),
)


def test_a_node_status_names_the_file_server() -> None:
    assert nbss.NodeStatus.decode(STATUS.encode()) == STATUS
    assert STATUS.server_name == "LABSRV"
    assert nbss.NodeStatus(1, STATUS.names[:3], bytes(6)).server_name is None


def test_a_node_status_query_is_a_wildcard() -> None:
    query = nbss.encode_node_status_query(0x1234)
    assert query == bytes.fromhex("123400000001000000000000") + b"\x20CK" + b"A" * 30 + bytes.fromhex("0000210001")
    assert nbss.decode_node_status_query(query) == 0x1234


NONSENSE: dict[str, Callable[[], object]] = {
    "a header cut short": lambda: nbss.decode_header(b"\0\0\0"),
    "a name of a wrong length": lambda: nbss.decode_name(b"EG"),
    "a letter outside A to P": lambda: nbss.decode_name(b"Q" * 32),
    "no error code": lambda: nbss.refusal(b""),
    "a retarget cut short": lambda: nbss.decode_retarget(bytes(5)),
    "a session request with one name": lambda: nbss.decode_session_request(nbss.encode_session_request("a", "b")[4:38]),
    "a query for a status": lambda: nbss.NodeStatus.decode(nbss.encode_node_status_query(1)),
    "a status for a query": lambda: nbss.decode_node_status_query(STATUS.encode()),
    "more names than there are": lambda: nbss.NodeStatus.decode(STATUS.encode().replace(b"\x04LABSRV", b"\xffLABSRV")),
    "a status cut short": lambda: nbss.NodeStatus.decode(STATUS.encode()[:60]),
    "a negative status": lambda: nbss.NodeStatus.decode(STATUS.encode()[:2] + b"\x80\x03" + STATUS.encode()[4:]),
    "a label pointer for a scope": lambda: nbss.NodeStatus.decode(
        STATUS.encode()[:45] + b"\xc0" + STATUS.encode()[46:]
    ),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_refused(what: str) -> None:
    with pytest.raises(DecodeError):
        NONSENSE[what]()


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=2, max_size=15), st.integers(0, 255))
def test_names_survive(name: str, suffix: int) -> None:
    assert nbss.decode_name(nbss.encode_name(name, suffix)) == (name.upper(), suffix)
