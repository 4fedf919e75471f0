"""Streaming: messages there and back, and a server that many viewers, slow, rude and
dead ones among them, do not bring down."""

import asyncio
import base64
import faulthandler
import json
import socket
import struct
import time
import urllib.error
import urllib.request
import warnings
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import enable_server_permessage_deflate
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.sync.client import connect as connect_sync

from papernets_lite.ops import websocket
from papernets_lite.ops.pictures import from_jpeg
from papernets_lite.ops.skeletons import OPENPOSE
from papernets_lite.pose import openpose
from papernets_lite.video import streaming
from papernets_lite.video.streaming import Frame, Live, Policy, Server

ROOT = Path(__file__).parents[2]
LONG = 30  # seconds after which something hangs; no test measures time


@pytest.fixture(autouse=True)
def last_resort():
    """What hangs in spite of its limits, in a thread say, ends the run."""
    faulthandler.dump_traceback_later(4 * LONG, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def frame(sequence, size=3000):
    """A frame that differs from all others."""
    return Frame(sequence, float(sequence), bytes([sequence % 256]) * size, bytes(72))


def limited(work):
    """Run a coroutine that must end."""
    return asyncio.run(asyncio.wait_for(work, LONG))


@asynccontextmanager
async def playing(*, every=0.002, size=3000, **options):
    """A server that publishes frame after frame, and leaves no task."""
    async with Server(**options) as server:

        async def play():
            sequence = 0
            while True:
                sequence += 1
                server.publish(frame(sequence, size))
                await asyncio.sleep(every)

        task = asyncio.create_task(play())
        yield server
        task.cancel()


async def end_of(wire):
    """The code with which the server closes, whatever it sends before."""
    with suppress(ConnectionClosed):
        while True:
            await wire.recv()
    return wire.close_code


def by_hand(live):
    path = f"/ws?token={live.server.token}"
    return websocket.shake_hands("127.0.0.1", live.server.port, path, timeout=LONG)


def ack(sequence):
    return json.dumps({"ack": sequence})


# messages


@given(
    st.integers(0, 2**32 - 1),
    st.floats(0, 2e9),
    st.binary(max_size=99),
    st.integers(0, 3),
)
@settings(max_examples=50, deadline=None)
def test_a_frame_comes_back_in_every_form(sequence, captured, picture, people):
    one = Frame(sequence, captured, picture, bytes(range(72)) * people)
    assert streaming.unpack(one.message("binary")) == one
    assert streaming.unpack(one.message("base64")) == one
    bare = streaming.unpack(one.message("joints"))
    assert bare == Frame(sequence, captured, b"", one.joints)


def test_the_sizes_are_counted():
    one = frame(1)
    assert len(one.message("binary")) == 16 + 3000 + 72
    assert len(one.message("base64")) == 4 * -(-len(one.message("binary")) // 3)
    assert len(one.message("joints")) == 16 + 72
    assert one.message("binary") is one.message("binary"), "made once for all viewers"
    assert one.message("binary")[:4] == b"\0\0\0\1"
    with pytest.raises(ValueError, match="expected a form"):
        one.message("morse")


@pytest.mark.parametrize(
    "message",
    [b"", bytes(15), struct.pack(">IdI", 1, 0, 9), frame(1)._binary[:-1], "###", "AAA"],
)
def test_what_is_no_frame_is_refused(message):
    with pytest.raises(ValueError, match="expected"):
        streaming.unpack(message)


def test_joints_come_back_within_a_thousandth_of_a_pixel():
    keypoints = 64 * torch.rand(3, 18, 2, generator=torch.Generator().manual_seed(0))
    found = torch.arange(18).expand(3, 18) % 4 > 0
    people = openpose.People(keypoints, found, torch.ones(3))
    packed = streaming.pack_joints(people, 64)
    assert len(packed) == 3 * 72
    points, there = streaming.unpack_joints(packed, 64)
    assert torch.equal(there, found)
    assert (points - keypoints)[found].abs().max() < 1e-3
    points, there = streaming.unpack_joints(b"", 64)
    assert points.shape == (0, 18, 2)


def test_joints_outside_the_picture_are_moved_to_its_edge():
    keypoints = torch.tensor([-5.0, 99.0]).expand(1, 18, 2)
    people = openpose.People(keypoints, torch.ones(1, 18).bool(), torch.ones(1))
    points, there = streaming.unpack_joints(streaming.pack_joints(people, 64), 64)
    assert there.all()
    assert points[0, 0].tolist() == [0, 64]


def test_the_camera_looks_and_compresses():
    film = torch.randint(256, (2, 3, 128, 128), dtype=torch.uint8)
    film = film[:, :, ::16, ::16].repeat_interleave(16, 2).repeat_interleave(16, 3)
    camera = streaming.Camera(film, streaming.tiny())
    first, second, third = (camera(number) for number in (1, 2, 3))
    assert (first.sequence, third.sequence) == (1, 3)
    assert first.picture == third.picture != second.picture
    error = from_jpeg(first.picture).float() - film[0].float()
    assert from_jpeg(first.picture).shape == (3, 128, 128)
    assert error.abs().mean() < 12
    assert not camera.net.training
    for wrong in (film[:0], film[:, :, :64], film[0]):
        with pytest.raises(Exception, match=r"expected|violates|type"):
            streaming.Camera(wrong, streaming.tiny())


def test_the_view_is_the_pictures_mean(monkeypatch):
    seen = []

    class Net(torch.nn.Module):
        stride = 4

        def forward(self, images):
            seen.append(images)
            return [(torch.zeros(1, 19, 16, 16), torch.zeros(1, 38, 16, 16))]

    picture = torch.arange(256, dtype=torch.uint8).expand(3, 256, 256)
    people = streaming.look(Net(), picture, side=64)
    assert people.keypoints.shape == (0, 18, 2)
    assert seen[0].shape == (1, 3, 64, 64)
    assert float(seen[0][0, 0, 0, 1]) == pytest.approx(5.5 / 255)


def test_compression_wins_base64s_third_back_and_is_the_librarys():
    pictures = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8)
    pictures = pictures.repeat_interleave(8, 2).repeat_interleave(8, 3)
    jpegs = [streaming.to_jpeg(picture) for picture in pictures]
    frames = [Frame(n, 0.0, jpeg, b"") for n, jpeg in enumerate(jpegs)]
    ours = websocket.Deflate()
    (factory,) = enable_server_permessage_deflate(None)
    _, theirs = factory.process_request_params([("client_max_window_bits", None)], [])
    sizes = {"binary": 0, "base64": 0, "packed": 0}
    for one in frames:
        text = one.message("base64")
        packed = ours.pack(text)
        wire = theirs.encode(WireFrame(Opcode.TEXT, text.encode()))
        # the library leaves out the four bytes that end every message (RFC 7692)
        assert wire.data == packed.removesuffix(b"\x00\x00\xff\xff")
        assert ours.unpack(packed).decode() == text
        sizes["binary"] += len(one.message("binary"))
        sizes["base64"] += len(text)
        sizes["packed"] += len(packed)
    assert sizes["base64"] > 1.3 * sizes["binary"]
    assert sizes["packed"] < 1.1 * sizes["binary"]
    for form in ("binary", "base64"):
        for deflate in (False, True):
            assert streaming.cost(list(pictures), form, deflate=deflate) >= 0


# feeds and viewers


def test_a_slot_holds_the_newest_and_a_queue_all():
    async def go():
        slot, queue, three = (streaming.Feed(keep) for keep in (1, None, 3))
        for feed in (slot, queue, three):
            for sequence in range(1, 11):
                feed.put(frame(sequence))
        assert (slot.skipped, queue.skipped, three.skipped) == (9, 0, 7)
        assert slot.bytes() * 10 == queue.bytes() == 10 * 3072
        assert [(await feed.take()).sequence for feed in (slot, queue, three)] == [
            10,
            1,
            8,
        ]
        waiting = asyncio.create_task(slot.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        slot.put(frame(11))
        assert (await waiting).sequence == 11

    limited(go())


def test_a_viewer_with_credit_is_sent_so_many_frames_and_no_more():
    class Wire:
        def __init__(self):
            self.sent = []

        async def send(self, message):
            self.sent.append(streaming.unpack(message).sequence)

    async def go(credit):
        wire = Wire()
        viewer = streaming.Viewer(wire, "live", Policy(credit=credit))
        sending = asyncio.create_task(viewer.send())
        for sequence in range(1, 8):
            viewer.feed.put(frame(sequence))
            for _ in range(3):
                await asyncio.sleep(0)
        before = list(wire.sent)
        viewer.take(ack(1)) if credit else None
        for _ in range(3):
            await asyncio.sleep(0)
        sending.cancel()
        return before, wire.sent

    assert limited(go(1)) == ([1], [1, 7]), "after the answer the newest"
    assert limited(go(2)) == ([1, 2], [1, 2, 7])
    assert limited(go(None)) == (list(range(1, 8)),) * 2


# the server


def test_it_serves_its_page_and_nothing_else():
    with Live(frame, fps=50) as live:
        base = f"http://127.0.0.1:{live.server.port}"
        for path, kind in (("/", "text/html"), ("/streaming.js", "text/javascript")):
            with urllib.request.urlopen(base + path, timeout=LONG) as answer:
                assert answer.headers["Content-Type"].startswith(kind)
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert live.server.token not in answer.read().decode()
        for path in ("/secret", "/../pyproject.toml", "/streaming.html", "/ws/"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(base + path, timeout=LONG)


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 401), ("?token=", 401), ("?token=wrong", 403), ("?token=%ff", 403)],
)
def test_a_stranger_is_refused(query, status):
    async def go():
        async with Server() as server:
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://127.0.0.1:{server.port}/ws{query}")
            assert refused.value.response.status_code == status
            assert not server.viewers

    limited(go())


def test_a_foreign_page_is_refused_and_the_own_is_not():
    async def go():
        async with Server() as server:
            for origin in (
                "http://evil.example",
                f"http://127.0.0.1:{server.port + 1}",
                "null",
            ):
                with pytest.raises(InvalidStatus) as refused:
                    await connect(server.stream(), origin=origin)
                assert refused.value.response.status_code == 403
            for name in ("127.0.0.1", "localhost"):
                async with connect(
                    server.stream(), origin=f"http://{name}:{server.port}"
                ):
                    pass

    limited(go())


def test_of_many_that_come_at_once_only_so_many_are_let_in():
    async def go():
        async with Server(most=3) as server:

            async def come():
                try:
                    wire = await connect(server.stream())
                    await wire.recv()
                except (InvalidStatus, ConnectionClosed) as refused:
                    code = getattr(refused, "rcvd", None)
                    return code.code if code else refused.response.status_code
                return wire

            answers = await asyncio.gather(*(come() for _ in range(20)))
            inside = [answer for answer in answers if not isinstance(answer, int)]
            assert len(inside) == len(server.viewers) == 3
            assert {code for code in answers if isinstance(code, int)} <= {503, 1013}

    limited(go())


def test_one_too_many_that_was_admitted_is_told_to_try_again():
    async def go():
        async with Server(most=1) as server:
            server._judge = lambda *_: None  # as if both had come at the same moment
            async with connect(server.stream()) as one, connect(server.stream()) as two:
                await one.recv()
                assert await end_of(two) == 1013
                server.publish(frame(1))
                assert streaming.unpack(await one.recv()).sequence == 1

    limited(go())


def test_an_unknown_policy_and_a_full_house_are_refused():
    async def go():
        async with Server(most=1) as server:
            with pytest.raises(InvalidStatus, match="400"):
                await connect(server.stream("everything"))
            async with connect(server.stream()) as wire:
                await wire.recv()
                with pytest.raises(InvalidStatus, match="503"):
                    await connect(server.stream())

    limited(go())


def test_only_this_machine_is_served_unless_names_are_given():
    async def go():
        async with Server() as server:
            listening = server._listener.sockets
            assert [one.getsockname()[0] for one in listening] == ["127.0.0.1"]
        for host in ("0.0.0.0", "::", "192.168.1.5"):
            with pytest.raises(ValueError, match="loopback"):
                Server(host=host)
        Server(host="0.0.0.0", names=["desk.example"])

    limited(go())


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b'{"ack": 1}', 1003),
        ("", 1007),
        ("{", 1007),
        ("[" * 200, 1007),
        ("NaN", 1008),
        ("[1]", 1008),
        ("{}", 1008),
        ('{"ack": 1, "file": "/etc/passwd"}', 1008),
        ('{"nack": 1}', 1008),
        ('{"ack": "1"}', 1008),
        ('{"ack": true}', 1008),
        ('{"ack": 1.0}', 1008),
        ('{"ack": -1}', 1008),
        ('{"ack": 999999999}', 1008),
        ('{"ack": ' + "1" * 240 + "}", 1008),
        (" " * 300, 1009),
        ("x" * 100_000, 1009),
    ],
)
def test_a_rude_viewer_is_shown_out_and_the_others_stay(message, code):
    async def go():
        async with playing() as server, connect(server.stream()) as other:
            await other.recv()
            async with connect(server.stream()) as wire:
                await wire.recv()
                await wire.send(message)
                assert await end_of(wire) == code
            for _ in range(3):
                got = streaming.unpack(await other.recv())
                await other.send(ack(got.sequence))

    limited(go())


def test_bytes_that_are_no_text_are_malformed():
    async def go():
        async with playing() as server, connect(server.stream()) as wire:
            await wire.recv()
            await wire.send(b"\xff\xfe", text=True)
            assert await end_of(wire) == 1007

    limited(go())


def test_a_frame_is_acknowledged_once():
    async def go():
        async with Server() as server, connect(server.stream()) as wire:
            await wire.recv()
            server.publish(frame(1))
            assert streaming.unpack(await wire.recv()).sequence == 1
            await wire.send(ack(1))
            await wire.send(ack(1))
            with pytest.raises(ConnectionClosed) as closed:
                await wire.recv()
            assert closed.value.rcvd.code == 1008

    limited(go())


def test_a_fast_viewer_loses_nothing_and_a_slow_one_is_never_late():
    viewers = {
        "fast": (Policy(), 0),
        "slow": (Policy(), 5),
        "queue": (Policy(keep=None), 5),
    }
    frames = [frame(1), frame(2)]
    records = limited(streaming._rehearse(frames, viewers, 120, 0.005))
    fast, slow, queue = (records[name] for name in viewers)
    assert fast.shown == list(range(1, 121)), "it misses nothing"
    assert slow.shown == sorted(set(slow.shown))
    assert len(slow.shown) < 30
    assert max(slow.ages) <= 3 * 5
    assert queue.shown == list(range(1, len(queue.shown) + 1)), "it skips nothing"
    assert queue.ages[-1] > 3 * max(slow.ages)
    assert max(slow.waiting) == 3072
    assert queue.waiting[-1] > 80 * 3072


def test_in_lockstep_nothing_at_all_is_lost():
    async def go():
        async with Server() as server, connect(server.stream()) as wire:
            hello = json.loads(await wire.recv())
            assert hello["joints"] == len(OPENPOSE)
            assert len(hello["limbs"]) == len(OPENPOSE.limbs)
            for sequence in range(1, 301):
                server.publish(frame(sequence))
                got = streaming.unpack(await wire.recv())
                assert got == frame(sequence)
                await wire.send(ack(sequence))
                while any(viewer.owed for viewer in server.viewers):
                    await asyncio.sleep(0)
            (viewer,) = server.viewers
            assert viewer.feed.skipped == 0

    limited(go())


def test_an_independent_client_in_another_thread():
    with (
        Live(frame, fps=200) as live,
        connect_sync(live.server.stream("base64")) as wire,
    ):
        wire.recv(timeout=LONG)
        got = []
        while len(got) < 20:
            message = wire.recv(timeout=LONG)
            assert isinstance(message, str)
            got.append(streaming.unpack(base64.b64decode(message)))
            wire.send(ack(got[-1].sequence))
        sequences = [one.sequence for one in got]
        assert sequences == sorted(set(sequences))
        assert len({one.picture for one in got}) == 20


def test_a_hundred_viewers_at_once():
    async def go():
        numbers = {number: [] for number in range(100)}

        async def view(server, number):
            async with connect(server.stream(), compression=None) as wire:
                await wire.recv()
                async for message in wire:
                    numbers[number].append(streaming.unpack(message).sequence)
                    if number % 5 == 0:
                        await asyncio.sleep(0.3)  # a slow one
                    if number % 10 == 1:
                        continue  # never acknowledges: gets one frame
                    await wire.send(ack(numbers[number][-1]))

        async with playing(every=0.1, size=10_000) as server:
            tasks = [asyncio.create_task(view(server, n)) for n in range(100)]
            while len(server.viewers) < 100:
                await asyncio.sleep(0.02)
            start = server.published
            while server.published < start + 20:
                await asyncio.sleep(0.02)
            waiting = sum(viewer.feed.bytes() for viewer in server.viewers)
            assert waiting <= 100 * 10_072, "one frame for each, at most"
        await asyncio.gather(*tasks, return_exceptions=True)
        for number, shown in numbers.items():
            assert shown == sorted(set(shown)), number
            if number % 10 == 1:
                assert len(shown) == 1
        fast = [len(shown) for n, shown in numbers.items() if n % 5 and n % 10 != 1]
        slow = [len(shown) for n, shown in numbers.items() if n % 5 == 0]
        assert min(fast) > max(slow) >= 2

    limited(go())


def test_a_viewer_that_dies_is_forgotten():
    async def go():
        async with playing(size=100_000) as server:
            wire = await connect(server.stream(), close_timeout=0.1)
            await wire.recv()
            while not server.viewers:
                await asyncio.sleep(0.01)
            wire.transport.abort()
            while server.viewers:
                await asyncio.sleep(0.01)
            async with connect(server.stream()) as other:
                await other.recv()
                assert streaming.unpack(await other.recv()).picture

    limited(go())


async def deaf(server):
    """A viewer that reads nothing, once the server's buffers are full."""
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.connect(("127.0.0.1", server.port))
    wire.sendall(
        f"GET /ws?token={server.token} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    while not server.viewers:
        await asyncio.sleep(0.01)
    start = server.published
    while server.published < start + 50:
        await asyncio.sleep(0.01)
    (viewer,) = server.viewers
    assert viewer.connection.transport.get_write_buffer_size() > 100_000
    return wire


DEAF = {"policies": {"live": Policy(credit=None, buffer=4096)}, "size": 200_000}


def test_a_viewer_that_reads_nothing_does_not_hold_up_the_end(monkeypatch):
    # the library would wait for ever until its buffer is empty
    monkeypatch.setattr(streaming, "LONGEST", 10 * LONG)

    async def go():
        async with playing(**DEAF) as server:
            wire = await deaf(server)
        with wire:
            assert not server.viewers

    limited(go())


def test_a_viewer_that_reads_nothing_and_is_rude_is_cut_off():
    async def go():
        async with playing(**DEAF) as server:
            with await deaf(server) as wire:
                wire.sendall(bytes.fromhex("818100000000") + b"?")  # masked by zeros
                while server.viewers:
                    await asyncio.sleep(0.01)

    limited(go())


@pytest.mark.parametrize(
    "said",
    ["", "GET /ws HTTP/1.1\r\nHost", "GET / HTTP/1.1\r\nHost: here\r\n\r\n"],
    ids=["nothing", "half a request", "a page, left open"],
)
def test_who_opens_a_connection_and_says_no_more_does_not_hold_up_the_end(said):
    # a browser opens connections ahead: it may need them, and says nothing yet
    with Live(frame) as live:
        wire = socket.create_connection(("127.0.0.1", live.server.port), timeout=LONG)
        wire.sendall(said.encode())
    assert live._done.done()
    with suppress(ConnectionResetError), wire:
        while wire.recv(4096):
            pass  # until the server has hung up


def test_the_end_is_told_to_all_and_leaves_no_task():
    async def go():
        async with playing() as server:
            wires = [await connect(server.stream()) for _ in range(5)]
            for wire in wires[:3]:
                await wire.recv()
            for _ in range(100 * LONG):
                if len(server.viewers) < 5:
                    await asyncio.sleep(0.01)
        for wire in wires:
            await asyncio.wait_for(wire.wait_closed(), LONG)
            assert wire.close_code == 1001
        assert not server.viewers
        await asyncio.sleep(0.05)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(OSError, match=r".*"):
            await asyncio.open_connection("127.0.0.1", server.port)

    asyncio.run(go())  # without ``limited``, which has a task of its own


def test_nothing_is_made_while_nobody_looks():
    made = []

    def make(sequence):
        made.append(sequence)
        return frame(sequence)

    with Live(make, fps=500) as live:
        time.sleep(0.05)
        assert not made
        with connect_sync(live.server.stream()) as wire:
            wire.recv(timeout=LONG)
            assert streaming.unpack(wire.recv(timeout=LONG)).sequence == made[0] == 1


def test_a_camera_that_fails_says_so_at_the_end():
    def make(sequence):
        raise RuntimeError("the lens is dirty")

    live = Live(make)
    with connect_sync(live.server.stream()) as wire:
        wire.recv(timeout=LONG)
        with pytest.raises(ConnectionClosed):
            wire.recv(timeout=LONG)
    with pytest.raises(RuntimeError, match="lens"):
        live.stop()


def test_a_port_that_is_taken_is_an_error_at_once():
    with Live(frame) as live, pytest.raises(OSError, match=r"in use|Errno"):
        Live(frame, port=live.server.port)


def test_a_handshake_by_hand():
    with Live(frame, fps=100) as live:
        request, answer, frames = by_hand(live)
    lines = request.decode().split("\r\n")
    key = next(line.split(": ")[1] for line in lines if "-Key" in line)
    assert len(base64.b64decode(key)) == 16
    assert answer.startswith(b"HTTP/1.1 101")
    assert f"Sec-WebSocket-Accept: {websocket.accept(key)}".encode() in answer
    header = websocket.read_header(frames)
    assert header.final
    assert header.opcode == 1
    assert not header.mask, "a server does not mask"


def test_a_handshake_that_is_refused_says_so():
    with Live(frame) as live:
        live.server.most = 0
        _, answer, body = by_hand(live)
    assert answer.startswith(b"HTTP/1.1 503")
    assert body


def test_it_runs_where_a_loop_runs_already():
    async def go():
        return streaming.rehearse([frame(1)], {"a b": (Policy(), 0)}, count=3)[
            "a b"
        ].shown

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert limited(go())


def test_the_chapter_quotes_the_script_that_runs():
    chapter = json.loads((ROOT / "book/video/streaming.ipynb").read_text("utf8"))
    prose = ["".join(cell["source"]) for cell in chapter["cells"]]
    (quoted,) = [text for text in prose if "```js" in text]
    script = (streaming.JS / "streaming.js").read_text("utf8")
    for line in quoted.split("```js\n")[1].split("\n```")[0].splitlines():
        assert line in script
