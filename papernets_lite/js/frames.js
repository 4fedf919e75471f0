// Pictures drawn beforehand, one for each combination of choices, behind the browser's own controls:
// a row of buttons or a slider for each axis, and for a film a button that plays it. A sentence below, which names
// the picture too, says what is seen; it is read out when it changes, but not while a film plays.

const MANY = 6; // more options than this become a slider

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const unique = () => `pn-${Math.random().toString(36).slice(2)}`;

function slider({ name, options }, choose) {
  const input = make("input", { type: "range", min: 0, max: options.length - 1, "aria-label": name });
  const words = make("output", {});
  input.addEventListener("input", () => choose(+input.value));
  const show = (value) => {
    input.value = value;
    input.setAttribute("aria-valuetext", options[value]);
    words.textContent = options[value];
  };
  return [make("div", { class: "pn-axis" }, make("span", { class: "pn-name" }, name), input, words), show];
}

function buttons({ name, options }, choose) {
  const group = unique();
  const inputs = options.map((_, i) => {
    const input = make("input", { type: "radio", name: group });
    input.addEventListener("change", () => choose(i));
    return input;
  });
  const row = make("div", { class: "pn-axis", role: "radiogroup", "aria-label": name },
    make("span", { class: "pn-name", "aria-hidden": "true" }, name),
    make("span", { class: "pn-options" }, ...options.map((option, i) => make("label", {}, inputs[i], make("span", {}, option)))));
  return [row, (value) => { inputs[value].checked = true; }];
}

// Steps to the end, then stops; started there, it begins again.
function player(interval, last, get, choose, tell) {
  const button = make("button", { type: "button", class: "pn-play" });
  let timer = null;
  const show = () => {
    tell(timer ? "off" : "polite");
    button.setAttribute("aria-label", timer ? "Pause" : "Play");
    button.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${timer ? "M3 2h4v12H3zM9 2h4v12H9z" : "M3 1.5v13L14 8z"}"/></svg>`;
  };
  const stop = () => { clearInterval(timer); timer = null; show(); };
  const step = () => { choose(get() + 1); if (get() >= last) stop(); };
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (get() >= last) choose(0);
    timer = setInterval(step, interval);
    show();
  });
  show();
  return [button, stop];
}

// Drawings are packed: base64 of zlib of a JSON list of HTML.
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(plain).text());
}

// A place for pictures, which are URLs: a frame may be the number of one that was there before.
function pictures(frames, [width, height], pixelated) {
  const image = make("img", { width, height, alt: "", class: pixelated ? "pn-pixelated" : "" });
  return [image, (at) => { image.src = typeof frames[at] === "number" ? frames[frames[at]] : frames[at]; }];
}

// A place for drawings. The keyboard stops there only where they have to be scrolled.
function drawings(frames, said) {
  const place = make("div", { class: "pn-drawn", role: "img", "aria-labelledby": said.id });
  const box = make("div", { class: "pn-scroll", role: "group", "aria-labelledby": said.id }, place);
  new ResizeObserver(() => { box.tabIndex = box.scrollWidth > box.clientWidth ? 0 : -1; }).observe(box);
  return [box, (at) => { place.innerHTML = frames[at]; }];
}

async function render({ model, el }) {
  const axes = model.get("axes");
  const film = model.get("interval") > 0;
  const said = make("span", { "aria-live": "polite", id: unique() });
  // room for the longest sentence, so that nothing below moves
  const room = model.get("alts").reduce((longest, alt) => (alt.length > longest.length ? alt : longest), "");
  const [place, draw] = model.get("drawn")
    ? drawings(await unpack(model.get("drawn")), said)
    : pictures(model.get("frames"), model.get("size"), model.get("pixelated"));
  const figure = make("figure", { class: "pn-frame", "aria-labelledby": said.id },
    place, make("figcaption", { "data-room": room }, said));

  const choose = (axis, value) => {
    model.set("chosen", model.get("chosen").map((old, k) => (k === axis ? value : old)));
    model.save_changes();
  };
  let stop = () => {};
  const controls = axes.map((axis, k) =>
    (film || axis.options.length > MANY ? slider : buttons)(axis, (value) => { stop(); choose(k, value); }));
  const panel = make("div", { class: "pn-controls" }, ...controls.map(([node]) => node));
  if (film) {
    const [button, halt] = player(model.get("interval"), axes[0].options.length - 1,
      () => model.get("chosen")[0], (value) => choose(0, value), (how) => said.setAttribute("aria-live", how));
    stop = halt;
    controls[0][0].prepend(button);
  }
  const show = () => {
    const chosen = model.get("chosen");
    controls.forEach(([, set], k) => set(chosen[k]));
    const at = axes.reduce((sum, axis, k) => sum * axis.options.length + chosen[k], 0);
    draw(at);
    said.textContent = model.get("alts")[at];
  };
  model.on("change:chosen", show);
  show();
  el.classList.add("pn-frames");
  el.append(panel, figure);
  return () => { stop(); model.off("change:chosen", show); };
}

export default { render };
