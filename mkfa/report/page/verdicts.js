// Verdicts on claims: what was judged, at which scale, with how many seeds, and how sensitive the experiment was.

const SIGNS = { supported: "✓", contradicted: "✗", inconclusive: "?" };

function verdictsSection() {
  const claims = facts.verdicts.flatMap((one) => one.verdicts);
  const hidden = new Set();
  const counts = new Map(["supported", "contradicted", "inconclusive"].map((state) => [state, 0]));
  for (const one of claims) if (one.verdict) counts.set(one.verdict.state, counts.get(one.verdict.state) + 1);
  const cards = claims.map((one) => ({ state: one.verdict ? one.verdict.state : "inconclusive", card: claimCard(one) }));
  const show = () => cards.forEach(({ state, card }) => { card.hidden = hidden.has(state); });
  const toggles = make("div", { class: "controls" }, make("fieldset", {}, make("legend", {}, "Shown"), [...counts].map(([state, count]) =>
    tick(`${state} (${count})`, true, (on) => { on ? hidden.delete(state) : hidden.add(state); show(); }))));
  return { whole: section("verdicts", "Verdicts",
    make("p", {}, "Each claim was judged by a criterion that was fixed before the data were seen. An inconclusive verdict says what is missing. The verdict on the paper's own printed numbers by the same criterion is shown separately."),
    toggles, cards.map(({ card }) => card),
    asTable("Verdicts", [["claim", (one) => one.id], ["verdict", (one) => (one.verdict ? one.verdict.state : "–")], ["as printed", (one) => (one.printed ? one.printed.state : "–")],
      ["sentence", (one) => one.sentence], ["effect", (one) => (one.verdict ? effectText(one.verdict.effect) : "–")], ["seeds", (one) => (one.verdict ? one.verdict.seeds : "–"), true],
      ["scale", (one) => (one.verdict ? one.verdict.scale : "–")]], () => claims)), refresh: () => {} };
}

function claimCard(one) {
  const state = one.verdict ? one.verdict.state : "inconclusive";
  return make("article", { class: `verdict ${state}` },
    make("h3", {}, `${one.id} `, make("span", { "aria-hidden": "true" }, SIGNS[state]), ` ${state}`),
    make("p", {}, one.sentence, one.source ? make("span", { class: "faint" }, ` (${one.source}${one.number ? `: ${one.number}` : ""})`) : null),
    one.verdict ? make("p", {}, one.verdict.reason) : null,
    one.verdict ? verdictDetails(one.verdict, one) : null,
    one.others.map((other) => make("div", {}, make("p", {}, `At ${other.scale || "another scale"}: ${SIGNS[other.state]} ${other.state}. ${other.reason}`), verdictDetails(other, null))),
    one.printed ? make("div", { class: "apart" }, make("p", {}, make("b", {}, "As printed: "), `${SIGNS[one.printed.state]} ${one.printed.state}. ${one.printed.reason}`), verdictDetails(one.printed, null)) : null);
}

function verdictDetails(verdict, claim) {
  const rows = [["scale", [verdict.scale, verdict.setting].filter(Boolean).join(": ")], ["judged from", verdict.basis], ["seeds", verdict.seeds || ""],
    ["effect", effectText(verdict.effect)], ["rests on", verdict.sample || ""], ["sensitivity", verdict.sensitivity === null || !verdict.effect ? "" : sensitivityText(verdict.effect, verdict.sensitivity)],
    ["smallest visible difference", verdict.smallest_visible_difference === null || !verdict.effect ? "" : visibleText(verdict.effect, verdict.smallest_visible_difference)],
    ["missing", verdict.missing.join("; ")], ["command", verdict.command], ["judged", claim ? claim.judged : ""], ["found in", claim ? claim.place : ""]]
    .filter(([, value]) => value !== "" && value !== "–");
  const findings = verdict.findings.length ? table("Statements of the criterion", [["statement", (one) => one.text], ["would", (one) => one.side.replace("supports", "support").replace("contradicts", "contradict")],
    ["holds", (one) => (one.holds === null ? "unknown" : one.holds ? "yes" : "no")], ["effect", (one) => effectText(one.effect)], ["p", (one) => pText(one.p), true], ["", (one) => one.note]], verdict.findings) : null;
  if (!rows.length && !findings) return null;
  return make("details", {}, make("summary", {}, "Scale, seeds, sensitivity and statements"),
    make("dl", {}, rows.map(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))])), findings);
}

// A difference in points, or in its own unit, with its interval.
function amount(effect, value) {
  const share = !effect.unit || effect.unit === "points" || effect.unit === "%";
  return fixed(share ? 100 * value : value, share ? 1 : effect.unit === "cosine" ? 3 : 2);
}

// A difference that could be seen, or what a planted effect would be, which is in points where ranks are judged.
function visibleText(effect, value) {
  return `${amount(effect, value)} ${!effect.unit || effect.unit === "%" ? "points" : effect.unit}`;
}

function sensitivityText(effect, value) {
  return visibleText(effect.unit === "rho" ? { unit: "points" } : effect, value) + (effect.control ? ` by ${effect.control}` : "");
}

function effectText(effect) {
  if (!effect || effect.difference === null) return "–";
  const interval = effect.low === null || effect.high === null ? "" : ` (${amount(effect, effect.low)} to ${amount(effect, effect.high)})`;
  const sign = effect.difference > 0 && effect.unit !== "%" ? "+" : "";
  return `${effect.label ? `${effect.label}: ` : ""}${sign}${amount(effect, effect.difference)}${interval} ${effect.unit || "points"}`;
}
