// The page around engine.js: data, settings, drawing. Everything that is chosen is in location.hash.
"use strict";

const $ = (id) => document.getElementById(id);
const SIDES = ["a", "b"], VIEW = 2.7, DIRECTIONS = 48, SHOWN_PATHS = 10;
const LABELS = {
  "seeds-1": "seeds-1 (DDIM, DDPM)", "seeds-2": "seeds-2", "seeds-3": "seeds-3",
  "seeds-ab2": "seeds-ab2 (2M)", "sa-solver": "sa-solver", "euler-maruyama": "Euler–Maruyama",
  "unipc-2": "unipc-2", "dpm-solver-3": "dpm-solver-3", heun: "heun (EDM)",
};
const GRIDS = { default: "equal in arctan σ (default)", uniform_lambda: "equal in log σ", karras: "karras, ρ = 7" };

// --- data

const range = (n, f) => Array.from({ length: n }, (_, i) => f(i));
const LETTERS = ["01110 10001 10000 01110 00001 10001 01110", "11110 10001 10001 10001 10001 10001 11110",
  "11111 10000 10000 11110 10000 10000 11111"];
const DATA = {
  lattice: ["25 modes", 0.06, () => range(25, (i) => [0.8 * (i % 5) - 1.6, 0.8 * Math.floor(i / 5) - 1.6])],
  ring: ["ring", 0.08, () => range(24, (i) => [1.6 * Math.cos(i * Math.PI / 12), 1.6 * Math.sin(i * Math.PI / 12)])],
  moons: ["two moons", 0.1, () => range(32, (i) => {
    const t = Math.PI * (i % 16) / 15, s = i < 16 ? 1 : -1;
    return [s * (1.1 * Math.cos(t) - 0.55), s * (1.1 * Math.sin(t) - 0.3)];
  })],
  spiral: ["spiral", 0.07, () => range(48, (i) => {
    const t = 2.4 * Math.PI * Math.sqrt((i + 3) / 51);
    return [0.24 * t * Math.cos(t), 0.24 * t * Math.sin(t)];
  })],
  letters: ["letters SDE", 0.05, () => LETTERS.flatMap((letter, l) => letter.split(" ").flatMap((row, y) =>
    [...row].flatMap((bit, x) => (bit === "1" ? [[0.235 * (x + 7 * l) - 2.1, 0.3 * (3 - y)]] : []))))],
  drawn: ["drawn by you", 0.08, () => state.drawn],
};

function mixture() {
  const [, std, make] = DATA[state.data], means = make();
  const kept = means.length ? means : [[0, 0]];
  return { means: kept, std, weights: kept.map(() => 1 / kept.length) };
}

function exact(mix, n, seed) {
  const z = Engine.normals(seed, 2, 2 * n), pick = Engine.normals(seed, 3, 2 * n);
  return Float64Array.from(z, (value, i) => {
    // (u of a uniform angle): the place on a circle of two normals is uniform
    const j = 2 * Math.floor(i / 2), turn = (Math.atan2(pick[j], pick[j + 1]) / (2 * Math.PI) + 1) % 1;
    return mix.means[Math.floor(turn * mix.means.length)][i % 2] + mix.std * value;
  });
}

// --- what is measured

function sorted(x, angle) {
  const c = Math.cos(angle), s = Math.sin(angle);
  return Float64Array.from({ length: x.length / 2 }, (_, i) => c * x[2 * i] + s * x[2 * i + 1]).sort();
}

function profile(x) { return range(DIRECTIONS, (d) => sorted(x, Math.PI * d / DIRECTIONS)); }

function distance(p, q) {
  let total = 0;
  p.forEach((own, d) => own.forEach((value, i) => { total += (value - q[d][i]) ** 2; }));
  return Math.sqrt(total / (DIRECTIONS * p[0].length));
}

function shares(mix, x) {
  const counts = mix.means.map(() => 0), n = x.length / 2;
  let off = 0, spread = 0;
  for (let i = 0; i < x.length; i += 2) {
    let best = Infinity, at = 0;
    mix.means.forEach(([a, b], k) => { const d = (x[i] - a) ** 2 + (x[i + 1] - b) ** 2; if (d < best) { best = d; at = k; } });
    counts[at] += 1;
    if (best < (4 * mix.std) ** 2) spread += best; else off += 1;
  }
  const wrong = counts.reduce((sum, c, k) => sum + Math.abs(c / n - mix.weights[k]) / 2, 0);
  return { off: off / n, wrong, width: Math.sqrt(spread / (n - off) / 2) / mix.std };
}

// --- settings

const state = { data: "letters", count: 1000, seed: 1, drawn: [],
  a: ["seeds-1", 1, "uniform_lambda", 10], b: ["seeds-3", 1, "uniform_lambda", 10] };

function readHash() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (DATA[given.get("data")]) state.data = given.get("data");
  if ([500, 1000, 3000].includes(+given.get("n"))) state.count = +given.get("n");
  if (/^\d{1,4}$/.test(given.get("seed"))) state.seed = +given.get("seed");
  for (const side of SIDES) {
    const [solver, ell, grid, nfe] = (given.get(side) || "").split(",");
    if (PLANS.plans[[solver, ell, grid, nfe].join("|")]) state[side] = [solver, +ell, grid, +nfe];
  }
  const places = given.get("modes");
  if (places) state.drawn = (places.match(/[0-9a-z]{4}/g) || []).map((p) =>
    [0, 2].map((k) => parseInt(p.slice(k, k + 2), 36) / 200 - 3.2));
}

function writeHash() {
  const place = (v) => Math.round((v + 3.2) * 200).toString(36).padStart(2, "0");
  const parts = [`data=${state.data}`, `n=${state.count}`, `seed=${state.seed}`, ...SIDES.map((s) => `${s}=${state[s].join(",")}`)];
  if (state.data === "drawn") parts.push(`modes=${state.drawn.map((m) => m.map(place).join("")).join("")}`);
  history.replaceState(null, "", `#${parts.join("&")}`);
}

// --- runs

const run = { a: null, b: null };
let law, path, start, floor, curves, job = 0;

const planKey = ([solver, ell, grid, nfe]) => `${solver}|${ell}|${grid}|${nfe}`;

function simulate(setting, states) {
  const rows = PLANS.plans[planKey(setting)];
  const level = (lam) => 1 - Math.atan(Math.exp(-lam)) / Math.atan(Math.exp(-rows[0][1]));
  if (states) states.push([0, start]);
  return Engine.execute(rows, law, start, Engine.along(path, PLANS, setting[1]),
    (x, lam) => states && states.push([level(lam), x]));
}

function prepare() {
  const n = state.count, first = PLANS.plans[planKey(state.a)][0][1];
  law = mixture();
  path = Engine.normals(state.seed, 1, PLANS.leaves * 2 * n);
  const scale = 1 / Math.sqrt(1 + Math.exp(2 * first));
  start = Float64Array.from(Engine.normals(state.seed, 0, 2 * n), (z) => scale * z);
  const sets = range(9, (i) => profile(exact(law, n, 10007 + 31 * state.seed + i)));
  const pairs = range(8, (i) => distance(sets[i], sets[i + 1]));
  floor = { target: sets[0], low: Math.min(...pairs), high: Math.max(...pairs), mean: pairs.reduce((s, d) => s + d) / 8,
    exact: shares(law, exact(law, n, 10007 + 31 * state.seed)) };
  curves = new Map();
}

function compute(side) {
  const states = [], x = simulate(state[side], states);
  run[side] = { states, x, distance: distance(profile(x), floor.target), ...shares(law, x) };
  curves.set(planKey(state[side]), run[side].distance);
  const used = PLANS.plans[planKey(state[side])].filter((row) => row[0] & 1).length;
  const percent = (v) => `${(100 * v).toFixed(1)} %`, own = run[side];
  const inside = own.distance <= floor.high ? " (floor)" : "";
  $(`stats-${side}`).innerHTML = `<dt>network evaluations</dt><dd>${used}</dd>
    <dt>distance, exact samples ${floor.mean.toFixed(3)}</dt><dd><b>${own.distance.toFixed(3)}</b>${inside}</dd>
    <dt>width of a mode, exact samples ${floor.exact.width.toFixed(2)}</dt><dd>${own.off < 0.99 ? own.width.toFixed(2) : "–"}</dd>
    <dt>off all modes, exact samples ${percent(floor.exact.off)}</dt><dd>${percent(own.off)}</dd>
    <dt>weights off by, exact samples ${percent(floor.exact.wrong)}</dt><dd>${percent(own.wrong)}</dd>`;
  marginal(side);
}

// The curve of the chart, one run at a time, so that the page stays live.
function fill() {
  const mine = ++job, left = SIDES.flatMap((s) => PLANS.nfes.map((nfe) => [...state[s].slice(0, 3), nfe]))
    .filter((setting) => !curves.has(planKey(setting)));
  const next = () => {
    if (mine !== job) return;
    const setting = left.shift();
    if (setting) { curves.set(planKey(setting), distance(profile(simulate(setting)), floor.target)); setTimeout(next, 0); }
    chart();
  };
  setTimeout(next, 30);
}

// --- drawing

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function surface(canvas) {
  const ratio = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
  if (canvas.width !== Math.round(w * ratio)) { canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio); }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, w, h);
  return [ctx, w, h];
}

function frame(progress) {
  for (const side of SIDES) {
    if (!run[side]) continue;
    const [ctx, w] = surface($(`plane-${side}`)), { states } = run[side], n = state.count;
    const to = (v) => (v / VIEW + 1) * w / 2;
    ctx.strokeStyle = css("--law"); ctx.lineWidth = 1;
    ctx.beginPath();
    for (const [x, y] of law.means) { ctx.moveTo(to(x) + 2 * law.std * w / VIEW / 2, to(-y)); ctx.arc(to(x), to(-y), 2 * law.std * w / VIEW / 2, 0, 7); }
    ctx.stroke();
    let k = 0;
    while (k < states.length - 2 && states[k + 1][0] <= progress) k++;
    const [s0, from] = states[k], [s1, target] = states[k + 1];
    const f = Math.min(Math.max((progress - s0) / (s1 - s0), 0), 1);
    const at = (i) => from[i] + f * (target[i] - from[i]);
    ctx.fillStyle = css("--particle");
    for (let i = 0; i < n; i++) ctx.fillRect(to(at(2 * i)) - 1.1, to(-at(2 * i + 1)) - 1.1, 2.2, 2.2);
    ctx.strokeStyle = css(`--${side}`); ctx.lineWidth = 1.4; ctx.globalAlpha = 0.8 - 0.55 * progress;
    ctx.setLineDash(side === "a" ? [] : [5, 3]);
    ctx.beginPath();
    for (let i = 0; i < Math.min(SHOWN_PATHS, n); i++) {
      states.slice(0, k + 1).forEach(([, x], j) => ctx[j ? "lineTo" : "moveTo"](to(x[2 * i]), to(-x[2 * i + 1])));
      ctx.lineTo(to(at(2 * i)), to(-at(2 * i + 1)));
    }
    ctx.stroke(); ctx.setLineDash([]); ctx.globalAlpha = 1;
  }
  const sigma = Math.tan((1 - progress) * Math.atan(Math.exp(-PLANS.plans[planKey(state.a)][0][1])));
  $("level").textContent = `σ = ${sigma.toPrecision(2)}`;
}

function marginal(side) {
  const [ctx, w, h] = surface($(`marginal-${side}`)), bins = 72, counts = new Float64Array(bins), { x } = run[side];
  for (let i = 0; i < x.length; i += 2) {
    const bin = Math.floor((x[i] / VIEW + 1) * bins / 2);
    if (bin >= 0 && bin < bins) counts[bin] += 1;
  }
  const wide = 2 * VIEW / bins, density = range(w, (px) => {
    const at = (2 * px / w - 1) * VIEW;
    return law.means.reduce((sum, [m]) => sum + Math.exp(-(((at - m) / law.std) ** 2) / 2), 0)
      / (law.means.length * law.std * Math.sqrt(2 * Math.PI));
  });
  // The curve is the exact law in the same bins: a bar and the curve differ by the error alone.
  const binned = range(bins, (b) => { const own = density.slice(Math.floor(b * w / bins), Math.ceil((b + 1) * w / bins)); return own.reduce((s, v) => s + v, 0) / own.length; });
  const top = 1.15 * Math.max(...binned, ...counts.map((c) => 2 * c / x.length / wide));
  ctx.fillStyle = css(`--${side}`); ctx.globalAlpha = 0.45;
  counts.forEach((c, b) => { const tall = 2 * c / x.length / wide / top * h; ctx.fillRect(b * w / bins, h - tall, w / bins - 0.5, tall); });
  ctx.globalAlpha = 1; ctx.strokeStyle = css("--ink"); ctx.lineWidth = 1.3; ctx.beginPath();
  binned.forEach((v, b) => { ctx.lineTo(b * w / bins, h - v / top * h); ctx.lineTo((b + 1) * w / bins, h - v / top * h); });
  ctx.stroke();
}

function chart() {
  const [ctx, w, h] = surface($("chart")), left = 52, low = 30, nfes = PLANS.nfes;
  const bottom = floor.low / 1.6, values = [...curves.values()].filter(Number.isFinite);
  const top = Math.min(Math.max(...values, floor.high * 4) * 1.2, 5);
  const px = (n) => left + 12 + (w - left - 70) * Math.log(n / nfes[0]) / Math.log(nfes.at(-1) / nfes[0]);
  const py = (d) => 8 + (h - low - 8) * Math.log(top / Math.min(Math.max(d, bottom), top)) / Math.log(top / bottom);
  ctx.font = "12px system-ui, sans-serif"; ctx.fillStyle = css("--line");
  ctx.fillRect(left, py(floor.high), w - left, py(floor.low) - py(floor.high));
  ctx.fillStyle = css("--soft"); ctx.textBaseline = "middle"; ctx.textAlign = "right"; ctx.strokeStyle = css("--line"); ctx.lineWidth = 1;
  for (const d of [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]) if (d > bottom && d < top) {
    ctx.fillText(String(d), left - 6, py(d)); ctx.beginPath(); ctx.moveTo(left, py(d)); ctx.lineTo(w, py(d)); ctx.stroke();
  }
  ctx.textAlign = "center"; for (const n of nfes) ctx.fillText(String(n), px(n), h - 14);
  ctx.textAlign = "left"; ctx.fillText("floor", left + 4, py(floor.mean));
  for (const side of SIDES) {
    const found = nfes.map((n) => [n, curves.get(planKey([...state[side].slice(0, 3), n]))]).filter(([, d]) => d !== undefined);
    ctx.strokeStyle = ctx.fillStyle = css(`--${side}`); ctx.lineWidth = 2; ctx.setLineDash(side === "a" ? [] : [6, 4]);
    ctx.beginPath(); found.forEach(([n, d]) => ctx.lineTo(px(n), py(d))); ctx.stroke(); ctx.setLineDash([]);
    for (const [n, d] of found) {
      const r = n === state[side][3] ? 6 : 3.5;
      ctx.beginPath(); if (side === "a") ctx.arc(px(n), py(d), r, 0, 7); else ctx.rect(px(n) - r, py(d) - r, 2 * r, 2 * r); ctx.fill();
    }
    if (found.length) { const [n, d] = found.at(-1); ctx.fillText(side.toUpperCase(), px(n) + 10, py(d) + (side === "a" ? -7 : 7)); }
  }
}

// --- controls

function option(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value, false, String(value) === String(chosen))));
}

function settle(side) {
  const [solver, ell, grid, nfe] = state[side], ells = PLANS.solvers[solver];
  if (!ells.includes(ell)) state[side][1] = ells[0];
  option($(`ell-${side}`), ells.map((l) => [l, l === 0 ? "0 (ODE)" : l === 1 ? "1 (SDE)" : l]), state[side][1]);
  $(`solver-${side}`).value = solver; $(`grid-${side}`).value = grid;
  $(`nfe-${side}`).value = PLANS.nfes.indexOf(nfe); $(`shown-${side}`).textContent = nfe;
}

function build() {
  $("panes").innerHTML = SIDES.map((s) => `<section class="pane" data-side="${s}" aria-label="setting ${s.toUpperCase()}">
    <h2>${s.toUpperCase()}</h2><div class="bar">
    <label>solver<select id="solver-${s}"></select></label><label>noise ℓ<select id="ell-${s}"></select></label>
    <label>steps<select id="grid-${s}"></select></label>
    <label><span>evaluations, at most <output id="shown-${s}"></output></span>
      <input id="nfe-${s}" type="range" min="0" max="${PLANS.nfes.length - 1}" aria-label="network evaluations"></label></div>
    <canvas class="plane" id="plane-${s}" role="img" aria-label="particles of setting ${s.toUpperCase()}"></canvas>
    <canvas class="marginal" id="marginal-${s}" role="img" aria-label="first coordinate: particles (bars), exact law (line)"></canvas>
    <dl id="stats-${s}"></dl></section>`).join("");
  option($("data"), Object.entries(DATA).map(([key, [label]]) => [key, label]), state.data);
  $("count").value = state.count; $("seed").value = state.seed;
  for (const side of SIDES) {
    option($(`solver-${side}`), Object.keys(PLANS.solvers).map((s) => [s, LABELS[s]]), state[side][0]);
    option($(`grid-${side}`), PLANS.grids.map((g) => [g, GRIDS[g]]), state[side][2]);
    settle(side);
    const change = (k, value) => { state[side][k] = value; settle(side); compute(side); writeHash(); fill(); play(); };
    $(`solver-${side}`).onchange = (e) => change(0, e.target.value);
    $(`ell-${side}`).onchange = (e) => change(1, +e.target.value);
    $(`grid-${side}`).onchange = (e) => change(2, e.target.value);
    $(`nfe-${side}`).oninput = (e) => change(3, PLANS.nfes[e.target.value]);
    const plane = $(`plane-${side}`), put = (e) => {
      const box = plane.getBoundingClientRect(), at = [e.clientX - box.left, box.bottom - e.clientY].map((v) => (2 * v / box.width - 1) * VIEW);
      const free = state.drawn.every(([x, y]) => Math.hypot(x - at[0], y - at[1]) > 0.12);
      if (state.data === "drawn" && free && state.drawn.length < 150) { state.drawn.push(at); law = mixture(); frame(1); return true; }
    };
    plane.onpointerdown = put;
    plane.onpointermove = (e) => e.buttons && put(e);
    plane.onpointerup = () => state.data === "drawn" && all();
  }
  $("data").onchange = (e) => { state.data = e.target.value; all(); };
  $("count").onchange = (e) => { state.count = +e.target.value; all(); };
  $("seed").onchange = (e) => { state.seed = Math.min(Math.max(Math.round(+e.target.value) || 0, 0), 9999); e.target.value = state.seed; all(); };
  $("clear").onclick = () => { state.drawn = []; all(); };
  $("copy").onclick = () => navigator.clipboard?.writeText(location.href).then(() => { $("copy").textContent = "Copied"; });
  $("progress").oninput = (e) => { stop(); frame(e.target.value / 1000); };
  $("play").onclick = () => (playing ? stop() : play(true));
}

let playing = 0;

function stop() { cancelAnimationFrame(playing); playing = 0; $("play").textContent = "Play"; }

function play(asked = false) {
  stop();
  if (!asked && matchMedia("(prefers-reduced-motion: reduce)").matches) { $("progress").value = 1000; frame(1); return; }
  const began = performance.now(), long = 4500;
  const tick = (now) => {
    const progress = Math.min(Math.max(now - began, 0) / long, 1);
    $("progress").value = 1000 * progress;
    frame(progress);
    if (progress < 1) playing = requestAnimationFrame(tick); else stop();
  };
  $("play").textContent = "Pause";
  playing = requestAnimationFrame(tick);
}

function all() {
  $("clear").hidden = $("hint").hidden = state.data !== "drawn";
  const began = performance.now();
  prepare();
  SIDES.forEach(compute);
  $("time").textContent = `Both runs and the floor took ${Math.round(performance.now() - began)} ms in this browser.`;
  writeHash(); fill(); play();
}

function redraw() { if (run.b) { frame($("progress").value / 1000); SIDES.forEach(marginal); chart(); } }

readHash(); build(); all();
window.addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
window.addEventListener("hashchange", () => { readHash(); build(); all(); });
globalThis.page = { state, run, frame, curves: () => curves, floor: () => floor, stop };
