/** The keyboard: every view and every row can be reached without a mouse. */

import { $ } from "./dom.js";
import { address, go } from "./router.js";

const VIEWS = { o: "overview", c: "connections", h: "channels", p: "publish", r: "recorder", s: "settings" };
/** Milliseconds in which a letter follows on `g`. */
const FOLLOWS = 1_500;
let going = 0;

const rows = () => [...document.querySelectorAll("main tbody tr")];
/** What takes the focus for a row: its link, or the row itself. */
const handle = (row) => row.querySelector("a[href]") ?? Object.assign(row, { tabIndex: -1 });

function move(step) {
  const all = rows();
  const at = all.indexOf(document.activeElement?.closest("tbody tr"));
  const to = at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step));
  if (!all.length) return;
  handle(all[to]).focus();
  all[to].scrollIntoView({ block: "nearest" });
}

/** @param {() => void} up leaves a view for the one it belongs to */
export function listen(up) {
  const act = {
    "/": () => document.querySelector("main input[type=search]")?.select(),
    "?": () => $("keys").showModal(),
    j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
    g: () => (going = Date.now()),
    n: () => document.querySelector("main a[rel=next]")?.click(),
    b: () => document.querySelector("main a[rel=prev]")?.click(),
    r: () => go(location.hash),
    Escape: up,
  };
  addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector("dialog[open]")) return;
    if (target.matches("input, textarea, select")) return key === "Escape" ? target.blur() : undefined;
    if (Date.now() - going < FOLLOWS && VIEWS[key]) {
      going = 0;
      event.preventDefault();
      return go(address(VIEWS[key]));
    }
    if (!act[key] || (key.startsWith("Arrow") && target.closest(".events, pre"))) return;
    if (key !== "Escape") event.preventDefault();
    act[key]();
  });
}
