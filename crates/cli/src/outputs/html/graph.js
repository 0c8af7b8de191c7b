// The flame graph: a canvas as large as what is seen of it, drawn anew when that changes.

const ROW = 19;
const LEAST = 0.5;
// So many boxes are also listed, for those who do not see the canvas.
const LISTED = 200;

const graph = {
  canvas: byId("graph"),
  scroller: byId("scroller"),
  zoom: 0,
  icicle: false,
  hits: null,
  module: null,
  over: -1,
  // Rows of boxes from left to right: [node, x, width].
  rows: [],
  colors: new Map(),
};

const dark = matchMedia("(prefers-color-scheme: dark)");

// By module, and by function a little lighter or darker. What is in brackets is not known, and
// grey.
function colorOf(name) {
  let color = graph.colors.get(name);
  if (!color) {
    const module = moduleOf(name);
    const shade = ((hash(functions.name[name]) >>> 8) % 9 - 4) / 100;
    const [light, strong] = dark.matches ? [0.47, 0.09] : [0.84, 0.088];
    color = module
      ? `oklch(${light + shade} ${strong} ${hueOf(module)})`
      : `oklch(${light + shade / 2} 0.006 80)`;
    graph.colors.set(name, color);
  }
  return color;
}

// A module's own, as far as no heavier one has one that looks the same.
function hueOf(module) {
  if (!graph.hues) {
    graph.hues = new Map();
    for (const [name] of modulesByWeight()) {
      let hue = hash(fileName(name)) % 360;
      const near = (other) => Math.min(Math.abs(hue - other), 360 - Math.abs(hue - other)) < 30;
      for (let tries = 0; tries < 9 && [...graph.hues.values() ].some(near); tries++)
          hue = (hue + 137) % 360;
      graph.hues.set(name, hue);
    }
  }
  return graph.hues.get(module) ?? hash(fileName(module)) % 360;
}

// Places the boxes that are wide enough to be seen. Only they are looked at: what is narrower is
// passed with all that is above it.
function place() {
  const width = graph.scroller.clientWidth;
  const rows = [];
  const put = (node, x, wide) => (rows[tree.depth[node]] ||= []).push([node, x, wide]);
  const zoom = graph.zoom;
  for (const node of pathTo(zoom).slice(0, -1)) put(node, 0, width);
  const scale = tree.total[zoom] > 0 ? width / tree.total[zoom] : 0;
  for (let at = zoom; at < tree.end[zoom]; ) {
    const wide = tree.total[at] * scale;
    if (wide < LEAST) {
      at = tree.end[at];
    } else {
      put(at, (tree.start[at] - tree.start[zoom]) * scale, wide);
      at++;
    }
  }
  graph.rows = rows;
  byId("height").style.height = rows.length * ROW + "px";
  list(width);
}

// The row at a height of the whole graph, and back: a flame grows upwards.
function rowAt(y) {
  const row = Math.floor(y / ROW);
  return graph.icicle ? row : graph.rows.length - 1 - row;
}

function draw() {
  const { canvas, scroller, rows } = graph;
  const width = scroller.clientWidth;
  const height = Math.min(rows.length * ROW, scroller.clientHeight || rows.length * ROW);
  const density = devicePixelRatio || 1;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  canvas.style.height = height + "px";
  const context = canvas.getContext("2d");
  context.scale(density, density);
  context.font = "12px " + getComputedStyle(document.documentElement).getPropertyValue("--mono");
  context.textBaseline = "middle";
  const letter = context.measureText("m").width;
  const ink = dark.matches ? "#f1eee8" : "#25221c";
  const found = dark.matches ? "oklch(0.62 0.23 350)" : "oklch(0.66 0.24 355)";
  const top = scroller.scrollTop;
  for (let line = Math.floor(top / ROW); line * ROW < top + height; line++) {
    const depth = rowAt(line * ROW);
    const y = line * ROW - top;
    for (const [node, x, wide] of rows[depth] || []) {
      const name = tree.function[node];
      const hit = graph.hits && graph.hits[name];
      const faded = depth < tree.depth[graph.zoom] || (graph.hits && !hit) ||
                    (graph.module !== null && moduleOf(name) !== graph.module);
      context.globalAlpha = faded ? 0.4 : 1;
      context.fillStyle = hit ? found : colorOf(name);
      const gap = wide > 3 ? 1 : 0;
      context.fillRect(x, y, wide - gap, ROW - 1);
      if (node === graph.over) {
        context.globalAlpha = 1;
        context.strokeStyle = ink;
        context.lineWidth = 1.5;
        context.strokeRect(x + 0.75, y + 0.75, Math.max(wide - gap - 1.5, 1), ROW - 2.5);
      }
      const room = Math.floor((wide - 8) / letter);
      if (room >= 3) {
        const text = functions.name[name];
        context.globalAlpha = faded ? 0.65 : 1;
        context.fillStyle = hit ? "#fff" : ink;
        context.fillText(text.length > room ? text.slice(0, room - 1) + "…" : text, x + 4,
                         y + ROW / 2, wide - 6);
      }
    }
  }
  context.globalAlpha = 1;
}

// The widest boxes as text.
function list(width) {
  const boxes = graph.rows.flat().filter(([node]) => node > 0);
  boxes.sort((a, b) => b[2] - a[2]);
  byId("boxes").replaceChildren(...boxes.slice(0, LISTED).map(([node, x, wide]) => {
    const item = element("li", "", nameOf(node) + " " + share(tree.total[node], data.total));
    item.dataset.depth = tree.depth[node];
    item.dataset.left = (x / width).toFixed(4);
    item.dataset.width = (wide / width).toFixed(4);
    return item;
  }));
  document.documentElement.dataset.boxes = boxes.length;
}

// The node under a point of the window; -1: none.
function nodeAt(event) {
  const box = graph.canvas.getBoundingClientRect();
  const x = event.clientX - box.left;
  const row = graph.rows[rowAt(event.clientY - box.top + graph.scroller.scrollTop)] || [];
  let [low, high] = [0, row.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (row[middle][1] <= x) low = middle + 1;
    else high = middle;
  }
  const found = row[low - 1];
  return found && x < found[1] + Math.max(found[2], 1) ? found[0] : -1;
}

function showTip(event, node) {
  const tip = byId("tip");
  tip.hidden = node < 0;
  if (node < 0) return;
  const name = tree.function[node];
  const total = tree.total[node];
  const parts = [element("b", "", functions.name[name])];
  const say = (text, className) => text && parts.push(element("span", className, text));
  say([ moduleOf(name), node > 0 && data.tree.inlined[node - 1] ? "inlined into its caller" : "" ]
          .filter(Boolean)
          .join(" · "));
  say(placeOf(node));
  let figures = weight(total) + " · " + share(total, data.total) + " of all";
  if (graph.zoom && tree.depth[node] > tree.depth[graph.zoom])
      figures += " · " + share(total, tree.total[graph.zoom]) + " of the zoom";
  if (node && tree.own[node] > 0 && tree.own[node] < total)
      figures += " · self " + weight(tree.own[node]);
  say(figures, "figures");
  tip.replaceChildren(...parts);
  // Beside the pointer, on the side where there is room.
  const [wide, high] = [tip.offsetWidth, tip.offsetHeight];
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - wide - 8)) + "px";
  tip.style.top = (event.clientY + 18 + high > innerHeight ? Math.max(4, event.clientY - high - 12)
                                                           : event.clientY + 18) +
                  "px";
}

// Where the eye begins: at the zoomed box, a flame from below.
function scrollToZoom() {
  const depth = tree.depth[graph.zoom];
  const { scroller, rows } = graph;
  scroller.scrollTop = graph.icicle
                           ? Math.max(0, (depth - 1) * ROW)
                           : Math.max(0, (rows.length - depth + 1) * ROW - scroller.clientHeight);
}
