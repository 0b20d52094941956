// Clouds of points: drawn on a canvas, with the image behind each point.

const pointed = document.getElementById("pointed");

const groups = new Map();  // name -> which traces are hidden, which one is looked at, and the maps that obey
const maps = new Set();    // those drawn at the moment

function group(name) {
  if (!groups.has(name)) groups.set(name, {hidden: new Set(), only: null, maps: new Set()});
  return groups.get(name);
}

const BYTES = {f: Float32Array, i: Int32Array};
function unpacked(text, kind) {
  const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
  return new BYTES[kind](bytes.buffer);
}

function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= rough);
  const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const values = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) values.push([k * step, (k * step).toFixed(places).replace("-", "\u2212")]);
  return values;
}

class PointMap {
  constructor(element, content) {
    this.element = element;
    this.content = content;
    this.group = group(content.group);
    this.traces = content.traces.map(trace => ({
      ...trace, x: unpacked(trace.x, "f"), y: unpacked(trace.y, "f"),
      rows: trace.rows === null ? null : unpacked(trace.rows, "i")}));
    this.gather();
    this.canvas = element.appendChild(document.createElement("canvas"));
    this.above = element.appendChild(document.createElement("canvas"));
    this.whole = element.appendChild(document.createElement("button"));
    Object.assign(this.whole, {type: "button", className: "all", textContent: "show all", hidden: true});
    this.whole.addEventListener("click", () => this.showAll());
    this.chosen = -1;
    this.listening = new AbortController();
    this.listen();
    this.group.maps.add(this);
    maps.add(this);
    this.resizing = new ResizeObserver(() => { if (!printing.on) this.draw(); });
    this.showAll();
    this.resizing.observe(element);
  }

  // All points in one list, shuffled the same way each time, so that no class lies on top of the others.
  gather() {
    const n = this.traces.reduce((sum, trace) => sum + trace.x.length, 0);
    this.x = new Float32Array(n); this.y = new Float32Array(n);
    this.rows = new Int32Array(n).fill(-1); this.owner = new Uint16Array(n);
    let at = 0;
    this.traces.forEach((trace, index) => {
      this.x.set(trace.x, at); this.y.set(trace.y, at);
      if (trace.rows) this.rows.set(trace.rows, at);
      this.owner.fill(index, at, at + trace.x.length);
      at += trace.x.length;
    });
    const order = Array.from({length: n}, (_, index) => index);
    for (let k = n - 1, state = 1; k > 0; k--) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const other = state % (k + 1);
      [order[k], order[other]] = [order[other], order[k]];
    }
    this.order = [...order.filter(k => !this.traces[this.owner[k]].landmark),
                  ...order.filter(k => this.traces[this.owner[k]].landmark)];
    this.byRow = new Map();
    for (let k = 0; k < n; k++) if (this.rows[k] >= 0) this.byRow.set(this.rows[k], k);
    this.walk = order.slice().sort((a, b) => this.rows[a] - this.rows[b] || a - b);
  }

  showAll() {
    let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let k = 0; k < this.x.length; k++) {
      left = Math.min(left, this.x[k]); right = Math.max(right, this.x[k]);
      bottom = Math.min(bottom, this.y[k]); top = Math.max(top, this.y[k]);
    }
    this.view = {x: (left + right) / 2, y: (bottom + top) / 2,
                 width: (right - left) * 1.06 || 1, height: (top - bottom) * 1.06 || 1};
    this.whole.hidden = true;
    this.draw();
  }

  look(x, y, width, height) {
    this.view = {x, y, width, height};
    this.whole.hidden = false;
    this.draw();
  }

  // One scale for both axes: distances in every direction mean the same.
  draw() {
    const width = this.element.clientWidth, height = this.element.clientHeight;
    if (!width || !height) return;
    const frame = {left: 44, top: 4, right: width - 4, bottom: height - 34};
    this.frame = frame;
    this.scale = Math.min((frame.right - frame.left) / this.view.width, (frame.bottom - frame.top) / this.view.height);
    this.middle = [(frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2];
    const context = sharp(this.canvas, width, height);
    sharp(this.above, width, height);
    this.axes(context, frame);
    context.save();
    context.beginPath();
    context.rect(frame.left, frame.top, frame.right - frame.left, frame.bottom - frame.top);
    context.clip();
    const crowd = this.x.length - this.traces.filter(t => t.landmark).reduce((sum, t) => sum + t.x.length, 0);
    this.radius = Math.max(1.25, Math.min(3.4, width / 5.5 / Math.sqrt(crowd || 1)));
    for (const k of this.order) {
      const owner = this.owner[k], trace = this.traces[owner];
      if (this.group.hidden.has(owner)) continue;
      const [x, y] = this.place(k);
      if (x < frame.left - 9 || x > frame.right + 9 || y < frame.top - 9 || y > frame.bottom + 9) continue;
      const aside = this.group.only !== null && this.group.only !== owner;
      context.globalAlpha = aside ? 0.05 : trace.landmark ? 1 : 0.72;
      context.fillStyle = trace.color;
      symbol(context, trace.symbol, x, y, trace.landmark ? 5 : this.radius);
      if (trace.landmark) {
        context.strokeStyle = "#fff";
        context.lineWidth = 2.5;
        context.stroke();
      }
      context.fill();
    }
    context.restore();
    this.mark();
  }

  axes(context, frame) {
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = "#6b7177";
    context.strokeStyle = "#eceef0";
    context.lineWidth = 1;
    const across = (frame.right - frame.left) / this.scale, up = (frame.bottom - frame.top) / this.scale;
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const [value, label] of ticks(this.view.x - across / 2, this.view.x + across / 2, 5)) {
      const x = Math.round(this.middle[0] + (value - this.view.x) * this.scale) + 0.5;
      context.beginPath(); context.moveTo(x, frame.top); context.lineTo(x, frame.bottom); context.stroke();
      if (x > frame.left + 8 && x < frame.right - 8) context.fillText(label, x, frame.bottom + 4);
    }
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const [value, label] of ticks(this.view.y - up / 2, this.view.y + up / 2, 5)) {
      const y = Math.round(this.middle[1] - (value - this.view.y) * this.scale) + 0.5;
      context.beginPath(); context.moveTo(frame.left, y); context.lineTo(frame.right, y); context.stroke();
      if (y > frame.top + 5 && y < frame.bottom - 5) context.fillText(label, frame.left - 4, y);
    }
    context.textAlign = "center";
    context.textBaseline = "alphabetic";
    context.fillText(this.content.x, this.middle[0], frame.bottom + 30);
    context.save();
    context.translate(9, this.middle[1]);
    context.rotate(-Math.PI / 2);
    context.fillText(this.content.y, 0, 0);
    context.restore();
  }

  place(k) {
    return [this.middle[0] + (this.x[k] - this.view.x) * this.scale,
            this.middle[1] - (this.y[k] - this.view.y) * this.scale];
  }

  nearest(x, y) {
    let best = -1, least = 16 ** 2;
    for (const k of this.order) {
      if (this.group.hidden.has(this.owner[k])) continue;
      const [px, py] = this.place(k);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance <= least) [best, least] = [k, distance];
    }
    return best;
  }

  // A ring around the chosen point, here and around the same image in every map of the same kind.
  mark() {
    const context = this.above.getContext("2d");
    context.clearRect(0, 0, this.element.clientWidth, this.element.clientHeight);
    if (this.box) {
      const [x0, y0, x1, y1] = this.box;
      context.fillStyle = "#0072b21a";
      context.strokeStyle = "#0072b2";
      context.lineWidth = 1;
      context.fillRect(x0, y0, x1 - x0, y1 - y0);
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
    if (this.chosen < 0 || this.group.hidden.has(this.owner[this.chosen])) return;
    const [x, y] = this.place(this.chosen);
    if (x < this.frame.left || x > this.frame.right || y < this.frame.top || y > this.frame.bottom) return;
    for (const [color, width] of [["#fff", 5], ["#111", 2]]) {
      context.strokeStyle = color;
      context.lineWidth = width;
      context.beginPath();
      context.arc(x, y, this.radius + 4.5, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  choose(k) {
    const row = k < 0 ? -1 : this.rows[k];
    for (const map of maps) {
      if (map !== this && map.content.link !== this.content.link) continue;
      const chosen = map === this ? k : map.byRow.get(row) ?? -1;
      if (chosen !== map.chosen) { map.chosen = chosen; map.mark(); }
    }
    if (k < 0) { pointed.hidden = true; return; }
    const picture = pointed.querySelector("canvas"), text = pointed.querySelector("p");
    picture.hidden = !this.content.thumbnails || row < 0;
    text.textContent = this.traces[this.owner[k]].name;
    if (!picture.hidden) {
      if (picture.dataset.row !== String(row)) thumbnail(picture, row);
      text.appendChild(document.createElement("span")).textContent = `test image ${row}`;
    }
    pointed.hidden = false;
    const around = this.element.getBoundingClientRect(), [x, y] = this.place(k);
    const left = around.left + x + 16, top = around.top + y - pointed.offsetHeight / 2;
    const fits = left + pointed.offsetWidth < document.documentElement.clientWidth - 4;
    const clear = fits ? left : Math.max(4, around.left + x - 16 - pointed.offsetWidth);
    const lowest = window.innerHeight - pointed.offsetHeight - 4;
    pointed.style.transform = `translate(${clear}px, ${Math.max(4, Math.min(top, lowest))}px)`;
  }

  listen() {
    const {signal} = this.listening;
    const on = (name, handler) => this.element.addEventListener(name, handler, {signal});
    const at = event => {
      const around = this.element.getBoundingClientRect();
      return [event.clientX - around.left, event.clientY - around.top];
    };
    let start = null;
    on("pointerdown", event => {
      if (event.pointerType === "mouse" && event.button === 0 && event.target !== this.whole) {
        start = at(event);
        this.element.setPointerCapture(event.pointerId);
      }
    });
    on("pointermove", event => {
      const [x, y] = at(event);
      if (start && Math.hypot(x - start[0], y - start[1]) > 6) {
        this.box = [...start, x, y];
        this.choose(-1);
        this.mark();
      } else if (event.pointerType === "mouse") {
        this.choose(this.nearest(x, y));
      }
    });
    on("pointerup", () => {
      if (this.box) {
        const [x0, y0, x1, y1] = this.box;
        this.box = null;
        this.look(this.view.x + ((x0 + x1) / 2 - this.middle[0]) / this.scale,
                  this.view.y - ((y0 + y1) / 2 - this.middle[1]) / this.scale,
                  Math.max(Math.abs(x1 - x0), 4) / this.scale, Math.max(Math.abs(y1 - y0), 4) / this.scale);
      }
      start = null;
    });
    on("pointerleave", event => { if (event.pointerType === "mouse") this.choose(-1); });
    on("click", event => { if (event.target !== this.whole) this.choose(this.nearest(...at(event))); });
    on("dblclick", () => this.showAll());
    on("blur", () => this.choose(-1));
    on("keydown", event => {
      const zoom = {"+": 0.6, "=": 0.6, "-": 1 / 0.6}[event.key];
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.element) return;
      if (step) this.step(step);
      else if (zoom) {
        const [x, y] = this.chosen < 0 ? [this.view.x, this.view.y] : [this.x[this.chosen], this.y[this.chosen]];
        this.look(x, y, this.view.width * zoom, this.view.height * zoom);
        if (this.chosen >= 0) this.choose(this.chosen);
      } else if (event.key === "0") this.showAll();
      else if (event.key === "Escape" && this.chosen >= 0) this.choose(-1);  // with nothing chosen it closes the viewer
      else return;
      event.preventDefault();
    });
  }

  step(by) {
    const seen = this.walk.filter(k => !this.group.hidden.has(this.owner[k]));
    if (!seen.length) return;
    const now = seen.indexOf(this.chosen);
    this.choose(seen[now < 0 ? (by > 0 ? 0 : seen.length - 1) : (now + by + seen.length) % seen.length]);
  }

  // As a picture, for paper: Chromium prints no canvas that it has not shown.
  freeze() {
    this.choose(-1);
    this.draw();
    this.still = this.element.appendChild(new Image());
    this.still.src = this.canvas.toDataURL();
    this.canvas.hidden = this.still.complete;  // a browser that is not yet done with it prints the canvas
  }

  thaw() {
    this.still?.remove();
    this.canvas.hidden = false;
    this.draw();
  }

  release() {
    if (this.chosen >= 0) this.choose(-1);
    this.listening.abort();
    this.resizing.disconnect();
    this.group.maps.delete(this);
    maps.delete(this);
    this.element.replaceChildren();
  }
}

// The buttons of a legend, of which an enlarged map has a copy.
function obey(legend) {
  const obeying = group(legend.dataset.group);
  const redraw = () => obeying.maps.forEach(map => map.draw());
  for (const button of legend.querySelectorAll("button")) {
    const trace = Number(button.dataset.trace);
    const look = only => { if (obeying.only !== only) { obeying.only = only; redraw(); } };
    button.addEventListener("click", () => {
      const hide = !obeying.hidden.has(trace);
      if (hide) obeying.hidden.add(trace); else obeying.hidden.delete(trace);
      for (const copy of document.querySelectorAll(`.legend[data-group="${legend.dataset.group}"] [data-trace="${trace}"]`))
        copy.setAttribute("aria-pressed", String(!hide));
      obeying.only = null;
      redraw();
    });
    button.addEventListener("pointerenter", event => {
      if (event.pointerType === "mouse" && !obeying.hidden.has(trace)) look(trace);
    });
    button.addEventListener("pointerleave", () => look(null));
  }
}

document.querySelectorAll(".legend").forEach(obey);

addEventListener("scroll", () => { for (const map of maps) if (map.chosen >= 0) map.choose(-1); }, {passive: true});
