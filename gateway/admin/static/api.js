/** What the page asks of the gateway. Whoever asks need not know of passwords: a call waits until there is a token. */

const TIMEOUT = 10_000;
const TOKEN = "gateway-admin:token";

/** An error that the gateway answered, in its own words. */
export class Refusal extends Error {
  constructor({ code = 0, message = "no reason was given" }) {
    super(message);
    this.code = code;
  }
}

/** There was no answer of the gateway: it is away, or what stands in front of it answered. */
export class Away extends Error {}

/** Tells "away" (with the reason as detail) and "back", each once. */
export const line = new EventTarget();
let away = false;

/** null is not known yet, "" is not needed */
let token = sessionStorage.getItem(TOKEN);
/** @type {Promise<void> | null} under way */
let entering = null;
/** @type {(reason: string) => Promise<string>} asks for the password until it is right, and gives the token */
let askToken;

export const onLogin = (ask) => (askToken = ask);
export const signedIn = () => Boolean(token);

/** Forgets the token, and with it all that is shown. */
export function signOut() {
  sessionStorage.removeItem(TOKEN);
  location.reload();
}

/**
 * Calls a method and gives its result; throws a Refusal or Away.
 * @param {string} method such as "nodes"
 * @param {object | string} body a string is JSON already
 * @param {AbortSignal} [signal]
 */
export async function call(method, body = {}, signal = undefined, again = false) {
  if (token === null) await enter("");
  const used = token;
  const { status, answer } = await post(`api/${method}`, body, used ? { Authorization: `Bearer ${used}` } : {}, signal);
  if (status === 401 && !again) {
    if (token === used) token = null; // unless another call was faster
    await enter("Your session is over. Sign in again to go on where you were.");
    return call(method, body, signal, true);
  }
  if (answer.error) throw new Refusal(answer.error);
  if (status !== 200) throw new Refusal({ message: answer.detail ?? `HTTP ${status}` });
  return answer.result;
}

/** Gives the token for a password; without one, it says whether any is needed. */
export async function authenticate(password) {
  const { status, answer } = await post("auth", password === undefined ? {} : { password });
  if (status === 200) return answer.token;
  throw new Refusal({ code: status, message: answer.error?.message ?? `HTTP ${status}` });
}

function enter(reason) {
  entering ??= (async () => {
    try {
      token = await authenticate().catch((error) => {
        if (error.code === 401 || error.code === 429) return askToken(reason);
        throw error;
      });
      if (token) sessionStorage.setItem(TOKEN, token);
    } finally {
      entering = null;
    }
  })();
  return entering;
}

/** Keeps the digits of numbers that JavaScript cannot hold, such as 64-bit ids in somebody's data. */
const exact = (_, value, { source } = {}) =>
  (source && Number.isInteger(value) && !Number.isSafeInteger(value) && JSON.rawJSON ? JSON.rawJSON(source) : value);

async function post(path, body, headers = {}, signal = undefined) {
  const limit = AbortSignal.timeout(TIMEOUT);
  let response;
  let answer;
  try {
    response = await fetch(path, {
      method: "POST", body: typeof body === "string" ? body : JSON.stringify(body), cache: "no-store",
      headers: { "Content-Type": "application/json", ...headers },
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    answer = JSON.parse(await response.text(), exact);
  } catch (error) {
    if (signal?.aborted) throw error;
    if (response && response.status < 500) throw new Refusal({ message: `HTTP ${response.status} without JSON` });
    const why = response ? `HTTP ${response.status}` : limit.aborted ? "no answer in time" : "no connection";
    tell(why);
    throw new Away(`The gateway does not answer: ${why}.`);
  }
  tell("");
  return { status: response.status, answer };
}

function tell(why) {
  if (away === Boolean(why)) return;
  away = Boolean(why);
  line.dispatchEvent(new CustomEvent(away ? "away" : "back", { detail: why }));
}
