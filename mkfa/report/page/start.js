// Build the page.

let facts = null;
let filtersPart = null;

async function start() {
  const state = document.getElementById("state");
  if (typeof DecompressionStream === "undefined") {
    state.textContent = "This browser cannot unpack the page (no DecompressionStream); use one from 2023 or later, or the data files beside the page.";
    return;
  }
  facts = JSON.parse(new TextDecoder().decode(await unpack("facts")));
  const main = document.getElementById("main");
  const parts = [];
  const add = (title, build) => parts.push(guarded(title, build));
  if (facts.banks.length) add("Filters", () => (filtersPart = filtersSection()));
  if (facts.maps.length) {
    const maps = await Promise.all(facts.maps.map(mapSection));
    add("Map", () => ({ whole: section("map", "Map of filters", maps.map((map) => map.whole)), refresh: () => maps.forEach((map) => map.refresh()) }));
  }
  if (facts.comparisons.length) add("Comparisons", comparisonsSection);
  if (facts.groups_compared.length) add("Groups of networks", networksSection);
  if (facts.assignments.length) add("Patterns", patternsSection);
  if (facts.keys.length) add("Keys", keysSection);
  if (facts.grafts.length) add("Grafts", graftsSection);
  if (facts.sweeps.length) add("Experiments", sweepsSection);
  if (facts.verdicts.length) add("Verdicts", verdictsSection);
  parts.push({ whole: provenanceSection(), refresh: () => {} }, { whole: leftOutSection(), refresh: () => {} });
  main.append(...parts.map((part) => part.whole));
  document.getElementById("contents").append(make("ul", {}, parts.map(({ whole }) =>
    make("li", {}, make("a", { href: `#${whole.id}` }, whole.querySelector("h2").textContent)))));
  document.getElementById("footer").append(make("p", { class: "faint" }, `mkfa ${facts.mkfa_version}. This page loads nothing: everything is in this one file.`));
  const refresh = () => Promise.all(parts.map((part) => part.refresh()));
  await refresh();
  let timer = 0;
  const later = () => { clearTimeout(timer); timer = setTimeout(refresh, 120); };
  addEventListener("resize", later);
  darkScheme.addEventListener("change", refresh);
  printing(refresh);
  state.remove();
  document.documentElement.setAttribute("data-ready", "true");
}

// A part of the page, or a sentence in its place: one damaged result does not take the others with it.
function guarded(title, build) {
  const broken = (error) => make("p", {}, `Something here could not be shown (${error.message}); report.json beside this page has it.`);
  try {
    const part = build();
    return { whole: part.whole, refresh: async () => {
      try {
        await part.refresh();
      } catch (error) {
        part.whole.append(broken(error));
      }
    } };
  } catch (error) {
    return { whole: section(`part-${title.toLowerCase()}`, title, broken(error)), refresh: () => {} };
  }
}

// Pictures are drawn anew for paper, in the colours of the light page.
function printing(refresh) {
  addEventListener("beforeprint", () => { onPaper.printing = true; refresh(); });
  addEventListener("afterprint", () => { onPaper.printing = false; refresh(); });
}

start().catch((error) => {
  document.getElementById("state").textContent = `The report could not be shown (${error.message}). The data files beside it have the same content.`;
  console.error(error);
});
