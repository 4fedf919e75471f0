// The map: point at a chapter, or tab to it, to see what it builds on and what builds on it.
document.addEventListener("DOMContentLoaded", () => {
  for (const map of document.querySelectorAll(".pn-lineage")) {
    const rows = new Map([...map.querySelectorAll("li")].map((row) => [row.dataset.slug, row]));
    const told = map.nextElementSibling;
    const name = (row) => row.querySelector("span").textContent;
    const parents = (row) => row.dataset.on.split(" ").filter(Boolean).map((slug) => rows.get(slug));
    const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    drawing.setAttribute("aria-hidden", "true");
    map.prepend(drawing);

    // An arc between the dots of two rows.
    const arc = (from, to) => {
      const room = map.getBoundingClientRect();
      const [a, b] = [from, to].map((row) => {
        const { x, y, height } = row.getBoundingClientRect();
        return { x: x - room.x + 5, y: y - room.y + height / 2 };
      });
      const bow = 12 + Math.min(40, Math.abs(a.y - b.y) / 6);
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", `M${a.x} ${a.y}C${a.x - bow} ${a.y} ${b.x - bow} ${b.y} ${b.x} ${b.y}`);
      drawing.append(path);
    };

    const light = (row) => {
      drawing.replaceChildren();
      for (const other of rows.values()) other.classList.toggle("pn-lit", other === row);
      if (!row) return;
      const before = parents(row);
      const after = [...rows.values()].filter((other) => parents(other).includes(row));
      for (const kin of [...before, ...after]) {
        kin.classList.add("pn-lit");
        arc(kin, row);
      }
      const list = (words, kin) => (kin.length ? ` ${words} ${kin.map(name).join(", ")}.` : "");
      told.textContent = `${name(row)} (${row.querySelector("small").textContent}): ${row.dataset.idea}.`
        + list("It builds on", before) + list("On it build", after);
    };
    for (const row of rows.values()) {
      for (const event of ["mouseenter", "focusin"]) row.addEventListener(event, () => light(row));
      for (const event of ["mouseleave", "focusout"]) row.addEventListener(event, () => light(null));
    }
  }
});
