"use strict";
// Three things only: sorting tables, saving charts and switching the theme. The report reads in full without them.
(() => {
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    if (a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  const valueOf = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const headings = [...table.tHead.rows[0].cells];
    const status = document.getElementById("announce");
    headings.forEach((heading, column) => {
      if (heading.classList.contains("pictures")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        // Numbers are first asked for from the largest, names from A.
        const first = heading.classList.contains("number") ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const order = heading.getAttribute("aria-sort") === first ? other : first;
        for (const one of headings) one.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
        // Missing values stay at the end in both directions.
        rows.sort(([a], [b]) => (a === "") - (b === "") || sign * compare(a, b));
        body.append(...rows.map(([, row]) => row));
        status.textContent = `Sorted by ${button.textContent.trim()}, ${order}.`;
      });
    });
  }

  // A chart outside of the page has white paper and the colours that its variables are named after.
  const svgSpace = "http://www.w3.org/2000/svg";
  const sheet = document.getElementById("chart-sheet").textContent.replace(/var\(--c-([0-9a-f]{6})\)/g, "#$1");
  const alone = (chart) => {
    const copy = chart.cloneNode(true);
    const [style, paper] = ["style", "rect"].map((tag) => document.createElementNS(svgSpace, tag));
    style.textContent = sheet;
    for (const [name, value] of Object.entries({ width: "100%", height: "100%", fill: "#fff" })) paper.setAttribute(name, value);
    copy.prepend(style, paper);
    return `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  };
  const hand = (address, name) => {
    const link = document.createElement("a");
    [link.href, link.download] = [address, name];
    link.click();
  };
  const asPixels = (chart, name) => {
    const picture = new Image();
    picture.addEventListener("load", () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [3 * chart.getAttribute("width"), 3 * chart.getAttribute("height")];
      canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
      hand(canvas.toDataURL("image/png"), name);
    });
    picture.src = alone(chart);
  };
  for (const place of document.querySelectorAll(".save")) {
    const chart = place.closest("figure").querySelector(".paper > *");
    const { name, title } = place.dataset;
    const ways = chart instanceof SVGElement
      ? { SVG: () => hand(alone(chart), `${name}.svg`), PNG: () => asPixels(chart, `${name}.png`) }
      : { PNG: () => hand(chart.src, `${name}.png`) };
    for (const [kind, save] of Object.entries(ways)) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = kind;
      button.setAttribute("aria-label", `Save ${title} as ${kind}`);
      button.addEventListener("click", save);
      place.append(button);
    }
  }

  const root = document.documentElement;
  const button = document.getElementById("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";
  const show = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    // A browser may refuse storage to a page opened from disk; the switch still works for this visit.
    try { localStorage.setItem("tailmatch-theme", root.dataset.theme); } catch { /* not remembered */ }
    show();
  });
  prefersDark.addEventListener("change", show);
  show();
})();
