// Figures as people read them, and elements that hold text and never markup.

const data = JSON.parse(document.getElementById("data").textContent);

function digits(value) {
  return value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1) : value.toFixed(0);
}

function grouped(value) {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");
}

function time(ns) {
  if (ns < 999.5) return ns.toFixed(0) + " ns";
  if (ns < 999500) return digits(ns / 1e3) + " µs";
  if (ns < 999500000) return digits(ns / 1e6) + " ms";
  return digits(ns / 1e9) + " s";
}

function quantity(value) {
  if (value < 999.5) return value < 10 && value % 1 ? value.toFixed(1) : value.toFixed(0);
  if (value < 999500) return digits(value / 1e3) + "k";
  if (value < 999500000) return digits(value / 1e6) + "M";
  return digits(value / 1e9) + "G";
}

function bytes(value) {
  if (value < 1000) return value + " B";
  for (const unit of ["KiB", "MiB", "GiB"]) {
    value /= 1024;
    if (value < 1000) return digits(value) + " " + unit;
  }
  return digits(value / 1024) + " TiB";
}

function counted(count, what) {
  return grouped(count) + " " + what + (count === 1 ? "" : "s");
}

function weight(value) {
  return data.unit === "ns" ? time(value) : counted(value, "call");
}

function share(value, of) {
  return of > 0 ? (value * 100 / of).toFixed(1) + " %" : "0.0 %";
}

function fileName(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

function reasons(counts) {
  return Object.entries(counts).map(([reason, count]) => reason + " " + grouped(count)).join(", ");
}

function sum(counts) {
  return Object.values(counts).reduce((all, count) => all + count, 0);
}

function byId(id) {
  return document.getElementById(id);
}

// An element of a class, with text or other elements in it.
function element(tag, className, ...inner) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...inner);
  return made;
}

// A number for a text that is the same everywhere and always (FNV-1a).
function hash(text) {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at++)
      value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  value ^= value >>> 15;
  return Math.imul(value, 0x2c1b3c6d) >>> 0;
}
