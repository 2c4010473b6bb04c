// Groups of networks: a map on which networks close together are alike, tests between groups, and the distances of all pairs.

function networksSection() {
  const blocks = facts.groups_compared.flatMap((one) => one.kinds.map((kind, i) => networksBlock(one, kind, i)));
  return { whole: section("networks", "Groups of networks",
    make("p", {}, "Do kinds of networks differ in their filters? Networks are the units: PERMANOVA tests whether groups have different centres, PERMDISP whether they differ in spread, which alone can make the first test significant."),
    blocks.map((block) => block.whole)), refresh: () => blocks.forEach((block) => block.refresh()) };
}

function networksBlock(one, kind, place) {
  const state = { measure: 0, hidden: new Set() };
  const chart = make("div", { class: "scroll" }), heat = make("div", { class: "scroll" }), bar = make("div", {});
  const groups = one.groups.filter((group) => kind.members.some((member) => member.group === group.name));
  const colourOf = (name) => shade((one.groups.find((group) => group.name === name) || { colour: "#777777" }).colour);
  const order = kind.members.map((_, i) => i).sort((a, b) => rank(a) - rank(b));
  const names = order.map((i, number) => `${number + 1}: ${kind.members[i].name}`);

  function rank(i) {
    return one.groups.findIndex((group) => group.name === kind.members[i].group);
  }

  function refresh() {
    const measure = kind.measures[state.measure];
    if (!measure) return chart.replaceChildren(make("p", {}, "There is no map."));
    const shown = order.filter((i) => !state.hidden.has(kind.members[i].group));
    chart.replaceChildren(networksMap(kind, measure, { shown, order, colourOf, width: chartWidth(chart) }));
    if (!measure.distance) {
      bar.replaceChildren();
      return heat.replaceChildren(make("p", { class: "faint" }, "Distances of pairs are not shown: they are in the .h5 file of 'mkfa compare --group', unless there are more than 141 networks."));
    }
    const value = (i, j) => measure.distance[order[i]][order[j]], high = Math.max(...measure.distance.flat(), 1e-9);
    const side = Math.max(6, Math.min(30, Math.floor(560 / order.length)));
    heat.replaceChildren(cells({ label: `Distances of the networks by ${measure.measure}`, rows: names, columns: names, size: [side, side], colour: (i, j) => amountColour((value(i, j) || 0) / high),
      tell: (i, j) => `${names[i]}; ${names[j]}; distance by ${measure.measure} ${fixed(value(i, j), 3)}` }).svg);
    bar.replaceChildren(colourBar(`distance by ${measure.measure} (0: alike)`, 0, high, amountColour));
  }

  const toggles = make("div", { class: "controls legend" }, make("fieldset", {}, make("legend", {}, "Groups"), groups.map((group) =>
    tick(group.name, true, (on) => { on ? state.hidden.delete(group.name) : state.hidden.add(group.name); refresh(); }, colourOf(group.name)))));
  const controls = kind.measures.length > 1 ? make("div", { class: "controls" }, choice("measure", kind.measures.map((measure, i) => [String(i), measure.measure]), "0", (i) => { state.measure = Number(i); refresh(); })) : null;
  const tests = table(`Tests between groups, ${kind.kernel}: ${many(kind.filters, "filter")} of each network, ${many(one.permutations, "permutation")}, seed ${one.seed}`,
    [["measure", (m) => m.measure], ["pseudo-F", (m) => fixed(m.between.statistic), true], ["R²", (m) => fixed(m.between.share), true], ["p", (m) => pText(m.between.p), true], ["p, Holm", (m) => pText(m.p_holm), true],
      ["least p", (m) => fixed(m.between.least, 3), true], ["PERMDISP p", (m) => pText(m.dispersion.p), true], ["variance between groups", (m) => percent(m.group_share, 0), true]], kind.measures);
  const pairs = kind.measures.flatMap((m) => m.pairs.map((pair) => ({ measure: m.measure, ...pair })));
  const whole = make("article", {}, make("h3", {}, `${one.groups.map((group) => group.name).join(", ")}, ${kind.kernel}`),
    one.sentences[place] ? make("p", {}, one.sentences[place]) : null,
    place ? null : one.notes.map((text) => make("p", { class: "faint" }, text)),
    make("figure", {}, toggles, controls, chart, make("figcaption", {}, "Each point is a network; the closer two are, the more alike are their filters. Numbers are those of the table of distances below. +: mean of a group; hollow: networks that share a parent with an earlier one, which are shown but not tested."),
      heat, bar, asTable("Networks", [["network", (m) => m.name], ["group", (m) => m.group], ["tested", (m) => (m.counted ? "yes" : "no")], ["family", (m) => m.family || "–"]], () => order.map((i) => kind.members[i]))),
    tests, pairs.length ? table("Pairs of groups", [["measure", (p) => p.measure], ["groups", (p) => `${p.a}, ${p.b}`], ["pseudo-F", (p) => fixed(p.statistic), true], ["p", (p) => pText(p.p), true], ["p, Holm", (p) => pText(p.p_holm), true]], pairs) : null,
    place || !one.command ? null : make("p", { class: "faint" }, "Command: ", make("code", {}, one.command)));
  return { whole, refresh };
}

function networksMap(kind, measure, { shown, order, colourOf, width }) {
  const ends = (axis) => {
    const values = measure.map.map((place) => place[axis]);
    return [Math.min(...values), Math.max(...values)];
  };
  const [left, right] = ends(0), [low, high] = ends(1), pad = 0.08 * Math.max(right - left, high - low, 1e-6);
  const tickText = (value) => fixed(value, Math.max(right - left, high - low) < 0.05 ? 3 : 2);
  const share = measure.map_share.map((value) => percent(value, 0));
  const { svg, px, py } = plot({ label: `Map of ${many(kind.members.length, "network")} by ${measure.measure}`, width, height: 400, x: [left - pad, right + pad], y: [low - pad, high + pad],
    xTitle: `first axis (${share[0]} of the distances)`, yTitle: `second axis (${share[1]})`, xText: tickText, yText: tickText });
  for (const group of new Set(shown.map((i) => kind.members[i].group))) {
    const mine = shown.filter((i) => kind.members[i].group === group && kind.members[i].counted);
    if (mine.length < 2) continue;
    const mean = (axis) => mine.reduce((sum, i) => sum + measure.map[i][axis], 0) / mine.length;
    svg.append(draw("path", { d: `M${px(mean(0)) - 7},${py(mean(1))}h14M${px(mean(0))},${py(mean(1)) - 7}v14`, stroke: colourOf(group), "stroke-width": 2 }));
  }
  for (const i of shown) {
    const member = kind.members[i], [x, y] = measure.map[i], colour = colourOf(member.group);
    const look = member.counted ? { fill: colour } : { style: { fill: "var(--paper)", stroke: colour } };
    svg.append(telling(draw("circle", { class: "mark", cx: px(x), cy: py(y), r: 6, "data-group": member.group, ...look }), `${member.name}; ${member.group}${member.counted ? "" : `; not tested, a relative of ${member.family}`}`));
    if (kind.members.length <= 30) svg.append(draw("text", { x: px(x) + 9, y: py(y) - 6, "pointer-events": "none" }, String(order.indexOf(i) + 1)));
  }
  return svg;
}
