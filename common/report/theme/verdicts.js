// Sorting and filtering of the table of verdicts. Without this script it is a plain table.
"use strict";
(() => {
  const table = document.getElementById("verdicts"), form = document.getElementById("filters");
  if (!table || !form) return;
  const body = table.tBodies[0], headers = [...table.tHead.rows[0].cells], original = [...body.rows];
  const fields = ["family", "verdict", "profile"];

  const key = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? (cell.dataset.value === "" ? NaN : Number(cell.dataset.value)) : cell.textContent.trim();
  };
  const compare = (a, b) => typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;

  const sort = (column) => {
    const up = headers[column].getAttribute("aria-sort") !== "ascending";
    headers.forEach((header, i) => header.setAttribute("aria-sort", i !== column ? "none" : up ? "ascending" : "descending"));
    const known = [...body.rows].filter((row) => !Number.isNaN(key(row, column)));
    const unknown = [...body.rows].filter((row) => Number.isNaN(key(row, column)));  // last in either direction
    known.sort((a, b) => (up ? 1 : -1) * compare(key(a, column), key(b, column)));
    body.append(...known, ...unknown);
  };

  const filter = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of original) {
      const text = row.textContent.toLowerCase();
      const chosen = fields.every((name) => !form.elements[name].value || form.elements[name].value === row.dataset[name]);
      row.hidden = !(chosen && words.every((word) => text.includes(word)));
      shown += !row.hidden;
    }
    form.elements.shown.value = `${shown} of ${original.length} verdicts`;
  };

  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(column));
  });
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => {  // once the fields have their first values again
    headers.forEach((header) => header.setAttribute("aria-sort", "none"));
    body.append(...original);
    filter();
  }));
  form.hidden = false;
  filter();  // a browser that goes back keeps what was chosen
})();
