"""Durable handles on the wire: golden bytes of each structure, and what is refused."""

import pytest

from smbfuse.errors import DecodeError
from smbfuse.wire.record import Record
from smbfuse.wire.smb2 import control, durable
from smbfuse.wire.smb2.create import CreateContext, decode_contexts, encode_contexts

FILE_ID = bytes(range(0x10, 0x20))
GUID = bytes(range(0x20, 0x30))

GOLDEN: dict[str, tuple[Record, str]] = {
    "DHnQ": (durable.DurableRequest(), "00000000000000000000000000000000"),
    "DHnQ response": (durable.DurableResponse(), "0000000000000000"),
    "DHnC": (durable.DurableReconnect(FILE_ID), "101112131415161718191a1b1c1d1e1f"),
    "DH2Q": (
        durable.DurableRequestV2(0x01020304, durable.DurableFlags.PERSISTENT, GUID),
        "04030201 02000000 0000000000000000 202122232425262728292a2b2c2d2e2f",
    ),
    "DH2Q response": (durable.DurableResponseV2(0x01020304, 2), "04030201 02000000"),
    "DH2C": (
        durable.DurableReconnectV2(FILE_ID, GUID, 2),
        "101112131415161718191a1b1c1d1e1f 202122232425262728292a2b2c2d2e2f 02000000",
    ),
    "resiliency": (control.NetworkResiliencyRequest(0x01020304), "04030201 00000000"),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_durable_structures(case: str) -> None:
    value, digits = GOLDEN[case]
    data = bytes.fromhex(digits)
    assert value.encode() == data
    assert type(value).decode(data) == value
    for size in range(len(data)):
        with pytest.raises(DecodeError):
            type(value).decode(data[:size])


def test_reserved_bytes_are_ignored() -> None:
    assert durable.DurableResponse.decode(b"\xff" * 8) == durable.DurableResponse()
    said = durable.DurableRequestV2.decode(bytes(8) + b"\xff" * 8 + GUID)
    assert said == durable.DurableRequestV2(0, 0, GUID)


def test_a_chain_as_a_client_of_windows_sends_it() -> None:
    contexts = (
        CreateContext(durable.DURABLE_REQUEST_V2, durable.DurableRequestV2(0, 0, GUID).encode()),
        CreateContext(durable.DURABLE_RECONNECT, durable.DurableReconnect(FILE_ID).encode()),
    )
    chain = encode_contexts(contexts)
    assert chain.hex() == (
        "380000001000040000001800200000004448325100000000"
        "00000000000000000000000000000000202122232425262728292a2b2c2d2e2f"
        "0000000010000400000018001000000044486e4300000000101112131415161718191a1b1c1d1e1f"
    )
    assert decode_contexts(chain) == contexts
