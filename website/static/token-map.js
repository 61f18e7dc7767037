// The map of all tokens on a canvas: move, zoom, read a token, ring one and its nearest neighbours.
"use strict";

async function drawTokenMap(figure) {
  await load(figure.dataset.script);
  const { words } = values(figure);
  const data = window.tokenMap;
  const tokens = data.tokens.split("\n");
  const unpack = (text) =>
    new Uint16Array(Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer);
  const places = unpack(data.places);
  const neighbours = unpack(data.neighbours);
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const [COLOURS, KINDS] = [
    ["#0072B2", "#E69F00", "#CC3311"],
    [words.word, words.continuation, words.special],
  ];

  const plot = figure.querySelector(".plot");
  const canvas = plot.appendChild(document.createElement("canvas"));
  const tip = plot.appendChild(document.createElement("div"));
  tip.className = "tip";
  const brush = canvas.getContext("2d");
  const box = figure.querySelector("input");
  const answer = figure.querySelector(".answer");
  figure.classList.add("is-live");
  figure.querySelectorAll(".live").forEach((part) => (part.hidden = false));

  let ringed = []; // ids: the token searched for, then its neighbours
  let view = { x: 0, y: 0, zoom: 1 }; // upper left corner in pixels of the whole map
  let [width, height, unit] = [0, 0, 1];
  const MARGIN = 14;

  const left = (id) => (MARGIN + places[2 * id] * unit) * view.zoom - view.x;
  const top = (id) => (MARGIN + (data.size[1] - places[2 * id + 1]) * unit) * view.zoom - view.y;

  function mark(kind, size, ratio) {
    const sprite = document.createElement("canvas");
    const s = (sprite.width = sprite.height = Math.ceil(size * ratio));
    const pen = sprite.getContext("2d");
    pen.fillStyle = COLOURS[kind];
    pen.globalAlpha = 0.6;
    if (kind === 0) pen.arc(s / 2, s / 2, s / 2, 0, 7);
    else if (kind === 1) for (const [x, y] of [[0.5, 0], [1, 1], [0, 1]]) pen.lineTo(x * s, y * s);
    else pen.rect(0, 0, s, s);
    pen.fill();
    return sprite;
  }

  function draw() {
    const started = performance.now();
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    brush.scale(ratio, ratio);
    brush.fillStyle = "white";
    brush.fillRect(0, 0, width, height);
    const size = Math.min(9, 2.6 * Math.sqrt(view.zoom));
    const sprites = [0, 1, 2].map((kind) => mark(kind, size, ratio));
    for (let id = 0; id < tokens.length; id++) {
      const [x, y] = [left(id), top(id)];
      if (x < -size || y < -size || x > width + size || y > height + size) continue;
      brush.drawImage(sprites[data.kinds[id]], x - size / 2, y - size / 2, size, size);
    }
    drawRings();
    figure.dataset.milliseconds = Math.round(performance.now() - started);
  }

  function drawRings() {
    const taken = [];
    brush.textBaseline = "middle";
    brush.lineJoin = "round";
    for (const [rank, id] of ringed.entries()) {
      const [x, y] = [left(id), top(id)];
      brush.beginPath();
      brush.arc(x, y, rank ? 6 : 8, 0, 7);
      brush.lineWidth = rank ? 1.6 : 2.6;
      brush.strokeStyle = "black";
      brush.stroke();
    }
    for (const [rank, id] of ringed.entries()) {
      brush.font = rank ? "12px sans-serif" : "bold 15px sans-serif";
      const [x, y, high] = [left(id), top(id), rank ? 15 : 18];
      if (x < 0 || y < 0 || x > width || y > height) continue;
      const wide = brush.measureText(tokens[id]).width;
      const place = freePlace(x, y, wide, high, taken);
      if (!place) continue; // pointing at the ring still names it
      taken.push(place);
      const [fromX, fromY] = [
        Math.max(place.x, Math.min(x, place.x + wide)),
        Math.max(place.y, Math.min(y, place.y + high)),
      ];
      const gap = Math.hypot(fromX - x, fromY - y);
      if (gap > 14) {
        brush.beginPath();
        brush.moveTo(x + ((fromX - x) * 8) / gap, y + ((fromY - y) * 8) / gap);
        brush.lineTo(fromX, fromY);
        brush.lineWidth = 1;
        brush.stroke();
      }
      brush.strokeStyle = "white";
      brush.lineWidth = 4;
      brush.strokeText(tokens[id], place.x, place.y + high / 2);
      brush.strokeStyle = brush.fillStyle = "black";
      brush.fillText(tokens[id], place.x, place.y + high / 2);
    }
  }

  // The nearest place for a name that covers no other name and no ring.
  function freePlace(x, y, wide, high, taken) {
    for (const gap of [10, 22, 36, 52, 70, 90]) {
      for (let turn = 0; turn < 16; turn++) {
        const angle = (turn * Math.PI) / 8;
        const place = {
          x: x + Math.cos(angle) * (gap + wide / 2) - wide / 2,
          y: y + Math.sin(angle) * (gap + high / 2) - high / 2,
          wide,
          high,
        };
        const inside =
          place.x > 2 && place.y > 2 && place.x + wide < width - 2 && place.y + high < height - 2;
        const apart = (other) =>
          place.x > other.x + other.wide + 2 ||
          other.x > place.x + wide + 2 ||
          place.y > other.y + other.high ||
          other.y > place.y + high;
        const rings = ringed.map((id) => ({ x: left(id) - 6, y: top(id) - 6, wide: 12, high: 12 }));
        if (inside && taken.every(apart) && rings.every(apart)) return place;
      }
    }
    return null;
  }

  let waiting = false;
  function soon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  }

  function zoom(factor, x = width / 2, y = height / 2) {
    const next = Math.max(1, Math.min(80, view.zoom * factor));
    const grown = next / view.zoom;
    move((view.x + x) * grown - x - view.x, (view.y + y) * grown - y - view.y, next);
  }

  function move(dx, dy, next = view.zoom) {
    const within = (value, length) => Math.max(0, Math.min(value, length * (next - 1)));
    view = { x: within(view.x + dx, width), y: within(view.y + dy, height), zoom: next };
    tip.hidden = true;
    soon();
  }

  function fit() {
    const before = width;
    width = plot.clientWidth;
    if (!width || width === before) return;
    unit = (width - 2 * MARGIN) / data.size[0];
    const whole = data.size[1] * unit + 2 * MARGIN;
    height = Math.round(whole);
    plot.style.height = canvas.style.height = `${height}px`;
    canvas.style.width = `${width}px`;
    view = { x: 0, y: 0, zoom: 1 };
    draw();
  }

  function ring(typed) {
    const wanted = ids.has(typed) ? typed : typed.toLowerCase();
    const id = ids.get(wanted);
    answer.textContent = "";
    if (id === undefined) {
      ringed = [];
      answer.textContent = words.unknown
        .replace("{count}", tokens.length.toLocaleString(document.documentElement.lang))
        .replace("{token}", () => `“${typed}”`);
    } else {
      const near = [...neighbours.subarray(id * data.k, (id + 1) * data.k)];
      ringed = [id, ...near];
      answer.textContent = words.nearest
        .replace("{token}", () => tokens[id])
        .replace("{neighbours}", () => near.map((other) => tokens[other]).join(", "));
    }
    soon();
  }

  function point(x, y) {
    let [best, distance] = [-1, 100];
    for (let id = 0; id < tokens.length; id++) {
      const away = (left(id) - x) ** 2 + (top(id) - y) ** 2;
      if (away < distance) [best, distance] = [id, away];
    }
    tip.hidden = best < 0;
    if (best < 0) return;
    tip.textContent = `${tokens[best]} · ${best} · ${KINDS[data.kinds[best]]}`;
    const room = width - tip.offsetWidth - 4;
    tip.style.left = `${Math.max(0, Math.min(left(best) + 10, room))}px`;
    tip.style.top = `${top(best) > height - 40 ? top(best) - 34 : top(best) + 10}px`;
  }

  figure.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (box.value.trim()) ring(box.value.trim());
  });
  box.addEventListener("change", () => box.value.trim() && ring(box.value.trim()));
  const buttons = { in: () => zoom(1.6), out: () => zoom(1 / 1.6), reset: () => zoom(0) };
  for (const [name, act] of Object.entries(buttons))
    figure.querySelector(`[data-do="${name}"]`).addEventListener("click", act);

  const held = new Map(); // pointers that are down
  plot.addEventListener("pointerdown", (event) => {
    held.set(event.pointerId, event);
    if (event.pointerType === "mouse" || held.size > 1) plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => {
    const from = held.get(event.pointerId);
    const { left: x, top: y } = plot.getBoundingClientRect();
    if (!from) return point(event.clientX - x, event.clientY - y);
    const other = [...held.values()].find((one) => one.pointerId !== event.pointerId);
    if (other) {
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      zoom(
        apart(event) / (apart(from) || 1),
        (event.clientX + other.clientX) / 2 - x,
        (event.clientY + other.clientY) / 2 - y,
      );
    } else move(from.clientX - event.clientX, from.clientY - event.clientY);
    held.set(event.pointerId, event);
  });
  for (const ends of ["pointerup", "pointercancel"])
    plot.addEventListener(ends, (event) => {
      held.delete(event.pointerId);
      const { left: x, top: y } = plot.getBoundingClientRect();
      if (ends === "pointerup") point(event.clientX - x, event.clientY - y);
    });
  plot.addEventListener("pointerleave", () => (tip.hidden = true));
  plot.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the wheel alone scrolls the page
      event.preventDefault();
      const { left: x, top: y } = plot.getBoundingClientRect();
      zoom(2 ** (-event.deltaY / 200), event.clientX - x, event.clientY - y);
    },
    { passive: false },
  );
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (plain && step[event.key]) move(...step[event.key].map((part) => (part * width) / 8));
    else if (plain && "+=".includes(event.key)) zoom(1.6);
    else if (plain && event.key === "-") zoom(1 / 1.6);
    else return;
    event.preventDefault();
  });

  new ResizeObserver(fit).observe(plot);
  fit();
  box.value = "interest";
  ring(box.value);
}
