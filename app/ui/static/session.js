// Signing in: a token is exchanged for a session. Its cookie opens downloads and streams; all else needs its key too.
// The key lies in this tab's storage, and a new tab asks the others for it.

const NAME = "eventvault-session";
const WAIT_FOR_OTHERS = 150; // milliseconds

const channel = "BroadcastChannel" in window ? new BroadcastChannel(NAME) : null;
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

// Whether the token of this session may do what needs this scope. Without a session the service decides.
export const may = (scope) => !session || ["admin", scope].some((each) => session.scopes.includes(each));

export function setSession(value) {
  session = value;
  try {
    if (value === null) sessionStorage.removeItem(NAME);
    else sessionStorage.setItem(NAME, JSON.stringify(value));
  } catch {
    // The session holds until the page is closed.
  }
}

// Resolves once another tab gave its key, or none did in time.
export function askOtherTabs() {
  if (!channel || session) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, WAIT_FOR_OTHERS);
    channel.addEventListener("message", (event) => {
      if (event.data.session && !session) setSession(event.data.session);
      if (event.data.session) {
        clearTimeout(timer);
        resolve();
      }
    });
    channel.postMessage({ asks: true });
  });
}

channel?.addEventListener("message", (event) => {
  if (event.data.asks && session) channel.postMessage({ session });
});
