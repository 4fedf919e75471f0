// A click on a figure, or its button, shows it as large as the window allows; Escape or another click closes it.
document.addEventListener("DOMContentLoaded", () => {
  // The keyboard stops at a drawing only where it has to be scrolled.
  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => {
    target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1;
  }));
  document.querySelectorAll(".pn-scroll").forEach((box) => sizes.observe(box));
  for (const figure of document.querySelectorAll(".pn-figure")) {
    const box = figure.querySelector(".pn-scroll");
    const panels = box.firstElementChild;
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "pn-enlarge", textContent: "Enlarge" });
    button.setAttribute("aria-label", `Enlarge ${figure.querySelector(".pn-number").textContent.toLowerCase()}`);
    figure.querySelector("figcaption").append(" ", button);
    const enlarge = () => {
      const dialog = document.createElement("dialog");
      dialog.className = "pn-large";
      dialog.setAttribute("aria-labelledby", panels.getAttribute("aria-labelledby"));
      const close = document.createElement("button");
      Object.assign(close, { type: "button", textContent: "Close" });
      const { width, height } = panels.getBoundingClientRect();
      const fitting = Math.min((0.94 * innerWidth) / width, (0.86 * innerHeight) / height, 3);
      panels.style.zoom = Math.max(1.5, fitting);
      box.style.height = `${height}px`; // the page stays where it is
      dialog.append(close, panels);
      document.body.append(dialog);
      dialog.addEventListener("click", () => dialog.close());
      dialog.addEventListener("close", () => {
        panels.style.zoom = box.style.height = "";
        box.append(panels);
        dialog.remove();
        button.focus({ preventScroll: true });
      });
      dialog.showModal();
    };
    button.addEventListener("click", enlarge);
    panels.addEventListener("click", () => panels.parentElement === box && enlarge());
  }
});
