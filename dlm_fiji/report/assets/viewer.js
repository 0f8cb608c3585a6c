/* Before/after viewer of the report: two images under a divider, or several side by side, all with one zoom.
   No library, no network, works from file://. One <div class="viewer" data-viewer="id"> each; its images stand in
   <script type="application/json" id="id">. */
(function () {
  "use strict";

  const RATIO = window.devicePixelRatio || 1;
  const NICE = [1, 2, 5];

  /* One image: a single file, or deep-zoom tiles of which only those in view are loaded. */
  class Picture {
    constructor(spec, base, redraw) {
      Object.assign(this, spec);
      this.redraw = redraw;
      this.base = base;
      this.tiles = new Map();
      if (!spec.zoom) {
        this.whole = this.load(spec.src);
      }
    }

    load(src) {
      const entry = { image: new Image(), ready: false };
      entry.image.onload = () => { entry.ready = true; this.redraw(); };
      entry.image.src = this.base + src;
      return entry;
    }

    /* Draws with (x, y) the image's corner on the pane and (w, h) its size there, all in CSS pixels. */
    draw(context, x, y, w, h, paneWidth, paneHeight) {
      const magnified = w / this.width > 1.5;
      context.imageSmoothingEnabled = !magnified;
      context.imageSmoothingQuality = "high";
      if (!this.zoom) {
        if (this.whole.ready) context.drawImage(this.whole.image, x, y, w, h);
        return this.whole.ready;
      }
      const top = this.zoom.levels - 1;
      const wanted = Math.min(top, Math.max(0, top + Math.ceil(Math.log2(Math.max(w * RATIO / this.width, 1e-9)))));
      const coarse = Math.max(0, Math.min(wanted, Math.ceil(Math.log2(this.zoom.tile))));
      let complete = true;
      for (const level of wanted === coarse ? [wanted] : [coarse, wanted]) {
        complete = this.drawLevel(context, level, x, y, w, h, paneWidth, paneHeight);
      }
      return complete;
    }

    drawLevel(context, level, x, y, w, h, paneWidth, paneHeight) {
      const factor = Math.pow(2, this.zoom.levels - 1 - level);
      const columns = Math.ceil(this.width / factor), rows = Math.ceil(this.height / factor);
      const side = this.zoom.tile;
      /* Screen size of one pixel of this level; the last one may stand for less than factor pixels. */
      const sx = w / this.width * factor, sy = h / this.height * factor;
      const c0 = Math.max(0, Math.floor(-x / sx / side)), r0 = Math.max(0, Math.floor(-y / sy / side));
      const c1 = Math.min(Math.ceil(columns / side), Math.ceil((paneWidth - x) / sx / side));
      const r1 = Math.min(Math.ceil(rows / side), Math.ceil((paneHeight - y) / sy / side));
      let complete = true;
      for (let r = r0; r < r1; r++) {
        for (let c = c0; c < c1; c++) {
          const key = level + "/" + c + "_" + r;
          let entry = this.tiles.get(key);
          if (entry) {
            this.tiles.delete(key);
          } else {
            entry = this.load(this.zoom.path + "/" + key + ".jpg");
          }
          this.tiles.set(key, entry);
          if (entry.ready) {
            const tw = Math.min(side, columns - c * side), th = Math.min(side, rows - r * side);
            context.drawImage(entry.image, x + c * side * sx, y + r * side * sy, tw * sx + 0.3, th * sy + 0.3);
          } else {
            complete = false;
          }
        }
      }
      while (this.tiles.size > 300) this.tiles.delete(this.tiles.keys().next().value);
      return complete;
    }
  }

  class Viewer {
    constructor(root) {
      this.root = root;
      const data = JSON.parse(document.getElementById(root.dataset.viewer).textContent);
      this.data = data;
      this.world = { width: data.width, height: data.height };
      const redraw = () => this.schedule();
      this.pictures = data.images.map((spec) => new Picture(spec, "", redraw));
      this.divider = 0.5;
      this.left = data.left;
      this.right = data.right;
      this.mode = "divider";
      this.build();
      this.fit();
      new ResizeObserver(() => this.schedule()).observe(this.stage);
      window.addEventListener("beforeprint", () => this.draw());
    }

    build() {
      const data = this.data;
      this.root.innerHTML = "";
      const bar = element("div", "controls", this.root);
      bar.setAttribute("role", "group");
      bar.setAttribute("aria-label", "Viewer controls");
      this.leftChoice = this.choice(bar, "Left", this.left, (i) => { this.left = i; });
      this.rightChoice = this.choice(bar, "Right", this.right, (i) => { this.right = i; });
      button(bar, "⇄", "Swap left and right", () => {
        [this.left, this.right] = [this.right, this.left];
        this.leftChoice.value = this.left;
        this.rightChoice.value = this.right;
        this.changed();
      });
      const zooming = element("span", "buttons", bar);
      button(zooming, "−", "Zoom out", () => this.zoomBy(1 / 1.5));
      button(zooming, "+", "Zoom in", () => this.zoomBy(1.5));
      button(zooming, "Fit", "Show the whole image", () => this.fit());
      button(zooming, "1:1", "One image pixel to one screen pixel", () => this.actual());
      this.modeButton = button(bar, "Side by side", "All images side by side with the same zoom", () => this.toggle());
      this.modeButton.setAttribute("aria-pressed", "false");

      this.stage = element("div", "stage", this.root);
      /* The whole pane fits on the screen: its width follows from the height of the window. */
      this.root.style.setProperty("--ratio", String(Math.min(1.2, Math.max(0.45, this.world.height / this.world.width))));
      const range = element("input", "divider-range", this.root);
      range.type = "range"; range.min = 0; range.max = 100; range.step = 0.5; range.value = 50;
      range.setAttribute("aria-label", "Divider between the left and the right image, in per cent");
      range.addEventListener("input", () => { this.divider = range.value / 100; this.changed(); });
      this.range = range;
      this.status = element("p", "status", this.root);
      this.status.setAttribute("aria-live", "polite");
      const hint = element("p", "hint", this.root);
      hint.textContent = "Drag the line or use the slider below the image. Drag the image to move it, double-click or use + and − to " +
        "zoom (after a click into the image the wheel zooms too); arrow keys move, 0 fits, [ and ] move the line.";
      this.panes = [];
      this.layout();
    }

    choice(parent, title, value, set) {
      const label = element("label", "", parent);
      label.append(title + " ");
      const select = element("select", "", label);
      this.data.images.forEach((spec, i) => {
        const option = element("option", "", select);
        option.value = i;
        option.textContent = spec.title;
      });
      select.value = value;
      select.addEventListener("change", () => { set(Number(select.value)); this.changed(); });
      return select;
    }

    layout() {
      this.stage.innerHTML = "";
      this.stage.className = "stage " + this.mode;
      const shown = this.mode === "divider" ? [null] : this.data.images.map((_, i) => i);
      this.panes = shown.map((index) => this.pane(index));
      this.range.hidden = this.mode !== "divider";
      this.schedule();
    }

    pane(index) {
      const box = element("div", "pane", this.stage);
      const canvas = element("canvas", "", box);
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "img");
      const ratio = Math.min(1.2, Math.max(0.45, this.world.height / this.world.width));
      canvas.style.aspectRatio = String(1 / ratio);
      const tags = index === null ? [element("span", "tag left", box), element("span", "tag right", box)]
        : [element("span", "tag left", box)];
      const pane = { box, canvas, index, tags };
      this.listen(pane);
      return pane;
    }

    listen(pane) {
      const canvas = pane.canvas;
      const pointers = new Map();
      let onLine = false;
      const place = (event) => {
        const r = canvas.getBoundingClientRect();
        return { x: event.clientX - r.left, y: event.clientY - r.top, w: r.width, h: r.height };
      };
      canvas.addEventListener("pointerdown", (event) => {
        const p = place(event);
        canvas.setPointerCapture(event.pointerId);
        pointers.set(event.pointerId, p);
        onLine = pane.index === null && Math.abs(p.x - this.divider * p.w) < 14;
        canvas.focus({ preventScroll: true });
        event.preventDefault();
      });
      canvas.addEventListener("pointermove", (event) => {
        const p = place(event), before = pointers.get(event.pointerId);
        const near = pane.index === null && Math.abs(p.x - this.divider * p.w) < 14;
        canvas.style.cursor = near || onLine ? "ew-resize" : pointers.size ? "grabbing" : "grab";
        if (!before) return;
        if (onLine) {
          this.divider = clamp(p.x / p.w, 0, 1);
          this.range.value = this.divider * 100;
        } else if (pointers.size === 2) {
          const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
          const was = Math.hypot(before.x - other.x, before.y - other.y), is = Math.hypot(p.x - other.x, p.y - other.y);
          if (was > 0) this.zoomBy(is / was, pane, (p.x + other.x) / 2, (p.y + other.y) / 2);
        } else {
          const unit = this.span / p.w;
          this.cx -= (p.x - before.x) * unit;
          this.cy -= (p.y - before.y) * unit;
        }
        pointers.set(event.pointerId, p);
        this.changed();
      });
      const end = (event) => { pointers.delete(event.pointerId); onLine = onLine && pointers.size > 0; };
      canvas.addEventListener("pointerup", end);
      canvas.addEventListener("pointercancel", end);
      canvas.addEventListener("dblclick", (event) => {
        const p = place(event);
        this.zoomBy(event.shiftKey ? 0.5 : 2, pane, p.x, p.y);
      });
      canvas.addEventListener("wheel", (event) => {
        /* The page scrolls over a viewer that was not clicked. */
        if (!event.ctrlKey && !this.stage.contains(document.activeElement)) return;
        event.preventDefault();
        const p = place(event);
        this.zoomBy(Math.exp(-clamp(event.deltaY, -120, 120) * 0.0025), pane, p.x, p.y);
      }, { passive: false });
      canvas.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) {
      const step = this.span / 10;
      const actions = {
        "+": () => this.zoomBy(1.5), "=": () => this.zoomBy(1.5), "-": () => this.zoomBy(1 / 1.5),
        "0": () => this.fit(), "1": () => this.actual(),
        ArrowLeft: () => { this.cx -= step; }, ArrowRight: () => { this.cx += step; },
        ArrowUp: () => { this.cy -= step; }, ArrowDown: () => { this.cy += step; },
        "[": () => this.slide(-0.05), "]": () => this.slide(0.05),
      };
      if (actions[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) {
        actions[event.key]();
        event.preventDefault();
        this.changed();
      }
    }

    slide(step) {
      this.divider = clamp(this.divider + step, 0, 1);
      this.range.value = this.divider * 100;
    }

    toggle() {
      this.mode = this.mode === "divider" ? "side" : "divider";
      this.modeButton.setAttribute("aria-pressed", String(this.mode === "side"));
      this.layout();
    }

    /* The state is what the panes show: centre (cx, cy) and span, the width of the pane, in pixels of the label. */
    fit() {
      const ratio = Math.min(1.2, Math.max(0.45, this.world.height / this.world.width));
      this.cx = this.world.width / 2;
      this.cy = this.world.height / 2;
      this.span = Math.max(this.world.width, this.world.height / ratio);
      this.changed();
    }

    actual() {
      this.span = this.panes[0].canvas.clientWidth || this.world.width;
      this.changed();
    }

    zoomBy(factor, pane, x, y) {
      const canvas = (pane || this.panes[0]).canvas;
      const w = canvas.clientWidth, h = canvas.clientHeight;
      const dx = x === undefined ? 0 : x - w / 2, dy = y === undefined ? 0 : y - h / 2;
      const span = clamp(this.span / factor, 8, 3 * Math.max(this.world.width, this.world.height));
      this.cx += dx * (this.span - span) / w;
      this.cy += dy * (this.span - span) / w;
      this.span = span;
      this.changed();
    }

    changed() {
      this.cx = clamp(this.cx, 0, this.world.width);
      this.cy = clamp(this.cy, 0, this.world.height);
      this.schedule();
    }

    schedule() {
      if (this.pending) return;
      this.pending = true;
      requestAnimationFrame(() => { this.pending = false; this.draw(); });
    }

    draw() {
      const images = this.data.images;
      for (const pane of this.panes) {
        const canvas = pane.canvas, w = canvas.clientWidth, h = canvas.clientHeight;
        if (!w || !h) continue;
        if (canvas.width !== Math.round(w * RATIO) || canvas.height !== Math.round(h * RATIO)) {
          canvas.width = Math.round(w * RATIO);
          canvas.height = Math.round(h * RATIO);
        }
        const context = canvas.getContext("2d");
        context.setTransform(RATIO, 0, 0, RATIO, 0, 0);
        context.clearRect(0, 0, w, h);
        const scale = w / this.span;
        const x = w / 2 - this.cx * scale, y = h / 2 - this.cy * scale;
        const paint = (index) => this.pictures[index].draw(
          context, x, y, this.world.width * scale, this.world.height * scale, w, h);
        if (pane.index === null) {
          const line = this.divider * w;
          clipped(context, 0, 0, line, h, () => paint(this.left));
          clipped(context, line, 0, w - line, h, () => paint(this.right));
          drawLine(context, line, h);
          pane.tags[0].textContent = images[this.left].title;
          pane.tags[1].textContent = images[this.right].title;
          pane.tags[0].hidden = line < 40;
          pane.tags[1].hidden = w - line < 40;
          canvas.setAttribute("aria-label", "Left: " + images[this.left].title + "; right: " + images[this.right].title);
        } else {
          paint(pane.index);
          pane.tags[0].textContent = images[pane.index].title;
          canvas.setAttribute("aria-label", images[pane.index].title);
        }
        for (const mark of this.data.marks || []) drawMark(context, mark, x, y, scale);
        if (this.data.pixel_um) drawBar(context, this.data.pixel_um / scale, w, h);
        /* For tests and for anyone who wants the numbers. */
        canvas.dataset.cx = this.cx.toFixed(3);
        canvas.dataset.cy = this.cy.toFixed(3);
        canvas.dataset.span = this.span.toFixed(3);
        canvas.dataset.divider = this.divider.toFixed(4);
      }
      const zoom = Math.round(100 * (this.panes[0].canvas.clientWidth || 1) / this.span);
      const text = (this.mode === "divider"
        ? "Left: " + images[this.left].title + ". Right: " + images[this.right].title + ". Line at " +
          Math.round(this.divider * 100) + " %. "
        : images.length + " images side by side. ") + "Zoom " + zoom + " %.";
      if (this.status.textContent !== text) this.status.textContent = text;
    }
  }

  function clipped(context, x, y, w, h, paint) {
    context.save();
    context.beginPath();
    context.rect(x, y, w, h);
    context.clip();
    paint();
    context.restore();
  }

  function drawLine(context, x, h) {
    context.fillStyle = "rgba(0,0,0,.55)";
    context.fillRect(x - 1.5, 0, 3, h);
    context.fillStyle = "#fff";
    context.fillRect(x - 0.75, 0, 1.5, h);
    context.beginPath();
    context.arc(x, h / 2, 13, 0, 7);
    context.fill();
    context.fillStyle = "#23405c";
    for (const side of [-1, 1]) {
      context.beginPath();
      context.moveTo(x + side * 9, h / 2);
      context.lineTo(x + side * 3.5, h / 2 - 4.5);
      context.lineTo(x + side * 3.5, h / 2 + 4.5);
      context.fill();
    }
  }

  function drawMark(context, mark, x, y, scale) {
    context.lineWidth = 3;
    context.strokeStyle = "rgba(0,0,0,.6)";
    context.strokeRect(x + mark.x * scale, y + mark.y * scale, mark.width * scale, mark.height * scale);
    context.lineWidth = 1.5;
    context.strokeStyle = "#ffd166";
    context.strokeRect(x + mark.x * scale, y + mark.y * scale, mark.width * scale, mark.height * scale);
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = "rgba(0,0,0,.6)";
    const width = context.measureText(mark.title).width + 8;
    context.fillRect(x + mark.x * scale, y + mark.y * scale - 17, width, 16);
    context.fillStyle = "#ffd166";
    context.fillText(mark.title, x + mark.x * scale + 4, y + mark.y * scale - 5);
  }

  function drawBar(context, umPerPixel, w, h) {
    const longest = w * 0.25 * umPerPixel;
    const power = Math.pow(10, Math.floor(Math.log10(longest)));
    const length = Math.max(...NICE.map((n) => n * power).filter((v) => v <= longest));
    const pixels = length / umPerPixel;
    const text = (length >= 1 ? String(Math.round(length)) : String(Number(length.toPrecision(2)))) + " µm";
    context.font = "600 12px system-ui, sans-serif";
    context.fillStyle = "rgba(0,0,0,.55)";
    context.fillRect(8, h - 32, Math.max(pixels, context.measureText(text).width) + 12, 25);
    context.fillStyle = "#fff";
    context.fillText(text, 14, h - 18);
    context.fillRect(14, h - 13, pixels, 3);
  }

  function element(name, css, parent) {
    const node = document.createElement(name);
    if (css) node.className = css;
    parent.append(node);
    return node;
  }

  function button(parent, text, title, action) {
    const node = element("button", "", parent);
    node.type = "button";
    node.textContent = text;
    node.title = title;
    node.setAttribute("aria-label", title);
    node.addEventListener("click", action);
    return node;
  }

  function clamp(value, low, high) {
    return Math.min(high, Math.max(low, value));
  }

  const viewers = [...document.querySelectorAll(".viewer")].map((root) => new Viewer(root));
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((node) => { node.open = true; });
    viewers.forEach((viewer) => viewer.draw());
  });
})();
