// What a reader does with the page: switch variants, sort tables, enlarge figures, copy references.

function say(text) {
  document.getElementById("said").textContent = text;
}

// ---- variants --------------------------------------------------------------------------------------------------------

const bar = document.getElementById("variants");
const toggles = new Map([...bar.querySelectorAll("button[data-toggles]")].map(button => [button.dataset.toggles, button]));
const everything = bar.querySelector("button.everything");
const remembered = `peel: variants off in ${document.title}`;
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
  try {
    sessionStorage.setItem(remembered, JSON.stringify([...off]));
  } catch {}  // a browser that keeps no memory for files: the page starts with all variants
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

try {
  for (const name of JSON.parse(sessionStorage.getItem(remembered)) ?? []) if (toggles.has(name)) off.add(name);
} catch {}
bar.hidden = toggles.size < 2;
// Where a link leads must not lie behind the bar, however many lines it takes.
new ResizeObserver(() => document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`)).observe(bar);
applyVariants();

// ---- tables ----------------------------------------------------------------------------------------------------------

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
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tBodies[0].rows].forEach((row, place) => { row.dataset.place = place; });
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
let enlarged = null;  // the picture or drawing on the page that the viewer shows

function enlargeable() {
  return [...document.querySelectorAll("img.picture, .cell > .drawing")].filter(element => element.checkVisibility());
}

function clearStage() {
  for (const element of stage.querySelectorAll(".drawing")) release(element);
  stage.replaceChildren();
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
  if (element.matches("img")) {
    const image = stage.appendChild(element.cloneNode());
    image.style.setProperty("--shape", element.width / element.height);
  } else {
    const drawing = stage.appendChild(element.cloneNode());
    drawing.removeAttribute("id");
    delete drawing.dataset.drawn;
    viewer.append(pointed);  // above the dialog
    draw(drawing, contentOf(element)).then(() => { drawing.dataset.drawn = "true"; });
  }
}

function step(by) {
  const all = enlargeable();
  enlarge(all[(all.indexOf(enlarged) + by + all.length) % all.length]);
}

viewer.addEventListener("close", () => {
  clearStage();
  document.body.append(pointed);
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
