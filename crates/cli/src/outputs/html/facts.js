// What the recording says of itself: the head, the figures below it, durations, and what was lost
// or left out.

// As a shell would be given it.
function commandLine() {
    const quoted = (word) => (
        /^[\p{L}\p{N}_@%+=:,./-]+$/u.test(word) ? word : "'" + word.replaceAll("'", "'\\''") + "'");
    return data.header.command.map(quoted).join(" ");
}

function head() {
  const header = data.header;
  byId("command").textContent = commandLine() || "(no command)";
  const end = header.exit_code == null ? "ran on" : "exit code " + header.exit_code;
  byId("summary").textContent = [
    header.specs.join(" ") || "every function",
    header.host,
    "Linux " + header.kernel,
    data.started,
    end,
    header.recovered ? "recovered from a run that did not end by itself" : "",
  ].filter(Boolean).join("  ·  ");
  if (data.served) {
    byId("formats").hidden = false;
    byId("firefox").href = "https://profiler.firefox.com/from-url/" +
                           encodeURIComponent(new URL("profile.json", location.href).href);
  }
}

function tiles() {
  const elapsed = data.header.elapsed_ns;
  const tile = (value, what, warn) => byId("tiles").append(element(
      "div", "tile" + (warn ? " warn" : ""), element("b", "", value), element("span", "", what)));
  const withReasons = (what, counts) => (sum(counts) ? what + ": " + reasons(counts) : what);
  tile(grouped(data.hits), "hits of " + counted(data.probed.length, "function"));
  if (data.unit === "ns") tile(time(data.total), "in the functions themselves");
  if (elapsed > 0) tile(time(elapsed), "recorded");
  if (elapsed > 0) tile(quantity(data.hits / (elapsed / 1e9)) + "/s", "rate");
  tile(grouped(data.stacks), "distinct stacks");
  tile(grouped(sum(data.lost)), withReasons("lost", data.lost), sum(data.lost) > 0);
  tile(grouped(sum(data.no_stack)), withReasons("without a stack", data.no_stack),
       sum(data.no_stack) > 0);
  tile(grouped(sum(data.cut)), withReasons("with a cut stack", data.cut));
}

function svg(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Buckets joined to quarters of powers of two: from, to, count.
function joined(histogram) {
  const bars = new Map();
  for (const [from, to, count] of histogram) {
    const at = Math.floor(Math.log2(Math.max((from + to) / 2, 1)) * 4);
    const bar = bars.get(at) || { at, from, to, count: 0 };
    bar.to = to;
    bar.count += count;
    bars.set(at, bar);
  }
  return [...bars.values()];
}

function durationCard(row) {
  const bars = joined(row.histogram);
  const [wide, high, base] = [360, 118, 98];
  const first = bars[0].at;
  const step = Math.min(wide / (bars[bars.length - 1].at + 1 - first), 24);
  const most = Math.max(...bars.map((bar) => bar.count));
  const all = bars.reduce((count, bar) => count + bar.count, 0);
  const xOf = (ns) => Math.max(0, Math.min(wide, (Math.log2(Math.max(ns, 1)) * 4 - first) * step));
  const picture = svg("svg", {
      viewBox : `0 0 ${wide} ${high}`,
      preserveAspectRatio : "none",
      role : "img",
      "aria-label" : "Histogram of durations"
  });
  picture.append(svg("line", { class: "axis", x1: 0, x2: wide, y1: base, y2: base }));
  for (const bar of bars) {
    const tall = Math.max(1, bar.count / most * (base - 18));
    const rect = svg("rect", {
        x : (bar.at - first) * step,
        y : base - tall,
        width : Math.max(step - 1, 0.5),
        height : tall
    });
    rect.append(svg(
        "title", {},
        `${time(bar.from)} to ${time(bar.to)}: ${grouped(bar.count)} (${share(bar.count, all)})`));
    picture.append(rect);
  }
  for (const [what, ns] of [["p50", row.p50_ns], ["p99", row.p99_ns]]) {
    if (ns == null) continue;
    picture.append(svg("line", { x1: xOf(ns), x2: xOf(ns), y1: 12, y2: base }));
    picture.append(svg("text", { x: Math.min(xOf(ns) + 3, wide - 22), y: 10 }, what));
  }
  // Times below the axis, as many as have room.
  const labels = Math.max(1, Math.min(5, Math.floor(bars.length * step / 70)));
  for (let label = 0; label <= labels; label++) {
    const at = (bars[bars.length - 1].at + 1 - first) * label / labels;
    const x = at * step;
    picture.append(svg(
        "text",
        {x,
         y : high - 6,
         "text-anchor" : label === 0     ? "start"
                         : x > wide - 30 ? "end"
                                         : "middle"},
        time(2 ** ((first + at) / 4))));
  }
  const figures =
      [ [ "p50", row.p50_ns ], [ "p90", row.p90_ns ], [ "p99", row.p99_ns ], [ "max", row.max_ns ] ]
          .filter(([, ns ]) => ns != null)
          .map(([ what, ns ]) => what + " " + time(ns))
          .join(" · ");
  const head = element("h3", "", row.name);
  head.title = row.name;
  return element(
      "div", "card", head,
      element("p", "",
              [ counted(row.calls, "call"), figures, row.object ].filter(Boolean).join(" · ")),
      picture);
}

function durations() {
  const rows = data.probed.filter((row) => row.histogram && row.histogram.length);
  byId("durations").hidden = rows.length === 0;
  const cards = byId("durations").querySelector(".cards");
  const more = element("button", "more");
  let shown = 0;
  const show = (count) => {
    cards.append(...rows.slice(shown, shown + count).map(durationCard));
    shown += count;
    more.hidden = shown >= rows.length;
    more.textContent = `Show more (${grouped(rows.length - shown)} left)`;
  };
  more.onclick = () => show(48);
  byId("durations").append(more);
  show(12);
}

function details() {
  const header = data.header;
  const place = byId("details").querySelector("dl");
  const say = (what, ...inner) =>
      place.append(element("dt", "", what), element("dd", "", ...inner));
  const counts = (of) => (sum(of) ? grouped(sum(of)) + " (" + reasons(of) + ")" : "0");
  say("Command", element("code", "", commandLine()));
  say("Specs", element("code", "", header.specs.join(" ") || "every function of the program"));
  say("Machine", header.host + ", Linux " + header.kernel);
  say("When", data.started + ", for " + time(header.elapsed_ns));
  say("End", header.exit_code == null ? "the program ran on" : "exit code " + header.exit_code);
  say("Processes", grouped(header.processes));
  say("Weight",
      data.unit === "ns"
          ? "nanoseconds in the function itself, without other probed functions that it called"
          : "calls");
  say("Stacks", header.stack + "; " + counted(data.stacks, "distinct stack"));
  say("Lost", counts(data.lost));
  say("Without a stack", counts(data.no_stack));
  say("Cut stacks", counts(data.cut));
  say("Armed",
      grouped(header.armed[0]) + " by detour, " + grouped(header.armed[1]) + " by breakpoint");
  const memory = header.memory;
  say("Memory", `${bytes(memory.total)}, of which ${bytes(memory.stacks)} for stacks (frames ${
                    bytes(memory.frames)}), ${bytes(memory.counters)} for counters`);
  const skipped = Object.entries(data.skipped).map(([reason, names]) => {
    const all = element("ul");
    const made =
        element("details", "", element("summary", "", grouped(names.length) + " " + reason), all);
    // Only when somebody looks: there can be thousands.
    made.ontoggle = () =>
        all.children.length || all.append(...names.map((name) => element("li", "", name)));
    return made;
  });
  say("Skipped functions", ...(skipped.length ? skipped : ["0"]));
  say("Trapline", header.trapline);
}
