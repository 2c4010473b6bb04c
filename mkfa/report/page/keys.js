// Key filters: how much 1, 2, ... of them explain beside null libraries, and the nearest pattern of each.

const KEY_LEVELS = 127;

function keysSection() {
  const blocks = facts.keys.map(keysBlock);
  return { whole: section("keys", "Keys",
    make("p", {}, "The smallest sets of filters that explain the others up to gain and offset. Every library is explained better by more keys, so the curves are shown beside those of null libraries with their own keys."),
    blocks.map((block) => block.whole)), refresh: () => blocks.forEach((block) => block.refresh()) };
}

function keysBlock(one) {
  const state = { curve: "r2", hidden: new Set() };
  const place = make("div", { class: "scroll" });
  const what = { r2: "mean R² of the best key", coverage: `share of filters with R² ≥ ${fixed(one.covered_r2, 1)}` };
  const lines = () => [["these filters, their own keys", one.curve[state.curve], "own"], [`${one.null} null, its own keys`, one.curve[`null_${state.curve}`], "null"],
    ...(state.curve === "r2" ? [[`${one.null} null, the real keys`, one.curve.cross_r2, "cross"]] : [])].filter(([, values]) => values.length);

  function refresh() {
    const most = Math.max(...lines().map(([, values]) => values.length), 0);
    if (!most) return place.replaceChildren(make("p", {}, "The curve is not known."));
    const { svg, px, py } = plot({ label: `${what[state.curve]} over the number of keys`, width: chartWidth(place), x: [0.5, most + 0.5], y: [0, 1], xTitle: "number of keys", yTitle: what[state.curve], yText: (v) => fixed(v, 1) });
    const ink = { own: "var(--ink)", null: shade(one.null_colour), cross: shade(one.null_colour) };
    const at = (value, i) => [px(i + 1), py(value)];
    const sd = one.curve.null_sd;
    if (state.curve === "r2" && !state.hidden.has("null") && sd.length && sd.length === one.curve.null_r2.length) {
      const ends = (sign) => one.curve.null_r2.map((value, i) => at(value + 2 * sign * sd[i], i));
      svg.append(draw("path", { class: "band", fill: ink.null, opacity: 0.2, d: `${pathOf([...ends(1), ...ends(-1).reverse()])}Z` }));
    }
    for (const [title, values, name] of lines()) {
      if (state.hidden.has(name)) continue;
      svg.append(draw("path", { fill: "none", style: { stroke: ink[name] }, "stroke-width": name === "own" ? 3 : 2, "stroke-dasharray": name === "cross" ? "6 4" : "", "data-line": name, d: pathOf(values.flatMap((value, i) => (value === null ? [] : [at(value, i)]))) }));
      values.forEach((value, i) => value !== null && svg.append(telling(draw("circle", { class: "mark", cx: px(i + 1), cy: py(value), r: 3.5, style: { fill: ink[name] } }), `${title}; ${many(i + 1, "key")}; ${what[state.curve]} ${fixed(value, 3)}`)));
    }
    svg.append(draw("line", { x1: px(one.keys), x2: px(one.keys), y1: py(0), y2: py(1), style: { stroke: "var(--ink)" }, "stroke-dasharray": "2 3" }),
      draw("text", { x: px(one.keys) + 5, y: py(1) + 12 }, many(one.keys, "key")));
    place.replaceChildren(svg);
  }

  const swatch = { own: null, null: shade(one.null_colour), cross: null };
  const toggles = make("fieldset", {}, make("legend", {}, "Lines"), lines().map(([title, , name]) =>
    tick(title, true, (on) => { on ? state.hidden.delete(name) : state.hidden.add(name); refresh(); }, swatch[name])));
  const controls = make("div", { class: "controls" }, choice("show", Object.entries(what), "r2", (name) => { state.curve = name; refresh(); }));
  const pictures = make("ol", { class: "keys" }, one.each.map((key, i) => make("li", {}, keyPicture(one, key, i),
    make("div", {}, `key ${i + 1}: ${percent(key.share)}`), make("div", { class: "faint" }, `${key.nearest}, ${fixed(key.cosine)}`))));
  const whole = make("article", {}, make("h3", {}, `${one.banks.join(", ")}, ${one.kind}`),
    make("p", { class: "faint" }, `${many(one.filters, "filter")}, ${one.sample.toLocaleString("en")} of them for the search, ${many(one.nulls, "null library").replace("librarys", "libraries")}, seed ${one.seed}, from ${one.from}`),
    make("p", {}, one.reason),
    make("figure", {}, make("div", { class: "controls legend" }, toggles), controls, place, make("figcaption", {}, `Band: two standard deviations of the null libraries. Dotted: the number of keys. Mean R² of all filters ${fixed(one.mean_r2, 3)}, p = ${pText(one.p)}.`),
      asTable("What keys explain", [["keys", (r) => r.n, true], ["mean R²", (r) => fixed(r.r2, 3), true], ["null's", (r) => fixed(r.null_r2, 3), true], ["null, real keys", (r) => fixed(r.cross_r2, 3), true],
        ["covered", (r) => percent(r.coverage), true], ["null's", (r) => percent(r.null_coverage), true]],
      () => one.curve.r2.map((r2, i) => ({ n: i + 1, ...Object.fromEntries(Object.entries(one.curve).map(([name, values]) => [name, values[i]])) })))),
    make("figure", {}, pictures, make("figcaption", {}, `Each key, the share of the filters that it serves best, and the nearest pattern of the set '${one.set}' up to symmetry with |cos|. Red above zero, blue below.`),
      asTable("Keys", [["key", (k) => one.each.indexOf(k) + 1, true], ["share", (k) => percent(k.share), true], ["nearest", (k) => k.nearest], ["|cos|", (k) => fixed(k.cosine, 3), true], ["one to one", (k) => k.assigned || "–"], ["|cos|", (k) => fixed(k.assigned_cosine, 3), true],
        ["weights", (k) => k.weights.map((w) => fixed(w, 2)).join(" ")]], () => one.each)),
    one.command ? make("p", { class: "faint" }, "Command: ", make("code", {}, one.command)) : null);
  return { whole, refresh };
}

function keyPicture(one, key, i) {
  if (!key.weights.length) return null;
  const most = Math.max(...key.weights.map(Math.abs)) || 1;
  const data = { facts: { kh: one.kh, kw: one.kw, levels: KEY_LEVELS }, taps: key.weights.length, weight: Int8Array.from(key.weights, (w) => Math.round((KEY_LEVELS * w) / most)) };
  const unit = Math.max(2, Math.round(56 / Math.max(one.kh, one.kw)));
  const canvas = make("canvas", { width: one.kw * unit, height: one.kh * unit, role: "img", "aria-label": `key ${i + 1}, nearest ${key.nearest}` });
  const context = canvas.getContext("2d"), pixels = context.createImageData(canvas.width, canvas.height);
  putFilter(pixels, data, 0, { x: 0, y: 0, unit });
  context.putImageData(pixels, 0, 0);
  return canvas;
}
