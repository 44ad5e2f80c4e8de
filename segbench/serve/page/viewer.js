// Panes side by side: the photograph, every model's classes over it, and where the models disagree. All of it is made
// from the class maps that came with the page; nothing here asks the server for anything.

const AGREE = [18, 20, 24, 170];
const DIFFER = [255, 61, 165, 255];
const OUTLINE = [255, 255, 255, 255];
const kept = new WeakMap(); // what the visitor has set, for as long as the page lives

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".viewer");
  const shown = `${data.id} ${data.language}`;
  if (root.dataset.shown === shown) return;
  root.dataset.shown = shown;
  const settings = kept.get(parentElement) ?? { edge: 75, opacity: 60, off: new Set(), only: false, outlines: true };
  kept.set(parentElement, settings);
  new Viewer(root, data, settings).show();
}

function make(tag, properties = {}, ...children) {
  const { style = {}, aria = {}, ...rest } = properties;
  const node = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(style)) node.style.setProperty(name, value);
  for (const [name, value] of Object.entries(aria)) node.setAttribute(`aria-${name}`, value);
  node.append(...children);
  return node;
}

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

class Viewer {
  constructor(root, data, settings) {
    this.root = root;
    this.data = data;
    this.settings = settings;
    this.text = data.texts;
    this.percent = new Intl.NumberFormat(data.language, { style: "percent", maximumFractionDigits: 1 });
    this.several = data.models.length > 1;
    this.colours = data.legend.map(({ colour }) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
    this.names = data.legend.map(({ name }) => name);
    this.point = null;
  }

  async show() {
    const { shown } = this.root.dataset;
    this.maps = await Promise.all(this.data.models.map((model) => inflated(model.map)));
    this.objects = await Promise.all(this.data.models.map(async ({ objects }) => objects && {
      ...objects, map: new Uint16Array((await inflated(objects.map)).buffer),
    }));
    if (this.root.dataset.shown !== shown) return; // another photograph has come meanwhile
    this.panes = [
      this.pane(this.text.photograph),
      ...this.data.models.map((model, k) => this.pane(model.title, (out) => this.paintModel(out, k))),
    ];
    if (this.several) {
      this.panes.push(this.pane(this.text.disagree, (out) => this.paintDisagreement(out)));
      this.panes.at(-1).note.textContent = this.percent.format(this.data.disagreement);
    }
    const stage = this.root.querySelector(".panes");
    stage.setAttribute("aria-label", this.text.stage);
    stage.style.setProperty("--across", this.data.width);
    stage.style.setProperty("--down", this.data.height);
    stage.style.setProperty("--columns", this.panes.length === 3 || this.panes.length > 4 ? 3 : 2);
    stage.replaceChildren(...this.panes.map((pane) => pane.figure));
    stage.onkeydown = (event) => this.key(event);
    stage.onblur = () => this.at(null);
    this.root.querySelector(".controls").replaceChildren(...this.controls());
    this.root.querySelector(".classes").replaceChildren(this.table());
    this.place();
    this.paint();
    this.root.dataset.ready = this.data.id;
  }

  // ---- what the visitor can set

  controls() {
    const range = (name, label) => {
      const output = make("output");
      const input = make("input", { type: "range", min: 0, max: 100, value: this.settings[name], name });
      input.oninput = () => { this.settings[name] = Number(input.value); this.place(); };
      this[name] = { input, output };
      return make("label", {}, make("span", {}, label), input, output);
    };
    const parts = [range("edge", this.text.edge), range("opacity", this.text.opacity)];
    const choice = (name, label) => {
      const input = make("input", { type: "checkbox", checked: this.settings[name], name });
      input.onchange = () => { this.settings[name] = input.checked; this.paint(); };
      parts.push(make("label", { className: "switch" }, input, make("span", {}, label)));
    };
    if (this.several) choice("only", this.text.only);
    if (this.objects.some((objects) => objects)) choice("outlines", this.text.outlines);
    return parts;
  }

  place() {
    for (const name of ["edge", "opacity"]) {
      this.root.style.setProperty(`--${name}`, `${this.settings[name]}%`);
      this[name].input.value = this.settings[name];
      this[name].output.textContent = this.percent.format(this.settings[name] / 100);
    }
  }

  key(event) {
    const step = event.shiftKey ? 0.05 : 0.01;
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (event.key === "Escape") this.at(null);
    if (!move) return;
    event.preventDefault();
    const [x, y] = this.point ?? [0.5, 0.5];
    this.at([x + move[0], y + move[1]].map((value) => Math.min(Math.max(value, 0), 1)));
    this.root.querySelector("[aria-live]").textContent =
      this.data.models.map((model, k) => `${model.title}: ${this.name(k)}`).join("; ");
  }

  // ---- the panes

  pane(title, paint) {
    const note = make("span", { className: "note" });
    const picture = make("div", { className: "picture" }, make("img", { src: this.data.photograph, alt: title, draggable: false }));
    const cross = make("span", { className: "cross", hidden: true });
    const pane = { note, cross, paint };
    if (paint) {
      pane.canvas = make("canvas", { width: this.data.width, height: this.data.height });
      pane.canvas.setAttribute("aria-hidden", "true");
      picture.append(pane.canvas, make("span", { className: "divider" }));
    }
    picture.append(cross);
    const point = (event) => {
      const box = picture.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
        .map((value) => Math.min(Math.max(value, 0), 1));
    };
    picture.onpointermove = (event) => {
      this.at(point(event));
      if (picture.hasPointerCapture(event.pointerId)) this.drag(this.point[0]);
    };
    picture.onpointerdown = (event) => {
      if (event.button || !paint) return;
      picture.setPointerCapture(event.pointerId);
      this.at(point(event));
      if (event.pointerType === "mouse") this.drag(this.point[0]);
    };
    picture.onpointerleave = (event) => { if (event.pointerType !== "touch") this.at(null); }; // a finger leaves at once
    pane.figure = make("figure", {}, make("figcaption", {}, make("span", { className: "title" }, title), note), picture);
    return pane;
  }

  drag(x) {
    this.settings.edge = Math.round(x * 100);
    this.place();
  }

  // Names the class at a place, [x, y] from 0 to 1, for each model; null: at no place.
  at(point) {
    this.point = point;
    for (const { cross } of this.panes) {
      cross.hidden = !point;
      if (point) Object.assign(cross.style, { left: `${point[0] * 100}%`, top: `${point[1] * 100}%` });
    }
    const { width, height } = this.data;
    const pixel = point && Math.min(Math.floor(point[1] * height), height - 1) * width
      + Math.min(Math.floor(point[0] * width), width - 1);
    this.here = point ? this.maps.map((map) => map[pixel]) : this.maps.map(() => null);
    this.objectsHere = this.objects.map((objects) => point && objects && objects.known[objects.map[pixel]]);
    this.here.forEach((category, k) => {
      const { note } = this.panes[k + 1];
      note.replaceChildren(...(point ? [this.swatch(category), this.name(k)] : []));
      this.cells[k].forEach((cell, row) => cell.classList.toggle("here", row === category));
    });
    if (this.several) {
      const same = this.here.every((category) => category === this.here[0]);
      this.panes.at(-1).note.textContent = !point
        ? this.percent.format(this.data.disagreement)
        : same ? this.text.same : this.text.differ;
    }
  }

  // What is at the point for a model: its class, and which object of a class it is where it is one.
  name(k) {
    const name = this.names[this.here[k]];
    if (!this.objectsHere[k]) return name;
    const [kind, number] = this.objectsHere[k];
    const object = filled(this.text.object, { number, count: this.objects[k].counts[kind] });
    return kind === this.here[k] ? `${name} · ${object}` : `${name} · ${this.names[kind]}, ${object}`;
  }

  paint() {
    const { width, height } = this.data;
    for (const { canvas, paint } of this.panes.filter((pane) => pane.paint)) {
      const image = new ImageData(width, height);
      paint(new Uint32Array(image.data.buffer));
      canvas.getContext("2d").putImageData(image, 0, 0);
    }
  }

  paintModel(out, k) {
    const map = this.maps[k];
    const look = this.colours.map((colour, category) => (this.settings.off.has(category) ? 0 : packed([...colour, 255])));
    for (let i = 0; i < out.length; i++) if (!this.settings.only || this.differs(i)) out[i] = look[map[i]];
    if (this.objects[k] && this.settings.outlines) this.outline(out, this.objects[k]);
  }

  // A line inside the edge of every object.
  outline(out, { map, known }) {
    const { width, height } = this.data;
    const [line, reach] = [packed(OUTLINE), Math.max(1, Math.round(width / 800))];
    const drawn = known.map((object) => object && !this.settings.off.has(object[0]));
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        if (!drawn[map[i]] || (this.settings.only && !this.differs(i))) continue;
        const edge = (x >= reach && map[i - reach] !== map[i]) || (x + reach < width && map[i + reach] !== map[i])
          || (y >= reach && map[i - reach * width] !== map[i]) || (y + reach < height && map[i + reach * width] !== map[i]);
        if (edge) out[i] = line;
      }
    }
  }

  paintDisagreement(out) {
    const [agree, differ] = [packed(AGREE), packed(DIFFER)];
    const on = this.names.map((_, category) => !this.settings.off.has(category));
    for (let i = 0; i < out.length; i++) {
      out[i] = this.differs(i) && this.maps.some((map) => on[map[i]]) ? differ : agree;
    }
  }

  differs(i) {
    for (let k = 1; k < this.maps.length; k++) if (this.maps[k][i] !== this.maps[0][i]) return true;
    return false;
  }

  // ---- the legend, with each model's shares

  table() {
    this.cells = this.data.models.map(() => []);
    const all = make("input", { type: "checkbox", name: "all" });
    const boxes = this.names.map((name, category) => make("input", { type: "checkbox", name: this.data.legend[category].name }));
    const refresh = () => {
      boxes.forEach((box, category) => { box.checked = !this.settings.off.has(category); });
      all.checked = !this.settings.off.size;
      all.indeterminate = this.settings.off.size > 0 && this.settings.off.size < boxes.length;
    };
    all.onchange = () => {
      this.settings.off = new Set(all.checked ? [] : boxes.keys());
      refresh();
      this.paint();
    };
    boxes.forEach((box, category) => {
      box.onchange = () => {
        this.settings.off[box.checked ? "delete" : "add"](category);
        refresh();
        this.paint();
      };
    });
    refresh();
    const heads = this.data.models.map((model) => make("th", { scope: "col", className: "number" }, model.title));
    const head = make("tr", {}, make("th", { scope: "col" }, make("label", {}, all, make("span", {}, this.text.classes))), ...heads);
    const rows = this.names.map((name, category) => {
      const shares = this.data.models.map((model, k) => {
        const cell = this.share(model.shares[category], this.objects[k]?.counts[category]);
        this.cells[k].push(cell);
        return cell;
      });
      const label = make("label", {}, boxes[category], this.swatch(category), make("span", {}, name));
      const what = make("small", {}, this.text.means[name] === name ? "" : this.text.means[name] ?? "");
      return make("tr", {}, make("th", { scope: "row" }, label, what), ...shares);
    });
    return make("table", {}, make("caption", {}, this.text.caption), make("thead", {}, head), make("tbody", {}, ...rows));
  }

  share(value, count) {
    const plural = new Intl.PluralRules(this.data.language).select(count || 0);
    const objects = count ? [make("small", {}, filled(this.text[plural === "one" ? "counted_one" : "counted"], { count })), " "] : [];
    const bar = make("span", { className: "bar", style: { "--share": `${value * 100}%` } });
    return make("td", { className: value ? "number" : "number none" }, ...objects, make("span", {}, this.percent.format(value)), bar);
  }

  swatch(category) {
    return make("span", { className: "swatch", style: { "--swatch": this.data.legend[category].colour } });
  }
}

function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// Red, green, blue and opacity as one number, in the order in which this machine stores them.
function packed(channels) {
  return new Uint32Array(new Uint8Array(channels).buffer)[0];
}
