"""A hundred viewers of one stream for a minute: what they get, and what memory does."""

import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from websockets.asyncio.client import connect

from papernets_lite.data import people
from papernets_lite.ops.pictures import to_jpeg
from papernets_lite.video import streaming

VIEWERS, SLOW, PACE, FPS, SECONDS = 100, 20, 10, 10, 60
WARM = 10  # seconds until memory is read first


@dataclass
class Seat:
    """What one viewer got."""

    pace: int
    shown: list[int] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)


def resident() -> float:
    """Megabytes of memory of this process; 0 where the system does not tell."""
    listing = Path("/proc/self/statm")
    if not listing.exists():
        return 0.0
    return int(listing.read_text().split()[1]) * 4096 / 1e6


def film() -> list[bytes]:
    """Three people who wave, as JPEG."""
    generator = torch.Generator().manual_seed(5)
    scene = people.sample(1, generator, people=(3, 3), spacing=(0.25, 0.3))
    moments = torch.arange(48)[None] / 48
    pictures = people.render(people.act(scene, torch.tensor([1]), moments), 192)
    return [to_jpeg((255 * picture).round().byte()) for picture in pictures]


async def view(server: streaming.Server, seat: Seat) -> None:
    """One viewer, which needs ``pace`` frames' time for a frame."""
    async with connect(server.stream(), compression=None) as wire:
        await wire.recv()
        async for message in wire:
            frame = streaming.unpack(message)
            done = server.published + seat.pace
            while server.published < done:
                await asyncio.sleep(0.02)
            seat.shown.append(frame.sequence)
            seat.ages.append(server.published - frame.sequence)
            await wire.send(json.dumps({"ack": frame.sequence}))


async def minute(jpegs: list[bytes]) -> tuple[list[Seat], list[float], list[int], int]:
    """Seats, megabytes and waiting bytes second by second, and frames published."""
    seats = [Seat(PACE if number < SLOW else 0) for number in range(VIEWERS)]
    memory: list[float] = []
    waiting: list[int] = []
    joints = bytes(3 * 72)
    async with streaming.Server() as server:
        tasks = [asyncio.create_task(view(server, seat)) for seat in seats]
        while len(server.viewers) < VIEWERS:
            await asyncio.sleep(0.02)
        for sequence in range(1, FPS * SECONDS + 1):
            jpeg = jpegs[sequence % len(jpegs)]
            server.publish(streaming.Frame(sequence, time.time(), jpeg, joints))
            await asyncio.sleep(1 / FPS)
            if sequence % FPS == 0:
                memory.append(resident())
                waiting.append(sum(viewer.feed.bytes() for viewer in server.viewers))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return seats, memory, waiting, FPS * SECONDS


def table() -> str:
    """The run as Markdown."""
    jpegs = film()
    began, spent = time.time(), time.process_time()
    seats, memory, waiting, published = asyncio.run(minute(jpegs))
    taken, spent = time.time() - began, time.process_time() - spent
    lines = ["| viewers | drawn of the frames, least | most frames late | median |"]
    lines.append("| --- " * 4 + "|")
    for name, pace in (("fast", 0), ("slow", PACE)):
        group = [seat for seat in seats if seat.pace == pace]
        least = min(len(seat.shown) for seat in group)
        late = [age for seat in group for age in seat.ages]
        words = f"| {len(group)} {name} | {least} of {published} | {max(late)} |"
        lines.append(f"{words} {statistics.median(late):g} |")
    pictures = sum(map(len, jpegs)) / len(jpegs) / 1000
    lines.append(
        f"\n{taken:.0f} s, {spent:.0f} s of CPU time for server and viewers in one "
        f"process; pictures of {pictures:.1f} kB. Memory {memory[WARM]:.1f} MB after "
        f"{WARM} s, {memory[-1]:.1f} MB at the end, at most {max(memory):.1f}; frames "
        f"that wait in the server at most {max(waiting) / 1000:.0f} kB for all viewers."
    )
    return "\n".join(lines)
