// The merged stacks. Node 0 stands for all of them; a node stands in front of what is below it.

const functions = data.functions;
const ALL = functions.name.length;
functions.name.push("all");
functions.module.push(-1);
functions.file.push("");
functions.own.push(0);
functions.total.push(data.total);

const tree = (() => {
  const count = data.tree.function.length + 1;
  const made = {
    count,
    function: new Int32Array(count),
    depth: new Int32Array(count),
    parent: new Int32Array(count),
    // The first node that is not below this one.
    end: new Int32Array(count),
    total: new Float64Array(count),
    // Weight left of it.
    start: new Float64Array(count),
    // Weight that no callee has.
    own: new Float64Array(count),
  };
  made.function[0] = ALL;
  made.total[0] = data.total;
  made.parent[0] = -1;
  const open = [0];
  const next = new Float64Array(count);
  for (let at = 1; at < count; at++) {
    const depth = data.tree.depth[at - 1] + 1;
    const parent = open[depth - 1];
    open[depth] = at;
    made.function[at] = data.tree.function[at - 1];
    made.depth[at] = depth;
    made.parent[at] = parent;
    made.total[at] = data.tree.total[at - 1];
    made.start[at] = next[at] = next[parent];
    next[parent] += made.total[at];
  }
  for (let at = count - 1; at >= 0; at--) {
    if (!made.end[at]) made.end[at] = at + 1;
    made.own[at] = made.total[at] - (next[at] - made.start[at]);
    const parent = made.parent[at];
    if (parent >= 0) made.end[parent] = Math.max(made.end[parent], made.end[at]);
  }
  return made;
})();

function nameOf(node) {
  return functions.name[tree.function[node]];
}

function moduleOf(name) {
  const module = functions.module[name];
  return module < 0 ? "" : data.modules[module];
}

function placeOf(node) {
  if (!node) return "";
  const file = functions.file[tree.function[node]];
  const first = data.tree.first_line[node - 1];
  const last = data.tree.last_line[node - 1];
  if (!file) return "";
  return file + (first ? ":" + first + (last > first ? "–" + last : "") : "");
}

// From the top to a node, both included.
function pathTo(node) {
  const path = [];
  for (let at = node; at >= 0; at = tree.parent[at]) path.unshift(at);
  return path;
}

// The node that names lead to from the top, as far as they do.
function follow(names) {
  let at = 0;
  for (const name of names) {
    let child = at + 1;
    while (child < tree.end[at] && nameOf(child) !== name) child = tree.end[child];
    if (child >= tree.end[at]) break;
    at = child;
  }
  return at;
}

// What a search finds: which functions, and the weight of the stacks that they are in, each stack
// counted once.
function find(text) {
  // Small letters alone mean capital ones, too.
  const expression = new RegExp(text, text === text.toLowerCase() ? "i" : "");
  const hits = functions.name.map((name, at) => at !== ALL && functions.total[at] > 0 &&
                                                expression.test(name));
  let total = 0;
  for (let at = 1; at < tree.count; ) {
    if (hits[tree.function[at]]) {
      total += tree.total[at];
      at = tree.end[at];
    } else {
      at++;
    }
  }
  return { hits, total, count: hits.filter(Boolean).length };
}
