// Requests to the service. Only this file handles errors, polling, and a service that does not answer.
import { useEffect, useState } from "./vendor/hooks.mjs";
import * as clock from "./clock.js";
import { isLive, onChange } from "./live.js";
import { pause } from "./seen.js";
import { changeSession, onSessionOfOthers, sessionKey, sessionName } from "./session.js";

const RETRY = 2000; // milliseconds between two tries while nothing answers
const SELDOM = 15000; // milliseconds between two polls of paths whose changes the stream reports
const OLDER = { "Cache-Control": "max-age=1" }; // for a regular poll: all pages share one answer although events come in
const LEAST = 500; // milliseconds between two polls, however often the answer changes
const WITHIN = 20000; // milliseconds that a poll may take
const CLOCK_ERROR = 1500; // milliseconds by which this page may be wrong about the service's time
const STEP = 500; // milliseconds between two polls of an operation
const ENDED = ["succeeded", "failed", "cancelled", "interrupted"];

export class ServiceError extends Error {
  // status: of HTTP; 0 if nothing answered. body: the answer.
  constructor(status, body) {
    super(body.error || `the service answered ${status}`);
    this.status = status;
    this.code = body.code;
    this.hint = body.hint || "";
    this.body = body;
  }
}

export const noAnswer = () =>
  new ServiceError(0, { code: "no_answer", error: "EventVault does not answer", hint: "Try again once it does." });

const notMade = () =>
  new ServiceError(0, {
    code: "not_begun",
    error: "EventVault went away before this was begun, so nothing was changed",
    hint: "Read the numbers again, as they may be others now, and repeat it.",
  });

export function headersWithSession(headers = {}) {
  const key = sessionKey();
  return key ? { ...headers, "X-EventVault-Session": key } : headers;
}

// Returns the JSON of the answer. more: further headers. Throws a ServiceError.
export async function ask(method, path, body, { signal, more } = {}) {
  const headers = { Accept: "application/json", ...more };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = { method, signal, headers: headersWithSession(headers) };
  if (body !== undefined) options.body = JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : noAnswer();
  }
  clock.setFromHeader(answer.headers.get("Date"));
  const content = await jsonOf(answer);
  if (!answer.ok) throw new ServiceError(answer.status, content);
  return content;
}

// Exchanges a token for a session. Throws a ServiceError.
export async function signIn(token) {
  const { key, name, scopes } = await ask("POST", "/api/session", { token });
  changeSession({ key, name, scopes });
}

// Each process of the service knows a token within a second after it was made; too many wrong ones would block this page.
export async function signInWithNew(token) {
  for (let left = 5; ; left -= 1) {
    try {
      return await signIn(token);
    } catch (error) {
      if (error.status !== 401 || left <= 1) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

export async function signOut() {
  await ask("DELETE", "/api/session");
  changeSession(null);
  refresh();
}

async function jsonOf(answer) {
  const isJson = (answer.headers.get("Content-Type") || "").includes("json");
  try {
    return isJson ? await answer.json() : {};
  } catch {
    throw noAnswer();
  }
}

// --- All parts of the page share one request for a path, which is repeated while somebody looks at the page.

const looks = new Map();

function lookOf(path) {
  if (!looks.has(path)) {
    looks.set(path, { data: null, error: null, at: 0, askedAt: 0, answeredAt: 0, listeners: new Map(), timer: 0, busy: false, again: false, isOld: false });
  }
  return looks.get(path);
}

// more: headers, beside those of each request.
async function look(path, more) {
  const present = lookOf(path);
  clearTimeout(present.timer);
  if (present.busy) {
    present.again = true;
    return;
  }
  present.busy = true;
  present.askedAt = performance.now();
  try {
    present.data = await ask("GET", path, undefined, { signal: AbortSignal.timeout(WITHIN), more });
    present.error = null;
    present.at = clock.now();
    present.answeredAt = performance.now();
  } catch (error) {
    present.error = error instanceof ServiceError ? error : noAnswer();
  }
  present.busy = false;
  for (const update of present.listeners.keys()) update({});
  const { again, isOld } = present;
  present.again = present.isOld = false;
  if (document.hidden && pausesOf(present).length) return; // the request follows once somebody sees the page
  if (again) look(path);
  else if (isOld && pausesOf(present).length) lookSoon(path, present);
  else schedule(path);
}

const pausesOf = (present) => [...present.listeners.values()].filter(Boolean);

function schedule(path) {
  const present = lookOf(path);
  clearTimeout(present.timer);
  const pauses = pausesOf(present);
  if (!pauses.length || document.hidden) return;
  const wanted = present.error ? RETRY : Math.min(...pauses);
  present.timer = setTimeout(() => look(path, OLDER), isLive() && isHeardOf(path) ? Math.max(SELDOM, wanted) : wanted);
}

document.addEventListener("visibilitychange", () => {
  for (const [path, present] of looks) {
    if (document.hidden) clearTimeout(present.timer);
    else if (pausesOf(present).length) look(path);
  }
});

// A change that the stream reports → the paths whose answers change. It reports the first two only.
const CHANGED = {
  events: ["/api/events?"],
  operations: ["/api/operations"],
  ended: ["/api/operations", "/api/backup", "/api/health"],
  gone: ["/api/events?", "/api/operations"],
};
const isHeardOf = (path) => CHANGED.gone.some((prefix) => path.startsWith(prefix));

onChange((what) => {
  for (const [path, present] of looks) {
    if (pausesOf(present).length && CHANGED[what].some((prefix) => path.startsWith(prefix))) lookSoon(path, present);
  }
});

// However often something changes, a path is requested at most every LEAST milliseconds.
function lookSoon(path, present) {
  present.isOld = present.busy; // the answer under way may be from before the change
  if (present.busy) return;
  clearTimeout(present.timer);
  present.timer = setTimeout(() => look(path), Math.max(0, present.askedAt + LEAST - performance.now()));
}

// Returns {data, error, at, answeredAt, again}. at: when there was an answer last, by the service's clock; answeredAt: as
// `performance.now` has it. every: milliseconds between two looks, 0: one look. Data stays while nothing answers.
export function useLook(path, every = 0) {
  const [, update] = useState({});
  const { data, error, at, answeredAt } = path ? lookOf(path) : { data: null, error: null, at: 0, answeredAt: 0 };
  useEffect(() => {
    if (!path) return undefined;
    const present = lookOf(path);
    present.listeners.set(update, every);
    if (present.answeredAt !== answeredAt || present.error !== error) update({}); // an answer came after this was painted
    if (!present.at || every || clock.now() - present.at > RETRY) look(path);
    return () => {
      present.listeners.delete(update);
      if (!present.listeners.size) forget(path);
    };
  }, [path, every]);
  return { data, error, at, answeredAt, again: () => look(path) };
}

// The answers of a few paths stay, so that a page is there at once when somebody returns to it.
function forget(path) {
  clearTimeout(looks.get(path).timer);
  const unused = [...looks].filter(([, present]) => !present.listeners.size && !present.busy);
  for (const [old] of unused.slice(0, Math.max(0, unused.length - 20))) looks.delete(old);
}

// After a change: request everything that is shown again.
export function refresh(...prefixes) {
  for (const [path, present] of looks) {
    if (prefixes.length && !prefixes.some((prefix) => path.startsWith(prefix))) continue;
    if (present.listeners.size) look(path);
    else present.at = 0;
  }
}

onSessionOfOthers(() => refresh());

// --- Changes. If no answer comes, the page finds out the outcome once the service answers; it never sends a change again.

export const AWAY = { state: "away" }; // what `onProgress` gets while nothing answers

export const isAway = (error) => error.status === 0 || error.status === 502 || error.status === 503;

// Asks until something answers. Returns what `question` does.
export async function onceItAnswers(question, onProgress) {
  for (;;) {
    try {
      return await question();
    } catch (error) {
      if (!isAway(error)) throw error;
      onProgress(AWAY);
      await pause(RETRY);
    }
  }
}

// Requests a change that is made at once. isMade: finds out whether it was made, if no answer came.
export async function change(method, path, body, isMade, onProgress = () => {}) {
  try {
    return await ask(method, path, body);
  } catch (error) {
    if (error.status !== 0) throw error;
    if (await onceItAnswers(isMade, onProgress)) return {};
    throw notMade();
  }
}

// Whether the service has nothing at this address.
export async function isGone(path) {
  try {
    await ask("GET", path);
    return false;
  } catch (error) {
    if (error.status === 404) return true;
    throw error;
  }
}

// --- Long work: begun without waiting, so that a closed page or a lost connection ends nothing.

// Begins an operation and returns its result once it has ended. onProgress gets the operation at each poll, or AWAY.
export async function runOperation(method, path, body, onProgress = () => {}) {
  const since = clock.now();
  let id;
  try {
    id = (await ask(method, `${path}${path.includes("?") ? "&" : "?"}async=true`, body)).operation.id;
  } catch (error) {
    if (error.status !== 0) throw error;
    onProgress(AWAY);
    id = await findOperation(kindOf(path, body), since, onProgress);
  }
  return watchOperation(id, onProgress);
}

const kindOf = (path, body) => (body?.into === "present" ? "copy" : path.split("/").at(-1));

// Returns the id of the operation that an unanswered request began. A begun operation is listed at once, but the
// request may arrive after the first question: there is a second one.
async function findOperation(kind, since, onProgress) {
  for (let tries = 0; tries < 2; tries += 1) {
    if (tries) await pause(RETRY);
    const { operations } = await onceItAnswers(() => ask("GET", `/api/operations?kind=${kind}&limit=20`), onProgress);
    const begun = operations.findLast((operation) => Date.parse(operation.startedAt) > since - CLOCK_ERROR && isOurs(operation));
    if (begun) return begun.id;
  }
  throw notMade();
}

const isOurs = (operation) => operation.startedBy === (sessionName() ?? "open");

async function watchOperation(id, onProgress) {
  for (;;) {
    const operation = await presentOperation(id);
    onProgress(operation || AWAY);
    if (operation && ENDED.includes(operation.state)) return resultOf(operation);
    await pause(STEP);
  }
}

// Returns null while the store is away: a restore swaps its database, or a new store takes over.
async function presentOperation(id) {
  try {
    return (await ask("GET", `/api/operations/${id}`)).operation;
  } catch (error) {
    if (isAway(error)) return null;
    throw error;
  }
}

function resultOf(operation) {
  if (operation.state === "succeeded") return operation.result || {};
  const body = operation.error || { code: operation.state, error: `the operation was ${operation.state}` };
  throw new ServiceError(409, body);
}

export const hasEnded = (operation) => ENDED.includes(operation.state);
