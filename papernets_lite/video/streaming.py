"""Streaming a pose model to the browser over WebSocket.

A system, not a paper. The protocol: I. Fette, A. Melnikov, The WebSocket Protocol, RFC
6455, 2011. The model: Z. Cao and others, OpenPose. CVPR 2017, arXiv 1611.08050.
Official code: python-websockets/websockets, on which the server stands.

Idea: a live view is good while it is young, so every viewer has a slot for one frame,
which a newer frame overwrites, and gets the next only when it says that the last is
drawn.

Differs:
    1. There is no paper to differ from. The demonstration that this chapter answers
       sent JPEG as base64 text, frame after frame, and waited for nobody.
    2. A frame carries the joints beside the picture, as numbers that the page draws, so
       that pictures may be left out.

Guessed:
    How many frames a viewer may owe (here: one). A slow link wants two, which hides the
    way there and back, and costs a frame of age.

Contract:
    A system: ``loss``, ``decode``, ``tiny`` and ``paper`` are OpenPose's, imported. The
    chapter's own things are the message, the server and what measures it.

Example:
    >>> frame = Frame(7, 0.5, b"jpeg", b"")
    >>> unpack(frame.message("binary")) == frame == unpack(frame.message("base64"))
    True
"""

import asyncio
import base64
import binascii
import contextlib
import hmac
import ipaddress
import itertools
import json
import secrets
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlencode, urlsplit

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server as Listener
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Origin

from papernets_lite.ops.checks import expect
from papernets_lite.ops.pictures import from_jpeg, to_jpeg
from papernets_lite.ops.websocket import Deflate, hang_up, limit_buffer
from papernets_lite.pose import openpose
from papernets_lite.pose.openpose import decode, loss, paper, tiny

__all__ = ["decode", "loss", "paper", "tiny"]

BLOCKS = openpose.BLOCKS
NUM_JOINTS = openpose.NUM_JOINTS

# Section 7.4.1: why a connection is closed.
WRONG_TYPE, MALFORMED, REFUSED, FULL = 1003, 1007, 1008, 1013
# sequence number, seconds since 1970, bytes of the picture
PREFIX = struct.Struct(">IdI")
# what a joint's coordinate is when it was not found; the others go up to one less
NOWHERE = 65535
FORMS = ("binary", "base64", "joints")
MOST_INPUT = 256  # bytes of a message that a viewer may send
WRITE_LIMIT = 4096  # bytes that the library may hold before ``send`` waits
# Seconds for a request to be complete, and for an answer to a close. A browser opens
# connections ahead that say nothing: nobody shall wait for them at the end.
PATIENCE = 2
TURNS = 8  # of the event loop between two frames of a rehearsal, at least
LONGEST = 10  # seconds that the end of a server may take, whatever happens
JS = Path(__file__).parents[1] / "js"
PAGES = {
    "/": ("streaming.html", "text/html; charset=utf-8"),
    "/streaming.js": ("streaming.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the page's address holds the token
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'unsafe-inline'; connect-src 'self'; img-src data:",
}


@dataclass(frozen=True)
class Frame:
    """One moment of the stream; a message of each form is made once for all viewers."""

    sequence: int  # from 1
    captured: float  # seconds since 1970
    picture: bytes  # JPEG, or nothing
    joints: bytes  # of ``pack_joints``

    @cached_property
    def _binary(self) -> bytes:
        prefix = PREFIX.pack(self.sequence, self.captured, len(self.picture))
        return prefix + self.picture + self.joints

    @cached_property
    def _base64(self) -> str:
        return base64.b64encode(self._binary).decode()

    @cached_property
    def _joints(self) -> bytes:
        return PREFIX.pack(self.sequence, self.captured, 0) + self.joints

    def message(self, form: str) -> bytes | str:
        """What goes over the wire.

        Args:
            form: ``binary``; ``base64``, the same as text; or ``joints``, without the
                picture.

        Raises:
            ValueError: for another form.
        """
        expect(form in FORMS, f"a form from {FORMS}", form)
        return getattr(self, f"_{form}")


def unpack(message: bytes | str) -> Frame:
    """The frame that a message holds.

    Args:
        message: of ``Frame.message``.

    Raises:
        ValueError: for what is none.
    """
    try:
        data = base64.b64decode(message) if isinstance(message, str) else message
    except binascii.Error as error:
        raise ValueError(f"expected base64, got {message[:20]!r}") from error
    expect(len(data) >= PREFIX.size, f"{PREFIX.size} bytes or more", len(data))
    sequence, captured, length = PREFIX.unpack_from(data)
    joints = data[PREFIX.size + length :]
    whole = len(data) >= PREFIX.size + length and len(joints) % (4 * NUM_JOINTS) == 0
    expect(whole, f"a picture of {length} bytes and whole people", len(data))
    return Frame(sequence, captured, data[PREFIX.size : PREFIX.size + length], joints)


def pack_joints(people: openpose.People, size: float) -> bytes:
    """Joints as numbers of two bytes, x and y, from 0 to 65534 over the picture's side.

    Args:
        people: as ``decode`` finds them.
        size: side of the picture in whose pixels they are.
    """
    share = (people.keypoints / size).clamp(0, 1)
    whole = (share * (NOWHERE - 1)).round().int()
    numbers = torch.where(people.found[..., None], whole, NOWHERE).flatten().tolist()
    return struct.pack(f">{len(numbers)}H", *numbers)


def unpack_joints(
    joints: bytes, size: float
) -> tuple[Float[Tensor, "n k 2"], Bool[Tensor, "n k"]]:
    """Keypoints and which of them were found.

    Args:
        joints: of ``pack_joints``.
        size: side of the picture in whose pixels they shall be.
    """
    whole = torch.tensor(struct.unpack(f">{len(joints) // 2}H", joints))
    whole = whole.reshape(-1, NUM_JOINTS, 2)
    return whole / (NOWHERE - 1) * size, whole[..., 0] < NOWHERE


@torch.no_grad()
def look(
    net: nn.Module, picture: UInt8[Tensor, "3 h w"], *, side: int
) -> openpose.People:
    """The people that a net finds in a picture, in the pixels of its own small view.

    Args:
        net: OpenPose.
        picture: of any size.
        side: of the view.
    """
    view = functional.interpolate(picture[None] / 255, size=side, mode="area")
    return decode(net(view), stride=cast(float, net.stride), threshold=0.2)[0]


class Camera:
    """A film that plays for ever before a net: one frame a call.

    Args:
        film: square pictures, (n, 3, side, side) of bytes.
        net: OpenPose, trained; it is set to evaluate.
        view: side of what the net sees.
        quality: of the JPEG.
    """

    def __init__(
        self,
        film: UInt8[Tensor, "n 3 h w"],
        net: nn.Module,
        *,
        view: int = 64,
        quality: int = 80,
    ) -> None:
        square = film.ndim == 4 and len(film) and film.shape[2] == film.shape[3]
        expect(square, "square pictures (n, 3, side, side)", film.shape)
        self.film, self.net = film, net.eval()
        self.view, self.quality = view, quality

    def __call__(self, sequence: int) -> Frame:
        """Take a picture, find the people, make both small.

        Args:
            sequence: number of the frame, from 1.
        """
        captured = time.time()
        picture = self.film[(sequence - 1) % len(self.film)]
        people = look(self.net, picture, side=self.view)
        joints = pack_joints(people, self.view)
        return Frame(sequence, captured, to_jpeg(picture, self.quality), joints)


@dataclass(frozen=True)
class Policy:
    """How a viewer is served.

    Args:
        form: of its messages.
        keep: how many frames may wait for it, None for all that come.
        credit: how many it may owe an acknowledgement for; None if none is asked for
            and only the socket holds the server back.
        buffer: bytes that the system may hold at either end; None for its own choice,
            which grows to millions.
    """

    form: str = "binary"
    keep: int | None = 1
    credit: int | None = 1
    buffer: int | None = None


POLICIES = {"live": Policy(), "joints": Policy("joints"), "base64": Policy("base64")}


class Feed:
    """The frames that wait for one viewer; of more than it may keep, the oldest go.

    Args:
        keep: how many; 1 is the slot for the latest frame.
    """

    def __init__(self, keep: int | None = 1) -> None:
        self.frames: deque[Frame] = deque(maxlen=keep)
        self.skipped = 0
        self._news = asyncio.Event()

    def put(self, frame: Frame) -> None:
        """Add the newest; never waits."""
        self.skipped += len(self.frames) == self.frames.maxlen
        self.frames.append(frame)
        self._news.set()

    async def take(self) -> Frame:
        """The oldest that still waits, or the next that comes."""
        while not self.frames:
            self._news.clear()
            await self._news.wait()
        return self.frames.popleft()

    def bytes(self) -> int:
        """How much waits."""
        return sum(len(frame.picture) + len(frame.joints) for frame in self.frames)


class Refused(Exception):
    """A viewer broke the rules: the close code, and why."""


class Viewer:
    """One connection: what waits for it, and what it owes.

    Args:
        connection: the open WebSocket.
        name: of its policy.
        policy: how it is served.
    """

    def __init__(self, connection: Any, name: str, policy: Policy) -> None:
        self.connection, self.name, self.policy = connection, name, policy
        self.feed = Feed(policy.keep)
        self.owed: deque[int] = deque()  # numbers of frames sent, not acknowledged
        self._free = asyncio.Semaphore(policy.credit or 1)

    async def send(self) -> None:
        """Frame after frame: first the right to send, only then the choice of the
        frame, which is the newest there is at that moment."""
        while True:
            await self._free.acquire()
            frame = await self.feed.take()
            self.owed.append(frame.sequence)
            await self.connection.send(frame.message(self.policy.form))
            if self.policy.credit is None:
                self.take(f'{{"ack": {frame.sequence}}}')

    def take(self, message: bytes | str) -> None:
        """Read what the viewer says: ``{"ack": 7}``, frame 7 is drawn.

        Args:
            message: as it came.

        Raises:
            Refused: for anything else.
        """
        if not isinstance(message, str):
            raise Refused(WRONG_TYPE, "text is expected")
        try:
            said = json.loads(message)
        except (ValueError, RecursionError):
            raise Refused(MALFORMED, "JSON is expected") from None
        if not isinstance(said, dict) or set(said) != {"ack"}:
            raise Refused(REFUSED, "an acknowledgement is expected")
        if type(said["ack"]) is not int or said["ack"] not in list(self.owed)[:1]:
            raise Refused(REFUSED, "a frame that is owed is expected")
        self.owed.popleft()
        self._free.release()


class Server:
    """One page and one stream. Use it as ``async with``; leaving closes every
    connection with code 1001.

    Args:
        hello: told to each viewer first, as JSON.
        policies: that a viewer may choose from by name.
        host: address to listen on.
        port: 0 for any that is free.
        names: under which other machines know this one. Without any, only this machine
            is served.
        token: that a viewer must know; None for a new one.
        most: viewers at a time.

    Raises:
        ValueError: for an address beyond this machine, without names.
    """

    def __init__(
        self,
        hello: Mapping[str, Any] | None = None,
        *,
        policies: Mapping[str, Policy] = POLICIES,
        host: str = "127.0.0.1",
        port: int = 0,
        names: Sequence[str] = (),
        token: str | None = None,
        most: int = 128,
    ) -> None:
        safe = ipaddress.ip_address(host).is_loopback or names
        expect(safe, "a loopback address, or names for other machines", host)
        self.hello = {"limbs": openpose.LIMBS, "joints": NUM_JOINTS} | dict(hello or {})
        self.policies, self.most = dict(policies), most
        self.host, self.port = host, port
        self.names = ("127.0.0.1", "localhost", *names)
        self.token = token or secrets.token_urlsafe(16)
        self.viewers: set[Viewer] = set()
        self.published = 0
        self.arrived = asyncio.Event()
        self._listener: Listener | None = None

    async def __aenter__(self) -> "Server":
        """Listen; the system has chosen the port by then."""
        listening = socket.create_server((self.host, self.port))
        self.port = listening.getsockname()[1]
        pages = [Origin(f"http://{name}:{self.port}") for name in self.names]
        self._listener = await serve(
            self.handle,
            sock=listening,
            process_request=self.admit,
            origins=[None, *pages],  # None: not a browser, which may say what it likes
            compression=None,  # a JPEG does not deflate
            max_size=MOST_INPUT,
            write_limit=WRITE_LIMIT,
            open_timeout=PATIENCE,
            close_timeout=PATIENCE,
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        """Tell everybody that the server goes away, and wait until they are gone, but
        not for ever."""
        assert self._listener is not None
        self._listener.close()
        ending = asyncio.ensure_future(self._listener.wait_closed())
        await asyncio.wait({ending}, timeout=2 * PATIENCE)
        for viewer in set(self.viewers):  # that do not even read
            viewer.connection.transport.abort()
        await asyncio.wait({ending}, timeout=LONGEST)

    @property
    def url(self) -> str:
        """Of the page, with the token."""
        return f"http://{self.host}:{self.port}/?token={self.token}"

    def stream(self, policy: str = "live") -> str:
        """Address of the stream, for a program.

        Args:
            policy: by name.
        """
        query = urlencode({"token": self.token, "policy": policy})
        return f"ws://{self.host}:{self.port}/ws?{query}"

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request before it becomes a WebSocket: with a page, a refusal, or
        None to go on.

        Args:
            connection: that is being opened.
            request: its path and headers.
        """
        path, _, query = request.path.partition("?")
        if path in PAGES:
            name, kind = PAGES[path]
            text = (JS / name).read_text(encoding="utf-8")
            page = connection.respond(HTTPStatus.OK, text)
            del page.headers["Content-Type"]
            page.headers.update(HEADERS | {"Content-Type": kind})
            return page
        status = self._judge(path, parse_qs(query))
        return None if status is None else connection.respond(status, f"{status}\n")

    def _judge(self, path: str, query: Mapping[str, list[str]]) -> HTTPStatus | None:
        """Why a request for the stream is refused, or None."""
        token = query.get("token", [""])[0]
        if path != "/ws":
            return HTTPStatus.NOT_FOUND
        if not token:
            return HTTPStatus.UNAUTHORIZED
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            return HTTPStatus.FORBIDDEN
        if query.get("policy", ["live"])[0] not in self.policies:
            return HTTPStatus.BAD_REQUEST
        full = len(self.viewers) >= self.most
        return HTTPStatus.SERVICE_UNAVAILABLE if full else None

    async def handle(self, connection: ServerConnection) -> None:
        """One viewer, from hello to its end: read here, send in a task beside.

        Args:
            connection: open.
        """
        assert connection.request is not None
        query = parse_qs(urlsplit(connection.request.path).query)
        name = query.get("policy", ["live"])[0]
        viewer = Viewer(connection, name, self.policies[name])
        if len(self.viewers) >= self.most:  # many were admitted at the same moment
            return await hang_up(connection, FULL, "full", patience=2 * PATIENCE)
        self.viewers.add(viewer)
        self.arrived.set()
        plain = connection.transport.get_extra_info("socket")
        limit_buffer(plain, socket.SO_SNDBUF, viewer.policy.buffer)
        sending = asyncio.create_task(self._serve(viewer))
        try:
            async for message in connection:
                viewer.take(message)
        except Refused as refused:
            await hang_up(connection, *refused.args, patience=2 * PATIENCE)
        except ConnectionClosed:
            pass  # it went without a word
        finally:
            self.viewers.discard(viewer)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _serve(self, viewer: Viewer) -> None:
        with contextlib.suppress(ConnectionClosed):
            await viewer.connection.send(json.dumps(self.hello))
            await viewer.send()

    def publish(self, frame: Frame) -> None:
        """Hand a frame to every viewer's feed. It never waits for any of them."""
        self.published = frame.sequence
        for viewer in self.viewers:
            viewer.feed.put(frame)


async def produce(
    server: Server, make: Callable[[int], Frame], *, fps: float = 20
) -> None:
    """Make and publish frames for ever, as long as somebody looks.

    Args:
        server: that is open.
        make: the frame of a number; called in a thread, so that the net stops nobody.
        fps: frames a second, at most.
    """
    clock = asyncio.get_running_loop()
    for sequence in itertools.count(1):
        while not server.viewers:
            server.arrived.clear()
            await server.arrived.wait()
        due = clock.time() + 1 / fps
        server.publish(await asyncio.to_thread(make, sequence))
        await asyncio.sleep(max(0.0, due - clock.time()))


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns, run in a thread with an event loop of its own: Jupyter
    has one already, a script has none."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class Live:
    """A server and its camera, in a thread of their own, until ``stop``.

    Args:
        make: the frame of a number.
        fps: frames a second, at most.
        options: of ``Server``.
    """

    def __init__(
        self, make: Callable[[int], Frame], *, fps: float = 20, **options: Any
    ) -> None:
        self.server = Server({"fps": fps}, **options)
        self._make, self._fps = make, fps
        self._ready = threading.Event()
        self._done: Future[None] = Future()
        self._done.add_done_callback(lambda _: self._ready.set())
        # a daemon: one that nobody stops does not keep Python from ending
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait()
        if self._done.done():
            self._done.result()  # it did not start: say why

    def _run(self) -> None:
        try:
            self._done.set_result(asyncio.run(self._main()))
        except BaseException as error:
            self._done.set_exception(error)

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with self.server:
            self._ready.set()
            making = asyncio.create_task(
                produce(self.server, self._make, fps=self._fps)
            )
            waiting = asyncio.create_task(self._over.wait())
            first = asyncio.FIRST_COMPLETED
            done, _ = await asyncio.wait({making, waiting}, return_when=first)
            making.cancel()
            waiting.cancel()
        if making in done:
            making.result()  # a frame could not be made: say why

    def stop(self) -> None:
        """Close every connection and wait for the end.

        Raises:
            TimeoutError: if a picture takes too long.
            Exception: of the camera, if that is why it ended.
        """
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._over.set)
        self._done.result(2 * LONGEST)

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


@dataclass
class Record:
    """What one viewer went through, in the stream's own clock: frame numbers.

    Args:
        shown: number of each frame that it drew.
        at: the newest number when the drawing was done.
        waiting: bytes in its feed after each publication.
    """

    shown: list[int] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)

    @property
    def ages(self) -> list[int]:
        """How many frames behind each drawing was, once it was done."""
        return [at - shown for at, shown in zip(self.at, self.shown, strict=True)]

    @property
    def drawn(self) -> float:
        """Share of the frames that it drew."""
        return len(self.shown) / len(self.waiting)

    def screen(self, now: int) -> int:
        """Number of the frame that stands on its screen when frame ``now`` is taken."""
        done = [k for k, at in enumerate(self.at) if at <= now]
        return self.shown[done[-1]] if done else 0


async def watch(server: Server, policy: str, record: Record, *, pace: int) -> None:
    """Be a viewer that needs some time for a frame.

    Args:
        server: that is open, in this event loop.
        policy: by name.
        record: filled while it watches.
        pace: how many frames the camera takes while this viewer draws one.
    """
    rules = server.policies[policy]
    plain = socket.socket()
    limit_buffer(plain, socket.SO_RCVBUF, rules.buffer)  # before it is connected
    plain.connect((server.host, server.port))
    plain.setblocking(False)
    address = server.stream(policy)
    # a viewer that has not read all that waits for it goes without a word
    options: dict[str, Any] = {
        "compression": None,
        "max_queue": 1,
        "close_timeout": 0.1,
    }
    async with connect(address, sock=plain, **options) as wire:
        await wire.recv()  # hello
        async for message in wire:
            frame = unpack(message)
            done = server.published + pace
            while server.published < done:
                await asyncio.sleep(0.002)
            record.shown.append(frame.sequence)
            record.at.append(server.published)
            if rules.credit is not None:
                await wire.send(json.dumps({"ack": frame.sequence}))


def rehearse(
    frames: Sequence[Frame],
    viewers: Mapping[str, tuple[Policy, int]],
    *,
    count: int,
    interval: float = 0.02,
) -> dict[str, Record]:
    """Several viewers of one stream at the same time, over real sockets.

    Time is told in frames, and between two of them everybody has its turn, so that a
    busy machine slows everybody alike.

    Args:
        frames: published one after the other, again and again, with new numbers.
        viewers: by name, how each is served and how many frames the camera takes while
            it draws one.
        count: how many frames are published.
        interval: seconds between two of them, at least.

    Returns:
        What each went through.
    """
    return run(_rehearse(frames, viewers, count, interval))


async def _rehearse(
    frames: Sequence[Frame],
    viewers: Mapping[str, tuple[Policy, int]],
    count: int,
    interval: float,
) -> dict[str, Record]:
    policies = {name: policy for name, (policy, _) in viewers.items()}
    records = {name: Record() for name in viewers}
    async with Server(policies=policies) as server:
        watching = []
        for name, (_, pace) in viewers.items():
            one = watch(server, name, records[name], pace=pace)
            watching.append(asyncio.create_task(one))
        while len(server.viewers) < len(viewers):
            await asyncio.sleep(interval)
            for task in watching:
                if task.done():
                    task.result()  # it did not come in: say why
        for sequence in range(1, count + 1):
            frame = frames[(sequence - 1) % len(frames)]
            server.publish(replace(frame, sequence=sequence))
            for viewer in server.viewers:
                records[viewer.name].waiting.append(viewer.feed.bytes())
            await asyncio.sleep(interval)
            for _ in range(TURNS):  # of the loop: a machine that stood still has some
                await asyncio.sleep(0)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    return records


def cost(
    pictures: Sequence[Tensor], form: str, *, quality: int = 80, deflate: bool = False
) -> float:
    """Seconds of CPU time to make pictures messages and messages pictures again.

    Args:
        pictures: bytes, (3, h, w).
        form: of the messages.
        quality: of the JPEG.
        deflate: whether the connection compresses, too.
    """
    pipe = Deflate() if deflate else None
    start = time.process_time()
    for number, picture in enumerate(pictures, start=1):
        frame = Frame(number, 0.0, to_jpeg(picture, quality), b"")
        message = frame.message(form)
        if pipe:
            opened = pipe.unpack(pipe.pack(message))
            message = opened.decode() if isinstance(message, str) else opened
        from_jpeg(unpack(message).picture)
    return time.process_time() - start
