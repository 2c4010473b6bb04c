// Where everything came from, what was left out, and the limits of the page.

function provenanceSection() {
  const words = { source_sha256: "sha256", hub_commit: "commit", mkfa_version: "mkfa", training_set: "training set" };
  const banks = facts.banks.map((bank) => make("article", {}, make("h3", {}, bank.name),
    make("dl", {}, Object.entries(bank.provenance).map(([key, value]) => [make("dt", {}, words[key] || key), make("dd", {}, value)])),
    bank.notes.map((text) => make("p", {}, text)),
    asTable(`Layers of ${bank.name}`, [["layer", (one) => one.number, true], ["name", (one) => one.name], ["kernel", (one) => one.kind], ["filters", (one) => one.filters, true],
      ["depth", (one) => fixed(one.depth), true], ["stride", (one) => pair(one.stride)], ["dilation", (one) => pair(one.dilation)]], () => bank.layers.map((one, i) => ({ number: i + 1, ...one })))));
  return section("provenance", "Provenance",
    make("p", {}, `Written by mkfa ${facts.mkfa_version} on ${facts.created}. Paths of the machine that wrote it are shortened to their last part.`),
    facts.command ? make("p", {}, "Command: ", make("code", {}, facts.command)) : null,
    facts.data ? make("p", {}, `The same data are in the folder ${facts.data}/ beside this page: report.json, filters.h5 and tables (.csv).`) : null, banks);
}

function pair([a, b]) {
  return a < 0 || b < 0 ? "unknown" : `${a}x${b}`;
}

function leftOutSection() {
  const rows = [];
  for (const group of facts.groups) {
    const name = facts.banks[group.bank].name;
    for (const [why, count] of Object.entries(group.unusable)) {
      if (count) rows.push(`${name}, ${group.kind}: ${many(count, "filter")} ${why}; they are shown, but have no class.`);
    }
    if (group.shown < group.filters) rows.push(`${name}, ${group.kind}: ${group.shown.toLocaleString("en")} of ${many(group.filters, "filter")} are here.`);
  }
  for (const bank of facts.banks) {
    for (const [why, count] of Object.entries(bank.skipped)) rows.push(`${bank.name}: ${many(count, "tensor")} of the source skipped, ${why}.`);
    for (const [layer, why] of Object.entries(bank.doubtful)) rows.push(`${bank.name}, ${layer}: doubtful, ${why}.`);
    const stood = Object.entries(bank.stood_in).map(([name, count]) => `${count} ${name}`).join(", ");
    if (stood) rows.push(`${bank.name}: objects of its source were read as inert data: ${stood}.`);
  }
  rows.push(...facts.left_out, ...facts.limits.filter((one) => one.reached).map((one) => one.sentence));
  return section("left-out", "What was left out",
    rows.length ? make("ul", {}, rows.map((text) => make("li", {}, text))) : make("p", {}, "Nothing."),
    make("h3", {}, "Limits"),
    table("Limits of this page and the options that change them", [["option", (one) => one.name], ["limit", (one) => one.value.toLocaleString("en"), true], ["there", (one) => one.there.toLocaleString("en"), true], ["", (one) => one.sentence]], facts.limits),
    make("p", { class: "faint" }, `Weights are stored in ${facts.levels} steps of each filter's largest weight, so they are accurate to ${fixed(50 / facts.levels, 1)} % of it; nearest filters are computed from these. R² is accurate to 0.2 %, p to 2 %. filters.h5 has exact values.`));
}
