/** Pieces of the page. Whatever comes from the server goes in as text, never as markup. */

import { line } from "./api.js";
import { number } from "./figures.js";
import { cut, pretty } from "./json.js";
import { address, go } from "./router.js";

export const $ = (id) => document.getElementById(id);

/** For fields that hold names of a program's, not prose. */
export const PLAIN = { spellcheck: "false", autocapitalize: "off", autocomplete: "off" };

/** Makes an element. Functions listen (`onclick`), false and null leave an attribute out, nothing is parsed. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (there(value)) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter(there));
  return node;
}

const there = (value) => value !== false && value !== null && value !== undefined;

export const link = (text, href, attributes = {}) => element("a", { href, ...attributes }, text);
export const code = (text) => element("code", {}, text);
export const hint = (...children) => element("p", { class: "hint" }, ...children);

/** Who somebody is: an empty id means an anonymous client, which must not look like a user of that name. */
export const person = (user) => (user === "" ? element("i", {}, "anonymous") : user);

/** Says something at the foot of the page, also to those who do not see it; or to them alone, where others do. */
export function say(text, { seen = false } = {}) {
  const note = element("p", { class: seen && "hidden" }, text);
  $("said").replaceChildren(note);
  setTimeout(() => note.remove(), 6_000);
}

export const failure = (error) => element("p", { class: "error", role: "alert" }, error.message);

/** Says which nodes have not answered, where their part is lacking. */
export const lacking = (missing = [], what = "what they have") =>
  missing.length ? element("p", { class: "warning", role: "status" },
    `No answer from ${missing.join(", ")}: this lacks ${what}.`) : null;

/**
 * Fills a place with what is asked for, or with what is said against it; once the gateway is back, it asks again.
 * @param {Element} place
 * @param {AbortSignal} signal after which nobody wants it any more
 * @param {() => Promise<any>} ask
 * @param {(answer: any) => Node | Node[]} show
 */
export async function fill(place, signal, ask, show) {
  place.setAttribute("aria-busy", "true");
  try {
    const answer = await ask();
    if (!signal.aborted) place.replaceChildren(...[show(answer)].flat().filter(Boolean));
  } catch (error) {
    if (signal.aborted) return;
    place.replaceChildren(failure(error));
    line.addEventListener("back", () => fill(place, signal, ask, show), { once: true, signal });
  } finally {
    place.removeAttribute("aria-busy");
  }
}

/**
 * Puts something newer in a place; what has the focus there keeps it. Where somebody marks text, presses a button or is
 * being asked, all stays as it is for now, and the answer is false.
 */
export function renew(place, ...children) {
  const marked = getSelection();
  if (!marked.isCollapsed && place.contains(marked.anchorNode)) return false;
  if (place.querySelector(".asking, button:active")) return false;
  const handles = () => [...place.querySelectorAll("a, button")];
  const at = handles().indexOf(document.activeElement);
  const href = document.activeElement?.getAttribute("href");
  place.replaceChildren(...children);
  const same = handles().find((each) => href && each.getAttribute("href") === href) ?? handles()[at];
  if (at >= 0) same?.focus({ preventScroll: true });
  return true;
}

const shown = new WeakMap();

/** Puts something newer in a place if it is about something else than before: what was opened there stays open. */
export function update(place, about, show) {
  const text = JSON.stringify(about);
  if (shown.get(place) !== text && renew(place, ...[show(about)].flat())) shown.set(place, text);
}

export function section(title, ...children) {
  const heading = typeof title === "string" ? element("h2", {}, title) : title;
  return element("section", {}, heading, ...children);
}

/** A list of facts: names and what there is to say. */
export const facts = (pairs) => element("dl", { class: "facts" },
  pairs.filter(Boolean).map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value))));

/**
 * @typedef {{label: string, cell: (row: any) => any, kind?: string}} Column  kinds are "number", "short" (a line
 *   at most), "more" and "most": hidden where there is less room, "most" also on a phone, where a row becomes a card
 * @param {{caption: string, columns: Column[], rows: any[], empty: string, mark?: (row: any) => string}} what
 */
export function table({ caption, columns, rows, empty, mark = () => "" }) {
  if (!rows.length) return element("p", { class: "empty" }, empty);
  const head = columns.map(({ label, kind }) => element("th", { scope: "col", class: kind }, label));
  const body = rows.map((row) => element("tr", { class: mark(row) || null }, columns.map(({ label, kind, cell }) =>
    element("td", { class: kind, "data-label": label }, cell(row)))));
  return element("div", { class: "table" }, element("table", {},
    element("caption", { class: "hidden" }, caption),
    element("thead", {}, element("tr", {}, head)),
    element("tbody", {}, body)));
}

/** The foot of a list that is read by cursor. `at` gives the address of the page behind a cursor. */
export function pager(pages, cursor, at, shown) {
  const turn = (text, to, rel) => (to === null
    ? element("button", { class: "quiet", disabled: true }, text)
    : link(text, at(to), { class: "button quiet", rel }));
  if (pages.previous === null && !cursor) return hint(shown);
  return element("nav", { class: "pager", "aria-label": "Pages" },
    turn("← Previous", pages.previous, "prev"), turn("Next →", cursor || null, "next"),
    element("span", { class: "hint" }, `Page ${number(pages.number)} · ${shown}`));
}

/**
 * A button that does something and says in its own place if that fails. With a question it asks first, there as well.
 * @param {string} label
 * @param {() => Promise<string>} act gives the sentence that says what was done
 */
export function action(label, act, { question = "", danger = false, small = false } = {}) {
  const problem = element("span", { class: "error", role: "alert" });
  const kind = ["quiet", danger && "danger", small && "small"].filter(Boolean).join(" ");
  const first = element("button", { type: "button", class: kind }, label);
  const place = element("span", { class: "action" }, first, problem);
  const back = () => {
    place.replaceChildren(first, problem);
    first.focus();
  };
  const run = async () => {
    back();
    first.disabled = true;
    problem.textContent = "";
    try {
      say(await act());
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      first.disabled = false;
    }
  };
  const ask = () => {
    const no = element("button", { type: "button", class: "quiet", onclick: back }, "No");
    const yes = element("button", { type: "button", class: danger && "danger", onclick: run },
      `Yes, ${label.toLowerCase()}`);
    const escape = (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      back();
    };
    const asking = { class: "asking", role: "group", "aria-label": question, onkeydown: escape };
    place.replaceChildren(element("span", asking, question, yes, no));
    no.focus();
  };
  first.addEventListener("click", question ? ask : run);
  return place;
}

/** A form whose fields are words of the address: what is entered is at once something to link to. */
export function filters(fields, query, at) {
  const field = ({ name, label, example: placeholder, control }) => {
    const id = `filter-${name}`;
    const input = control ?? element("input", { id, name, type: "search", value: query[name], placeholder, ...PLAIN });
    return element("label", { for: id }, label, input);
  };
  const form = element("form", { class: "filters", role: "search" }, fields.map(field),
    element("button", { type: "submit" }, "Find"),
    Object.keys(query).length > 0 && link("Clear", at({}), { class: "button quiet" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go(at(Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]))));
  });
  return form;
}

/** A value as JSON, laid out; what is long is cut until somebody wants it. */
export function payload(value, length = 2_000) {
  const text = pretty(value);
  const [shown, left] = cut(text, length);
  const block = element("pre", {}, shown);
  if (!left) return block;
  const rest = element("button", { type: "button", class: "quiet small" }, `… ${number(left)} more characters`);
  rest.addEventListener("click", () => {
    block.textContent = text;
    rest.remove();
  });
  return element("div", {}, block, rest);
}

/** Starts the flight recorder and goes there. */
export const recordAction = (call, what, name) => action(`Record ${what}`, async () => {
  await call("record", { what, name, seconds: 120 });
  go(address("recorder", [], { what, name }));
  return `Recording the ${what} for 2 minutes.`;
});
