// The search's page: ranks sections of prose by the words of ?q=, and links each hit to its section.
(() => {
  const here = new URL("../", document.currentScript.src).href; // the site's root
  const MOST = 40; // hits that are shown
  const AROUND = 110; // letters of an excerpt on each side of its first match
  const LETTER = "[\\p{L}\\p{N}]";
  const PHRASE = 300, ALL = 200, PREFIX = 100; // what a section is found by
  const EXPLAINS = 400, HINTS = 150; // the glossary says that the term is explained there; one that begins like it
  const IN_HEADING = 40, IN_TITLE = 30, SYNONYM = -20;

  const words = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  const key = (text) => words(text).map(single).join(" ");

  // A word without its plural ending.
  const single = (word) => word.replace(/^(.{2,}(?:x|ch|sh|ss))es$/, "$1").replace(/^(.{2,}[^su])s$/, "$1");

  // These words side by side, in singular or plural; a prefix may go on.
  function pattern(list, { prefix = false } = {}) {
    const end = prefix ? `${LETTER}*` : "(?:e?s)?";
    const body = list.map((word) => single(word) + end).join(`[^\\p{L}\\p{N}]+`);
    return new RegExp(`(?<!${LETTER})${body}(?!${LETTER})`, "giu");
  }

  const count = (text, regex) => (text.match(regex) ?? []).length;

  // What to look for: the query itself, and the other names of the terms that it holds, as phrases only.
  function alternatives(query, terms) {
    const asked = ` ${key(query)} `;
    const found = new Map([[asked.trim(), { list: words(query), bonus: 0, loose: true }]]);
    for (const [names] of terms) {
      const held = names.find((name) => asked.includes(` ${key(name)} `));
      if (!held) continue;
      for (const name of names) {
        const other = asked.replace(` ${key(held)} `, ` ${key(name)} `).trim();
        if (!found.has(other)) found.set(other, { list: words(other), bonus: SYNONYM });
      }
    }
    return [...found.values()];
  }

  // How well a section answers one alternative; 0 where it does not.
  function rate({ list, bonus, loose }, { heading, title, text }) {
    const whole = `${title} ${heading} ${text}`;
    const phrase = pattern(list);
    if (count(whole, phrase)) {
      const places = IN_HEADING * Math.sign(count(heading, phrase)) + IN_TITLE * Math.sign(count(title, phrase));
      return PHRASE + bonus + places + Math.min(20, 4 * count(text, phrase));
    }
    // A letter alone says nothing but in a phrase.
    if (!loose || list.some((word) => word.length === 1)) return 0;
    for (const [worth, options] of [[ALL, {}], [PREFIX, { prefix: true }]]) {
      const each = list.map((word) => pattern([word], options));
      if (!each.every((regex) => count(whole, regex))) continue;
      const headed = each.filter((regex) => count(heading, regex)).length / list.length;
      const titled = each.filter((regex) => count(title, regex)).length / list.length;
      return worth + bonus + IN_HEADING * headed + IN_TITLE * titled;
    }
    return 0;
  }

  function ranked(query, { pages, sections, terms }) {
    const options = alternatives(query, terms);
    const explained = new Map(defined(query, terms).map((term) => [term[3], isCalled(query, term) ? EXPLAINS : HINTS]));
    return sections
      .map(([page, heading, anchor, text]) => {
        const [address, title] = pages[page];
        const section = { address: `${address}#${anchor}`, title, heading, text };
        const rates = options.map((option) => rate(option, section));
        const score = Math.max(...rates) + (explained.get(section.address) ?? 0);
        return { ...section, score, option: options[rates.indexOf(Math.max(...rates))] };
      })
      .filter((hit) => hit.score > 0)
      .sort((a, b) => b.score - a.score);
  }

  const isCalled = (query, [names]) => names.some((name) => key(name) === key(query));

  // The term that is called like the query, or else some that begin like it.
  function defined(query, terms) {
    const called = terms.filter((term) => isCalled(query, term));
    const asked = key(query);
    if (called.length || asked.length < 3) return called;
    return terms.filter(([names]) => names.some((name) => key(name).startsWith(asked))).slice(0, 3);
  }

  function element(name, attributes, ...children) {
    const node = document.createElement(name);
    for (const [attribute, value] of Object.entries(attributes)) node.setAttribute(attribute, value);
    node.append(...children);
    return node;
  }

  // A text with what the patterns match marked.
  function marked(text, patterns) {
    const spans = patterns.flatMap((regex) => [...text.matchAll(regex)].map((match) => [match.index, match.index + match[0].length]));
    const parts = [];
    let at = 0;
    for (const [start, end] of spans.sort((a, b) => a[0] - b[0])) {
      if (start < at) continue;
      parts.push(text.slice(at, start), element("mark", {}, text.slice(start, end)));
      at = end;
    }
    return [...parts, text.slice(at)];
  }

  // Some prose around the first match.
  function excerpt(text, patterns) {
    const places = patterns.map((regex) => text.search(regex)).filter((place) => place >= 0);
    const middle = places.length ? Math.min(...places) : 0;
    let start = Math.max(0, middle - AROUND), end = Math.min(text.length, middle + 2 * AROUND);
    if (start > 0) start = text.indexOf(" ", start) + 1;
    if (end < text.length) end = text.lastIndexOf(" ", end);
    return `${start > 0 ? "… " : ""}${text.slice(start, end)}${end < text.length ? " …" : ""}`;
  }

  function shown({ address, title, heading, text, option: { list } }) {
    const whole = `${title} ${heading} ${text}`;
    const options = [[pattern(list)], list.map((word) => pattern([word])), list.map((word) => pattern([word], { prefix: true }))];
    const patterns = options.find((some) => some.every((regex) => count(whole, regex))) ?? [];
    const link = element("a", { href: here + address }, ...marked(heading, patterns));
    const chapter = heading === title ? [] : [element("span", { class: "pn-where" }, title)];
    return element("li", {}, ...chapter, link, element("p", {}, ...marked(excerpt(text, patterns), patterns)));
  }

  function meaning([names, means, own, address, title]) {
    const others = names.length > 1 ? [" ", element("small", {}, names.slice(1).join(", "))] : [];
    const name = element("a", { href: here + own }, names[0]);
    const chapter = element("a", { href: here + address }, title);
    return element("p", {}, element("b", {}, name), ...others, element("br", {}), `${means} `, chapter);
  }

  function said(query, hits) {
    const glossary = element("a", { href: `${here}book/glossary.html` }, "glossary");
    if (!hits.length) return [`Nothing found for “${query}”. Try fewer or shorter words, or the `, glossary, "."];
    const number = hits.length === 1 ? "One section" : `${hits.length} sections`;
    return [`${number} found for “${query}”${hits.length > MOST ? `; the best ${MOST} are shown` : ""}.`];
  }

  document.addEventListener("DOMContentLoaded", () => {
    const field = document.querySelector(".pn-search input[name=q]");
    const query = (new URLSearchParams(location.search).get("q") ?? "").trim();
    if (!words(query).length) return field.focus();
    field.value = query;
    document.title = `${query} - ${document.title}`;
    const hits = ranked(query, window.searchIndex);
    document.querySelector("#search-terms").append(...defined(query, window.searchIndex.terms).map(meaning));
    document.querySelector("#search-results").append(...hits.slice(0, MOST).map(shown));
    document.querySelector("#search-status").append(...said(query, hits));
  });
})();
