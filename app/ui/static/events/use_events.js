// The events of the page, newest first.
import { useRef } from "../vendor/hooks.mjs";
import { usePages } from "../use_pages.js";

const ROWS = 100;
const EVERY = 2000; // milliseconds

export const FILTERS = ["type", "subject", "source"];

export const filterOf = (query) => Object.fromEntries(FILTERS.filter((name) => query[name]).map((name) => [name, query[name]]));

const searchOf = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value)).toString();

export const exportAddress = (filter, asOf) => `/api/events/export?${searchOf({ ...filter, asOf })}`;

const LIST = {
  rowsOf: (answer) => answer.events,
  nextOf: (answer) => answer.next,
  keyOf: (event) => `${event.sequence} ${event.source} ${event.id}`,
};

// Returns what `usePages` does, and `isNew(event)`. asOf: a moment, or undefined for the present.
export function useEvents(filter, asOf, isPaused) {
  const path = `/api/events?${searchOf({ order: "newest", limit: ROWS, ...filter, asOf })}`;
  const list = usePages(path, { ...LIST, every: asOf || isPaused ? 0 : EVERY });
  const first = useFirstSeen(`${list.answer?.generation} ${path}`, list.answer);
  return { ...list, isNew: (event) => first !== null && event.sequence > first };
}

// The newest sequence when these events were shown first: later ones came in since.
function useFirstSeen(id, answer) {
  const seen = useRef({ id: null, sequence: null });
  if (answer && seen.current.id !== id) seen.current = { id, sequence: answer.lastSequence };
  return seen.current.id === id ? seen.current.sequence : null;
}
