// One stream for all tabs of a browser: the tab that holds the lock hears what changed and tells the others. A hidden tab
// gives the lock up. Without a stream, the page polls.

const ADDRESS = "/api/changes/stream";
const NAME = "eventvault-live";
const WAIT = 2000; // milliseconds after which a stream that was refused is tried again; twice as long each time
const MOST_WAIT = 60000;
const SIGN = 10000; // milliseconds between two signs that the stream lives
const SILENCE = 25000; // milliseconds without a sign after which the stream counts as gone

const channel = "BroadcastChannel" in window ? new BroadcastChannel(NAME) : null;
const canLead = "EventSource" in window && "locks" in navigator && channel !== null;

let changed = () => {};
let isAllowed = false;
let candidacy = null; // ends the wait for the lock, or the lead
let leading = null; // the stream, while this tab leads
let heardAt = -Infinity;

// Whether the page learns of changes without asking.
export const isLive = () => performance.now() - heardAt < SILENCE;

// Calls `listener` with "events", "operations" or "ended" (an operation has) when there is a change, and with "gone" when
// the page no longer learns of changes.
export function onChange(listener) {
  changed = listener;
  channel?.addEventListener("message", ({ data }) => (data === "asks" ? leading?.sign() : hear(data)));
  document.addEventListener("visibilitychange", stand);
}

// allowed: whether the service answers this page at all; otherwise a stream would be refused.
export function allowStream(allowed) {
  if (allowed === isAllowed) return;
  isAllowed = allowed;
  stand();
}

// Tries to become the leading tab, or gives that up.
function stand() {
  candidacy?.abort();
  candidacy = null;
  heardAt = -Infinity; // the page missed the changes in between
  if (!canLead || !isAllowed || document.hidden) return;
  candidacy = new AbortController();
  const { signal } = candidacy;
  channel.postMessage("asks");
  navigator.locks.request(NAME, { signal }, () => lead(signal)).catch(() => {}); // another tab leads
}

// Resolves once this tab no longer leads.
function lead(signal) {
  if (signal.aborted) return Promise.resolve();
  const present = new Stream();
  leading = present;
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => {
      leading = null;
      present.close();
      resolve();
    });
  });
}

function tellAll(what) {
  hear(what);
  channel.postMessage(what);
}

// what: as `onChange` has it, or "here": the stream lives.
function hear(what) {
  if (document.hidden) return;
  heardAt = what === "gone" ? -Infinity : performance.now();
  if (what !== "here") changed(what);
}

// A browser reconnects automatically to a stream that ended, but not to one that was refused.
class Stream {
  constructor() {
    this.wait = WAIT;
    this.signs = setInterval(() => this.sign(), SIGN);
    this.open();
  }

  open() {
    this.source = new EventSource(ADDRESS);
    this.source.onopen = () => {
      this.wait = WAIT;
      tellAll("ended"); // some may have ended while there was no stream
    };
    this.source.addEventListener("events", () => tellAll("events"));
    this.source.addEventListener("operation", ({ data }) => tellAll(JSON.parse(data).endedAt ? "ended" : "operations"));
    this.source.onerror = () => {
      tellAll("gone");
      if (this.source.readyState !== EventSource.CLOSED) return;
      this.timer = setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(MOST_WAIT, this.wait * 2);
    };
  }

  sign() {
    if (this.source.readyState === EventSource.OPEN) tellAll("here");
  }

  close() {
    clearTimeout(this.timer);
    clearInterval(this.signs);
    this.source.close();
    channel.postMessage("gone");
  }
}
