"""SIDs and security descriptors: golden bytes, round trips, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.errors import DecodeError
from smbfuse.wire.descriptor import (
    Descriptor,
    SecurityInformation,
    Sid,
    allowing,
    group_id,
    nfs_mode,
    sid_size,
    unix_group,
    unix_user,
    user_id,
)

U32 = st.integers(0, 2**32 - 1)
SIDS = st.builds(Sid, st.integers(0, 2**48 - 1), st.lists(U32, max_size=15).map(tuple))

GOLDEN = [
    (Sid(5, (32, 544)), "0102 000000000005 20000000 20020000", "S-1-5-32-544"),
    (unix_user(1000), "0102 000000000016 01000000 e8030000", "S-1-22-1-1000"),
    (unix_group(100), "0102 000000000016 02000000 64000000", "S-1-22-2-100"),
    (nfs_mode(0o640), "0103 000000000005 58000000 03000000 a0010000", "S-1-5-88-3-416"),
    (Sid(0, ()), "0100 000000000000", "S-1-0"),
]


@pytest.mark.parametrize("sid, digits, text", GOLDEN, ids=lambda part: part if isinstance(part, str) else "")
def test_golden_sids(sid: Sid, digits: str, text: str) -> None:
    data = bytes.fromhex(digits)
    assert sid.encode() == data
    assert Sid.decode(data) == sid
    assert str(sid) == text


@given(SIDS)
def test_any_sid_survives_the_wire_and_no_cut_does(sid: Sid) -> None:
    data = sid.encode()
    assert Sid.decode(data) == sid
    assert sid_size(b"before" + data + b"behind", 6) == len(data)
    for size in range(len(data)):
        with pytest.raises(DecodeError):
            Sid.decode(data[:size])


@pytest.mark.parametrize("digits", ["0202 000000000005 20000000 20020000", "0110 000000000005" + "00" * 64])
def test_other_revisions_and_too_many_sub_authorities_are_refused(digits: str) -> None:
    with pytest.raises(DecodeError):
        Sid.decode(bytes.fromhex(digits))


@pytest.mark.parametrize(
    "sid, uid, gid",
    [
        (unix_user(7), 7, None),
        (unix_group(8), None, 8),
        (Sid(5, (88, 1, 9)), 9, None),
        (Sid(5, (88, 2, 9)), None, 9),
        (nfs_mode(0o777), None, None),
        (Sid(5, (21, 1, 2, 3, 1001)), None, None),  # only its domain knows who that is
        (Sid(22, (1,)), None, None),
    ],
)
def test_what_a_sid_tells_by_itself(sid: Sid, uid: int | None, gid: int | None) -> None:
    assert user_id(sid.encode()) == uid
    assert group_id(sid.encode()) == gid


def test_a_mode_travels_as_the_one_entry_of_a_list_as_samba_wants_it() -> None:
    descriptor = Descriptor(dacl=allowing([nfs_mode(0o100640)]))
    assert descriptor.encode().hex() == (
        "01000480 00000000 00000000 00000000 14000000"  # self-relative, a DACL at 20
        "0200 2400 0100 0000"  # revision 2, 36 bytes, one entry
        "00 00 1c00 00000000"  # allowed, no flags, 28 bytes, no rights
        "0103 000000000005 58000000 03000000 a0010000"
    ).replace(" ", "")
    assert descriptor.parts == SecurityInformation.DACL


@given(st.none() | SIDS, st.none() | SIDS, st.none() | st.lists(SIDS, max_size=3).map(allowing))
def test_any_descriptor_survives_the_wire(owner: Sid | None, group: Sid | None, dacl: bytes | None) -> None:
    descriptor = Descriptor(owner, group, dacl)
    assert Descriptor.decode(descriptor.encode()) == descriptor
    assert bool(descriptor.parts & SecurityInformation.OWNER) == (owner is not None)
    assert bool(descriptor.parts & SecurityInformation.GROUP) == (group is not None)
    assert bool(descriptor.parts & SecurityInformation.DACL) == (dacl is not None)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_descriptor_or_refused(data: bytes) -> None:
    for head in (b"", bytes.fromhex("01000480")):
        try:
            Descriptor.decode(head + data)
        except DecodeError:
            pass
