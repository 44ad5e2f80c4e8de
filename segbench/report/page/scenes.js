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
  const derived = "wrong" in browser.dataset; // error maps and who is right are drawn here, not stored in the page
  const who = document.getElementById("who"), whoKeys = browser.querySelector(".who-keys");
  const blackIsNone = "blackIsNone" in browser.dataset; // in the truth
  let shown = scenes[0];

  const layer = (scene, key) => scene.querySelector(`img[data-layer="${CSS.escape(key)}"]`);
  const mask = (key) => layer(shown, key.replace("errors-", "mask-"));

  function lay(picture, key) {
    const source = derived && key.startsWith("errors-") ? mask(key) : layer(shown, key);
    picture.hidden = !source;
    if (!source) return;
    picture.alt = source.alt;
    picture.classList.toggle("pixels", source.classList.contains("pixels"));
    if (source.dataset.layer === key) picture.src = source.src;
    else drawInto(picture, [source], [browser.dataset.wrong]);
  }

  async function read(picture) {
    await picture.decode();
    const canvas = new OffscreenCanvas(picture.naturalWidth, picture.naturalHeight);
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }

  const rgb = (hex) => hex && [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

  // A pale photograph, painted by who is right: bit n of a colour's place is whether masks[n] is. No colour: not painted.
  async function compared(scene, masks, colours) {
    const tints = colours.map(rgb);
    const [image, truth, ...predicted] = await Promise.all(
      [layer(scene, "image"), layer(scene, "truth"), ...masks].map(read));
    const out = new ImageData(image.width, image.height), pixels = new Uint32Array(out.data.buffer);
    const words = (data) => new Uint32Array(data.data.buffer);
    const wanted = words(truth), given = predicted.map(words), photo = image.data;
    for (let i = 0; i < pixels.length; i++) {
      let bits = 0;
      given.forEach((own, place) => { if (own[i] === wanted[i]) bits |= 1 << place; });
      const none = blackIsNone && (wanted[i] & 0xffffff) === 0;
      const tint = none ? undefined : tints[bits];
      if (tint) out.data.set([...tint, 255], 4 * i);
      else {
        const grey = 0.299 * photo[4 * i] + 0.587 * photo[4 * i + 1] + 0.114 * photo[4 * i + 2];
        const light = Math.round(255 - (255 - grey) * 0.45); // _PALE of figures/scenes.py
        out.data.set([light, light, light, 255], 4 * i);
      }
    }
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.getContext("2d").putImageData(out, 0, 0);
    return canvas.toDataURL();
  }

  const kept = new Map(); // what was drawn, by scene and layers
  async function drawInto(picture, masks, colours) {
    const key = [shown.id, ...masks.map((own) => own.dataset.layer)].join();
    picture.dataset.wanted = key;
    if (!kept.has(key)) kept.set(key, compared(shown, masks, colours));
    const source = await kept.get(key);
    if (picture.dataset.wanted === key) picture.src = source;
  }

  // Who is right of the two models whose masks or errors are chosen, over the whole picture.
  function judge() {
    const pair = [left.value, right.value].map(mask);
    const two = pair.every((own) => own?.dataset.layer.startsWith("mask-")) && pair[0] !== pair[1];
    who.disabled = !two;
    const on = two && who.checked;
    whoKeys.hidden = !on;
    divider.disabled = on;
    stage.classList.toggle("whole", on);
    if (!on) return;
    const [a, b] = pair.map((own) => own.dataset.colour), none = browser.dataset.bothWrong;
    over.hidden = false;
    over.classList.add("pixels");
    drawInto(over, pair, [none, a, b, ""]);
    const said = [...pair.map((own) => browser.dataset.onlyRight.replace("{}", own.dataset.label)), browser.dataset.noneRight];
    whoKeys.replaceChildren(...said.map((words, i) => {
      const key = document.createElement("span"), swatch = key.appendChild(document.createElement("span"));
      swatch.className = "swatch";
      swatch.style.setProperty("--swatch", [a, b, none][i]);
      key.append(words);
      return key;
    }));
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
    for (const picture of [under, over]) delete picture.dataset.wanted;
    lay(under, right.value);
    lay(over, left.value);
    part();
    if (derived) judge();
  }

  function fill(select, chosen) {
    const known = new Map(scenes.flatMap((scene) => [...scene.querySelectorAll("img[data-layer]")])
      .map((picture) => [picture.dataset.layer, picture.dataset.label]));
    const groups = derived ? grouped(known) : [[select, [...known]]];
    for (const [group, layers] of groups) {
      for (const [key, label] of layers) group.appendChild(new Option(label, key, false, key === chosen));
      if (group !== select) select.add(group);
    }
  }

  // Of many models, the layers in three groups, an error map for each mask among them.
  function grouped(known) {
    const masks = [...known].filter(([key]) => key.startsWith("mask-"));
    const errors = masks.map(([key, label]) => [key.replace("mask-", "errors-"), browser.dataset.errors.replace("{}", label)]);
    const layers = [[...known].filter(([key]) => !key.startsWith("mask-")), masks, errors];
    return browser.dataset.groups.split("|").map((label, i) => {
      const group = document.createElement("optgroup");
      group.label = label;
      return [group, layers[i]];
    });
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
  who?.addEventListener("change", () => show(shown));
  ["pointerdown", "pointermove"].forEach((name) => stage.addEventListener(name, drag));
  browser.querySelector(".stage").hidden = false;
  browser.classList.add("live");
  show(shown);
})();
