// The query of the overview's address: a view, and a moment. Pure.
import { corrected } from "../route.js";
import { RANGES } from "../timeline/scale.js";

const FIRST = -62135596800; // the year 1, and the end of the year 9999: the service knows no other moments
const LAST = 253402300799;

const isMoment = (text) => text !== "" && Number(text) >= FIRST && Number(text) <= LAST;
const isSequence = (text) => /^\d{1,15}$/.test(text);
const isRange = (text) => RANGES.some(([length]) => String(length) === text);
const isGeneration = (text) => /^[0-9a-f]{16}$/.test(text);

const RULES = { at: isMoment, from: isMoment, to: isMoment, range: isRange, generation: isGeneration, sequence: isSequence };

// Nonsense is left out. A view has both ends in their order; a moment is an instant, or the sequence of a generation.
export function overviewQuery(query) {
  const { at, from, to, range, generation, sequence } = corrected(query, RULES);
  const hasView = from !== undefined && to !== undefined && Number(from) < Number(to);
  const isBranch = generation !== undefined && sequence !== undefined;
  return {
    ...(hasView ? { from, to } : range === undefined ? {} : { range }),
    ...(isBranch ? { generation, sequence } : at === undefined ? {} : { at }),
  };
}
