"""Extended attributes and security descriptors over SMB2, with a scripted server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from smbfuse.client.smb2_share import Smb2Share
from smbfuse.errors import Denied, ProtocolError, SmbError, StatusError
from smbfuse.status import NtStatus
from smbfuse.wire.descriptor import Descriptor, allowing, unix_group, unix_user
from smbfuse.wire.fscc import FileInformation
from smbfuse.wire.fscc_ea import ExtendedAttribute, decode_attributes, encode_attributes
from smbfuse.wire.smb2.create import Access, CreateOptions, CreateRequest
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.info import InfoType, QueryInfoRequest, QueryInfoResponse, SetInfoRequest
from tests.client.smb2_fixtures import fake_login, session
from tests.client.smb2_server import Answer, Node, Smb2Server

__all__ = ["fake_login"]

C, Q, S, X = Command.CREATE, Command.QUERY_INFO, Command.SET_INFO, Command.CLOSE
WHOLE = Descriptor(unix_user(1), unix_group(2), allowing([unix_user(1)], 0x1F01FF))


@asynccontextmanager
async def share_of() -> AsyncIterator[tuple[Smb2Share, Smb2Server]]:
    async with session() as (established, server):
        server.nodes["file"] = Node(b"content")
        share = await established.connect_share("share")
        server.commands()
        yield share, server


def last_create(server: Smb2Server) -> CreateRequest:
    """Return the last CREATE that came."""
    return next(CreateRequest.decode(element) for header, element in reversed(server.requests) if header.command == C)


def refusing(status: int) -> Answer:
    return status, ErrorResponse().encode()


async def test_attributes_are_one_compound() -> None:
    chain = encode_attributes([ExtendedAttribute("NAME", b"1"), ExtendedAttribute("é", b"\0")])
    async with share_of() as (share, server):
        server.answers[Q] = lambda _element: (0, QueryInfoResponse(chain).encode())
        assert await share.extended_attributes("file") == {"NAME": b"1", "é": b"\0"}
        assert server.commands() == [[C, Q, X]]
        asked = last_create(server)
        assert asked.desired_access == Access.FILE_READ_EA
        assert asked.create_options & CreateOptions.OPEN_REPARSE_POINT
        assert server.handles == {}


async def test_a_file_without_attributes() -> None:
    async with share_of() as (share, server):
        server.answers[Q] = lambda _element: refusing(NtStatus.NO_EAS_ON_FILE)
        assert await share.extended_attributes("file") == {}
        server.answers[Q] = lambda _element: (0, QueryInfoResponse(b"").encode())
        assert await share.extended_attributes("file") == {}


@pytest.mark.parametrize("status", [NtStatus.BUFFER_OVERFLOW, NtStatus.BUFFER_TOO_SMALL, NtStatus.INFO_LENGTH_MISMATCH])
async def test_more_of_them_than_usual_are_asked_for_again(status: int) -> None:
    chain = encode_attributes([ExtendedAttribute(f"name{number}", bytes(60000)) for number in range(2)])

    def answer(element: bytes) -> Answer:
        size = QueryInfoRequest.decode(element).output_buffer_length
        if size >= len(chain):
            return 0, QueryInfoResponse(chain).encode()
        body = QueryInfoResponse(chain[:size]) if status == NtStatus.BUFFER_OVERFLOW else ErrorResponse()
        return status, body.encode()

    async with share_of() as (share, server):
        server.answers[Q] = answer
        assert len(await share.extended_attributes("file")) == 2
        assert server.commands() == [[C, Q, X]] * 2


@pytest.mark.parametrize("status", [NtStatus.BUFFER_OVERFLOW, NtStatus.ACCESS_DENIED, NtStatus.EA_CORRUPT_ERROR])
async def test_a_refusal_is_one(status: int) -> None:
    async with share_of() as (share, server):
        server.answers[Q] = lambda _element: refusing(status)
        with pytest.raises(StatusError):
            await share.extended_attributes("file")
        assert server.handles == {}


async def test_a_chain_that_is_nonsense_is_an_error() -> None:
    async with share_of() as (share, server):
        server.answers[Q] = lambda _element: (0, QueryInfoResponse(b"\1\0\0\0nonsense").encode())
        with pytest.raises(ProtocolError):
            await share.extended_attributes("file")


async def test_one_is_set_and_removed() -> None:
    async with share_of() as (share, server):
        for value in (b"value", b""):
            await share.set_extended_attribute("file", "näme", memoryview(value))
            assert server.commands() == [[C, S, X]]
            assert last_create(server).desired_access == Access.FILE_WRITE_EA
            request = SetInfoRequest.decode(
                next(element for header, element in reversed(server.requests) if header.command == S)
            )
            assert (request.info_type, request.file_info_class) == (InfoType.FILE, FileInformation.FULL_EA)
            assert decode_attributes(request.data) == [ExtendedAttribute("näme", value)]


@pytest.mark.parametrize("name, value", [("", b"1"), ("a\0b", b"1"), ("n" * 256, b"1"), ("n", bytes(65536))])
async def test_what_cannot_be_sent_is_refused_here(name: str, value: bytes) -> None:
    async with share_of() as (share, server):
        with pytest.raises(SmbError):
            await share.set_extended_attribute("file", name, value)
        assert server.commands() == []


async def test_a_descriptor_is_read() -> None:
    async with share_of() as (share, server):
        server.answers[Q] = lambda _element: (0, QueryInfoResponse(WHOLE.encode()).encode())
        assert await share.security_descriptor("file") == WHOLE.encode()
        assert server.commands() == [[C, Q, X]]
        assert last_create(server).desired_access == Access.READ_CONTROL
        server.answers[Q] = lambda _element: refusing(NtStatus.ACCESS_DENIED)
        with pytest.raises(Denied):
            await share.security_descriptor("file")


@pytest.mark.parametrize(
    "descriptor, access",
    [
        (WHOLE, Access.WRITE_DAC | Access.WRITE_OWNER),
        (Descriptor(dacl=WHOLE.dacl), Access.WRITE_DAC),
        (Descriptor(group=WHOLE.group), Access.WRITE_OWNER),
    ],
)
async def test_the_parts_of_a_descriptor_that_are_there_are_set(descriptor: Descriptor, access: Access) -> None:
    async with share_of() as (share, server):
        await share.set_security_descriptor("file", descriptor.encode())
        assert server.commands() == [[C, S, X]]
        assert last_create(server).desired_access == access
        (element,) = [element for header, element in server.requests if header.command == S]
        request = SetInfoRequest.decode(element)
        assert (request.info_type, request.additional_information) == (InfoType.SECURITY, descriptor.parts)
        assert request.data == descriptor.encode()


@pytest.mark.parametrize("descriptor", [b"", b"nonsense", Descriptor().encode(), WHOLE.encode()[:30]])
async def test_what_is_no_descriptor_is_not_sent(descriptor: bytes) -> None:
    async with share_of() as (share, server):
        with pytest.raises(SmbError):
            await share.set_security_descriptor("file", descriptor)
        assert server.commands() == []
