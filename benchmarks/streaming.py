"""A hundred viewers of one stream for a minute: what they get, and what memory does."""

import asyncio
import statistics
import time
from pathlib import Path

import torch

from papernets_lite.data import people
from papernets_lite.ops.pictures import to_jpeg
from papernets_lite.video import streaming

VIEWERS, SLOW, PACE, FPS, SECONDS = 100, 20, 10, 10, 60
WARM = 10  # seconds until memory is read first


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


async def minute(
    jpegs: list[bytes], paces: list[int]
) -> tuple[list[streaming.Record], list[float], list[int]]:
    """What viewers of these paces went through, and megabytes and waiting bytes second
    by second."""
    records = [streaming.Record() for _ in paces]
    memory: list[float] = []
    waiting: list[int] = []
    joints = bytes(3 * 72)
    async with streaming.Server() as server:
        tasks = []
        for record, pace in zip(records, paces, strict=True):
            viewer = streaming.watch(server, "live", record, pace=pace)
            tasks.append(asyncio.create_task(viewer))
        while len(server.viewers) < len(paces):
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
    return records, memory, waiting


def table() -> str:
    """The run as Markdown."""
    jpegs, paces = film(), [PACE] * SLOW + [0] * (VIEWERS - SLOW)
    began, spent = time.time(), time.process_time()
    records, memory, waiting = asyncio.run(minute(jpegs, paces))
    taken, spent = time.time() - began, time.process_time() - spent
    lines = ["| viewers | drawn of the frames, least | most frames late | median |"]
    lines.append("| --- " * 4 + "|")
    for name, pace in (("fast", 0), ("slow", PACE)):
        group = [one for one, own in zip(records, paces, strict=True) if own == pace]
        least = min(len(record.shown) for record in group)
        late = [age for record in group for age in record.ages]
        words = f"| {len(group)} {name} | {least} of {FPS * SECONDS} | {max(late)} |"
        lines.append(f"{words} {statistics.median(late):g} |")
    pictures = sum(map(len, jpegs)) / len(jpegs) / 1000
    lines.append(
        f"\n{taken:.0f} s, {spent:.0f} s of CPU time for server and viewers in one "
        f"process; pictures of {pictures:.1f} kB. Memory {memory[WARM]:.1f} MB after "
        f"{WARM} s, {memory[-1]:.1f} MB at the end, at most {max(memory):.1f}; frames "
        f"that wait in the server at most {max(waiting) / 1000:.0f} kB for all viewers."
    )
    return "\n".join(lines)
