/** Addresses of the page (`#/view/part?query`) and what is shown at them. */

/**
 * @typedef {{view: string, parts: string[], query: Record<string, string>}} Place
 */

/** The address of a view; what of the query is empty is left out. */
export function address(view, parts = [], query = {}) {
  const path = [view, ...parts].map(encodeURIComponent).join("/");
  const words = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return `#/${path}${words.length ? `?${new URLSearchParams(words)}` : ""}`;
}

/** @returns {Place} of an address; what cannot be read is the overview */
export function place(hash) {
  const [, path = "", query = ""] = hash.match(/^#\/([^?]*)(?:\?(.*))?$/s) ?? [];
  try {
    const [view, ...parts] = path.split("/").map(decodeURIComponent);
    return { view: view || "overview", parts, query: Object.fromEntries(new URLSearchParams(query)) };
  } catch {
    return { view: "overview", parts: [], query: {} };
  }
}

/** Goes to an address; being there already, it shows all of it anew. */
export function go(to) {
  if (location.hash === to) dispatchEvent(new Event("hashchange"));
  else location.hash = to;
}

/** The pages of a list that is read by cursor: the way back is remembered here, for the server tells only the next. */
export class Pages {
  #cursors = [""];

  /** Goes to the page behind a cursor; one that is not known follows on the last. */
  visit(cursor) {
    const index = this.#cursors.indexOf(cursor);
    this.#cursors = index < 0 ? [...this.#cursors, cursor] : this.#cursors.slice(0, index + 1);
    return this;
  }

  get number() {
    return this.#cursors.length;
  }

  /** The cursor of the page before; null on the first. */
  get previous() {
    return this.#cursors.at(-2) ?? null;
  }
}
