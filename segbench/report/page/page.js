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

// One figure after another from the top, so that the page can be read meanwhile; or all `atOnce`.
let round = 0;
const shows = (source) => document.getElementById(source.dataset.for).getClientRects().length > 0; // not folded
function draw(atOnce) {
  const mine = ++round, sources = [...document.querySelectorAll("script[data-for]")].filter(shows);
  if (atOnce) return sources.forEach(paint);
  (function next() {
    if (mine !== round || !sources.length) return;
    paint(sources.shift());
    setTimeout(next);
  })();
}

draw(false);
dark.addEventListener("change", () => draw(false));

// Paper is always light, has its own width, and shows what a screen folds away.
const folds = [...document.querySelectorAll("details")];
for (const fold of folds) fold.addEventListener("toggle", () => draw(false));
function paper(on) {
  document.documentElement.classList.toggle("paper", on);
  for (const fold of folds) {
    if (on) fold.dataset.was = fold.open ? "open" : "";
    fold.open = on || fold.dataset.was === "open";
  }
  draw(true);
  for (const chart of document.querySelectorAll(".js-plotly-plot")) {
    const width = chart.closest(".plot").classList.contains("wide") ? 668 : 322; // of A4, less its margins
    Plotly.relayout(chart, on ? { autosize: false, width } : { autosize: true, width: null });
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
