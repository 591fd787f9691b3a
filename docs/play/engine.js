// Runs the plan tables of plans.js on exact denoisers of mixtures in the plane. No library: the
// format of a row is explained in examples/export_plans.py, and tests/test_play.py compares the
// states at the end with those of the Python package.
"use strict";

const EVALUATES = 1, ENDS_SUBSTEP = 2, ENDS_STEP = 4, NOISE = 8, RULE = 16;

// States are Float64Array(2n): x and y of n particles in turn. A mixture is {means: [[x, y], …],
// std, weights}; its denoiser D(x) = g x + (1 − g α) Σ_k p_k m_k, p_k the posterior probabilities.
function denoise(mixture, x, alpha, sigma) {
  const { means, std, weights } = mixture, K = means.length, out = new Float64Array(x.length);
  const variance = (alpha * std) ** 2 + sigma ** 2, gain = (alpha * std ** 2) / variance;
  const logits = new Float64Array(K), prior = weights.map(Math.log);
  for (let i = 0; i < x.length; i += 2) {
    let top = -Infinity, total = 0, mx = 0, my = 0;
    for (let k = 0; k < K; k++) {
      const dx = x[i] - alpha * means[k][0], dy = x[i + 1] - alpha * means[k][1];
      logits[k] = prior[k] - (dx * dx + dy * dy) / (2 * variance);
      if (logits[k] > top) top = logits[k];
    }
    for (let k = 0; k < K; k++) {
      if (logits[k] < top - 40) continue; // below the last digit of the sum
      const p = Math.exp(logits[k] - top);
      total += p; mx += p * means[k][0]; my += p * means[k][1];
    }
    out[i] = gain * x[i] + (1 - gain * alpha) * (mx / total);
    out[i + 1] = gain * x[i + 1] + (1 - gain * alpha) * (my / total);
  }
  return out;
}

function addTo(state, factor, term) {
  for (let i = 0; i < state.length; i++) state[i] += factor * term[i];
}

// x ← scale · x_s + Σ w_j F_j + Σ n_k z_k, row by row. normal(row) gives the next standard normals
// of a substep, as many as the state has numbers; seen(state, λ) sees the state after each step.
function execute(rows, mixture, start, normal, seen = () => {}) {
  const slots = new Map(), last = new Map();
  rows.forEach((row, i) => { for (let j = 0; j < row[3].length; j += 2) last.set(row[3][j], i); });
  let x = start, anchor = start, z = [];
  rows.forEach((row, i) => {
    const [flags, lam, scale, weights, noise, , rule] = row;
    if (flags & EVALUATES) {
      const alpha = 1 / Math.sqrt(1 + Math.exp(-2 * lam)), sigma = 1 / Math.sqrt(1 + Math.exp(2 * lam));
      const F = denoise(mixture, x, alpha, sigma);
      const [onX, onD] = flags & RULE ? rule : flags & NOISE ? [1 / sigma, -alpha / sigma] : [0, 1];
      for (let k = 0; k < F.length; k++) F[k] = onX * x[k] + onD * F[k];
      slots.set(i, F);
    }
    const next = new Float64Array(x.length);
    if (scale !== 0) addTo(next, scale, anchor);
    for (let j = 0; j < weights.length; j += 2) addTo(next, weights[j + 1], slots.get(weights[j]));
    for (const j of slots.keys()) if ((last.get(j) ?? -1) <= i) slots.delete(j);
    while (z.length < noise.length) z.push(normal(row));
    noise.forEach((n, k) => addTo(next, n, z[k]));
    x = next;
    if (flags & ENDS_SUBSTEP) { anchor = x; z = []; }
    if (flags & ENDS_STEP) seen(x, i + 1 < rows.length ? rows[i + 1][1] : Infinity);
  });
  return x;
}

// A standard normal that is a function of (seed, stream, index): integer hashing, then Box–Muller.
function hash(a) {
  a = Math.imul(a ^ (a >>> 16), 0x7feb352d);
  a = Math.imul(a ^ (a >>> 15), 0x846ca68b);
  return (a ^ (a >>> 16)) >>> 0;
}

function normals(seed, stream, count) {
  const out = new Float32Array(count), key = hash(hash(seed + 1) ^ Math.imul(stream + 1, 0x9e3779b1));
  for (let i = 0; i < count; i += 2) {
    const u = (hash(hash(i) ^ key) + 0.5) / 4294967296, v = hash(hash(i + 1) ^ key) / 4294967296;
    const radius = Math.sqrt(-2 * Math.log(u)), angle = 2 * Math.PI * v;
    out[i] = radius * Math.cos(angle);
    if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

// One Brownian path of each coordinate, white on equal intervals of λ (`leaves`). The noise clock of
// the equation with stochasticity ℓ is e^(2ℓ²λ), so that its increment over some leaves is their sum
// with weights e^(ℓ²λ); normalised it is a standard normal, whatever the step.
function increment(path, leaves, width, ell, from, to) {
  const size = path.length / leaves, out = new Float64Array(size);
  let total = 0;
  for (let m = from; m < to; m++) {
    const weight = Math.exp(ell * ell * width * (m - to));
    total += weight * weight;
    const at = m * size;
    for (let i = 0; i < size; i++) out[i] += weight * path[at + i];
  }
  const factor = 1 / Math.sqrt(total);
  for (let i = 0; i < size; i++) out[i] *= factor;
  return out;
}

// The `normal` of `execute` that reads the path from one place in λ to the next.
function along(path, plans, ell) {
  const width = (plans.last - plans.first) / plans.leaves;
  let place = 0;
  return (row) => increment(path, plans.leaves, width, ell, place, (place = row[5]));
}

globalThis.Engine = { denoise, execute, normals, increment, along };
