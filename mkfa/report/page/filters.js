// The filters of each layer: choose a bank, click a layer, point at a filter.

function filtersSection() {
  const state = { bank: 0, layer: 0, order: "channel", only: "all", rows: [], data: null, lie: null, at: 0 };
  const details = detailsPanel();
  const layers = make("ul", { class: "layers", "aria-label": "Layers" });
  const canvas = make("canvas", { class: "grid", tabindex: "0", role: "application" });
  const mark = make("p", { class: "faint", id: "grid-says" });
  const box = make("div", { class: "gridbox" }, canvas);
  const only = make("span", {});

  function layerButtons() {
    const bank = facts.banks[state.bank];
    const shares = new Map();
    const assigned = facts.assignments.find((one) => one.from === "" && one.bank === bank.name);
    for (const one of assigned ? assigned.layers : []) shares.set(one.layer - 1, one.shares);
    layers.replaceChildren(...bank.layers.map((layer, i) => {
      const bar = make("span", { class: "bar", "aria-hidden": "true" }, (shares.get(i) || []).map((share, code) =>
        share > 0 ? make("span", { style: { width: `${100 * share}%`, background: classColour(state.bank, code) } }) : null));
      const top = topClass(shares.get(i));
      return make("li", {}, make("button", {
        type: "button", "aria-current": String(i === state.layer), title: layer.name,
        "aria-label": `layer ${i + 1}, ${layer.name}, ${many(layer.filters, "filter")} of ${layer.kind}${top}`,
        onclick: () => { state.layer = i; state.at = 0; refresh(); },
      }, `${i + 1}`, make("br"), layer.kind, bar));
    }));
  }

  function topClass(shares) {
    if (!shares || !shares.length || shares[0] === null) return "";
    const best = shares.indexOf(Math.max(...shares));
    const classes = classesOf(state.bank);
    return classes[best] ? `, most often ${classes[best].title}` : "";
  }

  async function refresh() {
    const bank = facts.banks[state.bank];
    const layer = bank.layers[state.layer];
    layerButtons();
    const group = facts.groups.find((one) => one.bank === state.bank && one.kind === layer.kind);
    const data = await loadGroup(group);
    const [start, stop] = data.start.get(state.layer) || [0, 0];
    let rows = Array.from({ length: stop - start }, (_, i) => start + i);
    const codes = [...new Set(rows.map((row) => data.kind[row]))].sort((a, b) => a - b);
    if (state.only !== "all" && !codes.includes(Number(state.only))) state.only = "all";
    only.replaceChildren(choice("only", [["all", "all classes"], ...codes.map((code) =>
      [String(code), filterFacts(data, rows.find((row) => data.kind[row] === code)).title])], state.only,
    (value) => { state.only = value; refresh(); }));
    if (state.only !== "all") rows = rows.filter((row) => data.kind[row] === Number(state.only));
    const fit = (row) => (data.r2 && data.r2[row] < 255 ? data.r2[row] : -1);
    if (state.order === "r2") rows.sort((a, b) => fit(b) - fit(a));
    if (state.order === "class") rows.sort((a, b) => data.kind[a] - data.kind[b] || fit(b) - fit(a));
    if (state.order === "size") rows.sort((a, b) => data.scale[b] - data.scale[a]);
    Object.assign(state, { rows, data, at: Math.min(state.at, Math.max(rows.length - 1, 0)) });
    const width = Math.max(box.clientWidth - 12, 200);
    state.lie = drawGrid(canvas, data, rows, width);
    canvas.setAttribute("aria-label",
      `Filters of layer ${state.layer + 1} of ${bank.name}, ${rows.length} pictures; the arrow keys move between them`);
    const partly = layer.filters > stop - start ? `, ${stop - start} of its ${many(layer.filters, "filter")}` : "";
    mark.textContent = `Layer ${state.layer + 1}, ${layer.name}: ${layer.kind}, depth ${fixed(layer.depth)}${partly}. ` +
      `Each filter in steps of its largest weight, red above zero, blue below.`;
    if (rows.length) choose(state.at, false);
  }

  function choose(at, focus) {
    state.at = Math.min(Math.max(at, 0), state.rows.length - 1);
    details.show(state.data, state.rows[state.at]);
    const { cell, columns } = state.lie;
    const context = canvas.getContext("2d");
    context.putImageData(state.lie.pixels, 0, 0);
    context.strokeStyle = isDark() ? "#ffb27a" : "#b34700";
    context.lineWidth = 2;
    const x = (state.at % columns) * cell[0], y = Math.floor(state.at / columns) * cell[1];
    context.strokeRect(x + 1, y + 1, cell[0] - 3, cell[1] - 3);
    if (focus) {
      if (y < box.scrollTop) box.scrollTop = y;
      if (y + cell[1] > box.scrollTop + box.clientHeight) box.scrollTop = y + cell[1] - box.clientHeight + 8;
    }
  }

  function under(event) {
    const { cell, columns } = state.lie;
    const column = Math.floor((event.offsetX * canvas.width) / canvas.clientWidth / cell[0]);
    const at = Math.floor((event.offsetY * canvas.height) / canvas.clientHeight / cell[1]) * columns + column;
    return column < columns && at >= 0 && at < state.rows.length ? at : -1;
  }

  canvas.addEventListener("pointermove", (event) => {
    const at = state.lie ? under(event) : -1;
    if (at >= 0 && at !== state.at) choose(at, false);
  });
  canvas.addEventListener("keydown", (event) => {
    if (!state.lie) return;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -state.lie.columns, ArrowDown: state.lie.columns };
    const at = event.key === "Home" ? 0 : event.key === "End" ? state.rows.length - 1 : state.at + steps[event.key];
    if (Number.isNaN(at)) return;
    event.preventDefault();
    choose(at, true);
  });
  const controls = make("div", { class: "controls" },
    facts.banks.length > 1 ? choice("Network", facts.banks.map((bank, i) => [String(i), bank.name]), "0", (value) => {
      Object.assign(state, { bank: Number(value), layer: 0, at: 0 });
      refresh();
    }) : make("b", {}, facts.banks[0].name),
    choice("order by", [["channel", "channel"], ["class", "class"], ["r2", "R²"], ["size", "size of weights"]], "channel",
      (value) => { state.order = value; state.at = 0; refresh(); }),
    only);
  const whole = section("filters", "Filters",
    make("p", {}, "Click a layer; its bar shows which patterns its filters follow. Point at a filter for its weights, class, fit, and the nearest filters in the other banks."),
    controls, layers, make("div", { class: "split" }, make("div", {}, mark, box), make("div", { class: "side" }, details.panel)));
  // Show a layer of a bank; another part of the page asks for it.
  function show(bank, layer) {
    Object.assign(state, { bank, layer, at: 0 });
    const network = controls.querySelector("select");
    if (facts.banks.length > 1) network.value = String(bank);
    refresh();
    whole.scrollIntoView();
  }
  return { whole, refresh, show };
}
