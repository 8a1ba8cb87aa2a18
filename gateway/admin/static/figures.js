/** Figures of the nodes and how they are written: pure, so that they can be tried without a browser. */

/**
 * @typedef {{bounds: number[], counts: number[]}} Histogram  one count more than bounds: what is beyond all
 * @typedef {{uid: string, name: string, at: number, uptime: number, connections: number}} Node  and its counters
 */

const COUNTERS = ["cpu", "publications_in", "publications_out", "deliveries", "bytes_out"];

/** What each counter of a node grew by per second between two answers; null if these do not compare. */
export function rates(before, now) {
  if (!before || before.uid !== now.uid || !(now.at > before.at)) return null;
  const grown = COUNTERS.map((name) => [name, (now[name] - before[name]) / (now.at - before.at)]);
  return grown.every(([, rate]) => rate >= 0) ? Object.fromEntries(grown) : null;
}

/**
 * The value that a share of those observed between two answers do not exceed. Within a bucket they count as spread
 * evenly; Infinity is beyond the last bound, null is none observed.
 * @param {Histogram | undefined} before
 * @param {Histogram} now
 * @param {number} share such as 0.99
 */
export function percentile(before, now, share) {
  const counts = now.counts.map((count, index) => Math.max(0, count - (before?.counts[index] ?? 0)));
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (!total) return null;
  let left = share * total;
  for (const [index, count] of counts.entries()) {
    if (count && left <= count) {
      const [from, to] = [now.bounds[index - 1] ?? 0, now.bounds[index] ?? Infinity];
      return to === Infinity ? Infinity : from + ((to - from) * left) / count;
    }
    left -= count;
  }
  return Infinity;
}

/** Seconds for which answers are kept, to draw them. */
export const KEPT = 300;
/** Seconds over which a node's own rates and percentiles are taken: two seconds alone jump about. */
const SPAN = 10;

/** What the answers of the nodes come to over the last minutes. */
export class Trend {
  /** @type {{at: number, connections: number, users: number, channels: number, published: number | null}[]} */
  totals = [];
  /** @type {Map<string, Node[]>} the answers of the last seconds by uid, the oldest first */
  #answers = new Map();

  /** Adds the answers of all nodes, as they are at a time of the page's own clock (seconds). */
  add(nodes, at) {
    const before = this.#answers;
    this.#answers = new Map(nodes.map((node) => {
      const earlier = before.get(node.uid) ?? [];
      const kept = earlier.filter((each) => node.at - each.at <= SPAN);
      return [node.uid, [...(kept.length ? kept : earlier.slice(-1)), node]];
    }));
    const steps = nodes.map((node) => rates(before.get(node.uid)?.at(-1), node)).filter(Boolean);
    const sum = (all, name) => all.reduce((total, each) => total + each[name], 0);
    const rate = (name) => (steps.length ? sum(steps, name) : null);
    this.totals = this.totals.filter((each) => at - each.at <= KEPT);
    this.totals.push({
      at, connections: sum(nodes, "connections"), users: sum(nodes, "users"), channels: sum(nodes, "channels"),
      published: rate("publications_in"), delivered: rate("deliveries"), sent: rate("bytes_out"),
    });
  }

  /** How a node has done over the last seconds: its rates, and 99th percentiles; null where they are not known yet. */
  of(uid) {
    const answers = this.#answers.get(uid) ?? [];
    const [first, last] = [answers[0], answers.at(-1)];
    const p99 = (name) => (last && first !== last ? percentile(first[name], last[name], 0.99) : null);
    return { rate: last ? rates(first, last) : null, loop: p99("loop_lag"), delivery: p99("delivery_lag") };
  }
}

/** What a cell shows where there is nothing to show. */
export const NOTHING = "–";

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

/** 0 · 3.4 · 1,234 · 1.23 M */
export function number(value) {
  if (!known(value)) return NOTHING;
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)} G`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} M`;
  return value < 9.95 && !Number.isInteger(value) ? value.toFixed(1) : grouped.format(value);
}

/** 12 B · 3.4 KiB · 120 MiB */
export function bytes(value) {
  if (!known(value)) return NOTHING;
  const power = value < 1 ? 0 : Math.min(4, Math.floor(Math.log2(value) / 10));
  const scaled = value / 1024 ** power;
  return `${scaled.toFixed(power && scaled < 99.5 ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

/** How long something took, from seconds: 0.8 ms · 25 ms · 1.2 s. */
export function latency(seconds, beyond = 0) {
  if (!known(seconds)) return NOTHING;
  if (seconds === Infinity) return `> ${latency(beyond)}`;
  if (seconds >= 1) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
}

/** How long something lasts, from seconds, in its two largest units: 12 s · 3 min 20 s · 4 d 3 h. */
export function duration(seconds) {
  if (!known(seconds)) return NOTHING;
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = Math.max(0, parts.findIndex(([size]) => whole >= size));
  if (whole < 60) return `${whole} s`;
  const [[large, unit], [small, lesser]] = parts.slice(first, first + 2);
  const rest = Math.floor((whole % large) / small);
  return `${Math.floor(whole / large)} ${unit}${rest ? ` ${rest} ${lesser}` : ""}`;
}

const pad = (value, width = 2) => String(value).padStart(width, "0");

/** The time of day here, from Unix seconds, with the date if that is another: 03:12:45 · 2026-01-30 03:12:45. */
export function clock(seconds, now = Date.now(), digits = 0) {
  if (!seconds) return NOTHING;
  const [then, today] = [new Date(seconds * 1000), new Date(now)];
  const part = digits ? `.${pad(then.getMilliseconds(), 3)}` : "";
  const time = `${pad(then.getHours())}:${pad(then.getMinutes())}:${pad(then.getSeconds())}${part}`;
  const date = `${then.getFullYear()}-${pad(then.getMonth() + 1)}-${pad(then.getDate())}`;
  return then.toDateString() === today.toDateString() ? time : `${date} ${time}`;
}

/** 1 node · 2 nodes */
export const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
