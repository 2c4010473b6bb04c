// Colours: of weights, of amounts, and of classes, nulls and arms as the data give them.

const darkScheme = matchMedia("(prefers-color-scheme: dark)");
const onPaper = { printing: false };

function isDark() {
  return darkScheme.matches && !onPaper.printing;
}

function channelsOf(colour) {
  return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
}

function luminance(rgb) {
  const [r, g, b] = rgb.map((c) => (c <= 10 ? c / 3294 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// A colour of the palette on this page: on a dark one, dark colours are mixed with white until they can be seen.
function shade(colour) {
  let rgb = channelsOf(/^#[0-9a-f]{6}$/i.test(colour) ? colour : "#777777");
  for (let step = 0; isDark() && luminance(rgb) < 0.16 && step < 20; step++) rgb = rgb.map((c) => c + (255 - c) * 0.12);
  return `#${rgb.map((c) => Math.round(c).toString(16).padStart(2, "0")).join("")}`;
}

// ColorBrewer's RdBu, reversed, as in the figures: blue below zero, white at zero, red above.
const SIGNED_STOPS = ["#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7",
  "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"].map(channelsOf);
const AMOUNT_STOPS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89",
  "#35b779", "#6ece58", "#b5de2b", "#fde725"].map(channelsOf);

function between(stops, share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((c, k) => Math.round(c + (stops[i + 1][k] - c) * (at - i)));
}

// By step + 127: the colour of a weight, red, green, blue.
function signedTable(levels) {
  return Array.from({ length: 255 }, (_, i) => between(SIGNED_STOPS, ((i - 127) / levels + 1) / 2));
}

function css(rgb) {
  return `rgb(${rgb.join(",")})`;
}

function amountColour(share) {
  return css(between(AMOUNT_STOPS, share));
}

function signedColour(share) {
  return css(between(SIGNED_STOPS, (share + 1) / 2));
}

// Black or white, whichever is easier to read on a colour.
function inkOn(colour) {
  const rgb = colour.startsWith("#") ? channelsOf(colour) : colour.match(/\d+/g).map(Number);
  return luminance(rgb) > 0.18 ? "#000000" : "#ffffff";
}

// Classes of one group have one colour in the figures, told apart by hatches; here the later ones are lighter.
function classColour(bank, code) {
  const classes = classesOf(bank);
  const found = classes[code];
  return found ? shade(lighter(found, classes)) : isDark() ? "#6b6f73" : "#b5b5b5";
}

function nullColour(name) {
  return shade((facts.colours.nulls[name] || facts.colours.nulls[""])[0]);
}

function nullDash(name) {
  return (facts.colours.nulls[name] || facts.colours.nulls[""])[1].join(" ");
}

function bankColour(bank) {
  return shade(facts.colours.banks[bank % facts.colours.banks.length]);
}

function lighter(found, classes) {
  const before = classes.filter((one) => one.colour === found.colour).indexOf(found);
  const rgb = channelsOf(found.colour).map((c) => Math.round(c + (255 - c) * [0, 0.35, 0.6, 0.75][Math.min(before, 3)]));
  return `#${rgb.map((c) => c.toString(16).padStart(2, "0")).join("")}`;
}
