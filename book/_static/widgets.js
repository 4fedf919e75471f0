// Widgets without a kernel: loads the vendored html-manager (3.6 MB) only on pages with widgets, and only when one of
// them comes near the viewport. Until then each shows its opening picture, in the room that it will need.
(() => {
  const vendor = new URL("../vendor/", document.currentScript.src).href;
  const kind = (name) => `script[type="application/vnd.jupyter.widget-${name}+json"]`;

  const load = (file) => new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = vendor + file;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${file} did not load`));
    document.head.appendChild(script);
  });

  async function start() {
    // ipywidgets calls MathJax 2's queue; with MathJax 3 that would be an error per label.
    if (window.MathJax) window.MathJax.Hub = { Queue() {} };
    await load("require.js");
    window.requirejs.config({ baseUrl: vendor }); // of anywidget, and of the bundle's icon font
    await load("embed-amd.js");
  }

  // The opening picture of `widgets.scrubber` and `picker`, or the scene of `line_integral`, at the size that it will have.
  function preview({ frames, alts, image, alt, size, axes, chosen }) {
    const picture = new Image();
    const at = frames ? axes.reduce((sum, axis, k) => sum * axis.options.length + (chosen?.[k] ?? 0), 0) : 0;
    const frame = frames && (typeof frames[at] === "number" ? frames[frames[at]] : frames[at]);
    [picture.src, picture.alt] = frames ? [frame, alts[at]] : [image, alt];
    [picture.width, picture.height] = frames ? size : [420, (420 * size[1]) / size[0]];
    picture.style.marginTop = `${frames ? 2.5 * axes.length : 2}rem`; // where the controls come
    return picture;
  }

  document.addEventListener("DOMContentLoaded", () => {
    const views = [...document.querySelectorAll(kind("view"))];
    const states = document.querySelector(kind("state"));
    if (!views.length || !states) return;
    const models = JSON.parse(states.textContent).state;
    for (const view of views) {
      const place = view.parentElement;
      const { state } = models[JSON.parse(view.textContent).model_id] ?? { state: {} };
      place.classList.add("pn-waiting");
      if (state.size) place.prepend(preview(state));
      const watch = new MutationObserver(() => {
        if (!place.querySelector(".widget-subarea *")) return;
        watch.disconnect();
        place.classList.remove("pn-waiting");
        place.querySelector(":scope > img")?.remove();
      });
      watch.observe(place, { childList: true, subtree: true });
    }
    const near = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      near.disconnect();
      start().catch((error) => {
        for (const view of views) view.parentElement.dataset.failed = "The interactive figure did not load.";
        console.error(error);
      });
    }, { rootMargin: "400px" });
    for (const view of views) near.observe(view.parentElement);
  });
})();
