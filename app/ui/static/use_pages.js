// A list in pages, newest first: the first page is asked for again and again, earlier ones when they are wanted.
import { useRef, useState } from "./vendor/hooks.mjs";
import { ask, useLook } from "./service.js";

// path: of the first page. every: milliseconds between two looks, 0: one look. rowsOf, nextOf: of an answer, the rows and
// the `before` of the page that follows, or null. keyOf: of a row.
// Returns {answer, rows, hasMore, isReading, showMore, drop(key), error, at, answeredAt, moreError}. rows: null until they are known.
export function usePages(path, { every = 0, rowsOf, nextOf, keyOf }) {
  const first = useLook(path, every);
  const [, update] = useState({});
  const present = useRef(null);
  if (present.current?.path !== path) {
    present.current = { path, answer: null, first: [], earlier: [], next: null, isReading: false, error: null, round: 0 };
  }
  const list = present.current;
  if (first.data && first.data !== list.answer) adopt(list, first.data, { rowsOf, nextOf, keyOf });

  const showMore = async () => {
    const { round } = list;
    Object.assign(list, { isReading: true, error: null });
    update({});
    try {
      const page = await ask("GET", `${path}&before=${encodeURIComponent(list.next)}`);
      if (list.round === round) {
        list.earlier = unique([...list.earlier, ...rowsOf(page)], keyOf);
        list.next = nextOf(page);
      }
    } catch (error) {
      list.error = error;
    }
    list.isReading = false;
    update({});
  };
  const drop = (key) => {
    list.earlier = list.earlier.filter((row) => keyOf(row) !== key);
    update({});
  };
  return {
    answer: list.answer,
    rows: list.answer && unique([...list.first, ...list.earlier], keyOf),
    hasMore: list.next !== null,
    isReading: list.isReading,
    showMore,
    drop,
    error: first.error,
    at: first.at,
    answeredAt: first.answeredAt,
    moreError: list.error,
  };
}

// A new first page moves rows of the one before to the earlier pages. If it does not reach down to any of them, the rows
// between are not known, and the earlier ones are forgotten.
function adopt(list, answer, { rowsOf, nextOf, keyOf }) {
  const rows = rowsOf(answer);
  const hasEarlier = list.earlier.length > 0 || list.isReading;
  const before = [...list.first, ...list.earlier];
  const end = rows.length ? before.findIndex((row) => keyOf(row) === keyOf(rows.at(-1))) : -1;
  if (hasEarlier && end >= 0) {
    list.earlier = before.slice(end + 1);
  } else {
    list.earlier = [];
    list.next = nextOf(answer);
    list.round += 1;
  }
  list.first = rows;
  list.answer = answer;
}

const unique = (rows, keyOf) => [...new Map(rows.map((row) => [keyOf(row), row])).values()];
