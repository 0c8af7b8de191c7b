"use strict";
// Hover, zoom and search. Weights are whole numbers, so that what lies in what is exact.
(() => {
  // The graph may be a file of its own, or lie in a page.
  const root = document.currentScript.closest("svg");
  const byId = (id) => root.querySelector("#" + id);
  const total = Number(root.dataset.total);
  const width = Number(root.dataset.width);
  const LETTER = 7.25;
  const boxes = [...root.querySelectorAll(".box")].map((g) => ({
    g,
    rect: g.querySelector("rect"),
    text: g.querySelector("text"),
    title: g.querySelector("title").textContent,
    name: g.querySelector("title").textContent.split("\n")[0],
    start: Number(g.dataset.start),
    weight: Number(g.dataset.weight),
    depth: Number(g.dataset.depth),
  }));
  let zoomed = boxes[0];

  function place(box, x, wide) {
    box.rect.setAttribute("x", x);
    box.rect.setAttribute("width", Math.max(wide - (wide > 3 ? 1 : 0), 0.3));
    box.text.setAttribute("x", x + 4);
    const room = Math.floor((wide - 8) / LETTER);
    const name = box.name;
    box.text.textContent = room < 3             ? ""
                           : name.length > room ? name.slice(0, room - 1) + "…"
                                                : name;
  }

  function zoom(to) {
    zoomed = to;
    const end = to.start + to.weight;
    for (const box of boxes) {
      const above = box.depth >= to.depth && box.start >= to.start && box.start + box.weight <= end;
      const below = box.depth < to.depth && box.start <= to.start && box.start + box.weight >= end;
      box.g.classList.toggle("off", !above && !below);
      box.g.classList.toggle("below", below);
      if (below) place(box, 0, width);
      else if (above)
          place(box, (box.start - to.start) * width / to.weight, box.weight * width / to.weight);
    }
    byId("reset").classList.toggle("off", to === boxes[0]);
    root.dataset.zoom = to.name;
  }

  // Small letters alone mean capital ones, too. Each stack is counted once, at its outermost match.
  function search(words) {
    let test = null;
    try {
      test = words && new RegExp(words, words === words.toLowerCase() ? "i" : "");
    } catch {
      byId("matched").textContent = "not a regular expression: " + words;
      return;
    }
    let found = 0;
    let end = 0;
    for (const box of boxes) {
      const hit = Boolean(test) && box.depth > 0 && test.test(box.name);
      box.g.classList.toggle("found", hit);
      box.g.classList.toggle("dim", Boolean(test) && !hit);
      if (hit && box.start >= end) {
        found += box.weight;
        end = box.start + box.weight;
      }
    }
    byId("matched").textContent = test ? "matched " + (found * 100 / total).toFixed(1) + " %" : "";
    byId("search").textContent = test ? "clear search" : "search";
    root.dataset.matched = test ? found : "";
  }

  function ask() {
    if (byId("search").textContent !== "search") return search("");
    const words = prompt("Functions to find, as a regular expression");
    if (words) search(words);
  }

  for (const box of boxes) {
    box.g.onclick = () => zoom(box);
    box.g.onmouseenter = () => (byId("detail").textContent = box.title.split("\n").join("   "));
    box.g.onmouseleave = () => (byId("detail").textContent = "");
  }
  byId("reset").onclick = () => zoom(boxes[0]);
  byId("search").onclick = ask;
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      search("");
      zoom(boxes[0]);
    } else if (event.key === "/" || (event.key === "f" && (event.ctrlKey || event.metaKey))) {
      event.preventDefault();
      ask();
    }
  });
  for (const part of location.hash.slice(1).split("&")) {
    if (part.startsWith("search=")) search(decodeURIComponent(part.slice(7)));
  }
  byId("search").classList.remove("off");
  root.dataset.ready = "yes";
})();
