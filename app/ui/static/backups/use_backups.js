// The list of the backups, newest first: the first rows are asked for again and again, earlier ones when they are wanted.
import { useEffect, useState } from "../vendor/hooks.mjs";
import { ask, useLook } from "../service.js";

const ROWS = 100;
const SCANNED = 1000; // rows of one request while a kind is looked for
const EVERY = 10000; // milliseconds

export const KINDS = {
  pinned: (backup) => backup.pinned,
  labelled: (backup) => backup.label,
  damaged: (backup) => backup.problem,
};

// Returns {backups, hasMore, isReading, showMore, error}. kind: of KINDS, or "" for all.
export function useBackups(kind) {
  const first = useLook(`/api/backup/list?limit=${kind ? SCANNED : ROWS}`, EVERY);
  const [later, setLater] = useState({ kind, rows: [], next: undefined });
  const [isReading, setReading] = useState(false);
  const [error, setError] = useState(null);
  const valid = later.kind === kind ? later : { kind, rows: [], next: undefined };
  const next = valid.next === undefined ? first.data?.next : valid.next;
  const rows = first.data ? [...first.data.backups, ...valid.rows] : null;
  const backups = rows && unique(kind ? rows.filter(KINDS[kind]) : rows);

  const showMore = async () => {
    setReading(true);
    try {
      const page = await ask("GET", `/api/backup/list?limit=${kind ? SCANNED : ROWS}&before=${encodeURIComponent(next)}`);
      setLater({ kind, rows: [...valid.rows, ...page.backups], next: page.next });
      setError(null);
    } catch (problem) {
      setError(problem);
    }
    setReading(false);
  };
  // Of a rare kind the rows are looked for until a page is full.
  useEffect(() => {
    if (kind && next && !isReading && !error && backups.length < ROWS) showMore();
  }, [kind, next, isReading]);
  return { backups, hasMore: !!next, isReading, showMore, error: first.error || error };
}

// A new backup moves the others on, so that two pages may have the same one.
function unique(rows) {
  return [...new Map(rows.map((row) => [row.name, row])).values()];
}
