/** The channels with subscribers, by name, in pages. */

import { call } from "./api.js";
import { element, fill, filters, lacking, link, pager, say, table } from "./dom.js";
import { count, number } from "./figures.js";
import { address, Pages } from "./router.js";

const LIMIT = 100;
const visited = new Map();

export function channels({ query: { cursor = "", pattern = "" }, signal }) {
  const at = (words) => address("channels", [], words);
  if (!visited.has(pattern)) visited.set(pattern, new Pages());
  const pages = visited.get(pattern).visit(cursor);
  const list = element("div", { class: "list" });
  fill(list, signal, () => call("channels", { pattern, cursor, limit: LIMIT }, signal), (answer) => {
    const rows = Object.entries(answer.channels);
    const shown = count(rows.length, "channel");
    if (pages.number > 1) say(`Page ${pages.number}: ${shown}`, { seen: true });
    return [
      lacking(answer.missing, "what they have"),
      table({
        caption: "Channels", rows,
        empty: pattern ? "No channel with a subscriber fits." : "Nobody is subscribed to anything.",
        columns: [
          { label: "Channel", cell: ([name]) => link(name, address("channel", [name]), { class: "open" }) },
          { label: "Subscribers", kind: "number", cell: ([, { num_clients }]) => number(num_clients) },
        ],
      }),
      pager(pages, answer.cursor ?? "", (to) => at({ pattern, cursor: to }), shown),
    ];
  });
  const exact = pattern && !/[*?[]/.test(pattern);
  return {
    title: "Channels",
    content: [
      filters([{ name: "pattern", label: "Name or pattern", example: "room:*" }], pattern ? { pattern } : {}, at),
      exact ? element("p", { class: "hint" }, "A channel may have history and no subscribers: ",
        link(`open ${pattern}`, address("channel", [pattern]))) : null,
      list,
    ],
  };
}
