"""A WebSocket by hand: its bytes as RFC 6455 writes them down, its buffers, its end."""

import asyncio
import base64
import hashlib
import itertools
import secrets
import socket
import zlib
from dataclasses import dataclass
from typing import Any

from papernets_lite.ops.checks import expect

# RFC 6455, section 1.3: what a server appends to the client's key
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept(key: str) -> str:
    """What a server answers to a client's key (RFC 6455, section 4.2.2): proof that it
    has read the request and speaks WebSocket."""
    digest = hashlib.sha1((key + GUID).encode()).digest()
    return base64.b64encode(digest).decode()


@dataclass(frozen=True)
class Header:
    """The first bytes of a WebSocket frame (RFC 6455, section 5.2)."""

    final: bool
    opcode: int  # 1 text, 2 binary, 8 close, 9 ping, 10 pong
    mask: bytes  # four, or none
    length: int  # of the payload
    size: int  # of the header itself


def read_header(data: bytes) -> Header:
    """Take a frame's header apart, bit by bit.

    Args:
        data: the frame's bytes, at least its header.

    Raises:
        ValueError: for too few bytes.
    """
    expect(len(data) >= 2, "two bytes of a header or more", data)
    first, second = data[0], data[1]
    length, size = second & 0x7F, 2
    if length >= 126:
        # 126: the next two bytes say the length, 127: the next eight
        size += 2 if length == 126 else 8
        length = int.from_bytes(data[2:size], "big")
    mask = data[size : size + 4] if second & 0x80 else b""
    size += 4 if second & 0x80 else 0
    expect(len(data) >= size, f"a header of {size} bytes", data)
    return Header(bool(first & 0x80), first & 0x0F, mask, length, size)


def unmask(payload: bytes, mask: bytes) -> bytes:
    """The payload itself: a client masks what it sends, byte i by mask i mod 4."""
    key = itertools.cycle(mask)
    return bytes(byte ^ part for byte, part in zip(payload, key, strict=False))


def shake_hands(
    host: str, port: int, path: str, *, timeout: float = 10
) -> tuple[bytes, bytes, bytes]:
    """Open a WebSocket by hand, over a plain socket (RFC 6455, section 4.1).

    Args:
        host: of the server.
        port: of the server.
        path: of the address, with what follows its question mark.
        timeout: seconds that the server may say nothing.

    Returns:
        The request, the answer, and the first bytes after it.

    Raises:
        ValueError: if the server hangs up before it has sent as much as a header.
    """
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]
    request = "\r\n".join([*lines, "", ""]).encode()
    with socket.create_connection((host, port), timeout=timeout) as wire:
        wire.sendall(request)
        data = b""
        while len(data.partition(b"\r\n\r\n")[2]) < 4:
            more = wire.recv(4096)
            expect(more, "an answer and a header", data)
            data += more
    answer, end, frames = data.partition(b"\r\n\r\n")
    return request, answer + end, frames


class Deflate:
    """The compression that browsers and the library agree on unless it is switched off
    (RFC 7692), set as the library sets it: a window of 4 KB, which stays."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(wbits=-12, memLevel=5)
        self._opener = zlib.decompressobj(wbits=-12)

    def pack(self, message: bytes | str) -> bytes:
        """What goes over the wire instead of a message; of text, its letters."""
        data = message.encode() if isinstance(message, str) else message
        return self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)

    def unpack(self, packed: bytes) -> bytes:
        """The message that was packed, in the order of packing."""
        return self._opener.decompress(packed)


def limit_buffer(wire: Any, which: int, size: int | None) -> None:
    """Tell the system how much it may hold of what goes through a socket.

    Args:
        wire: the socket.
        which: ``socket.SO_SNDBUF`` or ``SO_RCVBUF``.
        size: bytes; None leaves it alone.
    """
    if size is not None:
        wire.setsockopt(socket.SOL_SOCKET, which, size)


async def hang_up(connection: Any, code: int, reason: str, *, patience: float) -> None:
    """Close a connection, or cut it where the other end does not read.

    The library's own limit begins only when its buffer is empty, and that buffer stays
    full for ever when nobody reads.

    Args:
        connection: open, of the library's asyncio server.
        code: of the close.
        reason: told with it.
        patience: seconds until it is cut.
    """
    try:
        await asyncio.wait_for(connection.close(code, reason), patience)
    except asyncio.TimeoutError:
        connection.transport.abort()
