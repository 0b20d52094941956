"use strict";
// Draws the figures of the lab book as they come into view, and all of them before the page is printed.

const settings = JSON.parse(document.getElementById("settings").textContent);
const sprite = document.getElementById("sprite");
const off = new Set();  // the variants that are switched off
const printing = {on: false, drawn: [], opened: []};

// ---- thumbnails ------------------------------------------------------------------------------------------------------

const spriteReady = sprite.decode();

async function thumbnail(canvas, row) {
  canvas.width = canvas.height = settings.size;
  canvas.dataset.row = row;
  await spriteReady;
  if (canvas.dataset.row !== String(row)) return;  // another image has been asked for meanwhile
  const size = settings.size;
  canvas.getContext("2d").drawImage(
    sprite, (row % settings.columns) * size, Math.floor(row / settings.columns) * size, size, size, 0, 0, size, size);
  canvas.dataset.shown = row;
}

for (const canvas of document.querySelectorAll("canvas.thumb")) thumbnail(canvas, Number(canvas.dataset.row));

// ---- symbols ---------------------------------------------------------------------------------------------------------

// One path for each of plotly's symbols that the lab uses; r is the radius of a circle of about the same area.
function symbol(context, name, x, y, r) {
  context.beginPath();
  if (name === "diamond") {
    const d = r * 1.3;
    context.moveTo(x, y - d); context.lineTo(x + d, y); context.lineTo(x, y + d); context.lineTo(x - d, y);
  } else if (name === "square") {
    context.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
  } else if (name === "triangle-up") {
    context.moveTo(x, y - r * 1.35); context.lineTo(x + r * 1.2, y + r * 0.8); context.lineTo(x - r * 1.2, y + r * 0.8);
  } else if (name === "cross" || name === "x") {
    const arm = r * 1.25, half = r * 0.42, turn = name === "x" ? Math.PI / 4 : 0;
    const corners = [[half, half], [half, arm], [-half, arm], [-half, half], [-arm, half], [-arm, -half],
      [-half, -half], [-half, -arm], [half, -arm], [half, -half], [arm, -half], [arm, half]];
    for (const [u, v] of corners)
      context.lineTo(x + u * Math.cos(turn) - v * Math.sin(turn), y + u * Math.sin(turn) + v * Math.cos(turn));
  } else if (name.startsWith("star")) {
    for (let k = 0; k < 10; k++) {
      const reach = k % 2 ? r * 0.6 : r * 1.45, angle = Math.PI * (k / 5 - 0.5);
      context.lineTo(x + reach * Math.cos(angle), y + reach * Math.sin(angle));
    }
  } else {
    context.arc(x, y, r, 0, 2 * Math.PI);
  }
  context.closePath();
}

function sharp(canvas, width, height) {
  const ratio = printing.on ? 3 : Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

const DASHES = {dash: [6, 3], dot: [2, 2], dashdot: [6, 2, 2, 2], longdash: [9, 3], longdashdot: [9, 2, 2, 2]};

// The key to a cloud, or, with a dash, to a line with its markers.
function swatch(canvas) {
  const {color, dash} = canvas.dataset, width = dash ? 28 : 12;
  const context = sharp(canvas, width, 12);
  context.fillStyle = context.strokeStyle = color;
  if (dash) {
    context.lineWidth = 2;
    context.setLineDash(DASHES[dash] ?? (dash === "solid" ? [] : dash.split(",").map(parseFloat)));
    context.beginPath();
    context.moveTo(0, 6);
    context.lineTo(width, 6);
    context.stroke();
  }
  symbol(context, canvas.dataset.symbol, width / 2, 6, 4.4);
  context.fill();
}

document.querySelectorAll("canvas.swatch").forEach(swatch);

// ---- plots -----------------------------------------------------------------------------------------------------------

const touch = matchMedia("(hover: none)").matches;
const plotted = new WeakMap();  // plot -> its traces as they were given, and the width that it was drawn at

// What plotly is to do with each trace: those of a variant that is switched off are neither drawn nor in the legend.
function visibility(traces) {
  return traces.map(trace => (trace.meta?.variant ?? "").split(" ").some(name => off.has(name)) ? false : trace.visible ?? true);
}

function obeyVariants(element) {
  if (element.matches(".plot") && plotted.get(element).traces.some(trace => trace.meta?.variant))
    Plotly.restyle(element, {visible: visibility(plotted.get(element).traces)});
}

function plot(element, content) {
  const layout = {...content.layout, autosize: true};
  if (layout.template !== null) layout.template = settings.templates[layout.template];
  layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0, 0, 0, 0)";  // the page's paper
  layout.modebar = {bgcolor: "rgba(255, 255, 255, 0.85)", color: "#696f76", activecolor: "#0069a6"};
  layout.margin = {l: 10, r: 10, t: 10, b: 10, pad: 0};
  layout.font = {...layout.font, size: 12, color: "#3b4046"};
  layout.legend = {...layout.legend, orientation: "h", x: 0, xanchor: "left", y: 0, yanchor: "bottom",
                   yref: "container", xref: "container", title: {text: ""}};
  for (const key of new Set([...Object.keys(layout).filter(key => /^[xy]axis\d*$/.test(key)), "xaxis", "yaxis"]))
    layout[key] = {...layout[key], automargin: true, title: {...layout[key]?.title, font: {size: 12}}};
  const shown = visibility(content.data);
  plotted.set(element, {traces: content.data, width: element.clientWidth});
  resized.observe(element);
  return Plotly.newPlot(element, content.data.map((trace, index) => ({...trace, visible: shown[index]})), layout, {
    displaylogo: false, displayModeBar: touch ? false : "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"]});
}

const resized = new ResizeObserver(entries => {
  for (const {target} of entries) {
    const known = plotted.get(target), width = target.clientWidth;
    if (!drawn.has(target) || !width || known.width === width || printing.on) continue;
    known.width = width;
    Plotly.Plots.resize(target);
  }
});

// ---- drawing what is seen --------------------------------------------------------------------------------------------

const drawn = new Map();  // element -> what releases it
const waiting = new Set();

// What a figure holds: the script element beside its drawing.
function contentOf(element) {
  return JSON.parse(element.parentElement.querySelector("script.figure").textContent);
}

function draw(element, content = contentOf(element)) {
  if (content.kind === "map") {
    const map = new PointMap(element, content);
    drawn.set(element, () => map.release());
    return Promise.resolve();
  }
  drawn.set(element, () => { resized.unobserve(element); Plotly.purge(element); });
  return plot(element, content);
}

function release(element) {
  drawn.get(element)?.();
  drawn.delete(element);
  delete element.dataset.drawn;
}

async function drawNext() {
  drawNext.busy = true;
  for (const element of waiting) {
    waiting.delete(element);
    if (drawn.has(element)) continue;
    await draw(element);
    element.dataset.drawn = "true";
    await new Promise(requestAnimationFrame);  // scrolling goes before drawing
  }
  drawNext.busy = false;
}

const near = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    if (isIntersecting) waiting.add(target); else waiting.delete(target);
  }
  if (!drawNext.busy) drawNext();
}, {rootMargin: "300px 200px"});

const far = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) if (!isIntersecting && !printing.on) release(target);
}, {rootMargin: "4000px"});

for (const element of document.querySelectorAll(".drawing")) {
  near.observe(element);
  far.observe(element);
}

// ---- printing --------------------------------------------------------------------------------------------------------


// Paper has no scrolling: every figure that is to be seen is drawn and every fold opened at once, and drawings may
// take the width of their column on the paper.
addEventListener("beforeprint", () => {
  Object.assign(printing, {on: true, drawn: [], opened: [...document.querySelectorAll("details:not([open])")]});
  for (const details of printing.opened) details.open = true;
  for (const element of document.querySelectorAll(".drawing")) {
    if (!element.clientWidth) continue;  // of a variant that is switched off
    if (!drawn.has(element)) {
      printing.drawn.push(element);
      draw(element);
    }
    const {clientWidth, clientHeight} = element;
    element.style.aspectRatio = `${clientWidth} / ${clientHeight}`;
    for (const svg of element.querySelectorAll(".main-svg")) svg.setAttribute("viewBox", `0 0 ${clientWidth} ${clientHeight}`);
  }
  for (const map of maps) map.freeze();
});

addEventListener("afterprint", () => {
  printing.on = false;
  for (const element of document.querySelectorAll(".drawing")) {
    element.style.aspectRatio = "";
    for (const svg of element.querySelectorAll(".main-svg")) svg.removeAttribute("viewBox");
  }
  for (const map of maps) map.thaw();
  for (const element of printing.drawn) {
    release(element);
    near.unobserve(element);  // ... and asks again whether it is in view
    near.observe(element);
  }
  for (const details of printing.opened) details.open = false;
});
