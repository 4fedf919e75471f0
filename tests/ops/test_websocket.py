"""The wire: RFC 6455's own examples, and the library's frames."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode

from papernets_lite.ops import websocket


def test_the_accept_value_is_the_rfcs():
    # RFC 6455, section 1.3
    assert websocket.accept("dGhlIHNhbXBsZSBub25jZQ==") == (
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    )


def test_headers_of_the_rfcs_examples():
    # section 5.7: "Hello", the same masked, 256 bytes, 64 KiB
    plain = bytes.fromhex("810548656c6c6f")
    assert websocket.read_header(plain) == websocket.Header(True, 1, b"", 5, 2)
    masked = bytes.fromhex("818537fa213d7f9f4d5158")
    header = websocket.read_header(masked)
    assert header == websocket.Header(True, 1, bytes.fromhex("37fa213d"), 5, 6)
    assert websocket.unmask(masked[header.size :], header.mask) == b"Hello"
    first = websocket.read_header(bytes.fromhex("01034865"))
    assert (first.final, first.opcode, first.length) == (False, 1, 3)
    assert websocket.read_header(bytes.fromhex("827e0100")).length == 256
    long = websocket.read_header(bytes.fromhex("827f0000000000010000"))
    assert (long.length, long.size) == (65536, 10)


@pytest.mark.parametrize(
    "data", [b"", b"\x81", b"\x82\x7e", b"\x82\x7e\x01", b"\x81\x85"]
)
def test_half_a_header_is_refused(data):
    with pytest.raises(ValueError, match="expected"):
        websocket.read_header(data)


@given(st.binary(max_size=300), st.booleans(), st.booleans(), st.sampled_from([1, 2]))
@settings(max_examples=50, deadline=None)
def test_the_header_is_the_librarys(payload, final, masked, opcode):
    data = WireFrame(Opcode(opcode), payload, final).serialize(mask=masked)
    header = websocket.read_header(data)
    assert (header.final, header.opcode) == (final, opcode)
    assert header.length == len(payload) == len(data) - header.size
    body = data[header.size :]
    found = websocket.unmask(body, header.mask) if masked else body
    assert found == payload
