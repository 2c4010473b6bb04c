// Axes, lines and cells in SVG.

// Round numbers between two values, about `count` of them.
function roundTicks(low, high, count = 5) {
  const raw = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) out.push(Number(v.toPrecision(10)));
  return out;
}

// A chart is as wide as its place, so that its text keeps its size.
function chartWidth(place) {
  return Math.max(300, Math.min(760, place.clientWidth || 760));
}

// An empty plot: {svg, x, y} with functions from values to pixels.
function plot({ label, x, y, width, height = 340, xTitle, yTitle, xTicks, xText = String, yText = String }) {
  const left = 58, bottom = 46, right = 12, top = 12;
  const scale = ([low, high], from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  const px = scale(x, left, width - right), py = scale(y, height - bottom, top);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": label });
  for (const value of roundTicks(...y)) {
    svg.append(draw("line", { class: "rule", x1: left, x2: width - right, y1: py(value), y2: py(value) }),
      draw("text", { x: left - 8, y: py(value) + 4, "text-anchor": "end" }, yText(value)));
  }
  for (const value of xTicks || roundTicks(...x)) {
    svg.append(draw("line", { class: "axis", x1: px(value), x2: px(value), y1: height - bottom, y2: height - bottom + 4 }),
      draw("text", { x: px(value), y: height - bottom + 18, "text-anchor": "middle" }, xText(value)));
  }
  svg.append(draw("path", { class: "axis", d: `M${left},${top}V${height - bottom}H${width - right}` }),
    draw("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, xTitle),
    draw("text", { transform: `translate(14 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yTitle));
  return { svg, px, py };
}

function pathOf(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");
}

// A mark that shows `text` when it is pointed at or has the focus.
function telling(element, text) {
  element.setAttribute("tabindex", "0");
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", text);
  const tell = (event) => showTip(event, ...text.split("; ").map((line) => make("div", {}, line)));
  element.addEventListener("pointermove", tell);
  element.addEventListener("focus", tell);
  element.addEventListener("pointerleave", hideTip);
  element.addEventListener("blur", hideTip);
  return element;
}

// Cells of a matrix. One of them takes the focus; arrow keys move to the others, so that Tab leaves the matrix.
function cells({ label, rows, columns, size, text, colour, tell, wide, open }) {
  const left = Math.min(200, 14 + 7.4 * Math.max(...rows.map((name) => shortName(name).length)));
  const top = wide ? 24 : Math.min(200, 14 + 7.4 * Math.max(...columns.map((name) => shortName(name).length)));
  const [w, h] = size;
  const width = left + columns.length * w + 4, height = top + rows.length * h + 4;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": label });
  rows.forEach((name, i) => h >= 11 && svg.append(draw("text", { x: left - 6, y: top + (i + 0.5) * h + 4, "text-anchor": "end" }, shortName(name), draw("title", {}, name))));
  columns.forEach((name, j) => w >= 11 && svg.append(draw("text", wide
    ? { x: left + (j + 0.5) * w, y: top - 8, "text-anchor": "middle" }
    : { transform: `translate(${left + (j + 0.5) * w + 4} ${top - 6}) rotate(-90)` }, shortName(name), draw("title", {}, name))));
  const made = rows.map((_, i) => columns.map((__, j) => {
    const cell = draw("rect", { x: left + j * w, y: top + i * h, width: w - 1, height: h - 1, fill: colour(i, j), tabindex: i + j ? "-1" : "0", role: "img", "aria-label": tell(i, j) });
    const say = (event) => showTip(event, ...tell(i, j).split("; ").map((line) => make("div", {}, line)));
    cell.addEventListener("pointermove", say);
    cell.addEventListener("focus", say);
    cell.addEventListener("pointerleave", hideTip);
    cell.addEventListener("blur", hideTip);
    if (open) cell.addEventListener("click", () => open(i, j));
    cell.addEventListener("keydown", (event) => {
      if (open && event.key === "Enter") open(i, j);
      const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      if (!steps[event.key]) return;
      event.preventDefault();
      const next = (made[i + steps[event.key][0]] || [])[j + steps[event.key][1]];
      if (!next) return;
      cell.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
    svg.append(cell);
    const written = text ? text(i, j) : "";
    if (written) svg.append(draw("text", { x: left + (j + 0.5) * w, y: top + (i + 0.5) * h + 4, "text-anchor": "middle", "pointer-events": "none", style: { fill: inkOn(colour(i, j)) } }, written));
    return cell;
  }));
  return { svg, made };
}

function shortName(name) {
  return name.length <= 24 ? name : `${name.slice(0, 10)}…${name.slice(-13)}`;
}

// A scale of colours with its values.
function colourBar(title, low, high, colour) {
  const svg = draw("svg", { viewBox: "0 0 260 34", width: 260, height: 34, role: "img", "aria-label": `${title}: ${fixed(low)} to ${fixed(high)}` });
  for (let i = 0; i < 60; i++) svg.append(draw("rect", { x: 40 + 3 * i, y: 2, width: 3.2, height: 10, fill: colour(i / 59) }));
  svg.append(draw("text", { x: 36, y: 12, "text-anchor": "end" }, fixed(low)), draw("text", { x: 224, y: 12 }, fixed(high)),
    draw("text", { x: 130, y: 29, "text-anchor": "middle" }, title));
  return svg;
}
