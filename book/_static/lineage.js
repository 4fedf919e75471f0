// The map's lines: from every chapter's chip to those it builds on. Hover or focus shows one chapter's own.
document.addEventListener("DOMContentLoaded", () => {
  for (const map of document.querySelectorAll(".pn-lineage")) {
    const svg = map.querySelector("svg");
    const chips = Object.fromEntries([...map.querySelectorAll(".pn-chip")].map((chip) => [chip.dataset.slug, chip]));
    const draw = () => {
      const box = map.getBoundingClientRect();
      svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
      svg.replaceChildren();
      for (const chip of Object.values(chips)) {
        for (const parent of chip.dataset.on.split(" ").filter(Boolean)) {
          const [a, b] = [chips[parent], chip].map((node) => {
            const r = node.getBoundingClientRect();
            return { x: r.left - box.left + r.width / 2, y: r.top - box.top, h: r.height };
          });
          const [from, to] = [a.y + (b.y > a.y ? a.h : a.h / 2), b.y + (b.y > a.y ? 0 : b.h / 2)];
          const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
          const bend = Math.max(24, Math.abs(to - from) / 2);
          path.setAttribute("d", `M${a.x} ${from}C${a.x} ${from + bend} ${b.x} ${to - bend} ${b.x} ${to}`);
          path.dataset.ends = `${parent} ${chip.dataset.slug}`;
          svg.appendChild(path);
        }
      }
    };
    const light = (slug) => {
      for (const path of svg.children) path.classList.toggle("pn-lit", path.dataset.ends.split(" ").includes(slug));
    };
    for (const [slug, chip] of Object.entries(chips)) {
      for (const event of ["mouseenter", "focus"]) chip.addEventListener(event, () => light(slug));
      for (const event of ["mouseleave", "blur"]) chip.addEventListener(event, () => light(""));
    }
    new ResizeObserver(draw).observe(map);
    draw();
  }
});
