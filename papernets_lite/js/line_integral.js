// The line integral of a part affinity field between two points, to pick, drag or move by keyboard.
// Positions are image pixels whose centres lie at +0.5; a field cell (row, column) has its centre at
// (column + 0.5, row + 0.5) * stride.

const AGREES = 0.05; // a sample below this speaks against the pair, as in the released code,
const SHARE = 0.8; // which asks so many samples to agree

export function decode(base64, scale) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return Float32Array.from(new Int8Array(bytes.buffer), (v) => v / scale);
}

// Bilinear sample of field `limb` at pixel (x, y); outside the map the nearest cell counts.
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

function make(tag, attributes, parent) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (parent) parent.appendChild(node);
  return node;
}

function arrow(x, y, lx, ly, cell) {
  const [dx, dy] = [lx * cell, ly * cell];
  const [tx, ty] = [x + 0.5 * dx, y + 0.5 * dy];
  const wing = (side) => `${tx - 0.35 * dx + side * 0.3 * dy} ${ty - 0.35 * dy - side * 0.3 * dx}`;
  return `M${x - 0.5 * dx} ${y - 0.5 * dy}L${tx} ${ty}M${wing(1)}L${tx} ${ty}L${wing(-1)}`;
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const [shape, stride, limbs, points, count] = ["shape", "stride", "limbs", "points", "samples"].map(get);
  const field = decode(get("field"), 127);
  const [width, height] = get("size");
  const unit = width / 100; // everything drawn scales with the picture
  el.classList.add("pn-line-integral");
  el.innerHTML = `<div class="pn-li-row"><label>Limb <select></select></label>
      <span>Pick a <b class="pn-li-key0">start</b> and an <b class="pn-li-key1">end</b>, or drag the rings.</span></div>
    <div class="pn-li-panes"><div class="pn-li-stage"></div>
    <div class="pn-li-side"><div class="pn-li-plot"></div><p class="pn-li-words" aria-live="polite"></p></div></div>`;
  const select = el.querySelector("select");
  limbs.forEach((limb, i) => select.add(new Option(limb.name, i)));
  const words = el.querySelector(".pn-li-words");

  const stage = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": get("alt") });
  el.querySelector(".pn-li-stage").appendChild(stage);
  make("image", { href: get("image"), width, height, class: "pn-li-image" }, stage);
  const arrows = make("g", { class: "pn-li-arrows" }, stage); // each drawn twice: dark below, so that it shows on anything
  make("path", { "stroke-width": 1.3 * unit, class: "pn-li-shadow" }, arrows);
  make("path", { "stroke-width": 0.6 * unit }, arrows);
  const segment = make("line", { class: "pn-li-segment", "stroke-width": unit }, stage);
  const dots = make("g", {}, stage);
  const candidates = make("g", {}, stage);
  const handles = [0, 1].map((end) => make("circle", { r: 3.4 * unit, "stroke-width": 1.1 * unit, tabindex: 0,
    class: `pn-li-handle pn-li-end${end}`, role: "slider", "aria-valuemin": 0, "aria-valuemax": width }, stage));
  const plot = make("svg", { viewBox: "0 0 240 150", role: "img" });
  el.querySelector(".pn-li-plot").appendChild(plot);
  const ends = [[0, 0], [0, 0]];
  const current = () => limbs[+select.value];
  const under = (end) => points.find((p) => p.joint === current().joints[end] && Math.hypot(p.x - ends[end][0], p.y - ends[end][1]) < 1e-6);

  function drawLimb(first = [0, 0]) {
    let path = "";
    for (let r = 0; r < shape[2]; r++) {
      for (let c = 0; c < shape[3]; c++) {
        const [x, y] = [(c + 0.5) * stride, (r + 0.5) * stride];
        const [lx, ly] = sample(field, shape, +select.value, stride, x, y);
        if (Math.hypot(lx, ly) > 0.15) path += arrow(x, y, lx, ly, stride);
      }
    }
    for (const layer of arrows.children) layer.setAttribute("d", path);
    candidates.replaceChildren();
    for (const end of [0, 1]) {
      const choices = points.filter((p) => p.joint === current().joints[end]);
      ends[end] = [choices[first[end]].x, choices[first[end]].y];
      for (const point of choices) {
        const mark = make("g", { tabindex: 0, role: "button", class: `pn-li-candidate pn-li-end${end}`,
          "aria-label": `${end ? "end" : "start"} at the ${point.label}` }, candidates);
        mark.point = point;
        make("title", {}, mark).textContent = point.label;
        make("circle", { cx: point.x, cy: point.y, r: 3.6 * unit, opacity: 0 }, mark); // for fingers
        make("circle", { cx: point.x, cy: point.y, r: 1.7 * unit, "stroke-width": 0.9 * unit }, mark);
        const choose = () => { ends[end] = [point.x, point.y]; update(); };
        mark.addEventListener("click", choose);
        mark.addEventListener("keydown", (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          choose();
        });
      }
    }
    update();
  }

  function update() {
    const { values, mean } = integral(field, shape, +select.value, stride, ends[0], ends[1], count);
    const [[x1, y1], [x2, y2]] = ends;
    for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) segment.setAttribute(name, value);
    dots.replaceChildren();
    values.forEach((v, i) => {
      const u = i / (count - 1);
      make("circle", { cx: x1 + u * (x2 - x1), cy: y1 + u * (y2 - y1), r: 0.9 * unit, class: v > AGREES ? "pn-li-yes" : "pn-li-no" }, dots);
    });
    const place = ends.map(([x, y], end) => under(end)?.label ?? `x ${x.toFixed(1)}, y ${y.toFixed(1)}`);
    handles.forEach((handle, end) => {
      handle.setAttribute("cx", ends[end][0]);
      handle.setAttribute("cy", ends[end][1]);
      handle.setAttribute("aria-label", `${end ? "end" : "start"} of the line, moved by the arrow keys`);
      handle.setAttribute("aria-valuetext", place[end]);
      handle.setAttribute("aria-valuenow", ends[end][0].toFixed(1));
    });
    for (const mark of candidates.children) {
      mark.setAttribute("aria-pressed", [0, 1].some((end) => under(end) === mark.point));
    }
    drawPlot(values, mean);
    const share = values.filter((v) => v > AGREES).length;
    const together = share >= SHARE * count;
    const reason = together ? "the field runs along the line." : share > 0.3 * count
      ? "the field runs along a part of the line only." : "the field does not run along this line.";
    words.innerHTML = `<span class="pn-li-pair"></span><br><b>E = ${mean.toFixed(2)}</b>, ${share} of ${count} samples agree.
      <b>${together ? "These belong together" : "These do not belong together"}</b>: ${reason}`;
    words.firstChild.textContent = `${place[0]} → ${place[1]}`;
  }

  function drawPlot(values, mean) {
    plot.replaceChildren();
    const [left, top, wide, high] = [30, 24, 202, 92];
    const px = (i) => left + (i / (count - 1)) * wide;
    const py = (v) => top + ((1.05 - v) / 2.1) * high;
    const text = (x, y, anchor, string) => { make("text", { x, y, "text-anchor": anchor }, plot).textContent = string; };
    for (const v of [-1, 0, 1]) {
      make("line", { x1: left, x2: left + wide, y1: py(v), y2: py(v), class: "pn-li-grid" }, plot);
      text(left - 7, py(v) + 4, "end", v);
    }
    const line = values.map((v, i) => `L${px(i)} ${py(v)}`).join("");
    make("path", { d: `M${left} ${py(0)}${line}L${left + wide} ${py(0)}Z`, class: "pn-li-area" }, plot);
    make("path", { d: `M${line.slice(1)}`, class: "pn-li-line" }, plot);
    values.forEach((v, i) => make("circle", { cx: px(i), cy: py(v), r: 2.6, class: v > AGREES ? "pn-li-yes" : "pn-li-no" }, plot));
    make("line", { x1: left, x2: left + wide, y1: py(mean), y2: py(mean), class: "pn-li-mean" }, plot);
    text(left, 12, "start", "field along the line, L(p(u)) · v");
    text(left, 144, "start", "u = 0, start");
    text(left + wide, 144, "end", "u = 1, end");
    plot.setAttribute("aria-label", `field along the line at ${count} samples: ${values.map((v) => v.toFixed(1)).join(", ")}; mean ${mean.toFixed(2)}`);
  }

  handles.forEach((handle, end) => {
    const move = (x, y) => {
      ends[end] = [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
      update();
    };
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      event.preventDefault();
      handle.focus();
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = stage.getBoundingClientRect();
      move(((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height);
    });
    handle.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation(); // JupyterLab would move to another cell
      move(ends[end][0] + step[0], ends[end][1] + step[1]);
    });
  });
  select.addEventListener("change", () => drawLimb());
  select.value = get("limb");
  drawLimb(get("start"));
}

export default { render };
