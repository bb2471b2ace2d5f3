// Signing in: a token is exchanged for a session. Its cookie opens downloads and streams; other requests need its key too.
// The key lies in this tab's storage, and a new tab asks the others for it. A browser has one cookie for all its tabs: who
// signs in or out in one of them does so in all.

const NAME = "eventvault-session";
const WAIT_FOR_OTHERS = 150; // milliseconds

const channel = "BroadcastChannel" in window ? new BroadcastChannel(NAME) : null;
const GIVEN_BY = { read: ["write"] }; // scope → the scopes that include it

let session = stored(); // {key, name, scopes}, or null

function stored() {
  try {
    return JSON.parse(sessionStorage.getItem(NAME));
  } catch {
    return null;
  }
}

export const sessionKey = () => session?.key ?? null;
export const sessionName = () => session?.name ?? null;

// Whether the token of this session has this scope. Without a session the service decides.
export const may = (scope) => !session || ["admin", scope, ...(GIVEN_BY[scope] || [])].some((each) => session.scopes.includes(each));

// Calls `listener` when another tab has changed the session of this one.
let changedElsewhere = () => {};
export function onSessionOfOthers(listener) {
  changedElsewhere = listener;
}

// This tab signed in or, with null, out.
export function changeSession(value) {
  store(value);
  channel?.postMessage({ session: value, isNew: true });
}

// Takes back a key that the service refuses.
export const dropSession = () => store(null);

function store(value) {
  session = value;
  try {
    if (value === null) sessionStorage.removeItem(NAME);
    else sessionStorage.setItem(NAME, JSON.stringify(value));
  } catch {
    // The session lasts until the page is closed.
  }
}

// Resolves once another tab gave its key, or none did in time.
export function askOtherTabs() {
  if (!channel) return Promise.resolve();
  return new Promise((resolve) => {
    setTimeout(resolve, WAIT_FOR_OTHERS);
    channel.addEventListener("message", (event) => event.data.session && resolve(), { once: true });
    channel.postMessage({ asks: true });
  });
}

channel?.addEventListener("message", ({ data }) => {
  if (data.asks) {
    if (session) channel.postMessage({ session });
  } else if (data.isNew || !session) {
    store(data.session);
    changedElsewhere();
  }
});
