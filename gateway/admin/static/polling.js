/** What is asked again and again, and what it tells all who look on. */

import { call, line } from "./api.js";
import { Trend } from "./figures.js";

/**
 * Does something now and again after a pause, until the signal; not while nobody sees the page.
 * @param {() => number} pause in milliseconds, counted from the end of the work
 * @param {() => Promise<void>} work throws nothing
 * @param {AbortSignal} signal
 * @returns {() => void} does it at once
 */
export function every(pause, work, signal) {
  let timer = 0;
  let working = false;
  const turn = async () => {
    clearTimeout(timer);
    if (working || document.hidden || signal.aborted) return;
    working = true;
    await work();
    working = false;
    if (!signal.aborted) timer = setTimeout(turn, pause());
  };
  document.addEventListener("visibilitychange", turn, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  turn();
  return turn;
}

const QUICK = 2_000;
const SLOW = 10_000;

/** The nodes of the cluster as they last answered, for every view. */
export const cluster = {
  trend: new Trend(),
  /** @type {{nodes: object[], missing: string[]} | null} */
  answer: null,
  problem: "",
  /** @type {Map<() => void, boolean>} */
  watchers: new Map(),
  ask: () => {},

  /** Tells now and after each answer, until the signal; `quick` has the nodes asked more often meanwhile. */
  watch(look, signal, quick = true) {
    this.watchers.set(look, quick);
    signal.addEventListener("abort", () => this.watchers.delete(look));
    if (this.answer || this.problem) look();
    if (quick) this.ask();
  },

  /** Begins to ask, and never ends. */
  start() {
    const pause = () => (this.problem || [...this.watchers.values()].includes(true) ? QUICK : SLOW);
    this.ask = every(pause, async () => {
      try {
        this.answer = await call("nodes");
        this.problem = "";
        this.trend.add(this.answer.nodes, Date.now() / 1000);
      } catch (error) {
        this.problem = error.message;
      }
      for (const look of this.watchers.keys()) look();
    }, new AbortController().signal);
    line.addEventListener("away", this.ask); // from then on it is asked often
  },
};
