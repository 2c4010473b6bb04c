// Grafts: answers that a trained network keeps with other filters, beside controls of the same size.

const GRAFT_CURVES = {
  size: ["over the number of filters", "filters of each kernel size"],
  first: ["over layers, 1 to n replaced", "layers replaced, from the first"],
  alone: ["over layers, each alone", "layer replaced"],
  similarity: ["over similarity", "|cos| that a replacement needs"],
};

function graftsSection() {
  const blocks = facts.grafts.map(graftBlock);
  return { whole: section("grafts", "Grafts",
    make("p", {}, "A trained network whose depthwise filters are each replaced by the nearest of a vocabulary, times a gain plus an offset. Nothing is trained. How many of its answers (top-1 classes) stay the same?"),
    blocks.map((block) => block.whole)), refresh: () => blocks.forEach((block) => block.refresh()) };
}

function graftBlock(one) {
  const curves = Object.keys(GRAFT_CURVES).filter((name) => one.points.some((point) => point.curve === name));
  const norms = [...new Set(one.points.map((point) => point.batch_norm))];
  const state = { curve: curves[0], norm: norms[0], bands: true, hidden: new Set() };
  const place = make("div", { class: "scroll" });
  const known = (point) => point.at !== null && point.agreement !== null && (state.curve !== "size" || point.at > 0);
  const pointsOf = (vocabulary) => one.points.filter((point) => point.curve === state.curve && point.batch_norm === state.norm && point.vocabulary === vocabulary.name && known(point)).sort((a, b) => a.at - b.at);

  function refresh() {
    const shown = one.vocabularies.filter((vocabulary) => !state.hidden.has(vocabulary.name));
    const points = shown.flatMap(pointsOf);
    if (!points.length) return place.replaceChildren(make("p", {}, "No point is shown."));
    const x = state.curve === "size" ? Math.log2 : (value) => value;
    const places = [...new Set(points.map((point) => point.at))].sort((a, b) => a - b);
    const pad = (x(places[places.length - 1]) - x(places[0])) * 0.04 || 0.5, span = [x(places[0]) - pad, x(places[places.length - 1]) + pad];
    const width = chartWidth(place), apart = ((span[1] - span[0]) * 34) / (width - 70);
    const ticks = places.reduce((kept, at) => (kept.length && x(at) - kept[kept.length - 1] < apart ? kept : [...kept, x(at)]), []);
    const { svg, px, py } = plot({ label: `Answers that ${one.network} keeps, ${GRAFT_CURVES[state.curve][0]}`, width, x: span, y: [0, 1.02], xTicks: ticks,
      xText: (v) => (state.curve === "size" ? Math.round(2 ** v).toLocaleString("en") : String(v)), xTitle: GRAFT_CURVES[state.curve][1], yTitle: "same answer, %", yText: (v) => fixed(100 * v, 0) });
    const rule = (value, words) => svg.append(draw("line", { x1: px(span[0]), x2: px(span[1]), y1: py(value), y2: py(value), style: { stroke: "var(--ink)" }, "stroke-dasharray": "2 3" }),
      draw("text", { x: px(span[0]) + 4, y: py(value) - 4 }, words));
    if (one.keep !== null) rule(one.keep, `${percent(one.keep, 0)} to be kept`);
    const unchanged = one.points.find((point) => point.curve === "unchanged" && point.batch_norm === state.norm);
    if (unchanged && unchanged.agreement < 0.995) rule(unchanged.agreement, "no filter replaced");
    for (const vocabulary of shown) {
      const mine = pointsOf(vocabulary), colour = shade(vocabulary.colour);
      const at = (point, key) => [px(x(point.at)), py(point[key])];
      const sure = mine.filter((point) => point.agreement_low !== null && point.agreement_high !== null);
      if (state.bands && sure.length > 1) svg.append(draw("path", { class: "band", fill: colour, opacity: vocabulary.asked ? 0.16 : 0.07, d: `${pathOf([...sure.map((point) => at(point, "agreement_high")), ...sure.map((point) => at(point, "agreement_low")).reverse()])}Z` }));
      if (state.bands && sure.length === 1) svg.append(draw("path", { class: "band", stroke: colour, d: pathOf([at(sure[0], "agreement_low"), at(sure[0], "agreement_high")]) }));
      svg.append(draw("path", { fill: "none", stroke: colour, "stroke-width": vocabulary.asked ? 2.8 : 1.4, "stroke-dasharray": vocabulary.dash.map((d) => 2 * d).join(" "), "data-vocabulary": vocabulary.name, d: pathOf(mine.map((point) => at(point, "agreement"))) }));
      for (const point of mine) {
        const hollow = vocabulary.hollow ? { style: { fill: "var(--paper)", stroke: colour } } : { fill: colour };
        svg.append(telling(draw("circle", { class: "mark", cx: at(point, "agreement")[0], cy: at(point, "agreement")[1], r: vocabulary.asked ? 4.5 : 3.5, ...hollow }), graftText(vocabulary, point)));
      }
    }
    place.replaceChildren(svg);
  }

  const toggles = (asked, title) => {
    const mine = one.vocabularies.filter((vocabulary) => vocabulary.asked === asked);
    return mine.length ? make("fieldset", {}, make("legend", {}, title), mine.map((vocabulary) =>
      tick(vocabulary.title, true, (on) => { on ? state.hidden.delete(vocabulary.name) : state.hidden.add(vocabulary.name); refresh(); }, shade(vocabulary.colour)))) : null;
  };
  const controls = make("div", { class: "controls" },
    curves.length > 1 ? choice("curve", curves.map((name) => [name, GRAFT_CURVES[name][0]]), state.curve, (name) => { state.curve = name; refresh(); }) : null,
    norms.length > 1 ? choice("batch statistics", norms.map((name) => [name, name]), state.norm, (name) => { state.norm = name; refresh(); }) : null,
    tick("95 % intervals", true, (on) => { state.bands = on; refresh(); }));
  const titles = new Map(one.vocabularies.map((vocabulary) => [vocabulary.name, vocabulary.title]));
  const about = `${many(one.layers, "layer")} replaced, ${many(one.asked, "image")} of ${one.images}${one.calibrated ? `, ${one.calibrated} others for batch statistics` : ""}, ${many(one.draws, "draw")} of each vocabulary, seed ${one.seed}, batch statistics ${norms.join(" and ")}`;
  const whole = make("article", {}, make("h3", {}, `${one.network}: ${one.from}`), make("p", { class: "faint" }, about),
    one.sentences.map((text) => make("p", {}, text)),
    make("figure", {}, make("div", { class: "controls legend" }, toggles(true, "Asked about"), toggles(false, "Controls")), controls, place,
      make("figcaption", {}, "Thick: vocabularies asked about; thin: controls, hollow where a second one has the same look. Bands: 95 % intervals over images and draws."),
      asTable(`Answers that ${one.network} keeps`, [["vocabulary", (p) => titles.get(p.vocabulary) || "no filter replaced"], ["curve", (p) => p.curve], ["batch statistics", (p) => p.batch_norm], ["filters", (p) => p.size, true], ["layers", (p) => p.layers], ["same answer", (p) => percent(p.agreement), true],
        ["95 %", (p) => `${percent(p.agreement_low)} to ${percent(p.agreement_high)}`, true], ["KL, nats", (p) => fixed(p.kl), true], ["correlation", (p) => fixed(p.correlation), true],
        ["accuracy", (p) => percent(p.accuracy), true], ["mean |cos|", (p) => fixed(p.cosine), true], ["replaced", (p) => percent(p.replaced), true], ["draws", (p) => p.draws, true]], () => one.points)),
    one.notes.map((text) => make("p", { class: "faint" }, text)),
    one.command ? make("p", { class: "faint" }, "Command: ", make("code", {}, one.command)) : null);
  return { whole, refresh };
}

function graftText(vocabulary, point) {
  const where = { size: `${many(point.size, "filter")}`, first: `layers ${point.layers}`, alone: `layer ${point.layers}`, similarity: `|cos| of at least ${fixed(point.at)}` }[point.curve];
  return `${vocabulary.title}, ${where}; same answer ${percent(point.agreement)} (${percent(point.agreement_low)} to ${percent(point.agreement_high)}); KL ${fixed(point.kl)}; mean |cos| ${fixed(point.cosine)}`;
}
