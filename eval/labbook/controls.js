// What a reader does with the page: choose and switch variants, sort tables, enlarge figures, copy references.

function say(text) {
  document.getElementById("said").textContent = text;
}

// ---- the address -----------------------------------------------------------------------------------------------------

// What is shown stands in the page's address, so that a link shows the same: which variant is chosen, which are off, which
// folds are not as they were, which figure is enlarged. Its values are lists of names, which hold no comma.
const shown = new URLSearchParams(location.search);

function keep(name, values) {
  if (values.length) shown.set(name, values.join(",")); else shown.delete(name);
  const text = shown.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
  try {
    history.replaceState(null, "", `${location.pathname}${text && "?"}${text}${location.hash}`);
  } catch {}  // a browser that changes no file's address: the page is as usable without
}

function kept(name) {
  return (shown.get(name) ?? "").split(",").filter(Boolean);
}

// CHAPTER.PLACE of elements of a kind, by element: the same in every copy of the page.
function keys(selector) {
  const counts = new Map(), names = new Map();
  for (const element of document.querySelectorAll(selector)) {
    const chapter = element.closest(".chapter")?.id ?? "page", place = counts.get(chapter) ?? 0;
    counts.set(chapter, place + 1);
    names.set(element, `${chapter}.${place}`);
  }
  return names;
}

// ---- variants --------------------------------------------------------------------------------------------------------

const bar = document.getElementById("variants");
const toggles = new Map([...bar.querySelectorAll("button[data-toggles]")].map(button => [button.dataset.toggles, button]));
const everything = bar.querySelector("button.everything");
const hiding = new CSSStyleSheet();
document.adoptedStyleSheets = [...document.adoptedStyleSheets, hiding];

// Everything that belongs to a variant carries its name: one rule hides it, wherever it stands.
function applyVariants() {
  hiding.replaceSync([...off].map(name => `[data-variant~="${CSS.escape(name)}"] { display: none !important; }`).join("\n"));
  for (const [name, button] of toggles) button.setAttribute("aria-pressed", String(!off.has(name)));
  everything.hidden = !off.size;
  for (const row of document.querySelectorAll(".row")) {
    const cells = [...row.querySelectorAll(".cell")];
    row.classList.toggle("empty", cells.length > 0 && cells.every(cell => getComputedStyle(cell).display === "none"));
  }
  for (const element of drawn.keys()) obeyVariants(element);
  keep("off", [...off]);
}

function switchVariants(wanted) {
  off.clear();
  for (const name of toggles.keys()) if (!wanted.has(name)) off.add(name);
  applyVariants();
  say(off.size ? `${toggles.size - off.size} of ${toggles.size} variants are shown` : "all variants are shown");
}

bar.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  const on = new Set([...toggles.keys()].filter(name => !off.has(name)));
  const name = button.dataset.toggles;
  if (button === everything) {
    switchVariants(new Set(toggles.keys()));
    toggles.values().next().value.focus({preventScroll: true});  // its own button is gone
  } else if (event.shiftKey) switchVariants(new Set([name]));
  else {
    if (!on.delete(name)) on.add(name);
    switchVariants(on);
  }
});

// A link to a figure of a variant that is switched off switches it on.
document.addEventListener("click", event => {
  const link = event.target.closest("a[data-shows]");
  if (!link) return;
  const on = new Set([...toggles.keys()].filter(name => !off.has(name) || link.dataset.shows.split(" ").includes(name)));
  if (on.size > toggles.size - off.size) switchVariants(on);
});

for (const name of kept("off")) if (toggles.has(name)) off.add(name);
bar.hidden = toggles.size < 2;
// Where a link leads must not lie behind the bar, however many lines it takes.
new ResizeObserver(() => document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`)).observe(bar);
applyVariants();

// ---- the chosen variant ----------------------------------------------------------------------------------------------

const chosen = document.getElementById("chosen"), phone = matchMedia("(max-width: 640px)");
const usual = chosen.value;

// Marked wherever it stands; on a phone, where one sees a row or a figure at a time, it stands first.
function applyChosen() {
  const name = chosen.value;
  for (const element of document.querySelectorAll("[data-variant]"))
    element.classList.toggle("chosen", element.dataset.variant === name);
  for (const lineage of document.querySelectorAll("[data-lineage]")) lineage.hidden = lineage.dataset.lineage !== name;
  for (const body of document.querySelectorAll("tbody")) {
    const rows = [...body.rows];
    if (!rows.some(row => row.dataset.variant) || body.closest("table").querySelector("[aria-sort]")) continue;
    const place = row => phone.matches && row.dataset.variant === name ? -1 : Number(row.dataset.place);
    body.append(...rows.sort((a, b) => place(a) - place(b)));
  }
  keep("chosen", name === usual ? [] : [name]);
}

for (const body of document.querySelectorAll("tbody"))
  [...body.rows].forEach((row, place) => { row.dataset.place = place; });
for (const name of kept("chosen")) if (toggles.has(name)) chosen.value = name;
chosen.addEventListener("change", () => {
  if (off.has(chosen.value)) switchVariants(new Set([...toggles.keys()].filter(name => !off.has(name) || name === chosen.value)));
  applyChosen();
  say(`${chosen.value} is chosen`);
});
phone.addEventListener("change", applyChosen);
applyChosen();

// ---- folds -----------------------------------------------------------------------------------------------------------

const folds = keys("details"), closed = new Set([...folds.keys()].filter(fold => !fold.open));
for (const [fold, name] of folds) if (kept("folds").includes(name)) fold.open = !fold.open;
for (const fold of folds.keys())
  fold.addEventListener("toggle", () => {
    if (!printing.on) keep("folds", [...folds].filter(([one]) => one.open === closed.has(one)).map(([, name]) => name));
  });

// What a link leads to may be folded.
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const fold = target?.closest("details:not([open])");
  if (!fold) return;
  fold.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();

// ---- tables ----------------------------------------------------------------------------------------------------------

// A box fades out at the side at which its table goes on.
function fade(box) {
  box.classList.toggle("goes-on", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
}
const sized = new ResizeObserver(entries => entries.forEach(entry => fade(entry.target.closest(".box"))));
for (const box of document.querySelectorAll(".box")) {
  box.addEventListener("scroll", () => fade(box), {passive: true});
  sized.observe(box);
  if (box.firstElementChild) sized.observe(box.firstElementChild);
}

// Numbers by data-value, all else by its text; what is missing comes last, whichever way.
function sortRows(table, column, direction) {
  const body = table.tBodies[0];
  const key = row => {
    const cell = row.cells[column];
    return numeric ? (cell.dataset.value === undefined ? null : Number(cell.dataset.value)) : cell.textContent.trim();
  };
  const rows = [...body.rows].sort((a, b) => a.dataset.place - b.dataset.place);
  const numeric = rows.some(row => row.cells[column].dataset.value !== undefined);
  if (direction) {
    const sign = direction === "ascending" ? 1 : -1;
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (numeric ? x - y : x.localeCompare(y, "en", {numeric: true}));
    });
  }
  body.append(...rows);
  if (!direction) applyChosen();
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells].filter(head => head.textContent.trim());
  for (const head of heads) {
    const button = document.createElement("button");
    Object.assign(button, {type: "button", className: "sort"});
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      // The largest numbers and the first names come first; the third time the rows stand as they were.
      const numbers = [...table.tBodies[0].rows].some(row => row.cells[head.cellIndex].dataset.value !== undefined);
      const turns = numbers ? [null, "descending", "ascending"] : [null, "ascending", "descending"];
      const direction = turns[(turns.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (direction) head.setAttribute("aria-sort", direction);
      sortRows(table, head.cellIndex, direction);
      say(direction ? `sorted by ${button.textContent}, ${direction}` : "in the first order again");
    });
  }
}

// ---- enlarging -------------------------------------------------------------------------------------------------------

const viewer = document.getElementById("viewer");
const stage = viewer.querySelector(".stage");
const figures = keys("img.picture, .cell > .drawing");
let enlarged = null;  // the picture or drawing on the page that the viewer shows

function enlargeable() {
  return [...document.querySelectorAll("img.picture, .cell > .drawing")].filter(element => element.checkVisibility());
}

function clearStage() {
  for (const element of stage.querySelectorAll(".drawing")) release(element);
  stage.replaceChildren();
  viewer.querySelector(".keys").replaceChildren();
}

function enlarge(element) {
  clearStage();
  enlarged = element;
  const all = enlargeable(), figure = element.closest("figure, .query");
  const line = document.createElement("p");
  for (const part of figure.querySelectorAll("h4, .title, .reference")) {
    const span = line.appendChild(document.createElement(part.matches("h4") ? "strong" : "span"));
    span.textContent = part.textContent;
  }
  const row = element.closest(".row")?.querySelector("h3"), chapter = element.closest(".chapter").querySelector("h2");
  viewer.querySelector(".caption").replaceChildren([chapter, row].filter(Boolean).map(part => part.textContent).join(" · "), line);
  viewer.querySelector(".place").textContent = `${all.indexOf(element) + 1} of ${all.length}`;
  if (!viewer.open) viewer.showModal();
  keep("enlarged", [figures.get(element)]);
  if (element.matches("img")) {
    const image = stage.appendChild(element.cloneNode());
    image.style.setProperty("--shape", element.width / element.height);
  } else {
    const drawing = stage.appendChild(element.cloneNode());
    drawing.removeAttribute("id");
    delete drawing.dataset.drawn;
    viewer.append(pointed);  // above the dialog
    const content = contentOf(element);
    const legend = document.querySelector(`.legend[data-group="${content.group}"]`)?.cloneNode(true);
    if (legend) {
      viewer.querySelector(".keys").append(legend);
      legend.querySelectorAll("canvas.swatch").forEach(swatch);
      obey(legend);
    }
    return draw(drawing, content).then(() => { drawing.dataset.drawn = "true"; });
  }
}

function step(by) {
  const all = enlargeable();
  enlarge(all[(all.indexOf(enlarged) + by + all.length) % all.length]);
}

viewer.addEventListener("close", () => {
  clearStage();
  document.body.append(pointed);
  keep("enlarged", []);
});
viewer.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (button?.dataset.by) step(Number(button.dataset.by));
  else if (event.target === viewer || button?.matches(".close")) viewer.close();
});
viewer.addEventListener("keydown", event => {
  const by = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
  if (!by || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  step(by);
});

for (const element of document.querySelectorAll("img.picture, .cell > .drawing")) {
  const button = document.createElement("button"), described = element.alt ?? element.getAttribute("aria-label");
  Object.assign(button, {type: "button", className: "enlarge", title: "enlarge"});
  button.setAttribute("aria-label", `Enlarge: ${described}`);
  element.before(button);
  // Beside many small pictures of a query the Tab key passes; the arrow keys lead there from the first.
  if (element.closest("table")) button.tabIndex = -1;
  if (element.matches("img")) button.append(element);
  button.addEventListener("click", () => enlarge(element));
}

// A mistake of the probe leads to its point in the variant's map.
document.addEventListener("click", async event => {
  const button = event.target.closest("button[data-point]");
  if (!button) return;
  const element = document.getElementById(button.dataset.map).closest("figure").querySelector(".drawing");
  await enlarge(element);
  const map = [...maps].find(one => stage.contains(one.element)), point = map.byRow.get(Number(button.dataset.point)) ?? -1;
  map.choose(point);
  map.element.focus();
  say(point < 0 ? "this image is not among the map's points" : "the image's point is marked in the map");
});

for (const [element, name] of figures) if (kept("enlarged").includes(name) && element.checkVisibility()) enlarge(element);

// ---- copying ---------------------------------------------------------------------------------------------------------

async function copy(text) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // a browser that keeps the clipboard from files
    const focused = document.activeElement, area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    done = document.execCommand("copy");
    area.remove();
    focused?.focus({preventScroll: true});
  }
  const note = document.getElementById("copied");
  note.textContent = `${done ? "copied" : "not copied, the browser forbids it"}: ${text}`;
  note.classList.add("shown");
  clearTimeout(copy.timer);
  copy.timer = setTimeout(() => note.classList.remove("shown"), 1800);
}

for (const command of document.querySelectorAll("code.command")) {
  const button = document.createElement("button");
  Object.assign(button, {type: "button", className: "copy", textContent: "copy"});
  button.dataset.copy = command.textContent;
  button.setAttribute("aria-label", "copy the command");
  command.after(" ", button);
}

document.addEventListener("click", event => {
  const button = event.target.closest("button[data-copy]");
  if (button) copy(button.dataset.copy);
});

// ---- contents --------------------------------------------------------------------------------------------------------

const links = new Map([...document.querySelectorAll("nav a")].map(link => [link.hash.slice(1), link]));
const current = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    if (!isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    const link = links.get(target.id), strip = link.closest("nav");
    link.setAttribute("aria-current", "true");
    strip.scrollLeft = link.offsetLeft - strip.clientWidth / 3;
  }
}, {rootMargin: "-30% 0px -65%"});
for (const chapter of document.querySelectorAll(".chapter")) current.observe(chapter);
