// The list of the backups, newest first.
import { useEffect } from "../vendor/hooks.mjs";
import { usePages } from "../use_pages.js";
import { KINDS } from "./kinds.js";

const ROWS = 100;
const SCANNED = 1000; // rows of one request while a kind is looked for
const EVERY = 10000; // milliseconds

const LIST = { every: EVERY, rowsOf: (answer) => answer.backups, nextOf: (answer) => answer.next, keyOf: (backup) => backup.name };

// Returns what `usePages` does, and `backups`. kind: of KINDS, or "" for all.
export function useBackups(kind) {
  const list = usePages(`/api/backup/list?limit=${kind ? SCANNED : ROWS}`, LIST);
  const backups = list.rows && (kind ? list.rows.filter(KINDS[kind]) : list.rows);
  // If the kind is rare, further rows are read until a page is full.
  useEffect(() => {
    if (kind && list.hasMore && !list.isReading && !list.moreError && backups.length < ROWS) list.showMore();
  }, [kind, list.rows?.length, list.hasMore, list.isReading]);
  return { ...list, backups };
}
