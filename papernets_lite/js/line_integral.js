// The line integral of a part affinity field between two points, to pick, drag or move by keyboard.
// Positions are image pixels whose centres lie at +0.5; a field cell (row, column) has its centre at
// (column + 0.5, row + 0.5) * stride.

export function decode(base64, scale) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return Float32Array.from(new Int8Array(bytes.buffer), (v) => v / scale);
}

// Bilinear sample of channel pair `limb` at pixel (x, y); outside the map the nearest cell counts.
export function sample(field, [, , rows, columns], limb, stride, x, y) {
  const u = Math.min(Math.max(x / stride - 0.5, 0), columns - 1);
  const v = Math.min(Math.max(y / stride - 0.5, 0), rows - 1);
  const [c0, r0] = [Math.floor(u), Math.floor(v)];
  const [c1, r1] = [Math.min(c0 + 1, columns - 1), Math.min(r0 + 1, rows - 1)];
  const [a, b] = [u - c0, v - r0];
  return [0, 1].map((part) => {
    const at = (r, c) => field[((limb * 2 + part) * rows + r) * columns + c];
    return (1 - b) * ((1 - a) * at(r0, c0) + a * at(r0, c1)) + b * ((1 - a) * at(r1, c0) + a * at(r1, c1));
  });
}

// L(p(u)) . (d2 - d1) / |d2 - d1| at `count` even steps from d1 to d2, and their mean E.
export function integral(field, shape, limb, stride, [x1, y1], [x2, y2], count) {
  const [dx, dy] = [x2 - x1, y2 - y1];
  const length = Math.hypot(dx, dy) || 1;
  const values = Array.from({ length: count }, (_, i) => {
    const u = i / (count - 1);
    const [lx, ly] = sample(field, shape, limb, stride, x1 + u * dx, y1 + u * dy);
    return (lx * dx + ly * dy) / length;
  });
  return { values, mean: values.reduce((s, v) => s + v, 0) / count };
}

const SVG = "http://www.w3.org/2000/svg";
function make(tag, attributes, parent) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (parent) parent.appendChild(node);
  return node;
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const [shape, stride, limbs, points] = [get("shape"), get("stride"), get("limbs"), get("points")];
  const field = decode(get("field"), 127);
  const [width, height] = get("size");
  const count = get("samples");
  el.classList.add("pn-line-integral");
  el.innerHTML = `<div class="pn-li-row"><label>Limb <select></select></label></div>
    <div class="pn-li-panes"><div class="pn-li-stage"></div>
    <div class="pn-li-side"><div class="pn-li-plot"></div><p class="pn-li-words" aria-live="polite"></p></div></div>`;
  const select = el.querySelector("select");
  limbs.forEach((limb, i) => select.add(new Option(limb.name, i)));

  const stage = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": get("alt") });
  el.querySelector(".pn-li-stage").appendChild(stage);
  make("image", { href: get("image"), width, height, style: "image-rendering:pixelated", opacity: 0.75 }, stage);
  const arrows = make("g", { class: "pn-li-arrows" }, stage);
  const candidates = make("g", {}, stage);
  const segment = make("line", { class: "pn-li-segment" }, stage);
  const dots = make("g", { class: "pn-li-dots" }, stage);
  const handles = [0, 1].map((end) =>
    make("circle", { r: width / 36, class: `pn-li-handle pn-li-end${end}`, tabindex: 0, role: "slider" }, stage));
  const plot = make("svg", { viewBox: "0 0 240 130", role: "img" });
  el.querySelector(".pn-li-plot").appendChild(plot);
  const words = el.querySelector(".pn-li-words");
  const ends = [[0, 0], [0, 0]];

  function drawField() {
    const limb = +select.value;
    arrows.replaceChildren();
    for (let r = 0; r < shape[2]; r++) {
      for (let c = 0; c < shape[3]; c++) {
        const [x, y] = [(c + 0.5) * stride, (r + 0.5) * stride];
        const [lx, ly] = sample(field, shape, limb, stride, x, y);
        if (Math.hypot(lx, ly) < 0.15) continue;
        const [tx, ty] = [x + lx * stride * 0.55, y + ly * stride * 0.55];
        const [bx, by] = [x - lx * stride * 0.45, y - ly * stride * 0.45];
        const [wx, wy] = [lx * stride * 0.35, ly * stride * 0.35];
        make("path", { d: `M${bx} ${by}L${tx} ${ty}M${tx - wx - wy} ${ty - wy + wx}L${tx} ${ty}L${tx - wx + wy} ${ty - wy - wx}` }, arrows);
      }
    }
    candidates.replaceChildren();
    for (const point of points) {
      const end = limbs[limb].joints.indexOf(point.joint);
      if (end < 0) continue;
      const mark = make("circle", { cx: point.x, cy: point.y, r: width / 55, tabindex: 0, role: "button",
        class: `pn-li-candidate pn-li-end${end}`, "aria-label": `${end ? "end" : "start"} at the ${point.label}` }, candidates);
      make("title", {}, mark).textContent = point.label;
      const choose = () => { ends[end] = [point.x, point.y]; update(); };
      mark.addEventListener("click", choose);
      mark.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); }
      });
    }
    for (const end of [0, 1]) {
      const first = points.find((p) => p.joint === limbs[limb].joints[end]);
      if (first) ends[end] = [first.x, first.y];
    }
    update();
  }

  function update() {
    const limb = +select.value;
    const { values, mean } = integral(field, shape, limb, stride, ends[0], ends[1], count);
    const [[x1, y1], [x2, y2]] = ends;
    for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) segment.setAttribute(name, value);
    dots.replaceChildren();
    values.forEach((v, i) => {
      const u = i / (count - 1);
      make("circle", { cx: x1 + u * (x2 - x1), cy: y1 + u * (y2 - y1), r: width / 130, class: v > 0.05 ? "pn-li-yes" : "pn-li-no" }, dots);
    });
    handles.forEach((handle, end) => {
      handle.setAttribute("cx", ends[end][0]);
      handle.setAttribute("cy", ends[end][1]);
      const text = `x ${ends[end][0].toFixed(1)}, y ${ends[end][1].toFixed(1)}`;
      handle.setAttribute("aria-label", `${end ? "end" : "start"} of the line, arrow keys move it`);
      handle.setAttribute("aria-valuetext", text);
      handle.setAttribute("aria-valuenow", ends[end][0].toFixed(1));
    });
    plot.replaceChildren();
    const [left, top, wide, high] = [34, 8, 196, 96];
    const py = (v) => top + ((1.1 - v) / 2.2) * high;
    for (const v of [-1, 0, 1]) {
      make("line", { x1: left, x2: left + wide, y1: py(v), y2: py(v), class: "pn-li-grid" }, plot);
      make("text", { x: left - 6, y: py(v) + 4, "text-anchor": "end" }, plot).textContent = v;
    }
    const px = (i) => left + (i / (count - 1)) * wide;
    make("path", { d: `M${left} ${py(0)}${values.map((v, i) => `L${px(i)} ${py(v)}`).join("")}L${left + wide} ${py(0)}Z`, class: "pn-li-area" }, plot);
    make("path", { d: values.map((v, i) => `${i ? "L" : "M"}${px(i)} ${py(v)}`).join(""), class: "pn-li-line" }, plot);
    make("text", { x: left + wide / 2, y: 124, "text-anchor": "middle" }, plot).textContent = "u: from start (0) to end (1)";
    make("text", { x: left, y: top + 2, class: "pn-li-title" }, plot).textContent = "L(p(u)) · direction";
    plot.setAttribute("aria-label", `field along the line, mean ${mean.toFixed(2)}`);
    const verdict = mean > 0.6 ? "the field runs along the whole line: one limb."
      : mean > 0.25 ? "the field agrees on part of the way only." : "the field does not support this pairing.";
    words.innerHTML = `<strong>E = ${mean.toFixed(2)}</strong>: ${verdict}`;
  }

  handles.forEach((handle, end) => {
    const move = (x, y) => {
      ends[end] = [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
      update();
    };
    handle.addEventListener("pointerdown", (event) => { handle.setPointerCapture(event.pointerId); event.preventDefault(); handle.focus(); });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = stage.getBoundingClientRect();
      move(((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height);
    });
    handle.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      move(ends[end][0] + step[0], ends[end][1] + step[1]);
    });
  });
  select.addEventListener("change", drawField);
  select.value = get("limb");
  drawField();
}

export default { render };
