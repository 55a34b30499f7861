"use strict";
// Two things only: sorting tables and switching the theme. The report reads in full without either.
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
