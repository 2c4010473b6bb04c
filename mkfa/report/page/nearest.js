// The nearest filters in the other banks, by |cos| after subtracting the mean; computed here from 8-bit weights.

const units = new Map();

// 1 / norm and mean of each filter of a group, in steps.
function unitsOf(data) {
  if (units.has(data)) return units.get(data);
  const count = data.facts.shown, taps = data.taps;
  const mean = new Float32Array(count), factor = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    let sum = 0, square = 0;
    for (let k = i * taps; k < (i + 1) * taps; k++) { sum += data.weight[k]; square += data.weight[k] ** 2; }
    mean[i] = sum / taps;
    const norm = Math.sqrt(Math.max(square - sum * mean[i], 0));
    factor[i] = norm > 1e-3 && data.kind[i] < 252 || data.kind[i] === 255 && norm > 1e-3 ? 1 / norm : 0;
  }
  units.set(data, { mean, factor });
  return units.get(data);
}

// For each other bank with filters of this kind: the nearest one, [{data, row, cosine}], the nearest bank first.
async function nearestOf(data, row) {
  const own = unitsOf(data), taps = data.taps;
  if (!own.factor[row]) return [];
  const probe = new Float32Array(taps);
  for (let k = 0; k < taps; k++) probe[k] = (data.weight[row * taps + k] - own.mean[row]) * own.factor[row];
  const found = [];
  for (const group of facts.groups) {
    if (group.bank === data.facts.bank || group.kind !== data.facts.kind) continue;
    const other = await loadGroup(group);
    const { factor } = unitsOf(other);
    let best = -1, cosine = 0;
    for (let i = 0, k = 0; i < group.shown; i++) {
      let product = 0; // the probe sums to zero, so the other's mean plays no part
      for (let t = 0; t < taps; t++) product += probe[t] * other.weight[k++];
      product *= factor[i];
      if (Math.abs(product) > Math.abs(cosine)) { cosine = product; best = i; }
    }
    if (best >= 0) found.push({ data: other, row: best, cosine });
  }
  return found.sort((a, b) => Math.abs(b.cosine) - Math.abs(a.cosine));
}
