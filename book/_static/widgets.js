// Widgets without a kernel. Each widget's own script (`_esm`) and style travel with its state in the page; the script is
// handed a small model of that state when its widget comes near the viewport. Until then the page's opening picture
// stands there, in the room that the widget will need.
(() => {
  const kind = (name) => `script[type="application/vnd.jupyter.widget-${name}+json"]`;

  // Bytes are stored beside the state, each with the path at which it belongs.
  function restored({ state, buffers = [] }) {
    for (const { data, encoding, path } of buffers) {
      const bytes = encoding === "hex"
        ? Uint8Array.from(data.match(/../g) ?? [], (pair) => parseInt(pair, 16))
        : Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
      const holder = path.slice(0, -1).reduce((part, key) => part[key], state);
      holder[path.at(-1)] = new DataView(bytes.buffer);
    }
    return state;
  }

  // What a script of anywidget asks of its model; nobody listens behind it.
  function modelOf(state) {
    let listeners = [];
    const tell = (event, ...values) => {
      for (const [name, listener] of [...listeners]) if (name === event) listener(...values);
    };
    const model = {
      get: (name) => state[name],
      set(name, value) {
        if (state[name] === value) return;
        state[name] = value;
        tell(`change:${name}`, model, value);
        tell("change", model);
      },
      on: (event, listener) => { listeners.push([event, listener]); },
      off: (event, listener) => {
        listeners = listeners.filter(([name, known]) => name !== event || (listener && known !== listener));
      },
      save_changes() {},
      send() {},
    };
    return model;
  }

  const modules = new Map(); // by source: widgets of one class share theirs
  function moduleOf(source) {
    if (!modules.has(source)) {
      const script = new Blob([source], { type: "text/javascript" });
      modules.set(source, import(URL.createObjectURL(script)));
    }
    return modules.get(source);
  }

  const styles = new Set();
  function dress(css) {
    if (!css || styles.has(css)) return;
    styles.add(css);
    document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
  }

  async function mount(view, state, model) {
    const place = view.parentElement;
    if (!state._esm) throw new Error(`${state._model_name ?? "a widget without state"} brings no script of its own`);
    const { default: exported } = await moduleOf(state._esm);
    const widget = typeof exported === "function" ? await exported() : exported;
    const el = document.createElement("div");
    el.classList.add(...state._dom_classes);
    dress(state._css);
    await widget.initialize?.({ model });
    view.after(el);
    await widget.render({ model, el });
    place.classList.remove("pn-waiting");
    place.querySelector(":scope > .pn-preview")?.remove();
  }

  function whenNear(place, then) {
    const near = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      near.disconnect();
      then();
    }, { rootMargin: "400px" });
    near.observe(place);
  }

  document.addEventListener("DOMContentLoaded", () => {
    const views = [...document.querySelectorAll(kind("view"))];
    const states = document.querySelector(kind("state"));
    if (!views.length || !states) return;
    const stored = JSON.parse(states.textContent).state;
    const models = {}; // a widget that is shown twice is one model
    for (const view of views) {
      const place = view.parentElement;
      const id = JSON.parse(view.textContent).model_id;
      const state = restored(stored[id] ?? { state: {} });
      models[id] ??= modelOf(state);
      place.classList.add("pn-waiting");
      whenNear(place, () => mount(view, state, models[id]).catch((error) => {
        place.dataset.failed = "The interactive figure did not load.";
        console.error(error);
      }));
    }
  });
})();
