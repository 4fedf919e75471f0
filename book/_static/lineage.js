// The map: point at a chapter, or tab to it, to see what it builds on and what builds on it.
document.addEventListener("DOMContentLoaded", () => {
  for (const map of document.querySelectorAll(".pn-lineage")) {
    const rows = [...map.querySelectorAll("li")];
    const light = (slug) => {
      const kin = new Set([slug]);
      for (const arc of map.querySelectorAll("path")) {
        const ends = arc.dataset.ends.split(" ");
        const lit = ends.includes(slug);
        arc.classList.toggle("pn-lit", lit);
        if (lit) ends.forEach((end) => kin.add(end));
      }
      for (const row of rows) row.classList.toggle("pn-lit", Boolean(slug) && kin.has(row.dataset.slug));
    };
    for (const row of rows) {
      for (const event of ["mouseenter", "focusin"]) row.addEventListener(event, () => light(row.dataset.slug));
      for (const event of ["mouseleave", "focusout"]) row.addEventListener(event, () => light(""));
    }
  }
});
