// Pictures drawn beforehand, one for each combination of choices, behind the browser's own controls:
// a row of buttons or a slider for each axis, and for a film a button that plays it.

const MANY = 6; // more options than this become a slider

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

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
  const group = `pn-${Math.random().toString(36).slice(2)}`;
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
function player(interval, last, get, choose) {
  const button = make("button", { type: "button", class: "pn-play" });
  let timer = null;
  const show = () => {
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

function render({ model, el }) {
  const axes = model.get("axes");
  const [width, height] = model.get("size");
  const film = model.get("interval") > 0;
  const image = make("img", { width, height, class: model.get("pixelated") ? "pn-pixelated" : "" });

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
      () => model.get("chosen")[0], (value) => choose(0, value));
    stop = halt;
    controls[0][0].prepend(button);
  }
  const show = () => {
    const chosen = model.get("chosen");
    controls.forEach(([, set], k) => set(chosen[k]));
    const at = axes.reduce((sum, axis, k) => sum * axis.options.length + chosen[k], 0);
    const frame = model.get("frames")[at];
    image.src = typeof frame === "number" ? model.get("frames")[frame] : frame; // one that was there before
    image.alt = model.get("alts")[at];
  };
  model.on("change:chosen", show);
  show();
  el.classList.add("pn-frames");
  el.append(panel, make("figure", { class: "pn-frame" }, image));
  return () => { stop(); model.off("change:chosen", show); };
}

export default { render };
