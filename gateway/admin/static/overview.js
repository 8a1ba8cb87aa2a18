/** How the cluster is: what needs somebody, the totals with their last minutes, and each node. */

import { element, failure, hint, link, renew, section, table, update } from "./dom.js";
import { bytes, count, duration, KEPT, latency, number, NOTHING } from "./figures.js";
import { cluster } from "./polling.js";
import { address } from "./router.js";

const TOTALS = [
  ["Connections", "connections", number],
  ["Users", "users", number],
  ["Channels", "channels", number],
  ["Publications/s", "published", number],
  ["Deliveries/s", "delivered", number],
  ["Sent/s", "sent", bytes],
];
/** The worst last. A word alone would do; the sign is seen from further away. */
const SIGNS = { ok: "●", draining: "↓", degraded: "▲", full: "■", isolated: "✕", silent: "?" };
const gravity = (status) => Object.keys(SIGNS).indexOf(status);
/** Of a limit: what is nearer to it needs somebody. */
const NEAR = 0.9;

export function overview({ signal }) {
  const needs = element("div", { class: "needs", role: "status" });
  const cards = TOTALS.map(([label, name, format]) => card(label, name, format));
  const nodes = element("div");
  const look = () => {
    const { answer, trend } = cluster;
    if (!answer) return nodes.replaceChildren(failure({ message: cluster.problem }));
    const about = { problems: problemsOf(answer), answering: answer.nodes.length };
    update(needs, about, showProblems); // only what is new is read out
    for (const each of cards) each.show(trend.totals);
    renew(nodes, nodeTable(answer, trend));
  };
  cluster.watch(look, signal);
  return {
    title: "Overview",
    content: [
      needs,
      element("ul", { class: "cards", "aria-label": "Totals" }, cards.map((each) => each.item)),
      hint("Users and channels are counted on each node: who is on two counts twice."),
      section("Nodes", nodes),
    ],
  };
}

/** What needs somebody, worst first: whose it is, in a word, and in words. */
function problemsOf({ nodes, missing }) {
  const problems = missing.map((name) => [name, "silent", "does not answer"]);
  for (const node of nodes) {
    const reasons = node.reasons.map(({ text }) => text).join("; ");
    if (node.status !== "ok" || reasons) problems.push([node.name, node.status, reasons || node.status]);
    for (const [used, limit, what] of [
      [node.connections, node.connection_limit, "connections"], [node.descriptors, node.descriptor_limit, "open files"],
    ]) if (isNear(used, limit)) problems.push([node.name, "full", `${number(used)} of ${number(limit)} ${what}`]);
  }
  const versions = versionsOf(nodes);
  if (versions.size > 1) {
    const words = [...versions].map(([version, names]) => `${version} on ${names.join(", ")}`);
    problems.push(["Versions differ", "degraded", words.join("; ")]);
  }
  return problems.sort(([, a], [, b]) => gravity(b) - gravity(a));
}

const isNear = (used, limit) => limit > 0 && used >= NEAR * limit;

function versionsOf(nodes) {
  const versions = new Map();
  for (const { name, version } of nodes) versions.set(version, [...(versions.get(version) ?? []), name]);
  return versions;
}

function showProblems({ problems, answering }) {
  if (!problems.length) return element("p", { class: "well" }, `All is well on ${count(answering, "node")}.`);
  const items = problems.map(([name, status, words]) =>
    element("li", {}, sign(status), element("strong", {}, name), element("span", {}, words)));
  return [element("h2", {}, `Needs attention · ${problems.length}`), element("ul", {}, items)];
}

const sign = (status) => element("span", { class: `sign ${status}`, "aria-hidden": "true" }, SIGNS[status] ?? "▲");

function card(label, name, format) {
  const value = element("strong", { class: "value" }, NOTHING);
  const range = element("span", { class: "hint" });
  const drawing = element("div", { class: "sparkline" });
  const show = (totals) => {
    const points = totals.map((each) => ({ at: each.at, value: each[name] }));
    const known = points.map((each) => each.value).filter((each) => each !== null);
    value.textContent = format(points.at(-1)?.value);
    range.textContent = known.length ? `${format(Math.min(...known))} to ${format(Math.max(...known))}` : "";
    drawing.replaceChildren(sparkline(points));
  };
  const item = element("li", { class: "card" }, element("span", { class: "label" }, label), value, drawing, range);
  return { item, show };
}

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 32;
/** Seconds without an answer that leave a gap. */
const GAP = 15;

/** A line through what is known of the last minutes; where nothing is, there is a gap. */
function sparkline(points) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  const end = points.at(-1)?.at ?? 0;
  const width = Math.max(KEPT / 5, end - (points[0]?.at ?? 0)); // at first the last minute, then more
  const most = Math.max(1, ...points.map((each) => each.value ?? 0));
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  let last = null;
  path.setAttribute("d", points.map(({ at, value }) => {
    if (value === null) return (last = null) ?? "";
    const step = last !== null && at - last < GAP ? "L" : "M";
    last = at;
    return `${step}${(width - end + at).toFixed(1)} ${(HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1)}`;
  }).join(""));
  svg.append(path);
  return svg;
}

function nodeTable({ nodes, missing }, trend) {
  const several = versionsOf(nodes).size > 1;
  const rows = [
    ...missing.map((name) => ({ name, status: "silent", silent: true })),
    ...nodes.map((node) => ({ ...node, ...trend.of(node.uid) })),
  ].sort((a, b) => gravity(b.status) - gravity(a.status) || a.name.localeCompare(b.name));
  const last = (histogram) => histogram?.bounds.at(-1);
  const columns = [
    { label: "Node", cell: ({ silent, name, uid }) =>
      (silent ? name : link(name, address("connections", [], { node: uid }), { title: `Its connections (${uid})` })) },
    { label: "Status", kind: "short", cell: status },
    { label: "Connections", kind: "number", cell: (node) => share(node.connections, node.connection_limit) },
    { label: "CPU", kind: "number", cell: ({ rate }) => (rate ? `${Math.round(rate.cpu * 100)} %` : NOTHING) },
    { label: "Memory", kind: "number", cell: ({ rss }) => bytes(rss) },
    { label: "Open files", kind: "number more", cell: (node) => share(node.descriptors, node.descriptor_limit) },
    { label: "Loop lag p99", kind: "number", cell: (node) => latency(node.loop, last(node.loop_lag)) },
    { label: "Delivery p99", kind: "number", cell: (node) => latency(node.delivery, last(node.delivery_lag)) },
    { label: "In/s", kind: "number", cell: (node) => number(node.rate?.publications_in) },
    { label: "Out/s", kind: "number", cell: (node) => number(node.rate?.publications_out) },
    { label: "Slow", kind: "number", cell: ({ slow }) => number(slow) },
    { label: "Queued", kind: "number", cell: ({ queued }) => bytes(queued) },
    { label: "Up", kind: "number more", cell: ({ uptime }) => duration(uptime) },
    { label: "Version", kind: several ? null : "more", cell: ({ version }) =>
      (version ? [version, several && element("small", {}, "differs")] : NOTHING) },
  ];
  const mark = ({ silent }) => (silent ? "silent" : "");
  return table({ caption: "Nodes", columns, rows, empty: "No node has answered.", mark });
}

function status({ silent, status: word, reasons = [] }) {
  if (silent) return [sign("silent"), "no answer"];
  return [sign(word), word, reasons.length ? element("small", { title: reasons.map(({ text }) => text).join("\n") },
    reasons.map(({ reason }) => reason).join(", ")) : null];
}

/** How much of a limit is used, as a number and a bar; 0 is without limit. */
function share(used, limit) {
  if (used === undefined || used === null) return NOTHING;
  if (!(limit > 0)) return number(used);
  const filled = element("span", { class: isNear(used, limit) && "near" });
  filled.style.width = `${Math.min(100, (used / limit) * 100)}%`;
  const bar = element("span", { class: "bar", "aria-hidden": "true" }, filled);
  return [number(used), element("small", {}, `of ${number(limit)}`), bar];
}
