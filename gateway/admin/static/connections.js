/** Who is connected: found by user, channel, address and node, in pages. */

import { call } from "./api.js";
import { action, element, fill, filters, lacking, link, pager, person, say, table } from "./dom.js";
import { bytes, clock, count, duration, latency, number, NOTHING } from "./figures.js";
import { cluster } from "./polling.js";
import { address, Pages } from "./router.js";

const LIMIT = 50;
/** Where somebody is in a list, by what it is filtered with. */
const visited = new Map();

export function connections({ query: { cursor = "", ...query }, signal }) {
  const at = (words) => address("connections", [], words);
  const key = JSON.stringify(query);
  if (!visited.has(key)) visited.set(key, new Pages());
  const pages = visited.get(key).visit(cursor);
  const list = element("div", { class: "list" });
  fill(list, signal, () => call("connections", { ...query, limit: LIMIT, cursor }, signal), (answer) => {
    const shown = count(answer.connections.length, "connection");
    if (pages.number > 1) say(`Page ${pages.number}: ${shown}`, { seen: true });
    return [lacking(answer.missing, "their connections"),
      connectionTable(answer.connections, key === "{}" ? "Nobody is connected." : "Nobody is connected who fits."),
      pager(pages, answer.cursor, (to) => at({ ...query, cursor: to }), shown)];
  });
  return {
    title: "Connections",
    content: [
      filters([
        { name: "user", label: "User", example: "exact id" },
        { name: "channel", label: "Channel", example: "exact name" },
        { name: "address", label: "Address", example: "10.0.0.7 or 10.0.0.0/8" },
        { name: "node", label: "Node", control: nodeChoice(query.node ?? "", signal) },
      ], query, at),
      query.user ? closeAll(query.user) : null,
      list,
    ],
  };
}

function nodeChoice(chosen, signal) {
  const select = element("select", { id: "filter-node", name: "node" });
  const look = () => {
    const nodes = cluster.answer?.nodes ?? [];
    if (select.options.length > nodes.length) return;
    const known = nodes.some(({ uid }) => uid === chosen) || !chosen;
    select.replaceChildren(option("", "all"), ...(known ? [] : [option(chosen, chosen)]),
      ...nodes.map(({ uid, name }) => option(uid, name)));
    select.value = chosen;
  };
  look();
  cluster.watch(look, signal, false);
  return select;
}

const option = (value, text) => element("option", { value }, text);

const closeAll = (user) => action("Close all of this user", async () => {
  await call("disconnect", { user });
  return `All connections of ${user} are being closed for good.`;
}, { question: `Close all connections of ${user}, on all nodes? They will not return by themselves.`, danger: true });

function connectionTable(rows, empty) {
  const now = Date.now() / 1000;
  return table({
    caption: "Connections", rows, empty,
    columns: [
      { label: "User", cell: ({ user, node, client }) =>
        link(person(user), address("connection", [node, client]), { class: "open", title: "Open this connection" }) },
      { label: "Client", kind: "short most", cell: ({ client }) =>
        element("code", { title: client }, client.slice(0, 8)) },
      { label: "Address", kind: "short", cell: ({ address: from }) => from || NOTHING },
      { label: "Node", kind: "short", cell: ({ node_name, node }) => node_name || node },
      { label: "Protocol", kind: "short most", cell: ({ protocol, transport }) => `${protocol} · ${transport}` },
      { label: "State", kind: "short most", cell: ({ state }) => state },
      { label: "Connected for", kind: "number", cell: ({ since }) =>
        (since ? element("time", { title: clock(since) }, duration(now - since)) : "not yet") },
      { label: "Channels", kind: "number", cell: ({ subscriptions }) => number(subscriptions) },
      { label: "Queued", kind: "number", cell: ({ queued }) => (queued ? element("strong", {}, bytes(queued)) : bytes(0)) },
      { label: "Round trip", kind: "number", cell: ({ round_trip }) => latency(round_trip) },
    ],
  });
}
