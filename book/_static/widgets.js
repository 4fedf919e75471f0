// Widgets without a kernel: loads the vendored html-manager (3.6 MB) only on pages with widgets, and only when one of
// them comes near the viewport. Must run before the theme's Font Awesome script (see below), hence not deferred.

// By default Font Awesome replaces <i> by <svg>, which breaks ipywidgets' Play button; nested it leaves the <i>.
window.FontAwesomeConfig = { autoReplaceSvg: "nest" };

(() => {
  const vendor = new URL("../vendor/", document.currentScript.src).href;
  const selector = 'script[type="application/vnd.jupyter.widget-view+json"]';

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

  // noUiSlider's handles have no accessible name; ipywidgets writes it beside them. Tab lists its radio-like buttons.
  function name(root) {
    for (const handle of root.querySelectorAll(".noUi-handle:not([aria-label])")) {
      const label = handle.closest(".jupyter-widgets")?.querySelector(".widget-label");
      handle.setAttribute("aria-label", label?.textContent.trim() || "slider");
    }
    for (const group of root.querySelectorAll(".widget-toggle-buttons:not([role])")) {
      group.setAttribute("role", "group");
      group.setAttribute("aria-label", group.querySelector(".widget-label")?.textContent.trim() || "choice");
    }
    for (const play of root.querySelectorAll(".jupyter-widgets.widget-play")) {
      const words = ["play or pause", "stop", "repeat"];
      play.querySelectorAll("button").forEach((button, i) => button.setAttribute("aria-label", words[i]));
    }
    for (const label of root.querySelectorAll("label.widget-label[for]")) label.removeAttribute("for");
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const toggle of document.querySelectorAll("nav summary")) toggle.setAttribute("aria-label", "chapters of this part");
    const views = [...document.querySelectorAll(selector)];
    if (!views.length) return;
    for (const view of views) {
      const place = view.parentElement;
      place.classList.add("pn-waiting");
      new MutationObserver(() => {
        if (place.querySelector(".jupyter-widgets, .pn-frames, .pn-line-integral")) place.classList.remove("pn-waiting");
        name(place);
      }).observe(place, { childList: true, subtree: true });
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
