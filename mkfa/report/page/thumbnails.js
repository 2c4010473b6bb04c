// Pictures of filters, each in steps of its own largest weight; row 0 is at the top, as in the stored array.

const tables = new Map();

function weightColours(levels) {
  if (!tables.has(levels)) tables.set(levels, signedTable(levels));
  return tables.get(levels);
}

// Put one filter into a picture at (x, y), `unit` pixels a tap.
function putFilter(picture, data, row, place) {
  const { x, y, unit } = place;
  const { kh, kw, levels } = data.facts;
  const colours = weightColours(levels);
  for (let i = 0; i < kh; i++) {
    for (let j = 0; j < kw; j++) {
      const [r, g, b] = colours[data.weight[row * data.taps + i * kw + j] + 127];
      for (let v = 0; v < unit; v++) {
        let at = 4 * ((y + i * unit + v) * picture.width + x + j * unit);
        for (let u = 0; u < unit; u++) {
          picture.data[at++] = r; picture.data[at++] = g; picture.data[at++] = b; picture.data[at++] = 255;
        }
      }
    }
  }
}

// A canvas with one filter, about `size` pixels wide.
function picture(data, row, size) {
  const { kh, kw } = data.facts;
  const unit = Math.max(1, Math.round(size / Math.max(kh, kw)));
  const canvas = make("canvas", { width: kw * unit, height: kh * unit, role: "img" });
  const known = filterFacts(data, row);
  canvas.setAttribute("aria-label", `filter ${kh}x${kw}, ${known.title}, red above zero, blue below`);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  putFilter(pixels, data, row, { x: 0, y: 0, unit });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// Draw filters side by side into a canvas of a width; returns their layout.
function drawGrid(canvas, data, rows, width) {
  const { kh, kw } = data.facts;
  const unit = Math.max(2, Math.round(28 / Math.max(kh, kw)));
  const cell = [kw * unit + 3, kh * unit + 3];
  const columns = Math.max(1, Math.floor(width / cell[0]));
  canvas.width = columns * cell[0];
  canvas.height = Math.max(1, Math.ceil(rows.length / columns)) * cell[1];
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  rows.forEach((row, i) => putFilter(pixels, data, row, {
    x: (i % columns) * cell[0] + 1, y: Math.floor(i / columns) * cell[1] + 1, unit,
  }));
  context.putImageData(pixels, 0, 0);
  return { cell, columns, pixels };
}
