// The scene browser: one scene at a time, two of its layers on each other, parted by a slider.
"use strict";

(function () {
  const browser = document.getElementById("browser");
  if (!browser) return;
  const scenes = [...browser.querySelectorAll(".scene")];
  const [left, right] = ["left", "right"].map((side) => document.getElementById(`layer-${side}`));
  const [under, over] = [".under", ".over-it"].map((name) => browser.querySelector(name));
  const divider = document.getElementById("divider"), stage = browser.querySelector(".compare");
  const strip = browser.querySelector(".strip");
  let shown = scenes[0];

  const layer = (scene, key) => scene.querySelector(`img[data-layer="${CSS.escape(key)}"]`);

  function lay(picture, key) {
    const source = layer(shown, key);
    picture.hidden = !source;
    if (!source) return;
    picture.src = source.src;
    picture.alt = source.alt;
    picture.classList.toggle("pixels", source.classList.contains("pixels"));
  }

  // The left layer lies over the right one and ends at the divider.
  function part() {
    over.style.clipPath = `inset(0 ${100 - divider.value}% 0 0)`;
    stage.style.setProperty("--at", `${divider.value}%`);
  }

  function show(scene) {
    shown = scene;
    scenes.forEach((other) => other.classList.toggle("shown", other === scene));
    [...strip.querySelectorAll("button")].forEach((button, i) => {
      button.setAttribute("aria-pressed", String(scenes[i] === scene));
      button.tabIndex = scenes[i] === scene ? 0 : -1;
    });
    lay(under, right.value);
    lay(over, left.value);
    part();
  }

  function fill(select, chosen) {
    const known = new Map(scenes.flatMap((scene) => [...scene.querySelectorAll("img[data-layer]")])
      .map((picture) => [picture.dataset.layer, picture.dataset.label]));
    for (const [key, label] of known) select.add(new Option(label, key, false, key === chosen));
  }

  // One button per scene, grouped by why it is shown; the arrow keys walk through all.
  function buttons() {
    const groups = new Map();
    scenes.forEach((scene) => {
      const rule = scene.dataset.rule;
      if (!groups.has(rule)) {
        const group = strip.appendChild(document.createElement("div"));
        group.className = "group";
        group.appendChild(document.createElement("span")).textContent = rule;
        groups.set(rule, group.appendChild(document.createElement("div")));
      }
      const button = groups.get(rule).appendChild(document.createElement("button"));
      button.type = "button";
      button.setAttribute("aria-label", `${rule}: ${scene.querySelector("h4 small").textContent}`);
      button.appendChild(document.createElement("img")).src = layer(scene, "image").src;
      button.firstChild.alt = "";
      button.addEventListener("click", () => show(scene));
    });
    strip.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = (scenes.indexOf(shown) + step + scenes.length) % scenes.length;
      show(scenes[next]);
      strip.querySelectorAll("button")[next].focus();
    });
  }

  function drag(event) {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = stage.getBoundingClientRect();
    divider.value = String(Math.round((100 * (event.clientX - box.left)) / box.width));
    part();
  }

  fill(left, browser.dataset.left);
  fill(right, browser.dataset.right);
  buttons();
  left.addEventListener("change", () => show(shown));
  right.addEventListener("change", () => show(shown));
  divider.addEventListener("input", part);
  ["pointerdown", "pointermove"].forEach((name) => stage.addEventListener(name, drag));
  browser.querySelector(".stage").hidden = false;
  browser.classList.add("live");
  show(shown);
})();
