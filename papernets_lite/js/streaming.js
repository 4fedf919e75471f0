// The viewer: draws each frame that comes, and only then asks for the next.
"use strict";

const PREFIX = 16; // bytes: sequence number, time, length of the picture
const NOWHERE = 65535; // of a joint that was not found
const KEPT = 200; // latencies of the last frames

const asked = new URLSearchParams(location.search);
const slow = Number(asked.get("slow") || 0); // milliseconds of pretended work
const picture = document.getElementById("picture").getContext("2d");
const overlay = document.getElementById("overlay").getContext("2d");
const words = document.getElementById("words");
let hello = { limbs: [], joints: 18 };

window.stats = {
    drawn: 0, skipped: 0, sequence: 0, bytes: 0, fps: 0, p50: 0, p95: 0, people: 0,
    closed: null, reason: "",
};
const latencies = [];
const times = [];

function toBytes(message) {
    if (message instanceof ArrayBuffer) return message;
    return Uint8Array.from(atob(message), (letter) => letter.charCodeAt(0)).buffer;
}

function unpack(buffer) {
    const view = new DataView(buffer);
    const length = view.getUint32(12);
    const people = [];
    for (let at = PREFIX + length; at < buffer.byteLength; at += 4 * hello.joints) {
        const joints = [];
        for (let j = 0; j < hello.joints; j += 1) {
            const x = view.getUint16(at + 4 * j);
            const y = view.getUint16(at + 4 * j + 2);
            joints.push(x === NOWHERE ? null : [x / (NOWHERE - 1), y / (NOWHERE - 1)]);
        }
        people.push(joints);
    }
    const jpeg = new Uint8Array(buffer, PREFIX, length);
    return { sequence: view.getUint32(0), captured: view.getFloat64(4), jpeg, people };
}

async function drawPicture(jpeg) {
    if (!jpeg.length) return;
    const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    const { canvas } = picture;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
        canvas.width = bitmap.width;
        canvas.height = bitmap.height;
    }
    picture.drawImage(bitmap, 0, 0);
    bitmap.close(); // or its memory waits for the collector
}

function drawPeople(people) {
    const { canvas } = overlay;
    canvas.width = 2 * 256; // setting it clears it
    canvas.height = 2 * 256;
    const place = ([x, y]) => [x * canvas.width, y * canvas.height];
    people.forEach((joints, number) => {
        const paint = `hsl(${(number * 137) % 360} 90% 60%)`;
        overlay.lineCap = "round";
        for (const [line, width] of [["#141414", 7], [paint, 4]]) {
            overlay.strokeStyle = line;
            overlay.lineWidth = width;
            for (const [a, b] of hello.limbs) {
                if (!joints[a] || !joints[b]) continue;
                overlay.beginPath();
                overlay.moveTo(...place(joints[a]));
                overlay.lineTo(...place(joints[b]));
                overlay.stroke();
            }
        }
        overlay.fillStyle = "#fff";
        for (const joint of joints) {
            if (!joint) continue;
            overlay.beginPath();
            overlay.arc(...place(joint), 3, 0, 2 * Math.PI);
            overlay.fill();
        }
    });
}

function count(frame, bytes) {
    const now = Date.now() / 1000;
    latencies.push(1000 * (now - frame.captured));
    times.push(now);
    if (latencies.length > KEPT) {
        latencies.shift();
        times.shift();
    }
    const sorted = [...latencies].sort((a, b) => a - b);
    const share = (part) => sorted[Math.floor(part * (sorted.length - 1))];
    const { stats } = window;
    if (stats.sequence) stats.skipped += frame.sequence - stats.sequence - 1;
    stats.sequence = frame.sequence;
    stats.drawn += 1;
    stats.bytes += bytes;
    stats.people = frame.people.length;
    stats.p50 = share(0.5);
    stats.p95 = share(0.95);
    const span = times[times.length - 1] - times[0];
    stats.fps = span > 0 ? (times.length - 1) / span : 0;
    words.textContent = `${stats.fps.toFixed(1)} frames a second, ` +
        `${stats.skipped} skipped, ${stats.p50.toFixed(0)} ms old (median)`;
}

const address = new URL("ws", location.href);
address.protocol = "ws:";
for (const name of ["token", "policy"]) {
    if (asked.has(name)) address.searchParams.set(name, asked.get(name));
}
const socket = new WebSocket(address);
socket.binaryType = "arraybuffer";

// one after the other, also where the server does not wait for acknowledgements
let before = Promise.resolve();

async function take(message) {
    if (hello.fps === undefined && typeof message === "string" && message[0] === "{") {
        hello = { fps: 0, ...JSON.parse(message) };
        return;
    }
    const frame = unpack(toBytes(message));
    await drawPicture(frame.jpeg);
    drawPeople(frame.people);
    if (slow) await new Promise((go) => { setTimeout(go, slow); });
    count(frame, message.byteLength ?? message.length);
    if (socket.readyState === WebSocket.OPEN) {
        socket.send(JSON.stringify({ ack: frame.sequence }));
    }
}

socket.onmessage = ({ data }) => {
    before = before.then(() => take(data)).catch((error) => { console.error(error); });
};
socket.onclose = ({ code, reason }) => {
    window.stats.closed = code;
    window.stats.reason = reason;
    words.textContent = `closed by the server, code ${code} ${reason}`;
};
