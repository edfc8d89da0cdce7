"use strict";
const REACH = 30; // pixels around the pointer in which a point is looked for
const tip = document.getElementById("tip");
const dot = document.getElementById("dot");
const points = JSON.parse(document.getElementById("points").textContent);

function nearest(panels, hidden, box, event) {
  let best = null;
  let least = REACH * REACH;
  for (const panel of panels) {
    for (const series of panel.series.filter((one) => !hidden.has(one.name))) {
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
  const { panels, hidden } = points[image.dataset.name];
  const found = nearest(panels, hidden, image.getBoundingClientRect(), event);
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

const PREFIX = "data:image/svg+xml;base64,";
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;" };

function without(uri, ids) { // a drawing in which these lines are not seen
  const bytes = Uint8Array.from(atob(uri.slice(PREFIX.length)), (letter) => letter.charCodeAt(0));
  let drawing = new TextDecoder().decode(bytes); // as text: to parse it here would apply its styles to the page's policy
  for (const id of ids) {
    const start = `<g id="${id.replace(/[&<>"']/g, (letter) => ENTITIES[letter])}"`;
    drawing = drawing.replaceAll(start, start + ' visibility="hidden"');
  }
  return "data:image/svg+xml," + encodeURIComponent(drawing);
}

for (const bar of document.querySelectorAll(".toggles")) {
  const own = points[bar.dataset.name];
  own.hidden = new Set();
  const picture = bar.parentElement.querySelector("picture");
  const [source, image] = picture.children;
  const whole = [source.srcset, image.src];
  for (const { label, colour, ids } of own.toggles) {
    const button = bar.appendChild(document.createElement("button"));
    button.type = "button";
    button.title = "hide or show";
    button.setAttribute("aria-pressed", "true");
    const sample = button.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
    const line = sample.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "rect"));
    for (const [name, value] of [["width", "100%"], ["height", "100%"], ["fill", colour]]) line.setAttribute(name, value);
    button.append(label);
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!shown));
      for (const id of ids) shown ? own.hidden.add(id) : own.hidden.delete(id);
      [source.srcset, image.src] = own.hidden.size ? whole.map((uri) => without(uri, own.hidden)) : whole;
    });
  }
}

for (const box of document.querySelectorAll(".filter")) {
  const rows = [...box.nextElementSibling.querySelectorAll("tbody tr")];
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  });
}

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
