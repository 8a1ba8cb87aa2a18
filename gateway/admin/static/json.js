/** JSON as people write and read it: where a text goes wrong, and values laid out and cut. */

const BLANK = /[ \t\n\r]*/y;
const TOKENS = [
  ["string", /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[\da-fA-F]{4}))*"/y],
  ["value", /(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)(?![\w.])/y],
  ["mark", /[{}[\],:]/y],
];
const WANTED = {
  value: "a value must come here",
  "first value": "a value or ] must come here",
  name: 'a name in "double quotes" must come here',
  "first name": 'a name in "double quotes" or } must come here',
  colon: "a : must come here",
  next: "a comma or the closing bracket must come here",
  end: "nothing may follow here",
};
const CLOSING = { "{": "}", "[": "]" };

/**
 * Where a text stops being JSON; null if it is JSON. Browsers tell the place in some cases only.
 * @param {string} text
 * @returns {{offset: number, line: number, column: number, message: string} | null}
 */
export function jsonProblem(text) {
  const open = [];
  let at = 0;
  let wanted = "value";
  const close = (mark) => {
    if (mark !== CLOSING[open.at(-1)]) return null;
    open.pop();
    return open.length ? "next" : "end";
  };
  const after = (kind, token) => {
    const plain = kind !== "mark";
    switch (wanted) {
      case "first value":
        if (token === "]") return close(token);
      // falls through: any value will do as well
      case "value":
        if (plain) return open.length ? "next" : "end";
        if (token !== "{" && token !== "[") return null;
        open.push(token);
        return token === "{" ? "first name" : "first value";
      case "first name":
        if (token === "}") return close(token);
      // falls through: a name will do as well
      case "name":
        return kind === "string" ? "colon" : null;
      case "colon":
        return token === ":" ? "value" : null;
      case "next":
        if (token === ",") return open.at(-1) === "{" ? "name" : "value";
        return close(token);
      default:
        return null;
    }
  };
  for (;;) {
    BLANK.lastIndex = at;
    at += BLANK.exec(text)[0].length;
    if (at === text.length) return wanted === "end" ? null : place(text, at, `the text ends, but ${WANTED[wanted]}`);
    const [kind, token] = read(text, at);
    const next = token && after(kind, token);
    if (!next) return place(text, at, text[at] === '"' && !token ? "this string is not as it must be" : WANTED[wanted]);
    wanted = next;
    at += token.length;
  }
}

function read(text, at) {
  for (const [kind, pattern] of TOKENS) {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) return [kind, found[0]];
  }
  return ["", ""];
}

function place(text, offset, message) {
  const lines = text.slice(0, offset).split("\n");
  return { offset, line: lines.length, column: lines.at(-1).length + 1, message };
}

/** Characters of JSON that stand in one line. */
const LINE = 60;

/** A value laid out over lines, if one does not hold it. */
export function pretty(value) {
  if (value === undefined) return "";
  const laid = JSON.stringify(value, null, 2);
  const line = laid.replace(/\n */g, " "); // only between values: within a text a new line is written \n
  return line.length > LINE ? laid : line;
}

/** What a text holds that may be JSON, and cut at its end. */
export function readJSON(text) {
  try { return JSON.parse(text); } catch { return text; }
}

/** A value in a line: a text as it is, anything else as JSON. */
export const written = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** The beginning of a text, cut between characters, and how many are left off. */
export function cut(text, length) {
  if (text.length <= length) return [text, 0];
  const half = /[\ud800-\udbff]/.test(text[length - 1]) ? 1 : 0;
  return [text.slice(0, length - half), text.length - length + half];
}

/**
 * Tags as they are written, one a line: `name=value`.
 * @returns {Record<string, string>} throws an Error that names the line
 */
export function readTags(text) {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return Object.fromEntries(lines.map((line) => {
    const at = line.indexOf("=");
    if (at < 1) throw new Error(`A tag is written name=value, which "${line}" is not.`);
    return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
  }));
}
