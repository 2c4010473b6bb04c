// The map of filters: point at one for its picture, draw around several to see them side by side.

async function mapSection(map) {
  const [place, steps, cluster] = await Promise.all(["place", "row", "cluster"].map((name) => unpack(`${map.blob}-${name}`)));
  const places = joinPlanes(place, Uint16Array), rows = joinPlanes(steps, Uint32Array), clusters = joinPlanes(cluster, Int16Array);
  const of = new Uint16Array(map.points), groups = [];
  let at = 0;
  for (const [group, length] of map.groups) { // rows are stored as steps from one to the next
    of.fill(group, at, at + length);
    for (let i = at + 1; i < at + length; i++) rows[i] += rows[i - 1];
    at += length;
  }
  for (const i of new Set(of)) groups[i] = await loadGroup(facts.groups[i]);
  const count = map.points;
  const chosen = new Uint8Array(count);
  const hidden = new Set();
  const state = { by: "class", mode: "move", cursor: -1, polygon: [] };

  const canvas = make("canvas", {
    tabindex: "0", role: "application", style: { height: "34rem" },
    "aria-label": `Map of ${count} filters of ${map.kind}. Arrow keys move the map, plus and minus zoom, N and P go to the next and the previous filter, Enter shows its details, Escape clears the selection.`,
  });
  const over = make("canvas", { style: { "pointer-events": "none", height: "34rem" }, "aria-hidden": "true" });
  const legend = make("div", { class: "controls legend" });
  const says = make("p", { role: "status", "aria-live": "polite" });
  const gallery = make("div", { class: "gallery" });
  const counts = make("div", {});
  const details = detailsPanel();
  details.panel.hidden = true;
  let view = null;

  const bankOf = (i) => facts.groups[of[i]].bank;
  const codeOf = (i) => groups[of[i]].kind[rows[i]];
  const ways = {
    class: { key: (i) => filterFacts(groups[of[i]], rows[i]).title, colour: (i) => classColour(bankOf(i), codeOf(i)) },
    network: { key: (i) => facts.banks[bankOf(i)].name, colour: (i) => bankColour(bankOf(i)) },
    cluster: { key: (i) => `cluster ${clusters[i] + 1}`, colour: (i) => shade(facts.colours.banks[clusters[i] % facts.colours.banks.length]) },
    depth: { key: (i) => ["first third", "middle third", "last third"][third(i)], colour: (i) => amountColour(0.1 + 0.4 * third(i)) },
  };

  function third(i) {
    const layer = facts.banks[bankOf(i)].layers[groups[of[i]].layer[rows[i]]];
    return Math.min(2, Math.floor((layer.depth || 0) * 3 + 1e-6));
  }

  const keys = {};
  function keysOf(by) {
    keys[by] ||= Array.from({ length: count }, (_, i) => ways[by].key(i));
    return keys[by];
  }

  function paint() {
    const names = keysOf(state.by);
    const any = chosen.some((one) => one);
    const faded = channelsOf(isDark() ? "#45494d" : "#d4d4d0");
    view.paint((i) => (any && !chosen[i] ? faded : channelsOf(toHex(ways[state.by].colour(i)))),
      (i) => (hidden.has(names[i]) ? 0 : any && chosen[i] ? 6 : 4));
    drawOver();
  }

  function toHex(colour) {
    if (colour.startsWith("#")) return colour;
    return `#${colour.match(/\d+/g).map((c) => Number(c).toString(16).padStart(2, "0")).join("")}`;
  }

  function drawLegend() {
    const names = keysOf(state.by), seen = new Map();
    names.forEach((name, i) => seen.has(name) ? seen.get(name).count++ : seen.set(name, { count: 1, colour: ways[state.by].colour(i) }));
    const entries = [...seen].sort((a, b) => b[1].count - a[1].count);
    legend.replaceChildren(make("fieldset", {}, make("legend", {}, "Shown"), entries.map(([name, { count: n, colour }]) =>
      tick(`${name} (${n})`, !hidden.has(name), (on) => { on ? hidden.delete(name) : hidden.add(name); paint(); }, colour))),
    make("span", { class: "screen" }, choice("choose all of", [["", "–"], ...entries.map(([name]) => [name, name])], "", (name) => {
      if (name) select((i) => names[i] === name, name);
    })));
  }

  function select(test, why) {
    for (let i = 0; i < count; i++) chosen[i] = view.sizes[i] > 0 ? Number(test(i)) : 0;
    paint();
    const found = Array.from({ length: count }, (_, i) => i).filter((i) => chosen[i]);
    says.textContent = found.length ? `${many(found.length, "filter")} chosen${why ? `: ${why}` : ""}.` : "No filter chosen.";
    gallery.replaceChildren(...found.slice(0, MOST_PICTURES).map((i) => {
      const small = picture(groups[of[i]], rows[i], 35);
      small.addEventListener("pointermove", (event) => tell(i, event));
      small.addEventListener("pointerleave", hideTip);
      small.addEventListener("click", () => pin(i));
      return small;
    }));
    if (found.length > MOST_PICTURES) gallery.append(make("p", {}, `and ${found.length - MOST_PICTURES} more`));
    counts.replaceChildren(...(found.length ? ["network", "class", "depth"].map((by) => shares(by, found)) : []));
  }

  function shares(by, found) {
    const all = new Map(), mine = new Map();
    keysOf(by).forEach((name) => all.set(name, (all.get(name) || 0) + 1));
    found.forEach((i) => mine.set(keysOf(by)[i], (mine.get(keysOf(by)[i]) || 0) + 1));
    return table(`The chosen filters by ${by}`, [[by, (one) => one[0]], ["chosen", (one) => one[1], true],
      ["share", (one) => percent(one[1] / found.length, 0), true], ["share of the map", (one) => percent(all.get(one[0]) / count, 0), true]],
    [...mine].sort((a, b) => b[1] - a[1]));
  }

  function drawOver() {
    const ratio = devicePixelRatio || 1;
    over.width = over.clientWidth * ratio;
    over.height = over.clientHeight * ratio;
    const context = over.getContext("2d");
    if (onPaper.printing && view.gl) view.drawFlat(context, over.width, over.height, ratio); // WebGL may not print
    context.scale(ratio, ratio);
    context.strokeStyle = isDark() ? "#ffb27a" : "#b34700";
    context.lineWidth = 2;
    if (state.polygon.length > 1) {
      context.beginPath();
      state.polygon.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.stroke();
    }
    if (state.cursor >= 0) {
      const [x, y] = view.pixel(state.cursor);
      context.strokeRect(x - 6, y - 6, 12, 12);
    }
  }

  function tell(i, event) {
    const data = groups[of[i]], known = filterFacts(data, rows[i]);
    const lines = [known.bank, `layer ${known.layer}, channel ${known.channel}`, `${known.title}, R² ${fixed(known.r2)}`];
    if (map.clusters) lines.push(`cluster ${clusters[i] + 1}`);
    showTip(event, picture(data, rows[i], 84), ...lines.map((line) => make("div", {}, line)));
    return lines.join(", ");
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    state.down = [event.offsetX, event.offsetY];
    state.polygon = state.mode === "lasso" ? [state.down] : [];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (state.down && state.mode === "lasso") {
      state.polygon.push([event.offsetX, event.offsetY]);
      drawOver();
    } else if (state.down) {
      view.move(event.offsetX - state.down[0], event.offsetY - state.down[1]);
      state.down = [event.offsetX, event.offsetY];
      drawOver();
    } else {
      const i = view.under(event.offsetX, event.offsetY);
      state.cursor = i;
      drawOver();
      if (i < 0) hideTip();
      else tell(i, event);
    }
  });
  canvas.addEventListener("pointerup", () => {
    const polygon = state.polygon;
    if (state.cursor >= 0 && polygon.length < 3) pin(state.cursor);
    state.down = null;
    state.polygon = [];
    if (polygon.length > 2) select((i) => view.sizes[i] > 0 && isInside(view.pixel(i), polygon), "inside the line");
    drawOver();
  });
  // Everything of one filter, below the map.
  function pin(i) {
    details.panel.hidden = false;
    details.show(groups[of[i]], rows[i]);
  }
  canvas.addEventListener("pointerleave", hideTip);
  canvas.addEventListener("blur", hideTip);
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey && document.activeElement !== canvas) return; // the page scrolls on
    event.preventDefault();
    view.zoom(Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY);
    drawOver();
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
    const middle = [canvas.clientWidth / 2, canvas.clientHeight / 2];
    if (steps[event.key]) view.move(...steps[event.key]);
    else if (event.key === "+" || event.key === "=") view.zoom(1.3, ...middle);
    else if (event.key === "-") view.zoom(1 / 1.3, ...middle);
    else if (event.key === "0") view.reset();
    else if (event.key === "Enter" && state.cursor >= 0) pin(state.cursor);
    else if (event.key === "Escape") select(() => false, "");
    else if (event.key === "n" || event.key === "p") {
      state.cursor = (state.cursor + (event.key === "n" ? 1 : count - 1)) % count;
      const [x, y] = view.pixel(state.cursor), box = canvas.getBoundingClientRect();
      says.textContent = tell(state.cursor, { target: canvas, clientX: box.left + x, clientY: box.top + y });
    } else return;
    event.preventDefault();
    drawOver();
  });

  const mode = (name, title) => make("button", {
    type: "button", "aria-pressed": String(state.mode === name), onclick: (event) => {
      state.mode = name;
      for (const one of event.target.parentNode.querySelectorAll("[aria-pressed]")) one.setAttribute("aria-pressed", String(one === event.target));
      canvas.style.setProperty("cursor", name === "lasso" ? "crosshair" : "grab");
    },
  }, title);
  const offered = ["class", "network", "depth", ...(map.clusters ? ["cluster"] : [])].filter((by) =>
    by !== "network" || map.banks.length > 1);
  const controls = make("div", { class: "controls" }, mode("move", "Move"), mode("lasso", "Lasso"),
    make("button", { type: "button", onclick: () => view.zoom(1.4, canvas.clientWidth / 2, canvas.clientHeight / 2) }, "Zoom in"),
    make("button", { type: "button", onclick: () => view.zoom(1 / 1.4, canvas.clientWidth / 2, canvas.clientHeight / 2) }, "Zoom out"),
    make("button", { type: "button", onclick: () => { view.reset(); select(() => false, ""); } }, "All"),
    choice("colour by", offered.map((by) => [by, by]), "class", (by) => { state.by = by; hidden.clear(); drawLegend(); paint(); }));
  const clustered = map.clusters ? ` Its atlas has ${many(map.clusters, "cluster")} (${map.verdict}, p = ${pText(map.p)}): ${map.reason}` : "";
  const sample = map.points < map.filters ? `${map.points.toLocaleString("en")} of ${map.filters.toLocaleString("en")}` : map.points.toLocaleString("en");
  const whole = make("div", {},
    make("h3", {}, `Filters of ${map.kind}`),
    make("p", {}, `Points that are close together are filters that are alike up to gain, offset and sign (UMAP, seed ${map.seed}); distances between groups that are far apart mean little. ${sample} filters of ${map.banks.join(", ")}.${clustered}`),
    make("p", { class: "faint screen" }, "Point at a filter for its picture, click it for its details. With Lasso, draw around points to see them side by side; 'choose all of' does the same without a pointer. Click the map, then turn the wheel to zoom."),
    controls, legend, make("div", { class: "mapbox" }, canvas, over), says, gallery, details.panel, counts,
    map.clusters ? asTable(`Clusters of ${map.kind}`, clusterColumns(map), () => map.prototypes.map((one, i) => ({ number: i + 1, ...one }))) : null);
  return { whole, refresh: () => {
    view ||= new PointView(canvas, places);
    drawLegend();
    paint();
  } };
}

const MOST_PICTURES = 600;

function clusterColumns(map) {
  return [["cluster", (one) => one.number], ["filters", (one) => one.size, true], ["share", (one) => percent(one.share), true],
    ["nearest pattern", (one) => one.class], ["recurs", (one) => fixed(one.recurrence), true],
    ...Object.keys(map.prototypes[0] ? map.prototypes[0].of_bank : {}).map((name) => [`of ${name}`, (one) => percent(one.of_bank[name]), true])];
}
