// The events of the page: the newest are asked for again and again, earlier ones when they are wanted.
import { useRef, useState } from "../vendor/hooks.mjs";
import { ask, useLook } from "../service.js";

const ROWS = 100;
const EVERY = 2000; // milliseconds

export const FILTERS = ["type", "subject", "source"];

export const filterOf = (query) => Object.fromEntries(FILTERS.filter((name) => query[name]).map((name) => [name, query[name]]));

const searchOf = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value)).toString();

export const exportAddress = (filter, asOf) => `/api/events/export?${searchOf({ ...filter, asOf })}`;

// Returns {events, isNew(event), hasMore, isReading, showMore, error}. asOf: a moment, or undefined for the present.
export function useEvents(filter, asOf, isPaused) {
  const path = `/api/events?${searchOf({ order: "newest", limit: ROWS, ...filter, asOf })}`;
  const newest = useLook(path, asOf || isPaused ? 0 : EVERY);
  const [earlier, setEarlier] = useState({ path, rows: [], next: undefined });
  const [reading, setReading] = useState({ isReading: false, error: null });
  const first = useFirstSeen(path, newest.data);
  const valid = earlier.path === path ? earlier : { path, rows: [], next: undefined };
  const next = valid.next === undefined ? newest.data?.next : valid.next;
  const rows = newest.data ? [...newest.data.events, ...valid.rows] : null;

  const showMore = async () => {
    setReading({ isReading: true, error: null });
    try {
      const page = await ask("GET", `${path}&before=${encodeURIComponent(next)}`);
      const shown = valid.rows.length ? valid.rows : [];
      setEarlier({ path, rows: [...shown, ...page.events], next: page.next });
      setReading({ isReading: false, error: null });
    } catch (error) {
      setReading({ isReading: false, error });
    }
  };
  return {
    events: rows && unique(rows),
    isNew: (event) => first !== null && event.sequence > first,
    hasMore: !!next,
    showMore,
    error: newest.error || reading.error,
    isReading: reading.isReading,
  };
}

// The newest sequence when the list was first shown: what is beyond it came in since.
function useFirstSeen(path, data) {
  const seen = useRef({ path: null, sequence: null });
  if (data && seen.current.path !== path) seen.current = { path, sequence: data.lastSequence };
  return seen.current.path === path ? seen.current.sequence : null;
}

// New events move the others on, so that two pages may have the same one; a restore may take some away.
function unique(rows) {
  const byId = new Map(rows.map((event) => [`${event.sequence} ${event.source} ${event.id}`, event]));
  return [...byId.values()].sort((one, other) => other.sequence - one.sequence);
}
