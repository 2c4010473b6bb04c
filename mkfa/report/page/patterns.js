// Which patterns the filters follow: shares of classes and coverage, beside what null filters give.

function patternsSection() {
  const blocks = facts.assignments.map(assignmentBlock);
  return { whole: section("patterns", "Patterns",
    make("p", {}, "Each filter is assigned the Gaussian-derivative pattern that explains most of its variance (R²), up to gain and offset. Small kernels fit almost anything, so each share is shown beside that of null filters."),
    blocks.map((block) => block.whole)), refresh: () => blocks.forEach((block) => block.refresh()) };
}

function assignmentBlock(one) {
  const shares = make("div", { class: "scroll" }), curves = make("div", { class: "scroll" });
  const rows = one.classes.filter((row) => row.filters || row.null_share >= 0.0005).sort((a, b) => b.share - a.share);
  const hidden = new Set();

  function refresh() {
    shares.replaceChildren(shareBars(one, rows, chartWidth(shares)));
    curves.replaceChildren(coverageCurves(one, hidden, chartWidth(curves)));
  }

  const unscored = Object.entries(one.unscored).filter(([, count]) => count).map(([why, count]) => `${count} ${why}`).join(", ");
  const toggles = make("fieldset", {}, make("legend", {}, "Nulls"), one.coverage.map((each) =>
    tick(each.null, true, (on) => { on ? hidden.delete(each.null) : hidden.add(each.null); refresh(); }, nullColour(each.null))));
  const first = one.coverage[0];
  const said = first ? `${percent(first.beyond)} of the filters fit a pattern better than 99 % of ${first.null} filters do (chance: 1 %).` : "";
  const whole = make("article", {}, make("h3", {}, one.bank),
    make("p", {}, `${many(one.filters, "filter")}, basis ${one.basis}, ${many(one.draws, "filter")} of each null, seed ${one.seed}${one.from ? `, from ${one.from}` : ""}. ${said}${unscored ? ` Left out: ${unscored}.` : ""}${one.skipped.length ? ` Without patterns: ${one.skipped.join("; ")}.` : ""}`),
    make("figure", {}, shares, make("figcaption", {}, `Bars: share of the filters, with its 95 % interval over layers. Diamonds: share of ${one.null} filters.`),
      asTable(`Classes of ${one.bank}`, [["class", (r) => r.title], ["filters", (r) => r.filters, true], ["share", (r) => percent(r.share), true],
        ["95 %, over layers", (r) => (r.low === null ? "–" : `${percent(r.low)} to ${percent(r.high)}`), true], ["median R²", (r) => fixed(r.median_r2, 3), true],
        ["on", (r) => percent(r.on, 0), true], [`share, ${one.null}`, (r) => percent(r.null_share), true]], () => rows)),
    first ? make("figure", {}, make("div", { class: "controls legend" }, toggles), curves, make("figcaption", {}, "Share of filters with at least that R²: the networks' filters and each null's."),
      asTable(`Coverage of ${one.bank}`, [["null", (r) => r.null], ["median R²", (r) => fixed(r.median_r2, 3), true], ["null's", (r) => fixed(r.null_median_r2, 3), true],
        [`R² ≥ ${one.r2}`, (r) => percent(r.fixed), true], ["null's", (r) => percent(r.null_fixed), true], ["above the null's 1 %", (r) => percent(r.beyond), true],
        ["95 %", (r) => (r.beyond_low === null ? "–" : `${percent(r.beyond_low)} to ${percent(r.beyond_high)}`), true]], () => one.coverage)) : null);
  return { whole, refresh };
}

function shareBars(one, rows, width) {
  const left = Math.min(250, 0.42 * width), step = 24, height = rows.length * step + 40;
  const most = Math.max(0.05, ...rows.map((row) => Math.max(row.high || row.share || 0, row.null_share || 0)));
  const x = (share) => left + (share / most) * (width - left - 20);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `Shares of patterns of ${one.bank}` });
  for (const value of roundTicks(0, most, 5)) {
    svg.append(draw("line", { class: "rule", x1: x(value), x2: x(value), y1: 0, y2: height - 36 }),
      draw("text", { x: x(value), y: height - 20, "text-anchor": "middle" }, percent(value, 0)));
  }
  svg.append(draw("text", { x: (left + width) / 2, y: height - 3, "text-anchor": "middle" }, "share of the filters"));
  rows.forEach((row, i) => {
    const y = i * step + 2, middle = y + step / 2 - 2;
    svg.append(draw("text", { x: left - 8, y: middle + 4, "text-anchor": "end" }, shortened(row.title, Math.floor(left / 6.6)), draw("title", {}, row.title)));
    svg.append(telling(draw("rect", { x: left, y, width: Math.max(x(row.share) - left, 1), height: step - 6, fill: shade(lighter(row, one.classes)) }),
      `${row.title}; ${many(row.filters, "filter")}, ${percent(row.share)}; ${row.low === null ? "" : `95 % ${percent(row.low)} to ${percent(row.high)}; `}median R² ${fixed(row.median_r2)}; ${one.null}: ${percent(row.null_share)}`));
    if (row.low !== null) {
      const d = `M${x(row.low)},${middle}H${x(row.high)}M${x(row.low)},${middle - 3}v6M${x(row.high)},${middle - 3}v6`;
      svg.append(draw("path", { class: "halo", d }), draw("path", { class: "whisker", d }));
    }
    const at = x(row.null_share || 0);
    svg.append(draw("path", { d: `M${at},${middle - 6}l5,6l-5,6l-5,-6z`, style: { fill: "var(--paper)" }, stroke: nullColour(one.null), "stroke-width": 2.5, "pointer-events": "none" }));
  });
  return svg;
}

function coverageCurves(one, hidden, width) {
  const { svg, px, py } = plot({ label: `Share of filters of ${one.bank} with at least an R², beside nulls`, width, x: [0, 1], y: [0, 1], xTitle: "R²", yTitle: "share with at least this R²", xText: (v) => fixed(v, 1), yText: (v) => percent(v, 0) });
  const line = (values, attributes) => draw("path", { fill: "none", d: pathOf(values.map((value, i) => [px(one.at[i]), py(value)])), ...attributes });
  for (const each of one.coverage) {
    if (!hidden.has(each.null)) svg.append(line(each.null_curve, { stroke: nullColour(each.null), "stroke-width": 2, "stroke-dasharray": nullDash(each.null), "data-null": each.null }));
  }
  svg.append(line(one.coverage[0].curve, { style: { stroke: "var(--ink)" }, "stroke-width": 3 }));
  const at = one.coverage[0].curve.findIndex((value) => value < 0.6);
  if (at > 0) svg.append(draw("text", { x: px(one.at[at]) + 6, y: py(0.6) - 4 }, one.bank.length > 30 ? "the network" : one.bank));
  return svg;
}
