// Comparisons of two banks: measures beside chance, and a heat map of their layers with a threshold for p.

function comparisonsSection() {
  const blocks = facts.comparisons.flatMap((one) => one.kinds.map((kind, i) => comparisonBlock(one, kind, i)));
  return { whole: section("comparisons", "Comparisons",
    make("p", {}, "How alike are the filters of two networks, and is it more than chance? A similarity (^) is larger where filters are more alike, a distance smaller."),
    blocks.map((block) => block.whole)), refresh: () => blocks.forEach((block) => block.refresh()) };
}

function comparisonBlock(one, kind, place) {
  const nulls = kind.measures.length ? kind.measures[0].nulls.map((null_) => null_.name) : [];
  const measures = table(`${one.a} and ${one.b}, ${kind.kind}: ${many(kind.filters, "filter")} of each, ${many(one.draws, "draw")}, seed ${one.seed}`,
    [["measure", (m) => `${m.name}${m.alike_is_more ? " ^" : ""}${m.name === kind.primary[0] ? " (primary)" : ""}`],
      ["value", (m) => fixed(m.value, 3), true], ["95 %", (m) => (m.low === null ? "–" : `${fixed(m.low, 3)} to ${fixed(m.high, 3)}`), true],
      ["floor", (m) => fixed(m.floor, 3), true], ["ceiling", (m) => fixed(m.ceiling, 3), true],
      ...nulls.flatMap((name, i) => [[name, (m) => (m.nulls[i] ? fixed(m.nulls[i].mean, 3) : "–"), true], ["p", (m) => (m.nulls[i] ? pText(m.nulls[i].p) : "–"), true]])],
    kind.measures);
  const words = kind.words.map((text) => make("p", {}, text));
  const notes = place ? [] : one.notes;
  const from = one.from ? ` From ${one.from}.` : "";
  const heat = kind.layers ? heatMap(one, kind) : null;
  const whole = make("article", {}, make("h3", {}, `${one.a} and ${one.b}, ${kind.kind}`), words,
    notes.map((text) => make("p", { class: "faint" }, text + from)), heat ? heat.whole : make("p", { class: "faint" }, "No heat map: pairs of layers were not compared, or are too many to draw."), measures);
  return { whole, refresh: () => heat && heat.refresh() };
}

function heatMap(one, kind) {
  const { layers } = kind;
  const state = { measure: 0, null: 0, p: 1, how: "p_max" };
  const place = make("div", { class: "scroll" });
  const bar = make("div", {});
  const count = make("output", {});
  const shown = make("output", {});
  let made = [];

  const measure = () => layers.measures[state.measure];
  const null_ = () => measure().nulls[state.null] || null;
  const names = { p: "p of the pair alone", p_holm: "p, Holm", p_max: "p, adjusted over all pairs" };
  const ofPair = (i, j) => (null_() && null_()[state.how] ? null_()[state.how][i][j] : null);

  function tell(i, j) {
    const p = ofPair(i, j), chance = null_() && null_().mean ? `; mean under ${null_().name} ${fixed(null_().mean[i][j], 3)}` : "";
    return `${one.a}, ${layers.a[i]}; ${one.b}, ${layers.b[j]}; ${measure().name} ${fixed(measure().value[i][j], 3)}${chance}${p === null ? "" : `; ${names[state.how]} ${pText(p)} (${null_().name})`}`;
  }

  function refresh() {
    const values = measure().value.flat().filter((value) => value !== null);
    const low = Math.min(...values), high = Math.max(...values);
    const share = (value) => (high > low ? (value - low) / (high - low) : 0.5);
    const side = Math.max(6, Math.min(26, Math.floor(620 / layers.b.length)));
    const picture = cells({ label: `${measure().name} of the layers of ${one.a} (rows) and ${one.b} (columns)`,
      rows: layerLabels(one.a, layers.a), columns: layerLabels(one.b, layers.b), size: [side, side], colour: (i, j) => {
        const value = measure().value[i][j];
        return value === null ? "#888888" : amountColour(share(value));
      }, tell, open: (i, j, side = 0) => openLayer(...[[one.a, layers.a[i]], [one.b, layers.b[j]]][side]) });
    made = picture.made;
    place.replaceChildren(picture.svg);
    bar.replaceChildren(colourBar(`${measure().name}, ${measure().alike_is_more ? "yellow: more alike" : "yellow: less alike"}`, low, high, amountColour));
    fade();
  }

  function fade() {
    let kept = 0, all = 0;
    made.forEach((row, i) => row.forEach((cell, j) => {
      const p = ofPair(i, j), on = state.p >= 1 || (p !== null && p <= state.p);
      cell.setAttribute("opacity", on ? "1" : "0.1");
      all++;
      kept += Number(on);
    }));
    count.textContent = `${kept} of ${many(all, "pair")} of layers at p ≤ ${pText(state.p)}`;
    shown.textContent = pText(state.p);
    slider.setAttribute("aria-valuetext", `p up to ${pText(state.p)}: ${kept} of ${many(all, "pair")}`);
  }

  // 0 to 100 on the slider is p from 0.001 to 1, by its logarithm.
  const slider = make("input", { type: "range", min: "0", max: "100", step: "1", value: "100", "aria-label": "show pairs with p up to", oninput: () => {
    state.p = slider.value === "100" ? 1 : 10 ** (-3 + (3 * slider.value) / 100);
    fade();
  } });
  const hows = Object.keys(names).filter((how) => layers.measures[0].nulls.some((one_) => one_[how]));
  if (!hows.includes(state.how)) state.how = hows[0] || "p";
  const controls = make("div", { class: "controls" },
    choice("measure", layers.measures.map((one_, i) => [String(i), one_.name]), "0", (i) => { state.measure = Number(i); refresh(); }),
    layers.measures[0].nulls.length ? choice("null", layers.measures[0].nulls.map((one_, i) => [String(i), one_.name]), "0", (i) => { state.null = Number(i); refresh(); }) : null,
    hows.length ? choice("p", hows.map((how) => [how, names[how]]), state.how, (how) => { state.how = how; refresh(); }) : null,
    hows.length ? make("label", {}, "hide p above ", slider, " ", shown) : null);
  const rows = () => layers.a.flatMap((a, i) => layers.b.map((b, j) => ({ a, b, value: measure().value[i][j], p: ofPair(i, j) })));
  const whole = make("figure", {}, controls, place, bar, make("figcaption", { role: "status" }, count,
    ". Layers in order of execution; click a pair to see the filters of its row; pale pairs are above the threshold. With 199 draws no p is below 0.005.".replace("199", String(one.draws)).replace("0.005", pText(1 / (1 + one.draws)))),
  asTable("Pairs of layers", [["layer of the first", (r) => r.a], ["layer of the second", (r) => r.b], ["value", (r) => fixed(r.value, 3), true], ["p", (r) => pText(r.p), true]], rows));
  return { whole, refresh };
}

// Show a layer among the filters, where its bank is on the page.
function openLayer(name, layer) {
  const bank = facts.banks.findIndex((one) => one.name === name);
  const at = bank < 0 ? -1 : facts.banks[bank].layers.findIndex((one) => one.name === layer);
  if (at >= 0) filtersPart.show(bank, at);
}

// Short names of layers: their numbers in the network where it is on the page, and the parts in which the names differ.
function layerLabels(bank, names) {
  const known = facts.banks.find((one) => one.name === bank);
  const words = names.map((name) => name.split("."));
  const common = (get) => {
    let n = 0;
    while (words.length > 1 && words.every((word) => n < word.length - 1 && get(word, n) === get(words[0], n))) n++;
    return n;
  };
  const front = common((word, n) => word[n]), back = common((word, n) => word[word.length - 1 - n]);
  return names.map((name, i) => {
    const number = known ? known.layers.findIndex((layer) => layer.name === name) + 1 : 0;
    const kept = words[i].slice(front, Math.max(words[i].length - back, front + 1)).join(".");
    return `${number ? `${number}: ` : ""}${kept}`;
  });
}
