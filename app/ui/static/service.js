// Requests to the service. The only place that knows of errors, of polling, and of a service that does not answer.
import { useEffect, useState } from "./vendor/hooks.mjs";
import * as clock from "./clock.js";
import { changeSession, onSessionOfOthers, sessionKey } from "./session.js";

const RETRY = 2000; // milliseconds between two tries while nothing answers
const WITHIN = 20000; // milliseconds that a look may take
const STEP = 500; // milliseconds between two looks at an operation
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

const noAnswer = () =>
  new ServiceError(0, { code: "no_answer", error: "EventVault does not answer", hint: "It is tried again by itself." });

const notKnown = () =>
  new ServiceError(0, {
    code: "no_answer",
    error: "no answer came, so it is not known whether this was begun",
    hint: "once EventVault answers, Operations lists it if it was",
  });

export function headersWithSession(headers = {}) {
  const key = sessionKey();
  return key ? { ...headers, "X-EventVault-Session": key } : headers;
}

// Returns the JSON of the answer. Throws a ServiceError.
export async function ask(method, path, body, { signal } = {}) {
  const headers = { Accept: "application/json" };
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

// --- What the page shows is asked for once for all its parts, and again while somebody looks at it.

const looks = new Map();

function lookOf(path) {
  if (!looks.has(path)) {
    looks.set(path, { data: null, error: null, at: 0, listeners: new Map(), timer: 0, busy: false, again: false });
  }
  return looks.get(path);
}

async function look(path) {
  const present = lookOf(path);
  clearTimeout(present.timer);
  if (present.busy) {
    present.again = true;
    return;
  }
  present.busy = true;
  try {
    present.data = await ask("GET", path, undefined, { signal: AbortSignal.timeout(WITHIN) });
    present.error = null;
    present.at = clock.now();
  } catch (error) {
    present.error = error instanceof ServiceError ? error : noAnswer();
  }
  present.busy = false;
  for (const update of present.listeners.keys()) update({});
  if (present.again) {
    present.again = false;
    look(path);
  } else {
    schedule(path);
  }
}

function schedule(path) {
  const present = lookOf(path);
  clearTimeout(present.timer);
  const pauses = [...present.listeners.values()].filter(Boolean);
  if (!pauses.length || document.hidden) return;
  present.timer = setTimeout(() => look(path), present.error ? RETRY : Math.min(...pauses));
}

document.addEventListener("visibilitychange", () => {
  for (const [path, present] of looks) {
    if (document.hidden) clearTimeout(present.timer);
    else if ([...present.listeners.values()].some(Boolean)) look(path);
  }
});

// Returns {data, error, at, again}. every: milliseconds between two looks, 0: one look. Data stays while nothing answers.
export function useLook(path, every = 0) {
  const [, update] = useState({});
  useEffect(() => {
    if (!path) return undefined;
    const present = lookOf(path);
    present.listeners.set(update, every);
    if (!present.at || every || clock.now() - present.at > RETRY) look(path);
    return () => {
      present.listeners.delete(update);
      if (!present.listeners.size) forget(path);
    };
  }, [path, every]);
  const { data, error, at } = path ? lookOf(path) : { data: null, error: null, at: 0 };
  return { data, error, at, again: () => look(path) };
}

// The answers of a few paths stay, so that a page is there at once when somebody returns to it.
function forget(path) {
  clearTimeout(looks.get(path).timer);
  const unused = [...looks].filter(([, present]) => !present.listeners.size && !present.busy);
  for (const [old] of unused.slice(0, Math.max(0, unused.length - 20))) looks.delete(old);
}

// After a change: ask again for what is shown.
export function refresh(...prefixes) {
  for (const [path, present] of looks) {
    if (prefixes.length && !prefixes.some((prefix) => path.startsWith(prefix))) continue;
    if (present.listeners.size) look(path);
    else present.at = 0;
  }
}

onSessionOfOthers(() => refresh());

// --- Long work: begun without waiting, so that a closed page or a lost connection ends nothing.

// Begins an operation and returns its result once it has ended. onProgress gets the operation at each look.
export async function runOperation(method, path, body, onProgress = () => {}) {
  const begun = await ask(method, `${path}${path.includes("?") ? "&" : "?"}async=true`, body).catch((error) => {
    throw error.status === 0 ? notKnown() : error;
  });
  return watchOperation(begun.operation.id, onProgress);
}

async function watchOperation(id, onProgress) {
  for (;;) {
    const operation = await presentOperation(id);
    if (operation) onProgress(operation);
    if (operation && ENDED.includes(operation.state)) return resultOf(operation);
    await new Promise((resolve) => setTimeout(resolve, STEP));
  }
}

// Returns null while the store is away: a restore swaps its database, or a new store takes over.
async function presentOperation(id) {
  try {
    return (await ask("GET", `/api/operations/${id}`)).operation;
  } catch (error) {
    if (error.status === 0 || error.status === 503 || error.status === 502) return null;
    throw error;
  }
}

function resultOf(operation) {
  if (operation.state === "succeeded") return operation.result || {};
  const body = operation.error || { code: operation.state, error: `the operation was ${operation.state}` };
  throw new ServiceError(409, body);
}

export const hasEnded = (operation) => ENDED.includes(operation.state);
