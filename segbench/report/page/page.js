// Draws every figure in the colours of the reader's theme, and again when the theme changes; shows what terms mean.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// The theme's part of a layout: text, grid and tooltips.
function themed(layout) {
  const text = colour("--text"), quiet = colour("--quiet"), grid = colour("--grid");
  const made = structuredClone(layout);
  made.font = { family: colour("--sans"), size: 12.5, color: quiet };
  made.hoverlabel = { ...made.hoverlabel, bgcolor: colour("--panel"), bordercolor: grid, font: { color: text, size: 12.5 } };
  // A word that stands on lines gets the page's colour behind it.
  for (const note of made.annotations ?? []) if (note.name === "over-lines") note.bgcolor = colour("--paper");
  for (const key of Object.keys(made)) {
    if (/^[xy]axis\d*$/.test(key)) {
      made[key] = { gridcolor: grid, linecolor: grid, tickcolor: grid, ...made[key] };
    }
  }
  return made;
}

function themedTrace(trace) {
  const made = structuredClone(trace);
  if (made.meta && made.meta.scale === "sequential") {
    made.colorscale = [[0, colour("--scale-0")], [0.5, colour("--scale-1")], [1, colour("--scale-2")]];
    made.textfont = { color: colour("--text"), size: 12 }; // the scale never gets so strong that this is hard to read
  }
  if (made.type === "bar") {
    made.textfont = { color: colour("--text") };
    if (made.error_y) made.error_y.color = colour("--quiet");
  }
  return made;
}

function paint(source) {
  const { data, layout } = JSON.parse(source.textContent);
  const config = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false };
  Plotly.react(source.dataset.for, data.map(themedTrace), themed(layout), config);
}

// The figures that are in view come first, then the nearest, one after another, so that the page can be read meanwhile.
const sources = [...document.querySelectorAll("script[data-for]")];
const painted = new Set();
const chart = (source) => document.getElementById(source.dataset.for);
const shows = (source) => chart(source).getClientRects().length > 0; // neither folded nor not chosen
let round = 0;

function nearest(waiting) {
  const middle = window.innerHeight / 2;
  const away = (source) => Math.abs(chart(source).getBoundingClientRect().top - middle);
  return waiting.reduce((best, other) => (away(other) < away(best) ? other : best));
}

function draw() {
  const mine = ++round;
  (function next() {
    const waiting = sources.filter((source) => !painted.has(source) && shows(source));
    if (mine !== round || !waiting.length) return;
    const source = nearest(waiting);
    painted.add(source);
    paint(source);
    setTimeout(next);
  })();
}

function redraw(atOnce) {
  painted.clear();
  if (!atOnce) return draw();
  round++;
  for (const source of sources.filter(shows)) {
    painted.add(source);
    paint(source);
  }
}

draw();
dark.addEventListener("change", () => redraw(false));

// Of a figure with choices, the chosen plots are shown.
for (const figure of document.querySelectorAll(".choosing")) {
  const selects = [...figure.querySelectorAll("select")];
  function choose() {
    for (const plot of figure.querySelectorAll(".plot")) {
      const place = selects.findIndex((select) => select.value === plot.dataset.choice);
      plot.classList.toggle("off", place < 0);
      plot.style.order = Math.max(place, 0);
    }
    draw();
    window.dispatchEvent(new Event("resize")); // those drawn at another width
  }
  for (const select of selects) select.addEventListener("change", choose);
}

// Paper is always light, has its own width, and shows what a screen folds away.
const folds = [...document.querySelectorAll("details")];
for (const fold of folds) fold.addEventListener("toggle", draw);
function paper(on) {
  document.documentElement.classList.toggle("paper", on);
  for (const fold of folds) {
    if (on) fold.dataset.was = fold.open ? "open" : "";
    fold.open = on || fold.dataset.was === "open";
  }
  redraw(true);
  for (const drawn of document.querySelectorAll(".js-plotly-plot")) {
    const plot = drawn.closest(".plot");
    if (on && plot.classList.contains("off")) continue;
    const width = plot.classList.contains("wide") ? 668 : plot.parentElement.classList.contains("small") ? 212 : 322;
    Plotly.relayout(drawn, on ? { autosize: false, width } : { autosize: true, width: null });
  }
}
window.addEventListener("beforeprint", () => paper(true));
window.addEventListener("afterprint", () => paper(false));

// What a term means stands in the glossary; while it is hovered or focused, also beside it.
const meaning = document.getElementById("meaning");
function explain(term) {
  meaning.textContent = document.querySelector(`${term.getAttribute("href")} + dd`).textContent;
  meaning.hidden = false;
  term.setAttribute("aria-describedby", "meaning");
  const at = term.getBoundingClientRect();
  const left = Math.max(12, Math.min(at.left, document.documentElement.clientWidth - meaning.offsetWidth - 12));
  const below = at.bottom + 6 + meaning.offsetHeight < window.innerHeight;
  meaning.style.left = `${left + window.scrollX}px`;
  meaning.style.top = `${(below ? at.bottom + 6 : at.top - 6 - meaning.offsetHeight) + window.scrollY}px`;
}
function hideMeaning() {
  meaning.hidden = true;
  document.querySelector("[aria-describedby=meaning]")?.removeAttribute("aria-describedby");
}
for (const term of document.querySelectorAll("a.term")) {
  for (const name of ["mouseenter", "focus"]) term.addEventListener(name, () => explain(term));
  for (const name of ["mouseleave", "blur"]) term.addEventListener(name, hideMeaning);
}
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideMeaning(); });
