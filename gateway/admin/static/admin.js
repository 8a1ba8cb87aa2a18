/** The admin page: what stands around the views, and which of them is shown. */

import { line, signedIn, signOut } from "./api.js";
import { channel } from "./channel.js";
import { channels } from "./channels.js";
import { connection } from "./connection.js";
import { connections } from "./connections.js";
import { $, element, say } from "./dom.js";
import { clock, count } from "./figures.js";
import { listen } from "./keys.js";
import "./login.js";
import { overview } from "./overview.js";
import { cluster } from "./polling.js";
import { publish } from "./publish.js";
import { recorder } from "./recorder.js";
import { address, go, place } from "./router.js";
import { settings } from "./settings.js";

/** A view gives its title and content, `up` where it belongs to another, and `focus` what is to be filled in first. */
const VIEWS = { overview, connections, connection, channels, channel, publish, recorder, settings };
const SECTION = { connection: "connections", channel: "channels" };

let leave = new AbortController();
let shown = { view: "", up: "" };
let steps = 0;

/** Shows what the address says. Within a view the focus stays where it is; another view begins at its title. */
function show() {
  leave.abort();
  leave = new AbortController();
  const wanted = place(location.hash);
  const view = VIEWS[wanted.view] ? wanted.view : "overview";
  const held = view === shown.view && document.activeElement?.id;
  const { title, content, up = "", focus = null } = VIEWS[view]({ ...wanted, signal: leave.signal });
  const subject = wanted.parts.at(-1);
  document.title = `${subject ? `${subject} · ` : ""}${title} · Gateway`;
  $("title").textContent = title;
  $("up").hidden = !up;
  $("up").href = up;
  $("view").replaceChildren(...content.filter(Boolean));
  for (const each of document.querySelectorAll("#views a")) {
    const current = each.hash === address(SECTION[view] ?? view);
    if (current) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  const first = focus && matchMedia("(pointer: fine)").matches ? focus : $("title");
  ((held && $(held)) || first).focus({ preventScroll: true });
  if (view !== shown.view) scrollTo(0, 0);
  shown = { view, up };
}

function showState() {
  const { answer, problem } = cluster;
  $("sign-out").hidden = !signedIn();
  if (!answer) return;
  const bad = answer.nodes.filter(({ status }) => status !== "ok").length + answer.missing.length;
  const all = answer.nodes.length + answer.missing.length;
  const state = problem ? "away" : bad ? "bad" : "ok";
  const [short, rest] = {
    away: ["No answer", ""], bad: [`${bad} of ${all}`, " nodes not well"], ok: [count(all, "node"), ", all well"],
  }[state];
  $("state").dataset.state = state;
  if ($("state-text").textContent === short + rest) return; // or it would be read out again
  $("state-text").replaceChildren(element("strong", {}, short), rest);
}

line.addEventListener("away", ({ detail }) => {
  const since = clock(Date.now() / 1000);
  $("away").textContent = `No answer of the gateway since ${since} (${detail}). It is asked again and again. What is`
    + " below may be outdated.";
  $("away").hidden = false;
});
line.addEventListener("back", () => {
  $("away").hidden = true;
  say("The gateway answers again.");
});

addEventListener("hashchange", ({ oldURL }) => {
  if (oldURL) steps += 1;
  $("views").hidePopover();
  show();
});
/** A click anywhere in a row opens it, unless it is for something in it, or to mark text. */
addEventListener("click", ({ target, button, ctrlKey, metaKey, shiftKey }) => {
  if (button || ctrlKey || metaKey || shiftKey || !getSelection().isCollapsed) return;
  if (!target.closest("a, button, input, details, .asking")) target.closest("tr")?.querySelector("a.open")?.click();
});
$("again").addEventListener("click", () => go(location.hash));
$("sign-out").addEventListener("click", signOut);
$("open-keys").addEventListener("click", () => $("keys").showModal());
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("title").focus();
});
listen(() => {
  if (!shown.up) return;
  if (steps) history.back();
  else location.hash = shown.up;
});

cluster.watch(showState, new AbortController().signal, false);
cluster.start();
show();
