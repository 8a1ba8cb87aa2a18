/** One connection: who it is, how it does, its subscriptions, and what can be done about it. */

import { call } from "./api.js";
import {
  action, code, element, facts, failure, link, pager, payload, person, recordAction, renew, section, table, update,
} from "./dom.js";
import { bytes, clock, count, duration, latency, number, NOTHING } from "./figures.js";
import { every } from "./polling.js";
import { address, Pages } from "./router.js";

const AGAIN = 3_000;
/** The code of an answer about somebody who is not there. */
const GONE = 104;
let visited = { key: "", pages: new Pages() };

export function connection({ parts: [node = "", client = ""], query: { cursor = "" }, signal }) {
  const key = `${node}/${client}`;
  if (visited.key !== key) visited = { key, pages: new Pages() };
  const pages = visited.pages.visit(cursor);
  const buttons = element("div", { class: "buttons" });
  const problem = element("div");
  const about = element("div");
  const info = element("div");
  const subscriptions = element("div", { class: "list" });
  let over = false;
  const at = (to) => address("connection", [node, client], { cursor: to });
  const show = (answer) => {
    if (!buttons.childElementCount) buttons.append(...actions(answer.connection, ask));
    renew(about, describe(answer));
    update(info, answer.info ?? null, (value) => (value === null ? [] : section("Info", payload(value))));
    const { subscriptions: all, cursor: more, connection: { user } } = answer;
    update(subscriptions, { all, more }, () =>
      [subscriptionTable(all, user, client), pager(pages, more, at, count(all.length, "subscription"))]);
  };
  const ask = every(() => AGAIN, async () => {
    if (over) return;
    try {
      const answer = await call("connection", { node, client, cursor }, signal);
      if (signal.aborted) return;
      show(answer);
      update(problem, "", () => []);
    } catch (error) {
      if (signal.aborted) return;
      over = error.code === GONE;
      update(problem, error.message, () => (over ? failure({ message: "This connection has gone." }) : failure(error)));
      if (over) for (const each of [...buttons.children, ...subscriptions.querySelectorAll(".action")]) each.remove();
    }
  }, signal);
  return {
    title: "Connection",
    up: address("connections"),
    content: [
      element("p", { class: "name" }, code(client)), buttons, problem, about, info,
      section("Subscriptions", subscriptions),
    ],
  };
}

function actions({ node, client, user }, ask) {
  const close = (reconnect, said) => async () => {
    await call("close", { node, client, reconnect });
    ask();
    return said;
  };
  return [
    action("Close", close(true, "Closed. The client may return.")),
    action("Close for good", close(false, "Closed for good."), {
      question: "Close this connection for good? Its client will not return by itself.", danger: true,
    }),
    recordAction(call, "client", client),
    user ? recordAction(call, "user", user) : null,
  ].filter(Boolean);
}

function describe({ connection: one, expire_at, user_agent }) {
  const now = Date.now() / 1000;
  const all = (text, query) => link(text, address("connections", [], query), { title: "All connections like this" });
  return facts([
    ["User", one.user ? all(one.user, { user: one.user }) : person(one.user)],
    ["State", one.state],
    ["Address", one.address ? all(one.address, { address: one.address }) : NOTHING],
    ["Node", all(one.node_name || one.node, { node: one.node })],
    ["Protocol", `${one.protocol} over ${one.transport}`],
    ["Connected", one.since ? `${clock(one.since)}, for ${duration(now - one.since)}` : "not yet"],
    ["Expires", expire_at ? `${clock(expire_at)}, in ${duration(expire_at - now)}` : "never"],
    ["Queued", bytes(one.queued)],
    ["Round trip", latency(one.round_trip)],
    ["Channels", number(one.subscriptions)],
    ["User agent", user_agent || NOTHING],
  ]);
}

function subscriptionTable(rows, user, client) {
  const yes = (value) => (value ? "yes" : "no");
  return table({
    caption: "Subscriptions", rows, empty: "It is subscribed to nothing.",
    columns: [
      { label: "Channel", cell: ({ channel }) => link(channel, address("channel", [channel]), { class: "open" }) },
      { label: "State", cell: ({ state }) => state },
      { label: "Made by", cell: ({ server_side }) => (server_side ? "server" : "client") },
      { label: "Positioned", kind: "short more", cell: ({ positioned }) => yes(positioned) },
      { label: "Recoverable", kind: "short more", cell: ({ recoverable }) => yes(recoverable) },
      { label: "Offset", kind: "number", cell: ({ offset }) => offset ?? NOTHING },
      { label: "Epoch", kind: "short most", cell: ({ epoch }) => (epoch ? code(epoch) : NOTHING) },
      { label: "Action", kind: "end", cell: ({ channel }) => action("Unsubscribe", async () => {
        await call("unsubscribe", { user, client, channel });
        return `Unsubscribed from ${channel}.`;
      }, { question: `Unsubscribe from ${channel}?`, small: true }) },
    ],
  });
}
