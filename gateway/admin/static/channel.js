/** One channel: what holds for it, who is there, what was published. */

import { call } from "./api.js";
import {
  action, code, element, facts, fill, hint, lacking, link, payload, person, recordAction, section, table,
} from "./dom.js";
import { bytes, count, number, NOTHING } from "./figures.js";
import { written } from "./json.js";
import { address } from "./router.js";

const MEMBERS = 50;
const PUBLICATIONS = 20;

export function channel({ parts: [name = ""], signal }) {
  const ask = (method, body) => call(method, { channel: name, ...body }, signal);
  const about = element("div", { class: "list" });
  const numbers = element("div");
  fill(about, signal, () => ask("channel"), describe);
  fill(numbers, signal, () => ask("presence_stats"), ({ num_clients, num_users }) =>
    hint(`${count(num_clients, "client")} of ${count(num_users, "user")}.`));
  const present = paged(signal, (cursor) => ask("presence", { limit: MEMBERS, cursor }), showMembers, "Presence");
  const past = paged(signal, (cursor) => readHistory(ask, cursor), showPublications, "History");
  const remove = action("Remove history", async () => {
    await ask("history_remove");
    past.read();
    return `The history of ${name} is removed.`;
  }, { question: `Remove all that is kept of ${name}?`, danger: true });
  return {
    title: "Channel",
    up: address("channels"),
    content: [
      element("p", { class: "name" }, code(name)),
      element("div", { class: "buttons" },
        link("Who is connected", address("connections", [], { channel: name }), { class: "button quiet" }),
        link("Publish", address("publish", [], { channel: name }), { class: "button quiet" }),
        recordAction(call, "channel", name), remove),
      about, section("Presence", numbers, present.place), section("History", past.place),
    ],
  };
}

/** A list whose pages replace each other in its place: those before are remembered by their cursors. */
function paged(signal, ask, show, name) {
  const place = element("div", { class: "list" });
  let cursors = [""];
  const read = (to = [""]) => {
    cursors = to;
    return fill(place, signal, () => ask(cursors.at(-1)), (answer) => [...show(answer), foot(answer)]);
  };
  const turn = (text, to) => element("button", {
    type: "button", class: "quiet", disabled: !to, onclick: () => read(to),
  }, text);
  const foot = ({ cursor }) => (cursor || cursors.length > 1)
    && element("nav", { class: "pager", "aria-label": `Pages of ${name}` },
      turn("← Previous", cursors.length > 1 && cursors.slice(0, -1)), turn("Next →", cursor && [...cursors, cursor]),
      element("span", { class: "hint", role: "status" }, `Page ${cursors.length}`));
  read();
  return { place, read };
}

function describe({ namespace, route, options, subscribers, missing }) {
  const total = subscribers.reduce((sum, each) => sum + each.count, 0);
  return [
    section("Subscribers", lacking(missing, "their subscribers"), table({
      caption: "Subscribers by node", empty: "Nobody is subscribed.",
      rows: [...subscribers, ...(subscribers.length > 1 ? [{ name: "all nodes", count: total }] : [])],
      columns: [
        { label: "Node", cell: ({ name, node }) => name || node },
        { label: "Subscribers", kind: "number", cell: ({ count: many }) => number(many) },
      ],
    })),
    section(route ? `Options of the route ${route}` : namespace ? `Options of the namespace ${namespace}` : "Options",
      ...showOptions(options)),
  ];
}

/** What is on, each with its value; of the rest the names will do. */
function showOptions(options) {
  const isOn = ([, value]) => Boolean(value) && !(Array.isArray(value) && !value.length);
  const all = Object.entries(options);
  const off = all.filter((each) => !isOn(each)).map(([option]) => option);
  return [
    all.some(isOn) && facts(all.filter(isOn).map(([option, value]) => [option, written(value)])),
    off.length > 0 && hint(`Off or empty: ${off.join(", ")}`),
  ];
}

function showMembers({ presence }) {
  return [table({
    caption: "Presence", rows: Object.values(presence), empty: "Nobody is present.",
    columns: [
      { label: "User", cell: ({ user }) =>
        (user ? link(user, address("connections", [], { user }), { class: "open" }) : person(user)) },
      { label: "Client", kind: "short", cell: ({ client }) => code(client) },
      { label: "Info", cell: ({ conn_info, chan_info }) =>
        [conn_info, chan_info].filter((each) => each !== undefined).map((each) => payload(each, 300)) },
    ],
  })];
}

/** A page of the stream, the newest first; its cursor is the position of its last. */
async function readHistory(ask, cursor) {
  const since = cursor ? JSON.parse(cursor) : undefined;
  const { publications, offset, epoch } = await ask("history", { limit: PUBLICATIONS, reverse: true, since });
  const last = publications.at(-1)?.offset;
  return {
    publications, offset, epoch,
    cursor: publications.length === PUBLICATIONS && last > 1 ? JSON.stringify({ offset: last, epoch }) : "",
  };
}

function showPublications({ publications, offset, epoch }) {
  return [
    hint("Its stream is at offset ", element("strong", {}, String(offset)), " of epoch ", code(epoch || NOTHING), "."),
    table({
      caption: "Publications", rows: publications, empty: "Nothing is kept.",
      columns: [
        { label: "Offset", kind: "number", cell: (each) => String(each.offset ?? NOTHING) },
        { label: "By", kind: "short", cell: ({ info, tags }) => [info ? person(info.user) : "server",
          ...Object.entries(tags ?? {}).map((tag) => element("span", { class: "tag" }, tag.join("=")))] },
        { label: "Data", cell: ({ data, b64data }) => (b64data === undefined ? payload(data)
          : [hint(`Bytes, not JSON: ${bytes((b64data.length * 3) / 4)} in base64`), payload(b64data, 300)]) },
      ],
    }),
  ];
}
