// The data of the page: bytes that gzip compressed, in base64, unpacked when they are needed.

const unpacked = new Map();

function unpack(name) {
  if (!unpacked.has(name)) unpacked.set(name, unpackNow(name));
  return unpacked.get(name);
}

async function unpackNow(name) {
  const text = document.getElementById(`data-${name}`).textContent;
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Integers that are stored as all their lowest bytes, then all the next.
function joinPlanes(bytes, Kind) {
  const out = new Kind(bytes.length / Kind.BYTES_PER_ELEMENT);
  const count = out.length;
  for (let plane = 0; plane < Kind.BYTES_PER_ELEMENT; plane++) {
    for (let i = 0; i < count; i++) out[i] |= bytes[plane * count + i] << (8 * plane);
  }
  return out;
}

const loaded = new Map();

// The filters of one bank and kernel size: weights in steps, scales, classes, R², p, layers and channels.
function loadGroup(group) {
  if (!loaded.has(group)) loaded.set(group, loadGroupNow(group));
  return loaded.get(group);
}

async function loadGroupNow(group) {
  const part = (name) => unpack(`${group.blob}-${name}`);
  const known = new Set(group.columns);
  const layer = new Uint32Array(group.shown);
  const start = new Map();
  let at = 0;
  for (const [index, count] of group.layers) {
    start.set(index, [at, at + count]);
    layer.fill(index, at, at + count);
    at += count;
  }
  const channel = group.shown < group.filters ? joinPlanes(await part("channel"), Uint32Array) : channels(group);
  return {
    facts: group,
    taps: group.kh * group.kw,
    weight: new Int8Array((await part("weight")).buffer),
    scale: joinPlanes(await part("scale"), Int16Array),
    kind: await part("class"),
    r2: known.has("r2") ? await part("r2") : null,
    p: known.has("p") ? await part("p") : null,
    layer, channel, start,
  };
}

function channels(group) {
  const out = new Uint32Array(group.shown);
  let at = 0;
  for (const [, count] of group.layers) for (let i = 0; i < count; i++) out[at++] = i;
  return out;
}

// What is known of one filter.
function filterFacts(data, row) {
  const { facts: group } = data;
  const code = data.kind[row];
  const reasons = { 252: "not finite", 253: "flat", 254: "dead", 255: "not assigned" };
  const classes = classesOf(group.bank);
  const scale = data.scale[row] === -32768 ? 0 : Math.exp(data.scale[row] * group.log_step);
  return {
    bank: facts.banks[group.bank].name,
    layer: data.layer[row] + 1,
    layerName: facts.banks[group.bank].layers[data.layer[row]].name,
    channel: data.channel[row],
    code,
    title: code in reasons ? reasons[code] : classes[code] ? classes[code].title : "–",
    r2: data.r2 && data.r2[row] < 255 ? data.r2[row] / 254 : null,
    p: data.p && data.p[row] < 255 ? 10 ** (-data.p[row] * group.p_step) : null,
    scale,
    weight: Array.from(data.weight.subarray(row * data.taps, (row + 1) * data.taps), (w) => (w / group.levels) * scale),
  };
}

// The classes of a bank's assignment, [] without one.
function classesOf(bank) {
  const found = facts.assignments.find((one) => one.from === "" && one.bank === facts.banks[bank].name);
  return found ? found.classes : [];
}
