/** What the gateway is set to, and where each setting comes from. */

import { call } from "./api.js";
import { element, fill, PLAIN, say, table } from "./dom.js";
import { count } from "./figures.js";
import { written } from "./json.js";

export function settings({ query, signal }) {
  const filter = element("input", { id: "filter-settings", type: "search", value: query.filter ?? "", ...PLAIN });
  const changed = element("input", { id: "changed", type: "checkbox" });
  const list = element("div", { class: "list" });
  let known = [];
  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    const rows = known.filter((each) => {
      const text = `${each.key} ${written(each.value)} ${each.origin}`.toLowerCase();
      return !(changed.checked && each.default) && words.every((word) => text.includes(word));
    });
    list.replaceChildren(settingsTable(rows));
    return rows.length;
  };
  const showAgain = () => say(count(show(), "setting"), { seen: true });
  for (const each of [filter, changed]) each.addEventListener("input", showAgain);
  fill(list, signal, () => call("settings", {}, signal), (answer) => {
    known = answer.settings.sort((a, b) => a.default - b.default);
    show();
    return [...list.children];
  });
  return {
    title: "Settings",
    content: [
      element("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
        element("label", { for: "filter-settings" }, "Key, value or origin", filter),
        element("label", { class: "check", for: "changed" }, changed, "Only what is set")),
      list,
    ],
  };
}

const settingsTable = (rows) => table({
  caption: "Settings", rows, empty: "No setting fits.", mark: ({ default: usual }) => (usual ? "usual" : "set"),
  columns: [
    { label: "Key", cell: ({ key }) => element("code", {}, key) },
    { label: "Value", cell: ({ value }) => element("code", {}, written(value) || '""') },
    { label: "Origin", cell: ({ origin, default: usual }) => [usual ? origin : element("strong", {}, origin)] },
  ],
});
