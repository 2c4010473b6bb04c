// The panel with all that is known of one filter.

function detailsPanel() {
  const body = make("div", {}, make("p", { class: "faint" }, "Point at a filter, or move to it with the arrow keys."));
  const spoken = make("p", { class: "faint", role: "status", "aria-live": "polite", style: { position: "absolute", left: "-100rem" } });
  const panel = make("div", { class: "details" }, make("h3", {}, "Filter"), body, spoken);
  let asked = 0;
  let timer = 0;

  async function show(data, row) {
    const mine = ++asked;
    const known = filterFacts(data, row);
    const near = make("div", { class: "nearest" });
    const facts_ = [
      ["network", known.bank],
      ["layer", `${known.layer}, ${known.layerName}`],
      ["channel", String(known.channel)],
      ["class", known.title],
      ["R²", fixed(known.r2, 3)],
      ["p, chance", pText(known.p)],
      ["largest |w|", known.scale.toPrecision(3)],
    ];
    body.replaceChildren(
      picture(data, row, 140),
      make("dl", {}, facts_.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])),
      make("details", { open: panel.classList.contains("open") ? true : null, ontoggle: (e) => panel.classList.toggle("open", e.target.open) },
        make("summary", {}, "Weights"), weightsTable(data, known)),
      near);
    spoken.textContent = `Layer ${known.layer}, channel ${known.channel}: ${known.title}, R² ${fixed(known.r2, 2)}`;
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const found = await nearestOf(data, row);
      if (mine !== asked) return;
      near.replaceChildren(...nearestList(data, found));
    }, 40);
  }
  return { panel, show };
}

function weightsTable(data, known) {
  const { kh, kw } = data.facts;
  const rows = Array.from({ length: kh }, (_, i) => make("tr", {},
    Array.from({ length: kw }, (_, j) => make("td", {}, fixed(known.weight[i * kw + j], 3)))));
  return make("div", { class: "scroll" }, make("table", { class: "weights", "aria-label": "weights" }, make("tbody", {}, rows)));
}

function nearestList(data, found) {
  if (!found.length) {
    const others = facts.groups.some((group) => group.bank !== data.facts.bank && group.kind === data.facts.kind);
    return [make("p", { class: "faint" }, others ? "No nearest filter: this one is flat or dead." : "No other bank here has filters of this kernel size.")];
  }
  return [make("h3", {}, "Nearest in the other banks"), ...found.slice(0, 8).map(({ data: other, row, cosine }) => {
    const known = filterFacts(other, row);
    return make("div", { class: "near" }, picture(other, row, 44), make("div", {},
      make("b", {}, known.bank), make("br"),
      `layer ${known.layer}, channel ${known.channel}, ${known.title}`, make("br"),
      `|cos| ${fixed(Math.abs(cosine), 3)}${cosine < 0 ? ", with opposite sign" : ""}`));
  })];
}
