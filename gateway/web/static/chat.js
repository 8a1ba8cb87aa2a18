/**
 * Chat rooms over the gateway, without any library.
 *
 * Three parts: `Connection` speaks the Centrifuge protocol in JSON, `Room` is what is known of one channel, and the
 * functions below them show both on the page. Text of others goes into the page as text nodes only.
 */

/* ---------------------------------------------------------------- protocol */

/**
 * @typedef {{user: string, client: string, conn_info?: {name?: string}}} ClientInfo
 * @typedef {{data: any, offset?: number, info?: ClientInfo}} Publication
 * @typedef {{channel: string, pub?: Publication, join?: {info: ClientInfo}, leave?: {info: ClientInfo},
 *            unsubscribe?: {code: number, reason: string}}} Push
 * @typedef {"connecting" | "online" | "offline"} State  offline stays so until `open` is called
 */

const ANSWER_TIMEOUT = 5_000;
const OPEN_TIMEOUT = 10_000;
const PING_GRACE = 10_000;
const MIN_DELAY = 500;
const MAX_DELAY = 20_000;

/** An error the server answered, or a request that can have no answer (code 0). */
class Refusal extends Error {
  constructor({ code = 0, message, temporary = false }) {
    super(message);
    this.code = code;
    this.passes = temporary || code < 100 || code === 109;
  }
}

/** A connection that comes back by itself, unless the server says not to. */
class Connection {
  /** @type {State} */ state = "offline";
  /** Why it is not online, or what the connect reply carried. */
  reason = "";
  node = "";

  #socket = null;
  #waiting = new Map();
  #lastId = 0;
  #attempts = 0;
  #pong = false;
  #silence = 0;
  #timers = { watch: 0, retry: 0, refresh: 0 };

  /**
   * @param {URL} url of the WebSocket endpoint
   * @param {() => Promise<string>} getToken is asked for each connection; a Refusal that does not pass ends the tries
   * @param {{onState: () => void, onPush: (push: Push) => void}} listener
   */
  constructor(url, getToken, listener) {
    this.url = url;
    this.getToken = getToken;
    this.listener = listener;
  }

  /** Connects now, whatever the state: also after `close`, and instead of waiting for the next try. */
  async open() {
    this.#drop("opening anew");
    const opening = (this.#socket = {});
    this.#report("connecting", this.reason);
    try {
      const token = await this.getToken();
      if (this.#socket !== opening) return;
      this.#listen(new WebSocket(this.url), token);
    } catch (error) {
      if (this.#socket === opening) this.#lost(error.message, error.passes === false);
    }
  }

  /** Closes for good, until `open`. */
  close(reason) {
    this.#lost(reason, true);
  }

  /** Closes and comes back after a while. */
  retry(reason) {
    this.#lost(reason, false);
  }

  /**
   * Sends a command and gives its result; rejects with a Refusal.
   * @param {string} method such as "publish"
   * @param {object} body
   */
  request(method, body) {
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) throw new Refusal({ message: "not connected" });
      const id = ++this.#lastId;
      const timer = setTimeout(() => this.#settle({ id, error: { message: "no answer" } }), ANSWER_TIMEOUT);
      this.#waiting.set(id, { method, resolve, reject, timer });
      this.#socket.send(JSON.stringify({ id, [method]: body }));
    });
  }

  #listen(socket, token) {
    this.#socket = socket;
    this.#silence = OPEN_TIMEOUT;
    this.#watch();
    socket.onopen = () => this.#connect(socket, token);
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = ({ code, reason }) => {
      const terminal = (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
      this.#lost(reason || (terminal ? `closed with code ${code}` : "connection lost"), terminal);
    };
  }

  async #connect(socket, token) {
    try {
      const { ping = 0, pong = false, ttl = 0, data } = await this.request("connect", { token, name: "demo" });
      this.#attempts = 0;
      this.#pong = pong;
      this.#silence = ping && ping * 1000 + PING_GRACE;
      this.#watch();
      this.#refreshAfter(ttl);
      this.node = data?.node ?? "";
      this.#report("online", "");
    } catch (error) {
      if (this.#socket === socket) this.#lost(error.message, !error.passes);
    }
  }

  #refreshAfter(seconds) {
    if (!seconds) return;
    this.#timers.refresh = setTimeout(async () => {
      try {
        const { ttl = 0 } = await this.request("refresh", { token: await this.getToken() });
        this.#refreshAfter(ttl);
      } catch {
        // The server ends the connection when the token has run out; the next one has a new token.
      }
    }, seconds * 1000);
  }

  /** Any frame proves that the server lives; without one for too long the connection is dead. */
  #watch() {
    clearTimeout(this.#timers.watch);
    if (this.#silence) this.#timers.watch = setTimeout(() => this.#lost("no ping", false), this.#silence);
  }

  #receive(frame) {
    this.#watch();
    for (const line of frame.split("\n")) {
      const reply = JSON.parse(line);
      if (reply.id) this.#settle(reply);
      else if (reply.push) this.listener.onPush(reply.push);
      else if (this.#pong) this.#socket.send("{}");
    }
  }

  #settle(reply) {
    const waiting = this.#waiting.get(reply.id);
    if (!waiting) return;
    this.#waiting.delete(reply.id);
    clearTimeout(waiting.timer);
    if (reply.error) waiting.reject(new Refusal(reply.error));
    else waiting.resolve(reply[waiting.method] ?? {});
  }

  /** Forgets the socket, the timers and the requests under way. */
  #drop(reason) {
    Object.values(this.#timers).forEach(clearTimeout);
    const socket = this.#socket;
    this.#socket = null;
    if (socket instanceof WebSocket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    for (const id of this.#waiting.keys()) this.#settle({ id, error: { message: reason } });
  }

  #lost(reason, terminal) {
    this.#drop(reason);
    if (!terminal) {
      const spread = Math.random() * Math.min(MAX_DELAY, MIN_DELAY * 2 ** this.#attempts++);
      this.#timers.retry = setTimeout(() => this.open(), Math.min(MAX_DELAY, MIN_DELAY + spread));
    }
    this.#report(terminal ? "offline" : "connecting", reason);
  }

  #report(state, reason) {
    this.state = state;
    this.reason = reason;
    this.listener.onState();
  }
}

/* ------------------------------------------------------------------- rooms */

const HISTORY_LIMIT = 100;
const KEPT_ENTRIES = 500;
const ROOM_NAME = /^[\w-]{1,32}$/;

/** What is known of one room. Entries are messages and notices, in the order of the stream. */
class Room {
  /** @type {{order: number, notice?: string, text?: string, user?: string, name?: string, at?: number}[]} */
  entries = [];
  /** @type {Map<string, {user: string, name: string}>} by client */
  people = new Map();
  /** @type {"out" | "joining" | "joined" | "shut"} the server refuses a shut room, until it is entered again */
  state = "out";
  problem = "";
  unread = 0;
  epoch = "";
  offset = 0;

  constructor(name) {
    this.name = name;
    this.channel = `room:${name}`;
  }

  /** What a subscribe command adds to receive everything after the last message seen. */
  get position() {
    return this.epoch ? { recover: true, epoch: this.epoch, offset: this.offset } : {};
  }

  /** Adds publications that are not there yet, whatever order they come in; gives the new entries. */
  merge(publications) {
    const known = new Set(this.entries.map((entry) => entry.order));
    const fresh = publications.filter(({ offset }) => !known.has(offset)).map(readPublication);
    this.#insert(fresh);
    this.offset = Math.max(this.offset, ...fresh.map((entry) => entry.order));
    return fresh;
  }

  /** Adds a remark between the message at an offset and the next. */
  remark(notice, offset) {
    this.#insert([{ order: offset + 0.5, notice, at: Date.now() }]);
  }

  /** Forgets the stream, to load it again. */
  clear() {
    Object.assign(this, { entries: [], epoch: "", offset: 0 });
  }

  /** The people, one row for all tabs of a user, `me` first. */
  peopleByUser(me) {
    const rows = new Map();
    for (const { user, name } of this.people.values()) {
      rows.set(user, { user, name, tabs: (rows.get(user)?.tabs ?? 0) + 1 });
    }
    return [...rows.values()].sort((a, b) => (b.user === me) - (a.user === me) || a.name.localeCompare(b.name));
  }

  #insert(entries) {
    this.entries = [...this.entries, ...entries].sort((a, b) => a.order - b.order).slice(-KEPT_ENTRIES);
  }
}

/** What comes from others may be anything: it is brought into a form that the view can show without a check. */
const readPerson = (info) => ({
  user: info?.user ?? "", name: String(info?.conn_info?.name || info?.user || "Anonymous"),
});

function readPublication({ data, info, offset = 0 }) {
  const text = typeof data?.text === "string" ? data.text : JSON.stringify(data);
  const valid = typeof data?.at === "number" && !Number.isNaN(new Date(data.at).getTime());
  return { order: offset, text, at: valid ? data.at : undefined, ...readPerson(info) };
}

/* -------------------------------------------------------------------- chat */

const DEFAULT_ROOMS = ["lobby", "random", "help"];
const PRESENCE_INTERVAL = 30_000;
const JOIN_DELAY = 2_000;

/** localStorage, or nothing where the browser forbids it. */
const storage = {
  get(key) {
    try { return JSON.parse(localStorage.getItem(`gateway-chat:${key}`)); } catch { return null; }
  },
  set(key, value) {
    try { localStorage.setItem(`gateway-chat:${key}`, JSON.stringify(value)); } catch { /* only not remembered */ }
  },
};

let me = storage.get("name") ?? "";
/** @type {Map<string, Room>} */
const rooms = new Map([...DEFAULT_ROOMS, ...(storage.get("rooms") ?? [])].map((name) => [name, new Room(name)]));
let current = rooms.get("lobby");

const socketURL = new URL("connection/websocket", document.baseURI);
socketURL.protocol = socketURL.protocol.replace("http", "ws");
const connection = new Connection(socketURL, fetchToken, { onState, onPush });

async function fetchToken() {
  const response = await fetch(`demo/token?user=${encodeURIComponent(me)}`, { cache: "no-store" });
  if (response.ok) return (await response.json()).token;
  if (response.status !== 400) throw new Refusal({ message: `no token (HTTP ${response.status})` });
  throw new Refusal({ code: 400, message: (await response.json()).detail });
}

function onState() {
  showConnection();
  for (const room of rooms.values()) {
    if (connection.state !== "online" && room.state !== "shut") room.state = "out";
    if (room === current || room.epoch) join(room);
  }
}

function onPush({ channel, pub, join: joined, leave: left, unsubscribe: removed }) {
  const room = rooms.get(channel.replace("room:", ""));
  if (!room) return;
  if (pub) receive(room, [pub]);
  if (joined) room.people.set(joined.info.client, readPerson(joined.info));
  if (left) room.people.delete(left.info.client);
  if (removed) {
    room.state = "out";
    if (removed.code === 2502) room.epoch = "_"; // the answer is then "not recovered", and history is read anew
    if (removed.code >= 2500) join(room);
    else shut(room, `The server took you out of this room: ${removed.reason}`);
  }
  if (room === current && (joined || left)) showPeople();
}

/** Takes in live or missed publications. */
function receive(room, publications) {
  const fresh = room.merge(publications);
  const unseen = fresh.filter((entry) => entry.user !== me).length;
  if (room !== current || document.hidden) room.unread += unseen;
  if (room === current) showNewEntries(fresh, unseen);
  showRooms();
}

/** Subscribes to a room and brings it up to date: what was missed if the server still has it, else the history. */
async function join(room) {
  if (room.state !== "out" || connection.state !== "online" || rooms.get(room.name) !== room) return;
  Object.assign(room, { state: "joining", problem: "" });
  try {
    const answer = await connection.request("subscribe", { channel: room.channel, ...room.position });
    room.state = "joined";
    if (answer.recovered) catchUp(room, answer);
    else await loadHistory(room, answer);
    refreshPeople(room);
  } catch (error) {
    if (connection.state !== "online") return; // joined again when it is back
    if (error.code === 0) return connection.retry(`room ${room.name}: ${error.message}`);
    if (room.state === "joined") unsubscribe(room);
    shut(room, `This room cannot be opened: ${error.message}`);
    if (!error.passes) return;
    room.state = "out";
    setTimeout(() => join(room), JOIN_DELAY * (1 + Math.random()));
  }
}

const unsubscribe = (room) => connection.request("unsubscribe", { channel: room.channel }).catch(() => {});

function catchUp(room, { publications = [], offset = 0 }) {
  if (publications.length) room.remark(`Caught up: ${plural(publications.length, "message")}`, offset);
  receive(room, publications);
  if (room === current) showEmpty();
}

async function loadHistory(room, { was_recovering: lost, epoch = "", offset = 0 }) {
  if (lost) room.clear();
  Object.assign(room, { epoch, offset: Math.max(offset, room.offset) });
  const { publications } = await connection.request("history", {
    channel: room.channel, limit: HISTORY_LIMIT, reverse: true,
  });
  room.merge(publications);
  if (lost) room.remark("You were away too long to catch up. These are the latest messages.", room.offset);
  if (room === current) showRoom();
}

async function refreshPeople(room) {
  if (room.state !== "joined") return;
  try {
    const { presence } = await connection.request("presence", { channel: room.channel });
    room.people = new Map(Object.entries(presence).map(([client, info]) => [client, readPerson(info)]));
    if (room === current) showPeople();
  } catch {
    // Asked again after PRESENCE_INTERVAL; until then the list is as joins and leaves have made it.
  }
}

/** Shuts a room. What was said stays readable, and its position good for coming back. */
function shut(room, problem) {
  Object.assign(room, { state: "shut", problem, people: new Map() });
  if (room === current) showRoom();
}

/** Goes to the room named in the address, opening it if it is new. */
function enterFromHash() {
  const [, name = ""] = location.hash.match(/^#\/(.*)$/) ?? [];
  enter(ROOM_NAME.test(name) ? name : "lobby");
}

function enter(name) {
  if (!rooms.has(name)) rooms.set(name, new Room(name));
  current = rooms.get(name);
  current.unread = 0;
  if (current.state === "shut") current.state = "out";
  storage.set("rooms", [...rooms.keys()].filter((key) => !DEFAULT_ROOMS.includes(key)));
  showRoom();
  if (me) join(current);
}

function leaveRoom() {
  const room = current;
  if (room.state !== "out") unsubscribe(room);
  rooms.delete(room.name);
  if (DEFAULT_ROOMS.includes(room.name)) rooms.set(room.name, new Room(room.name));
  location.hash = "#/lobby";
}

async function publish(text) {
  try {
    await connection.request("publish", { channel: current.channel, data: { text, at: Date.now() } });
  } catch (error) {
    $("composer-error").textContent = `Not sent: ${error.message}`;
    $("text").value ||= text;
    showComposer();
  }
}

function takeName(name) {
  me = name;
  storage.set("name", name);
  showMe();
  showRoom();
  connection.open();
}

/* -------------------------------------------------------------------- view */

const $ = (id) => document.getElementById(id);
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const dayOf = (entry) => (entry?.at === undefined ? "" : calendar.format(entry.at));
const GROUP_SPAN = 5 * 60_000;
let atEnd = true; // of the log; when not, new messages do not scroll it
let below = 0; // messages that arrived meanwhile

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function avatar(name, user, node = element("span", { "aria-hidden": "true" })) {
  const hue = [...user].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 8, 7);
  node.className = `avatar hue-${hue}`;
  node.textContent = [...name][0].toUpperCase();
  return node;
}

function showConnection() {
  const { state, reason, node } = connection;
  const online = state === "online";
  $("chip").dataset.state = state;
  $("chip-state").textContent = { connecting: "Connecting", online: "Online", offline: "Offline" }[state];
  $("chip-node").textContent = online ? node : "";
  $("banner").hidden = online || !reason;
  $("banner-text").textContent = state === "offline" ? `Offline: ${reason}.` : `Trying to reconnect: ${reason}.`;
  showComposer();
}

function showComposer() {
  const { length } = $("text").value;
  $("send").disabled = connection.state !== "online" || Boolean(current.problem) || !$("text").value.trim();
  $("counter").textContent = length > 1800 ? `${length} of 2000` : "";
}

function showMe() {
  $("me").hidden = !me;
  $("me-name").textContent = me;
  if (me) avatar(me, me, $("me-avatar"));
}

/** Updates the links in place, so that the keyboard focus stays where it is. */
function showRooms() {
  const links = new Map([...$("room-list").children].map((item) => [item.dataset.room, item]));
  for (const room of rooms.values()) {
    const item = links.get(room.name) ?? $("room-list").appendChild(roomItem(room.name));
    links.delete(room.name);
    const [link] = item.children;
    const [, badge] = link.children;
    if (room === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    badge.hidden = !room.unread;
    badge.firstChild.textContent = room.unread;
  }
  for (const item of links.values()) item.remove();
  const unread = [...rooms.values()].reduce((sum, room) => sum + room.unread, 0);
  $("unread-total").hidden = !unread;
  $("unread-total").textContent = unread;
  $("open-rooms").setAttribute("aria-label", unread ? `Rooms, ${unread} unread` : "Rooms");
  document.title = `${unread ? `(${unread}) ` : ""}${current.name} · Gateway chat`;
}

function roomItem(name) {
  const badge = element("span", { class: "badge" }, "0", element("span", { class: "hidden" }, " unread"));
  const link = element("a", { href: `#/${name}` }, element("span", { class: "room-name" }, name), badge);
  return element("li", { "data-room": name }, link);
}

/** Shows the current room from scratch. The log is not live meanwhile: nobody wants a hundred messages read out. */
function showRoom() {
  showRooms();
  $("room-title").textContent = current.name;
  $("leave").hidden = current.name === "lobby";
  $("text").placeholder = `Message ${current.name}`;
  $("log").setAttribute("aria-label", `Messages in ${current.name}`);
  $("log").setAttribute("aria-live", "off");
  $("messages").replaceChildren(...current.entries.flatMap(entryItems));
  $("composer-error").textContent = current.entries.length ? current.problem : "";
  showEmpty();
  showPeople();
  showComposer();
  scrollDown();
  setTimeout(() => $("log").setAttribute("aria-live", "polite"));
}

function showEmpty() {
  const quiet = current.state === "joined" ? "Nobody has said anything here yet. Be the first." : "One moment…";
  $("empty").hidden = current.entries.length > 0;
  $("empty").textContent = $("empty").hidden ? "" : current.problem || quiet;
}

/** Appends where that is enough, so that a screen reader announces just what is new. */
function showNewEntries(fresh, unseen) {
  if (!fresh.length) return;
  const shown = Number($("messages").lastElementChild?.dataset.order ?? -1);
  if (fresh.some((entry) => entry.order < shown)) return showRoom();
  const items = current.entries.map((entry, index, all) => (entry.order > shown ? entryItems(entry, index, all) : []));
  $("messages").append(...items.flat());
  showEmpty();
  if (atEnd || fresh.at(-1).user === me) return scrollDown();
  below += unseen;
  $("newer").hidden = !below;
  $("newer").textContent = `↓ ${plural(below, "new message")}`;
}

function entryItems(entry, index, entries) {
  const previous = entries[index - 1];
  if (entry.notice) return [element("li", { class: "notice", "data-order": entry.order }, entry.notice)];
  const day = dayOf(entry);
  const newDay = day && day !== dayOf(previous);
  const grouped = !newDay && previous?.user === entry.user && !(entry.at - previous.at > GROUP_SPAN);
  const kind = `message${entry.user === me ? " mine" : ""}${grouped ? " grouped" : ""}`;
  const item = element("li", { class: kind, "data-order": entry.order, "data-testid": "message" },
    avatar(entry.name, entry.user),
    element("p", { class: "meta" },
      element("span", { class: "author" }, entry.user === me ? "You" : entry.name), " ",
      day && element("time", { datetime: new Date(entry.at).toISOString() }, clock.format(entry.at))),
    element("p", { class: "text" }, entry.text));
  return newDay ? [element("li", { class: "notice day", "data-order": entry.order }, day), item] : [item];
}

function showPeople() {
  const people = current.peopleByUser(me);
  $("people-title").textContent = `Online · ${people.length}`;
  $("people-count").textContent = people.length;
  $("people-list").replaceChildren(...people.map(({ user, name, tabs }) =>
    element("li", { "data-testid": "person" }, avatar(name, user),
      element("span", { class: "person-name" }, name),
      user === me ? element("span", { class: "hint" }, "you") : "",
      tabs > 1 ? element("span", { class: "tabs" }, `${tabs} tabs`) : "")));
}

function scrollDown() {
  $("log").scrollTop = $("log").scrollHeight;
  atEnd = true;
  below = 0;
  $("newer").hidden = true;
}

function onScroll() {
  const { scrollHeight, scrollTop, clientHeight } = $("log");
  atEnd = scrollHeight - scrollTop - clientHeight < 48;
  if (atEnd && below) scrollDown();
}

function askName() {
  $("name").value = me;
  $("name-error").textContent = "";
  $("name-cancel").hidden = !me;
  $("name-submit").textContent = me ? "Change" : "Join";
  $("name-dialog").showModal();
}

/** Not on a phone, where it would bring up the keyboard. */
const focusText = () => matchMedia("(pointer: fine)").matches && $("text").focus();
const closePanels = () => [$("rooms"), $("people")].forEach((panel) => panel.hidePopover());

/* ------------------------------------------------------------------ events */

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("send").disabled) return;
  const text = $("text").value.trim();
  $("text").value = $("composer-error").textContent = "";
  showComposer();
  $("text").focus();
  publish(text);
});
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
  if (connection.state !== "online") $("composer-error").textContent = "Not connected: your message stays here.";
});
$("text").addEventListener("input", showComposer);

$("new-room").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("new-room-name").value.trim();
  const valid = ROOM_NAME.test(name);
  $("new-room-error").textContent = valid ? "" : "1 to 32 letters, digits, - or _";
  if (!valid) return $("new-room-name").focus();
  $("new-room-name").value = "";
  location.hash = `#/${name}`;
});

$("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  const valid = name && !/\p{C}/u.test(name);
  $("name-error").textContent = valid ? "" : "1 to 32 printable characters, please.";
  if (!valid) return $("name").focus();
  if (name !== me) takeName(name);
  $("name-dialog").close();
  focusText();
});
$("name-dialog").addEventListener("close", () => me || askName());
$("name-cancel").addEventListener("click", () => $("name-dialog").close());
$("me").addEventListener("click", askName);

$("leave").addEventListener("click", leaveRoom);
$("reconnect").addEventListener("click", () => connection.open());
$("newer").addEventListener("click", scrollDown);
$("log").addEventListener("scroll", onScroll);
new ResizeObserver(() => atEnd && scrollDown()).observe($("log"));
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("text").focus();
});

addEventListener("hashchange", () => {
  closePanels();
  enterFromHash();
  focusText();
});
addEventListener("online", () => connection.state === "connecting" && connection.open());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  current.unread = 0;
  showRooms();
});
matchMedia("(min-width: 48rem)").addEventListener("change", closePanels);
matchMedia("(min-width: 68rem)").addEventListener("change", closePanels);
setInterval(() => refreshPeople(current), PRESENCE_INTERVAL);

showMe();
enterFromHash();
showConnection();
if (me) connection.open();
else askName();
