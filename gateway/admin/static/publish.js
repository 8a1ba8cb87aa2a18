/** Publishing by hand. */

import { call } from "./api.js";
import { code, element, failure, hint, link, PLAIN, say } from "./dom.js";
import { clock } from "./figures.js";
import { jsonProblem, readTags } from "./json.js";
import { address } from "./router.js";

/** What was last in the form: it is there again after a look at another view. */
const draft = { channel: "", data: "{}", tags: "", skip: false };
const answers = element("ol", { class: "answers", reversed: true });
const KEPT = 20;

export function publish({ query }) {
  if (query.channel) draft.channel = query.channel;
  const problem = element("p", { class: "error", id: "data-problem", role: "status" });
  const refusal = element("div");
  const field = (label, id, control, note) =>
    element("div", { class: "field" }, element("label", { for: id }, label), control, note);
  const keep = (name) => ({ target }) => (draft[name] = target.type === "checkbox" ? target.checked : target.value);
  const input = element("input", {
    id: "channel", value: draft.channel, required: true, oninput: keep("channel"), ...PLAIN,
  });
  const data = element("textarea", {
    id: "data", class: "code", rows: 8, "aria-describedby": "data-problem", ...PLAIN,
  }, draft.data);
  const check = () => {
    draft.data = data.value;
    const found = jsonProblem(data.value);
    problem.textContent = found ? `Line ${found.line}, column ${found.column}: ${found.message}.` : "";
    data.setAttribute("aria-invalid", String(Boolean(found)));
    return found;
  };
  data.addEventListener("input", check);
  const tags = element("textarea", {
    id: "tags", class: "code", rows: 2, placeholder: "name=value", oninput: keep("tags"), ...PLAIN,
  }, draft.tags);
  const form = element("form", { class: "form" },
    field("Channel", "channel", input),
    field("Data, as JSON", "data", data, problem),
    field("Tags, one a line", "tags", tags),
    element("label", { class: "check" },
      element("input", { type: "checkbox", checked: draft.skip, onchange: keep("skip") }), "Do not keep it as history"),
    element("div", { class: "buttons" }, element("button", { type: "submit" }, "Publish"),
      hint(element("kbd", {}, "Ctrl"), "+", element("kbd", {}, "Enter"), " publishes, too")),
    refusal);
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const found = check();
    if (found) {
      data.focus();
      return data.setSelectionRange(found.offset, found.offset + 1);
    }
    refusal.replaceChildren();
    form.setAttribute("aria-busy", "true");
    try {
      await send(input.value);
    } catch (error) {
      refusal.replaceChildren(failure(error));
    } finally {
      form.removeAttribute("aria-busy");
    }
  });
  check();
  return { title: "Publish", content: [form, answers], focus: query.channel ? data : input };
}

/** The data go out as they were typed: numbers that JavaScript cannot hold stay what they are. */
async function send(channel) {
  const rest = JSON.stringify({ channel, tags: readTags(draft.tags), skip_history: draft.skip });
  const { offset, epoch } = await call("publish", `{"data":${draft.data},${rest.slice(1)}`);
  const where = offset
    ? [" at offset ", element("strong", {}, String(offset)), " of epoch ", code(epoch)] : [", and kept nowhere"];
  answers.prepend(element("li", {}, element("time", {}, clock(Date.now() / 1000)), " in ",
    link(channel, address("channel", [channel])), ...where));
  for (const old of [...answers.children].slice(KEPT)) old.remove();
  say(`Published in ${channel}${offset ? ` at offset ${offset}` : ""}.`);
}
