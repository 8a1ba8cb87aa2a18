/** The flight recorder: what is recorded, and until when. */

import { call } from "./api.js";
import { action, element, failure, lacking, link, PLAIN, renew, say, section, table } from "./dom.js";
import { events } from "./events.js";
import { duration, number } from "./figures.js";
import { every } from "./polling.js";
import { address, go } from "./router.js";

const AGAIN = 2_000;
const KINDS = ["client", "user", "channel"];
const LENGTHS = [[60, "1 minute"], [120, "2 minutes"], [300, "5 minutes"], [600, "10 minutes"]];

export function recorder({ query: { what = "", name = "" }, signal }) {
  const all = element("div");
  every(() => AGAIN, async () => {
    try {
      const answer = await call("recordings", {}, signal);
      renew(all, lacking(answer.missing, "what they record") ?? "", recordings(answer.recordings));
    } catch (error) {
      if (!signal.aborted) all.replaceChildren(failure(error));
    }
  }, signal);
  return {
    title: "Recorder",
    content: [
      startForm(what, name), section("What is recorded", all),
      what && name && events(what, name, stop(what, name), signal),
    ],
  };
}

function startForm(what, name) {
  const select = (id, options, chosen) => element("select", { id, name: id },
    options.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
  const problem = element("span", { class: "error", role: "alert" });
  const form = element("form", { class: "filters", autocomplete: "off" },
    element("label", { for: "what" }, "Record", select("what", KINDS.map((kind) => [kind, kind]), what || "user")),
    element("label", { for: "name" }, "Its id or name",
      element("input", { id: "name", name: "name", value: name, required: true, ...PLAIN })),
    element("label", { for: "seconds" }, "For", select("seconds", LENGTHS, 120)),
    element("button", { type: "submit" }, "Start"), problem);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const wanted = Object.fromEntries(new FormData(form));
    problem.textContent = "";
    try {
      await call("record", { ...wanted, seconds: Number(wanted.seconds) });
      say(`Recording the ${wanted.what} ${wanted.name}.`);
      go(address("recorder", [], { what: wanted.what, name: wanted.name }));
    } catch (error) {
      problem.textContent = error.message;
    }
  });
  return form;
}

const stop = (what, name, small = false) => action("Stop", async () => {
  await call("record", { what, name, seconds: 0 });
  return `The ${what} ${name} is no longer recorded.`;
}, { small });

function recordings(rows) {
  const left = ({ until }) => until - Date.now() / 1000;
  return table({
    caption: "Recordings", rows, empty: "Nothing is recorded. A recording costs little, and ends by itself.",
    columns: [
      { label: "Name", cell: ({ what, name }) =>
        link(name, address("recorder", [], { what, name }), { class: "open" }) },
      { label: "What", cell: ({ what }) => what },
      { label: "Events", kind: "number", cell: ({ events: many }) => number(many) },
      { label: "Time left", kind: "number", cell: (each) => (left(each) > 0 ? duration(left(each)) : "over") },
      { label: "Action", kind: "end", cell: (each) => (left(each) > 0 ? stop(each.what, each.name, true) : null) },
    ],
  });
}
