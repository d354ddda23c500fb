"""The list of shares: what a server sends, and refusal of everything that is not a list."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.errors import DecodeError
from smbfuse.wire import srvsvc


def ndr_string(text: str) -> bytes:
    raw = (text + "\0").encode("utf-16-le", "surrogatepass")
    return struct.pack("<III", len(raw) // 2, 0, len(raw) // 2) + raw + bytes(-len(raw) % 4)


def enum_stub(shares: list[srvsvc.ShareInfo], status: int = 0) -> bytes:
    """Encode a NetrShareEnum reply, as a server does."""
    stub = struct.pack("<IIIIII", 1, 1, 0x20000, len(shares), 0x20004, len(shares))
    for share in shares:
        stub += struct.pack("<III", 0x20008, share.kind | (0x80000000 if share.special else 0), 0x2000C)
    for share in shares:
        stub += ndr_string(share.name) + ndr_string(share.remark)
    return stub + struct.pack("<IIII", len(shares), 0x20010, 0, status)


SHARES = [
    srvsvc.ShareInfo("Büro, alt", srvsvc.TYPE_DISK, False, "the old office"),
    srvsvc.ShareInfo("IPC$", srvsvc.TYPE_PIPE, True, "IPC Service"),
    srvsvc.ShareInfo("print", srvsvc.TYPE_PRINTER, False, ""),
]


def test_shares_are_read_as_a_server_sends_them() -> None:
    assert srvsvc.decode_share_enum(enum_stub(SHARES)) == SHARES
    assert srvsvc.decode_share_enum(enum_stub([])) == []


def test_the_bind_names_srvsvc_3_0_and_ndr() -> None:
    # C706 12.6.4.3: header, fragment sizes, no association group, one context: srvsvc 3.0 over NDR 2.0.
    assert srvsvc.encode_bind().hex() == (
        "05000b03100000004800000001000000"
        "b810b810000000000100000000000100"
        "c84f324b7016d30112785a47bf6ee18803000000"
        "045d888aeb1cc9119fe808002b10486002000000"
    )


def test_a_refused_bind_is_an_error() -> None:
    accepted = struct.pack("<HHIH", 4280, 4280, 1, 13) + b"\\PIPE\\srvsvc\0" + b"\0" + struct.pack("<B3xHH", 1, 0, 0)
    header = struct.pack("<BBBBIHHI", 5, 0, 12, 3, 0x10, 16 + len(accepted) + 20, 0, 1)
    srvsvc.check_bind_ack(header + accepted + bytes(20))
    refused = accepted[:-4] + struct.pack("<HH", 2, 1)
    with pytest.raises(DecodeError, match="refused to bind"):
        srvsvc.check_bind_ack(header + refused + bytes(20))


def test_a_refused_enumeration_is_an_error() -> None:
    with pytest.raises(DecodeError, match="Windows error 5"):
        srvsvc.decode_share_enum(enum_stub([], status=5))


def test_a_fault_is_an_error_with_its_status() -> None:
    fault = struct.pack("<BBBBIHHI", 5, 0, 3, 3, 0x10, 32, 0, 2) + struct.pack("<IHBxI4x", 32, 0, 0, 0x1C010003)
    with pytest.raises(DecodeError, match="0x1C010003"):
        srvsvc.decode_fragment(fault)


@given(st.data())
def test_any_bytes_end_in_a_value_or_a_decode_error(data: st.DataObject) -> None:
    stub = bytearray(enum_stub(SHARES))
    for _ in range(data.draw(st.integers(1, 4))):
        stub[data.draw(st.integers(0, len(stub) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(stub[: data.draw(st.integers(0, len(stub)))])
    for decode in (srvsvc.decode_share_enum, srvsvc.decode_fragment, srvsvc.check_bind_ack):
        try:
            decode(cut)
        except DecodeError:
            pass
