// Curves, tables, matrices and lists of runs; the paper's values separate from ours.

const MOST_BANDS = 3;

function sweepsSection() {
  const blocks = facts.sweeps.map(sweepBlock);
  return { whole: section("experiments", "Experiments",
    make("p", {}, "Networks that were trained with borrowed, frozen filters. Intervals are of the difference from the base, 95 %, over seeds and test images where both are known."),
    blocks.map((block) => block.whole)), refresh: () => blocks.forEach((block) => block.refresh()) };
}

function sweepBlock(one) {
  const kinds = { curve: "Curve", table: "Table", matrix: "Matrix", sweep: "Sweep", run_list: "Runs" };
  const body = { curve: curveBody, table: tableBody, matrix: matrixBody, sweep: settingsBody, run_list: runsBody }[one.kind](one);
  const settings = Object.entries(one.settings).map(([key, value]) => `${key.replace("_", " ")} ${value}`).join(", ");
  const whole = make("article", {}, make("h3", {}, `${kinds[one.kind]}: ${one.from}`),
    make("p", { class: "faint" }, [settings, one.recipe ? `recipe ${one.recipe}` : "", one.chance ? `chance ${percent(one.chance)}` : ""].filter(Boolean).join(", ")),
    one.sentences.map((text) => make("p", {}, text)), body.whole,
    one.command ? make("p", { class: "faint" }, "Command: ", make("code", {}, one.command)) : null);
  return { whole, refresh: body.refresh };
}

function curveBody(one) {
  const state = { difference: false, bands: true, hidden: new Set() };
  const place = make("div", { class: "scroll" });
  const value = (cell) => (state.difference ? cell.relative : cell.mean);

  function refresh() {
    const shown = one.series.filter((series) => !state.hidden.has(series.label));
    const points = shown.flatMap((series) => series.points).filter((cell) => value(cell) !== null);
    if (!points.length) return place.replaceChildren(make("p", {}, "No point is done."));
    const layers = [...new Set(one.series.flatMap((series) => series.points.map((cell) => cell.layers)))].sort((a, b) => a - b);
    const ends = points.flatMap((cell) => [value(cell) - (state.bands ? cell.half_width || 0 : 0), value(cell) + (state.bands ? cell.half_width || 0 : 0)]);
    if (!state.difference && one.base && one.base.mean !== null) ends.push(one.base.mean);
    if (state.difference || !ends.length) ends.push(0);
    const pad = (Math.max(...ends) - Math.min(...ends)) * 0.04 || 0.01;
    const y = [Math.min(...ends) - pad, Math.max(...ends) + pad];
    const { svg, px, py } = plot({ label: `Accuracy by the number of frozen layers, ${shown.map((series) => series.label).join(", ")}`,
      width: chartWidth(place), x: [layers[0] - 0.4, layers[layers.length - 1] + 0.4], y, xTicks: layers.length > 12 ? layers.filter((_, i) => i % 2 === 0) : layers,
      xTitle: "layers set and frozen", yTitle: state.difference ? "difference from the base, points" : "top-1, %",
      yText: (v) => fixed(100 * v, Math.abs(y[1] - y[0]) < 0.05 ? 1 : 0) });
    const zero = state.difference ? 0 : one.base && one.base.mean;
    if (zero !== null && zero !== undefined && zero !== false) {
      svg.append(draw("line", { x1: px(layers[0] - 0.4), x2: px(layers[layers.length - 1] + 0.4), y1: py(zero), y2: py(zero), style: { stroke: "var(--ink)" }, "stroke-dasharray": "2 3" }),
        draw("text", { x: px(layers[layers.length - 1] + 0.4), y: py(zero) - 5, "text-anchor": "end" }, `base ${percent(one.base.mean)}`));
    }
    // Bands of many arms cover each other: then bars stand side by side.
    const bars = shown.length > MOST_BANDS, gap = Math.min(...layers.slice(1).map((n, i) => px(n) - px(layers[i])), 80);
    const step = bars ? Math.min(9, (0.6 * gap) / shown.length) : 0;
    for (const [number, series] of shown.entries()) {
      const known = series.points.filter((cell) => value(cell) !== null), colour = shade(series.colour);
      const at = (cell) => px(cell.layers) + step * (number - (shown.length - 1) / 2);
      const band = known.filter((cell) => cell.half_width !== null);
      const ends = (sign) => band.map((cell) => [at(cell), py(value(cell) + sign * cell.half_width)]);
      if (state.bands && bars) ends(-1).forEach((low, i) => svg.append(draw("path", { d: pathOf([low, ends(1)[i]]), stroke: colour, "stroke-width": 1.6, class: "band" })));
      else if (state.bands && band.length > 1) svg.append(draw("path", { d: `${pathOf([...ends(1), ...ends(-1).reverse()])}Z`, fill: colour, opacity: 0.13, class: "band" }));
      svg.append(draw("path", { d: pathOf(known.map((cell) => [at(cell), py(value(cell))])), fill: "none", stroke: colour, "stroke-width": 2.2, "stroke-dasharray": series.dash.map((d) => 2 * d).join(" "), "data-arm": series.label }));
      for (const cell of known) {
        svg.append(telling(draw("circle", { class: "mark", cx: at(cell), cy: py(value(cell)), r: 4.5, fill: colour }),
          `${series.label}, ${many(cell.layers, "layer")}; top-1 ${percent(cell.mean)} over ${many(cell.seeds, "seed")}; ${fixed(cell.relative === null ? null : 100 * cell.relative, 1)} points from the base${cell.half_width === null ? "" : ` ± ${fixed(100 * cell.half_width, 1)}`}`));
      }
    }
    place.replaceChildren(svg);
  }

  const legend = make("div", { class: "controls legend" }, make("fieldset", {}, make("legend", {}, "Arms"), one.series.map((series) =>
    tick(series.label, true, (on) => { on ? state.hidden.delete(series.label) : state.hidden.add(series.label); refresh(); }, shade(series.colour)))));
  const controls = make("div", { class: "controls" },
    tick("difference from the base", false, (on) => { state.difference = on; refresh(); }),
    tick("95 % intervals", true, (on) => { state.bands = on; refresh(); }));
  const rows = () => one.series.flatMap((series) => series.points.map((cell) => ({ ...cell, label: series.label })));
  const whole = make("div", {}, make("figure", {}, legend, controls, place,
    make("figcaption", {}, `Bands, or bars where there are many arms: 95 % interval of the difference from the base${one.base ? `; base ${percent(one.base.mean)}, standard deviation ${percent(one.base.std)} over ${many(one.base.seeds, "seed")}` : ""}. 'As a table' has every point.`),
    asTable(`Curve ${one.from}`, cellColumns("arm"), rows)), paperApart(one.paper, paperCurve));
  return { whole, refresh };
}

function cellColumns(first) {
  return [[first, (cell) => cell.label], ["layers", (cell) => cell.layers, true], ["top-1", (cell) => percent(cell.mean), true], ["SD", (cell) => percent(cell.std), true],
    ["seeds", (cell) => cell.seeds, true], ["points from the base", (cell) => fixed(cell.relative === null ? null : 100 * cell.relative, 1), true],
    ["95 % ±", (cell) => fixed(cell.half_width === null ? null : 100 * cell.half_width, 1), true], ["unfinished", (cell) => cell.missing + cell.diverged, true]];
}

function tableBody(one) {
  const state = { hidden: new Set() };
  const place = make("div", { class: "scroll" });

  function refresh() {
    const rows = one.rows.filter((row) => !state.hidden.has(row.label));
    const width = chartWidth(place), left = Math.min(170, 0.4 * width), step = 26, height = rows.length * step + 44;
    const ends = rows.flatMap((row) => (row.cell.relative === null ? [] : [row.cell.relative - (row.cell.half_width || 0), row.cell.relative + (row.cell.half_width || 0)]));
    const low = Math.min(0, ...ends), high = Math.max(0, ...ends), span = high - low || 0.01;
    const x = (v) => left + ((v - low + span * 0.03) / (span * 1.06)) * (width - left - 10);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Difference of each row from the base" });
    for (const v of roundTicks(low, high, 6)) svg.append(draw("line", { class: v === 0 ? "axis" : "rule", x1: x(v), x2: x(v), y1: 0, y2: height - 38 }), draw("text", { x: x(v), y: height - 22, "text-anchor": "middle" }, fixed(100 * v, span < 0.05 ? 1 : 0)));
    svg.append(draw("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, "points from the base"));
    rows.forEach((row, i) => {
      const y = i * step + 14, { relative, half_width: half } = row.cell;
      svg.append(draw("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, shortened(row.label, Math.floor(left / 6.6)), draw("title", {}, row.label)));
      if (relative === null) return;
      if (half !== null) svg.append(draw("path", { class: "axis", d: `M${x(relative - half)},${y}H${x(relative + half)}` }));
      svg.append(telling(draw("circle", { class: "mark", cx: x(relative), cy: y, r: 5.5, fill: shade(row.colour) }), `${row.label}; top-1 ${percent(row.cell.mean)} over ${many(row.cell.seeds, "seed")}; ${fixed(100 * relative, 1)} points from the base${half === null ? "" : ` ± ${fixed(100 * half, 1)}`}; p ${pText(row.p)}`));
    });
    place.replaceChildren(svg);
  }

  const controls = make("div", { class: "controls" }, make("fieldset", {}, make("legend", {}, "Rows"), one.rows.map((row) =>
    tick(row.label, true, (on) => { on ? state.hidden.delete(row.label) : state.hidden.add(row.label); refresh(); }, shade(row.colour)))));
  const whole = make("div", {}, make("figure", {}, controls, place, make("figcaption", {}, `Base ${percent(one.base && one.base.mean)}. Lines: 95 % intervals.`),
    asTable(`Table ${one.from}`, [...cellColumns("row"), ["p", (cell) => pText(cell.p), true]], () => one.rows.map((row) => ({ ...row.cell, label: row.label, p: row.p })))),
  paperApart(one.paper, paperTable));
  return { whole, refresh };
}

function matrixBody(one) {
  const state = { change: false, controls: true };
  const place = make("div", { class: "scroll" }), bar = make("div", {});
  const found = (source, target, list) => list.find((cell) => cell.source === source && cell.target === target);
  const arms = [...new Set(one.controls.map((cell) => cell.arm))];

  function refresh() {
    const rows = [...one.sources.map((name) => ({ name, get: (target) => found(name, target, one.cells) })),
      ...(state.controls ? arms.map((arm) => ({ name: `(${arm})`, get: (target) => one.controls.find((cell) => cell.arm === arm && cell.target === target) })) : [])];
    const reference = (target) => (found(target, target, one.cells) || one.bases[target] || {}).mean;
    drawMatrix(place, bar, { rows: rows.map((row) => row.name), columns: one.targets, change: state.change,
      top1: (i, j) => { const cell = rows[i].get(one.targets[j]); return cell ? cell.mean : null; }, reference: (j) => reference(one.targets[j]),
      more: (i, j) => { const cell = rows[i].get(one.targets[j]); return cell ? `; ${many(cell.seeds, "seed")}; ${fixed(cell.relative === null ? null : 100 * cell.relative, 1)} points from the base` : ""; } });
  }

  const controls = make("div", { class: "controls" }, tick("difference from the diagonal", false, (on) => { state.change = on; refresh(); }),
    arms.length ? tick("controls", true, (on) => { state.controls = on; refresh(); }) : null);
  const all = () => [...one.cells, ...one.controls, ...Object.values(one.bases)].map((cell) => ({ ...cell, label: cell.arm, what: `${cell.source || "–"} to ${cell.target}` }));
  const whole = make("div", {}, make("figure", {}, controls, place, bar, make("figcaption", {}, "Rows: sources of the filters; columns: targets. In brackets: controls, which need no source. Colours by column compare with the diagonal when 'difference' is on."),
    asTable(`Matrix ${one.from}`, [["source to target", (cell) => cell.what], ...cellColumns("arm")], all)), paperApart(one.paper, paperMatrix));
  return { whole, refresh };
}

// Cells with their values, or with `change` their difference from the diagonal of the column, red above and blue below.
function drawMatrix(place, bar, { rows, columns, change, top1, reference, more }) {
  if (!rows.length || !columns.length) return place.replaceChildren(make("p", {}, "No cell is done."));
  const value = (i, j) => {
    const v = top1(i, j), r = reference(j);
    return v === null ? null : !change ? v : r === null || r === undefined ? null : v - r;
  };
  const values = rows.flatMap((_, i) => columns.map((__, j) => value(i, j))).filter((v) => v !== null);
  const low = Math.min(...values, change ? 0 : 1), high = Math.max(...values, 0), most = Math.max(Math.abs(low), Math.abs(high)) || 0.01;
  const colour = (i, j) => {
    const v = value(i, j);
    return v === null ? "#888888" : change ? signedColour(v / most) : amountColour((v - low) / (high - low || 1));
  };
  const { svg } = cells({ label: `${change ? "Difference of top-1 from the diagonal" : "Top-1"} by source and target`, rows, columns, size: [84, 30], wide: true, colour,
    text: (i, j) => (value(i, j) === null ? "–" : fixed(100 * value(i, j), 1)),
    tell: (i, j) => `${rows[i]} to ${columns[j]}; top-1 ${percent(top1(i, j))}${more ? more(i, j) : ""}` });
  place.replaceChildren(svg);
  bar.replaceChildren(change ? colourBar("points from the diagonal", -100 * most, 100 * most, (share) => signedColour(2 * share - 1)) : colourBar("top-1, %", 100 * low, 100 * high, amountColour));
}

// Arms in networks of several widths and kernels, or trained for several numbers of steps.
function settingsBody(one) {
  const axes = [["ratio", "D / f², channels over taps"], ["steps", "optimiser steps"]].filter(([key]) => new Set(one.points.map((point) => point[key])).size > 1);
  const state = { axis: axes.length ? axes[0][0] : "ratio", hidden: new Set() };
  const place = make("div", { class: "scroll" });

  function refresh() {
    const points = one.points.filter((point) => point[state.axis] > 0);
    if (!points.length) return place.replaceChildren(make("p", {}, "No setting is done."));
    const shown = one.arms.filter((arm) => !state.hidden.has(arm.label));
    const x = (point) => Math.log2(point[state.axis]);
    const places = [...new Set(points.map(x))].sort((a, b) => a - b);
    const of = (arm) => points.flatMap((point) => point.cells.filter((cell) => cell.arm === arm.label && cell.relative !== null).map((cell) => ({ at: x(point), point, cell }))).sort((a, b) => a.at - b.at);
    const ends = [0, ...shown.flatMap((arm) => of(arm).flatMap(({ cell }) => [cell.relative - (cell.half_width || 0), cell.relative + (cell.half_width || 0)]))];
    const pad = (Math.max(...ends) - Math.min(...ends)) * 0.04 || 0.01;
    const { svg, px, py } = plot({ label: `Difference from the base by ${state.axis}`, width: chartWidth(place), x: [places[0] - 0.2, places[places.length - 1] + 0.2], y: [Math.min(...ends) - pad, Math.max(...ends) + pad],
      xTicks: places, xText: (v) => String(Number((2 ** v).toPrecision(3))), xTitle: axes.length ? axes.find(([key]) => key === state.axis)[1] : "D / f²", yTitle: "difference from the base, points", yText: (v) => fixed(100 * v, 0) });
    for (const arm of shown) {
      const known = of(arm), colour = shade(arm.colour);
      svg.append(draw("path", { d: pathOf(known.map(({ at, cell }) => [px(at), py(cell.relative)])), fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": arm.dash.map((d) => 2 * d).join(" "), "data-arm": arm.label }));
      for (const { at, point, cell } of known) {
        if (cell.half_width !== null) svg.append(draw("path", { stroke: colour, d: `M${px(at)},${py(cell.relative - cell.half_width)}V${py(cell.relative + cell.half_width)}` }));
        svg.append(telling(draw("circle", { class: "mark", cx: px(at), cy: py(cell.relative), r: 4.5, fill: colour }),
          `${arm.label}, ${many(point.width, "channel")}, ${point.kernel}x${point.kernel}, ${many(point.steps, "step")}; top-1 ${percent(cell.mean)} over ${many(cell.seeds, "seed")}; ${fixed(100 * cell.relative, 1)} points from the base${cell.half_width === null ? "" : ` ± ${fixed(100 * cell.half_width, 1)}`}`));
      }
    }
    place.replaceChildren(svg);
  }

  const legend = make("div", { class: "controls legend" }, make("fieldset", {}, make("legend", {}, "Arms"), one.arms.map((arm) =>
    tick(arm.label, true, (on) => { on ? state.hidden.delete(arm.label) : state.hidden.add(arm.label); refresh(); }, shade(arm.colour)))));
  const controls = axes.length > 1 ? make("div", { class: "controls" }, choice("along", axes, state.axis, (axis) => { state.axis = axis; refresh(); })) : null;
  const rows = () => one.points.flatMap((point) => point.cells.map((cell) => ({ ...cell, label: cell.arm, setting: `${many(point.width, "channel")}, ${point.kernel}x${point.kernel}, ${many(point.steps, "step")}` })));
  return { whole: make("figure", {}, legend, controls, place, make("figcaption", {}, "Lines at the points: 95 % intervals of the difference from the base of the same setting."),
    asTable(`Sweep ${one.from}`, [["setting", (cell) => cell.setting], ...cellColumns("arm")], rows)), refresh };
}

function runsBody(one) {
  const columns = ["hash", "state", "domain", "arch", "arm", "layers", "recipe", "seed", "source"];
  const note = one.runs.length < one.there ? `The first ${one.runs.length} of ${many(one.there, "run")} (--most-runs).` : many(one.runs.length, "run");
  return { whole: make("details", {}, make("summary", {}, note), table(note, [...columns.map((key) => [key, (run) => run[key]]), ["top-1", (run) => percent(run.top1), true]], one.runs)), refresh: () => {} };
}

// What the paper printed, never in the same picture as ours.
function paperApart(paper, body) {
  if (!paper) return null;
  const place = make("div", { class: "apart", hidden: true });
  const toggle = make("div", { class: "controls" }, tick("show the paper's values separately", false, (on) => {
    place.hidden = !on;
    if (on && !place.children.length) place.append(make("p", { class: "faint" }, `As printed by ${paper.citation}; not trained here.`), body(paper));
  }));
  return make("div", { class: "paper" }, toggle, place);
}

function paperCurve(paper) {
  return table("The paper's curves", [["figure", (one) => one.figure], ["network", (one) => one.model], ["data", (one) => one.data], ["layers", (one) => one.layers, true],
    ["lowest, % of the base", (one) => fixed(one.worst, 1), true], ["what it says", (one) => one.observation]], paper.curves);
}

function paperTable(paper) {
  return table(`${paper.table}, ${paper.model}, ${paper.setting}`, [["row", (row) => row.label], ["top-1, %", (row) => fixed(row.top1, 1), true],
    ["points from the base", (row) => fixed(row.top1 - paper.base, 1), true]], paper.rows);
}

function paperMatrix(paper) {
  const state = { change: false };
  const place = make("div", { class: "scroll" }), bar = make("div", {});
  const at = (target) => paper.sources.indexOf(target);
  const refresh = () => drawMatrix(place, bar, { rows: paper.sources, columns: paper.targets, change: state.change, top1: (i, j) => paper.top1[i][j] / 100,
    reference: (j) => (at(paper.targets[j]) < 0 ? null : paper.top1[at(paper.targets[j])][j] / 100) });
  refresh();
  return make("figure", {}, make("div", { class: "controls" }, tick("difference from the diagonal", false, (on) => { state.change = on; refresh(); })), place, bar,
    make("figcaption", {}, `${paper.table}: ${paper.model}, ${paper.recipe}`),
    table(paper.table, [["source", (row) => row.name], ...paper.targets.map((target, j) => [target, (row) => fixed(row.values[j], 1), true])], paper.sources.map((name, i) => ({ name, values: paper.top1[i] }))));
}
