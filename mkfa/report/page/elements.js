// Elements. Texts go in as text, never as HTML: names come from strangers' files.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, text] of Object.entries(value)) element.style.setProperty(name, text);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

function make(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function choice(label, options, chosen, change) {
  const select = make("select", { onchange: () => change(select.value) },
    options.map(([value, text]) => make("option", { value, selected: value === chosen }, text)));
  return make("label", {}, label, " ", select);
}

function tick(label, checked, change, colour) {
  const box = make("input", { type: "checkbox", onchange: () => change(box.checked) });
  box.checked = checked;
  const swatch = colour ? make("span", { class: "swatch", style: { background: colour } }) : null;
  return make("label", {}, box, " ", swatch, label);
}

// A table: columns are [title, row => value, is a number]; a value may be an element.
function table(caption, columns, rows) {
  const cell = (tag, value, number, scope) =>
    make(tag, { class: number ? "number" : "text", scope }, value === null || value === undefined ? "–" : value);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    make("table", {},
      make("caption", {}, caption),
      make("thead", {}, make("tr", {}, columns.map(([title, , number]) => cell("th", title, number, "col")))),
      make("tbody", {}, rows.map((row) => make("tr", {}, columns.map(([, get, number], i) =>
        i ? cell("td", get(row), number) : cell("th", get(row), number, "row")))))));
}

// The same numbers as text, for readers who do not see the picture; built when it is opened.
function asTable(caption, columns, rows) {
  const details = make("details", {}, make("summary", {}, "As a table"));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(table(caption, columns, rows()));
  });
  return details;
}

function section(id, title, ...children) {
  return make("section", { id, "aria-labelledby": `${id}-title` }, make("h2", { id: `${id}-title` }, title), children);
}

function fixed(value, digits = 2) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits).replace(/^-(?=0*\.?0*$)/, "").replace("-", "−");
}

function pText(p) {
  return p > 0 && p < 0.0005 ? String(Number(p.toPrecision(1))) : fixed(p, 3);
}

function percent(value, digits = 1) {
  return value === null || value === undefined ? "–" : `${fixed(100 * value, digits)} %`;
}

function shortened(text, most) {
  return text.length <= most ? text : `${text.slice(0, Math.max(most - 1, 1))}…`;
}

function many(count, what) {
  return `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
}

function showTip(event, ...children) {
  const tip = document.getElementById("tip");
  tip.replaceChildren(...children);
  tip.hidden = false;
  const box = event.target.getBoundingClientRect ? event.target.getBoundingClientRect() : { left: 0, bottom: 0 };
  const x = event.clientX === undefined ? box.left : event.clientX;
  const y = event.clientY === undefined ? box.bottom : event.clientY;
  const left = Math.min(x + 14, innerWidth - tip.offsetWidth - 8);
  const below = y + 16 + tip.offsetHeight < innerHeight;
  tip.style.setProperty("left", `${Math.max(left, 4)}px`);
  tip.style.setProperty("top", `${below ? y + 16 : Math.max(y - tip.offsetHeight - 12, 4)}px`);
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}
