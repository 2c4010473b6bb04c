// Verdicts on claims.

function verdictsSection() {
  const signs = { supported: "✓", contradicted: "✗", inconclusive: "?" };
  const all = facts.verdicts.flatMap((one) => one.verdicts);
  const count = new Map();
  for (const one of all) count.set(one.verdict, (count.get(one.verdict) || 0) + 1);
  const cards = facts.verdicts.flatMap((file) => file.verdicts.map((one) => make("article", { class: `verdict ${["supported", "contradicted", "inconclusive"].includes(one.verdict) ? one.verdict : ""}` },
    make("h3", {}, `${one.id} `, make("span", { "aria-hidden": "true" }, signs[one.verdict] || ""), ` ${one.verdict}`),
    make("p", {}, one.sentence),
    one.facts.length ? make("details", {}, make("summary", {}, "Scale, seeds, sensitivity and more"), make("dl", {}, one.facts.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]))) : null)));
  return { whole: section("verdicts", "Verdicts", make("p", {}, `${[...count].map(([name, n]) => `${n} ${name}`).join(", ")}. Criteria were fixed before the data were seen.`), cards), refresh: () => {} };
}
