"use strict";
const REACH = 30; // pixels around the pointer in which a point is looked for
const tip = document.getElementById("tip");
const dot = document.getElementById("dot");
const points = JSON.parse(document.getElementById("points").textContent);

function nearest(panels, box, event) {
  let best = null;
  let least = REACH * REACH;
  for (const panel of panels) {
    for (const series of panel.series) {
      for (const [left, top, x, y] of series.points) {
        const across = box.left + left * box.width;
        const down = box.top + top * box.height;
        const distance = (across - event.clientX) ** 2 + (down - event.clientY) ** 2;
        if (distance < least) {
          least = distance;
          best = { across, down, text: [panel.title, series.name, panel.x + ": " + x, panel.y + ": " + y] };
        }
      }
    }
  }
  return best;
}

function hide() {
  tip.hidden = dot.hidden = true;
}

function show(image, event) {
  const found = nearest(points[image.dataset.name], image.getBoundingClientRect(), event);
  if (!found) return hide();
  tip.textContent = found.text.filter(Boolean).join("\n");
  tip.hidden = dot.hidden = false;
  dot.style.left = found.across + "px";
  dot.style.top = found.down + "px";
  const right = document.documentElement.clientWidth - tip.offsetWidth - 4;
  tip.style.left = Math.max(4, Math.min(found.across + 12, right)) + "px";
  const above = found.down - tip.offsetHeight - 12;
  tip.style.top = (above < 4 ? found.down + 12 : above) + "px";
}

for (const image of document.querySelectorAll("img.drawing")) {
  for (const kind of ["pointermove", "pointerdown"]) image.addEventListener(kind, (event) => show(image, event));
  image.addEventListener("pointerleave", hide);
}
addEventListener("scroll", hide, true);

function value(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replaceAll(",", ""));
  return { text, number, empty: text === "" || text === "-" };
}

function sort(head, column) {
  const body = head.closest("table").tBodies[0];
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const rows = [...body.rows].map((row) => [value(row, column), row]);
  const numbers = rows.every(([cell]) => cell.empty || !Number.isNaN(cell.number));
  rows.sort(([a], [b]) => {
    if (a.empty || b.empty) return a.empty - b.empty; // what has no value stays at the end
    return sign * (numbers ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true }));
  });
  body.append(...rows.map(([, row]) => row));
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
}

for (const head of document.querySelectorAll("table.sortable thead th")) {
  head.querySelector("button").addEventListener("click", () => sort(head, head.cellIndex));
}
