// A view of many points that can be moved and zoomed: WebGL, or a 2D canvas where there is none.

const VERTEX = `attribute vec2 place; attribute vec3 colour; attribute float size; uniform vec4 view; varying vec3 ink;
void main() { gl_Position = vec4((place * 2.0 - 1.0) * view.zw + view.xy, 0.0, 1.0); gl_PointSize = size; ink = colour; }`;
const FRAGMENT = `precision mediump float; varying vec3 ink;
void main() { vec2 d = gl_PointCoord - 0.5; if (dot(d, d) > 0.25) discard; gl_FragColor = vec4(ink, 1.0); }`;

class PointView {
  // places: x and y of each point, 0 to 65535, y upwards.
  constructor(canvas, places) {
    this.canvas = canvas;
    this.places = places;
    this.count = places.length / 2;
    this.shift = [0, 0];
    this.scale = 0.94;
    this.colours = new Uint8Array(3 * this.count);
    this.sizes = new Float32Array(this.count).fill(4);
    this.buckets = this.sort();
    this.start();
  }

  // Points by cells of a grid of 128 x 128, to find the one under the pointer.
  sort() {
    const buckets = new Map();
    for (let i = 0; i < this.count; i++) {
      const key = (this.places[i] >> 9) * 128 + (this.places[this.count + i] >> 9);
      if (!buckets.has(key)) buckets.set(key, []);
      buckets.get(key).push(i);
    }
    return buckets;
  }

  start() {
    const gl = this.canvas.getContext("webgl", { preserveDrawingBuffer: true, antialias: true });
    this.gl = gl;
    if (!gl) {
      this.flat = this.canvas.getContext("2d");
      return;
    }
    const compile = (type, text) => {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      return shader;
    };
    const program = gl.createProgram();
    gl.attachShader(program, compile(gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, compile(gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(program);
    gl.useProgram(program);
    this.program = program;
    const pairs = new Uint16Array(2 * this.count);
    for (let i = 0; i < this.count; i++) {
      pairs[2 * i] = this.places[i];
      pairs[2 * i + 1] = this.places[this.count + i];
    }
    this.attribute("place", pairs, 2, gl.UNSIGNED_SHORT);
    this.view = gl.getUniformLocation(program, "view");
  }

  attribute(name, values, size, type) {
    const gl = this.gl;
    this.buffers ||= {};
    this.buffers[name] ||= gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    const at = gl.getAttribLocation(this.program, name);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, size, type, type !== gl.FLOAT, 0, 0);
  }

  // colours: one [r, g, b] of each point; sizes: its diameter, pixels; 0 hides it.
  paint(colourOf, sizeOf) {
    for (let i = 0; i < this.count; i++) {
      const [r, g, b] = colourOf(i);
      this.colours[3 * i] = r; this.colours[3 * i + 1] = g; this.colours[3 * i + 2] = b;
      this.sizes[i] = sizeOf(i);
    }
    this.stale = true;
    this.draw();
  }

  // The scale of each axis, so that the map keeps its shape whatever that of the canvas.
  aspect() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const least = Math.min(width, height) || 1;
    return [least / (width || 1), least / (height || 1)];
  }

  draw() {
    const ratio = devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    if (this.gl) this.drawGl(width, height, ratio);
    else this.drawFlat(this.flat, width, height, ratio);
  }

  drawGl(width, height, ratio) {
    const gl = this.gl;
    if (this.stale) {
      this.attribute("colour", this.colours, 3, gl.UNSIGNED_BYTE);
      this.attribute("size", this.sizes.map((size) => size * ratio), 1, gl.FLOAT);
      this.stale = false;
    }
    const [ax, ay] = this.aspect();
    gl.viewport(0, 0, width, height);
    gl.uniform4f(this.view, this.shift[0], this.shift[1], this.scale * ax, this.scale * ay);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.drawArrays(gl.POINTS, 0, this.count);
  }

  drawFlat(context, width, height, ratio) {
    context.clearRect(0, 0, width, height);
    for (let i = 0; i < this.count; i++) {
      const size = this.sizes[i] * ratio;
      if (!size) continue;
      const [x, y] = this.pixel(i);
      context.fillStyle = `rgb(${this.colours[3 * i]},${this.colours[3 * i + 1]},${this.colours[3 * i + 2]})`;
      context.fillRect(x * ratio - size / 2, y * ratio - size / 2, size, size);
    }
  }

  // Where a point is on the canvas, CSS pixels.
  pixel(i) {
    const [ax, ay] = this.aspect();
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const x = ((this.places[i] / 65535) * 2 - 1) * this.scale * ax + this.shift[0];
    const y = ((this.places[this.count + i] / 65535) * 2 - 1) * this.scale * ay + this.shift[1];
    return [((x + 1) / 2) * width, ((1 - y) / 2) * height];
  }

  // The shown point nearest to a place on the canvas, within `reach` CSS pixels; -1 where there is none.
  under(x, y, reach = 14) {
    const [ax, ay] = this.aspect();
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const u = ((((2 * x) / width - 1 - this.shift[0]) / (this.scale * ax) + 1) / 2) * 65535;
    const v = (((1 - (2 * y) / height - this.shift[1]) / (this.scale * ay) + 1) / 2) * 65535;
    const radius = (reach / (width / 2) / (this.scale * ax) / 2) * 65535;
    const cells = Math.min(Math.ceil(radius / 512), 128);
    let best = -1, least = radius ** 2;
    for (let i = -cells; i <= cells; i++) {
      for (let j = -cells; j <= cells; j++) {
        for (const m of this.buckets.get(((u >> 9) + i) * 128 + (v >> 9) + j) || []) {
          if (!this.sizes[m]) continue;
          const d = (this.places[m] - u) ** 2 + (this.places[this.count + m] - v) ** 2;
          if (d < least) { least = d; best = m; }
        }
      }
    }
    return best;
  }

  move(dx, dy) {
    this.shift[0] += (2 * dx) / this.canvas.clientWidth;
    this.shift[1] -= (2 * dy) / this.canvas.clientHeight;
    this.draw();
  }

  // Scale about a place on the canvas, CSS pixels.
  zoom(factor, x, y) {
    const u = (2 * x) / this.canvas.clientWidth - 1, v = 1 - (2 * y) / this.canvas.clientHeight;
    const scale = Math.min(Math.max(this.scale * factor, 0.3), 200);
    const by = scale / this.scale;
    this.shift = [u - (u - this.shift[0]) * by, v - (v - this.shift[1]) * by];
    this.scale = scale;
    this.draw();
  }

  reset() {
    this.shift = [0, 0];
    this.scale = 0.94;
    this.draw();
  }
}

// True if a point is inside a polygon of [x, y].
function isInside([x, y], polygon) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i], [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}
