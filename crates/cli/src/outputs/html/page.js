// What the page does: search, zoom and direction, which the address keeps behind its #.

const root = document.documentElement;
const isEmpty = data.total === 0;
let functionsList = null;

// `#search=...&zoom=main/f&layout=icicle`
function readAddress() {
  const state = { search: "", zoom: [], layout: "flame" };
  for (const part of location.hash.slice(1).split("&")) {
    const at = part.indexOf("=");
    const decode = (text) => {
      try {
        return decodeURIComponent(text);
      } catch {
        return text;
      }
    };
    const value = part.slice(at + 1);
    if (part.startsWith("search=")) state.search = decode(value);
    if (part.startsWith("zoom=")) state.zoom = value.split("/").filter(Boolean).map(decode);
    if (part.startsWith("layout=")) state.layout = decode(value);
  }
  return state;
}

function writeAddress(asStep) {
  const parts = [];
  const search = byId("search").value;
  if (search) parts.push("search=" + encodeURIComponent(search));
  if (graph.zoom)
      parts.push(
          "zoom=" +
          pathTo(graph.zoom).slice(1).map((node) => encodeURIComponent(nameOf(node))).join("/"));
  if (graph.icicle) parts.push("layout=icicle");
  const address = parts.length ? "#" + parts.join("&") : location.pathname + location.search;
  try {
    history[asStep ? "pushState" : "replaceState"](null, "", address);
  } catch {
    // A page without an address of its own has nothing to keep it in.
  }
}

function show(scroll) {
  place();
  if (scroll) scrollToZoom();
  draw();
  crumbs();
  byId("as-flame").setAttribute("aria-pressed", !graph.icicle);
  byId("as-icicle").setAttribute("aria-pressed", graph.icicle);
  root.dataset.zoom = nameOf(graph.zoom);
  root.dataset.zoomPercent = share(tree.total[graph.zoom], data.total);
  root.dataset.layout = graph.icicle ? "icicle" : "flame";
}

function zoomTo(node) {
  if (node < 0 || node === graph.zoom) return;
  graph.zoom = node;
  show(true);
  writeAddress(true);
}

function turn(icicle) {
  graph.icicle = icicle;
  show(true);
  writeAddress(false);
}

function search(text) {
  const input = byId("search");
  const output = byId("matched");
  input.value = text;
  input.removeAttribute("aria-invalid");
  graph.hits = null;
  output.textContent = "";
  root.dataset.search = text;
  root.dataset.matched = "";
  let found = null;
  if (text) {
    try {
      found = find(text);
    } catch {
      input.setAttribute("aria-invalid", "true");
      output.textContent = "not a regular expression";
    }
  }
  if (found) {
    graph.hits = found.hits;
    root.dataset.matched = share(found.total, data.total);
    output.textContent = `${root.dataset.matched} matched, ${counted(found.count, "function")}`;
  }
  functionsList.keep((at) => !found || found.hits[at]);
  draw();
}

function reset() {
  graph.zoom = 0;
  search("");
  show(true);
  writeAddress(true);
}

function crumbs() {
  const path = pathTo(graph.zoom);
  const link = (node) => {
    const button = element("button", "", node ? nameOf(node) : "all " + weight(data.total));
    button.title = nameOf(node) + " · " + share(tree.total[node], data.total);
    if (node === graph.zoom) button.setAttribute("aria-current", "location");
    button.onclick = () => zoomTo(node);
    return button;
  };
  // Of a long way, its ends.
  const shown = path.length > 8 ? [path[0], path[1], null, ...path.slice(-5)] : path;
  const parts = shown.flatMap((node, at) => {
    const part = node === null ? element("span", "", "…") : link(node);
    return at ? [element("span", "", "›"), part] : [part];
  });
  if (graph.zoom)
      parts.push(element("span", "",
                         " " + weight(tree.total[graph.zoom]) + ", " +
                             share(tree.total[graph.zoom], data.total)));
  byId("crumbs").replaceChildren(...parts);
}

// Modules with the weights of their functions, the heaviest first.
function modulesByWeight() {
  const weights = new Map();
  for (let at = 0; at < ALL; at++) {
    const module = moduleOf(at);
    if (module && functions.total[at])
        weights.set(module, (weights.get(module) || 0) + functions.total[at]);
  }
  return [...weights].sort((a, b) => b[1] - a[1]);
}

// The heaviest modules and their colours.
function legend() {
  graph.colors.clear();
  const modules = modulesByWeight().slice(0, 6).map(([module]) => module);
  byId("legend").replaceChildren(...modules.map((module) => {
    const color = element("i");
    color.style.background =
        dark.matches ? `oklch(0.47 0.09 ${hueOf(module)})` : `oklch(0.84 0.088 ${hueOf(module)})`;
    const part = element("span", "", color, fileName(module));
    part.title = module;
    const only = (which) => () => {
      graph.module = which;
      draw();
    };
    part.onmouseenter = only(module);
    part.onmouseleave = only(null);
    return part;
  }));
}

function fromAddress() {
  const state = readAddress();
  graph.icicle = state.layout === "icicle";
  graph.zoom = follow(state.zoom);
  search(state.search);
  show(true);
}

function listen() {
  const { canvas, scroller } = graph;
  const look = (event) => {
    const node = event ? nodeAt(event) : -1;
    if (event) showTip(event, node);
    else byId("tip").hidden = true;
    canvas.classList.toggle("over", node >= 0);
    if (node !== graph.over) {
      graph.over = node;
      draw();
    }
  };
  canvas.onmousemove = look;
  canvas.onmouseleave = () => look(null);
  canvas.onclick = (event) => {
    const node = nodeAt(event);
    // A second click on the box goes back to its caller.
    zoomTo(node === graph.zoom && node > 0 ? tree.parent[node] : node);
    look(event);
  };
  scroller.onscroll = () => {
    look(null);
    draw();
  };
  byId("as-flame").onclick = () => turn(false);
  byId("as-icicle").onclick = () => turn(true);
  byId("reset").onclick = reset;
  let waiting = 0;
  byId("search").oninput = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      search(byId("search").value);
      writeAddress(false);
    }, 60);
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const writes = event.target instanceof HTMLInputElement;
    if (event.key === "/" && !writes) {
      event.preventDefault();
      byId("search").focus();
      byId("search").select();
    } else if (event.key === "Escape") {
      event.preventDefault();
      byId("search").blur();
      clearTimeout(waiting);
      reset();
    }
  });
  addEventListener("popstate", fromAddress);
  addEventListener("resize", () => show(false));
  dark.addEventListener("change", () => {
    legend();
    draw();
  });
}

head();
tiles();
durations();
details();
byId("probed").hidden = data.probed.length === 0;
byId("probed-count").textContent = counted(data.probed.length, "function");
if (data.probed.length) probedTable();
if (isEmpty) {
  byId("flame").hidden = byId("functions").hidden = true;
  byId("empty").hidden = false;
  byId("empty").textContent = data.hits
    ? "No weights: the functions were called, but none of them has returned."
    : "no hits: none of the functions was called while this was recorded.";
} else {
  functionsList = functionsTable((name) => {
    // The function and no other that has its name in it.
    search("^" + name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&") + "$");
    writeAddress(false);
    byId("flame").scrollIntoView({ block: "start" });
  });
  byId("functions-count").textContent =
      counted(functions.total.filter((total, at) => total > 0 && at !== ALL).length, "function");
  legend();
  fromAddress();
  listen();
}
root.dataset.ready = "yes";
