/** What happened to whom is recorded, as it happens. */

import { call } from "./api.js";
import { element, failure, lacking, link, payload, PLAIN, section } from "./dom.js";
import { clock, count, duration, number } from "./figures.js";
import { readJSON } from "./json.js";
import { every } from "./polling.js";
import { address } from "./router.js";

const AGAIN = 1_000;
/** Events that the page keeps, and of these those that it shows. */
const KEPT = 20_000;
const SHOWN = 500;
const BAD = new Set(["error", "lost", "close"]);
const COLUMNS = ["Time", "Node", "What", "Whose", "Event"];

/** The latest events stand below, and come into sight by themselves while the end of the list is. */
class List {
  known = [];
  #body = element("tbody");

  constructor(title) {
    const label = { placeholder: "Filter", "aria-label": "Filter events" };
    this.filter = element("input", { id: "events-filter", type: "search", ...label, ...PLAIN });
    this.filter.addEventListener("input", () => this.#showAll());
    const head = element("tr", {}, COLUMNS.map((text) => element("th", { scope: "col" }, text)));
    this.box = element("div", { class: "events", tabindex: 0, role: "region", "aria-label": title },
      element("table", {}, element("caption", { class: "hidden" }, title), element("thead", {}, head), this.#body));
  }

  /** The time of the last event. */
  get last() {
    return this.known.reduce((last, { at }) => Math.max(last, at), 0);
  }

  /** Adds those that are new. */
  add(events) {
    const seen = new Set(this.known.map(({ node, at }) => `${at} ${node}`));
    const fresh = events.filter(({ node, at }) => !seen.has(`${at} ${node}`));
    this.known = [...this.known, ...fresh].slice(-KEPT);
    this.#show(fresh);
  }

  #showAll() {
    this.#body.replaceChildren();
    this.#show(this.known);
    this.box.scrollTop = this.box.scrollHeight;
  }

  #show(events) {
    const { box, filter } = this;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const fits = (event) => JSON.stringify(event).toLowerCase().includes(filter.value.toLowerCase());
    this.#body.append(...events.filter(fits).slice(-SHOWN).map(eventRow));
    while (this.#body.childElementCount > SHOWN) this.#body.firstElementChild.remove();
    if (atEnd) box.scrollTop = box.scrollHeight;
  }
}

function eventRow({ at, node, kind, client = "", user = "", channel = "", text, data = "" }) {
  const whose = [
    user && link(user, address("connections", [], { user })), channel && link(channel, address("channel", [channel])),
    client && element("code", { title: client }, client.slice(0, 8)),
  ].filter(Boolean);
  const sent = data !== "" && element("details", {}, element("summary", {}, "data"), payload(readJSON(data)));
  return element("tr", { class: BAD.has(kind) && "bad" },
    element("td", { class: "number" }, clock(at, Date.now(), 3)), element("td", { class: "short" }, node),
    element("td", { class: "short" }, element("span", { class: "tag" }, kind)),
    element("td", { class: "whose" }, whose), element("td", {}, text, sent));
}

/** The events of one recording, asked for as they come. */
export function events(what, name, stop, signal) {
  const list = new List(`Events of the ${what} ${name}`);
  const state = element("p", { class: "hint" });
  const problem = element("div");
  const pause = element("button", { type: "button", class: "quiet", "aria-pressed": "false" }, "Pause");
  pause.addEventListener("click", () => pause.setAttribute("aria-pressed", String(!paused())));
  const paused = () => pause.getAttribute("aria-pressed") === "true";
  const save = () => download(list.known, `${what}-${name}.json`);
  let behind = 0;
  let more = false;
  every(() => (more ? 0 : AGAIN), async () => {
    more = false;
    if (paused()) return;
    try {
      const answer = await call("recording", { what, name, after: behind }, signal);
      const { events: fresh, until, missing, dropped = 0 } = answer;
      list.add(fresh);
      more = answer.more ?? false;
      if (more || !missing.length) behind = list.last; // else a node that is silent now may tell them yet
      const left = until - Date.now() / 1000;
      state.textContent = [count(list.known.length, "event"), dropped && `${number(dropped)} more were dropped`,
        left > 0 ? `${duration(left)} left` : "over"].filter(Boolean).join(" · ");
      problem.replaceChildren(lacking(missing, "what happened there") ?? "");
    } catch (error) {
      if (!signal.aborted) problem.replaceChildren(failure(error));
    }
  }, signal);
  return section(element("h2", {}, `Events of the ${what} `, element("code", {}, name)),
    element("div", { class: "buttons" }, list.filter, pause,
      element("button", { type: "button", class: "quiet", onclick: save }, "Download"), stop, state),
    problem, list.box);
}

function download(events, name) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(events, null, 1)], { type: "application/json" }));
  element("a", { href: url, download: name.replace(/[^\w.-]+/g, "_") }).click();
  URL.revokeObjectURL(url);
}
