// Tables below .sortable are sorted by a click on a heading. Numbers as numbers ("> 100" behind 100,
// 3/2 as 1.5), text as text; empty cells and dashes come last both ways.
"use strict";
document.querySelectorAll(".sortable table").forEach((table) => {
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const found = /^(>?)\s*([\d.]+)(?:\/(\d+))?/.exec(text);
    if (!text || text === "–") return null;
    return found ? found[2] / (found[3] || 1) + (found[1] ? 0.5 : 0) : text;
  };
  const order = (a, b) => (typeof a === typeof b ? (a > b) - (a < b) : typeof a === "number" ? -1 : 1);
  [...table.tHead.rows[0].cells].forEach((head, column, heads) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const sign = head.ariaSort === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
      rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * order(a, b)));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    };
  });
});
