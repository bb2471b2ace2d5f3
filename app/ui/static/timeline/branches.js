// What restores set aside: for each generation, the events that the current lineage does not have. Pure.
import { secondsOf } from "../format.js";

const MOST_LANES = 3;

// timeline: of the API. Returns [{generation, name, events, sequence, from, to, lane}], the oldest first.
export function branchesOf(timeline) {
  const ends = [];
  return setAside(timeline)
    .sort((one, other) => one.from - other.from)
    .map((branch) => {
      const free = ends.findIndex((end) => end < branch.from);
      const lane = free < 0 ? ends.length : free;
      ends[lane] = branch.to;
      return { ...branch, lane: Math.min(lane, MOST_LANES - 1) };
    });
}

function setAside({ generations, window }) {
  return generations.flatMap((generation) => {
    const last = generation.keptSequence ?? generation.lastSequence;
    if (generation.present || last === null || last <= generation.lastShared) return [];
    const from = secondsOf(forkOf(generation, generations) || generation.at);
    const to = secondsOf(endOf(generation, generations) || window.newest.time);
    const events = last - generation.lastShared;
    return [{ generation: generation.id, name: generation.kept, events, sequence: last, from, to: Math.max(from, to) }];
  });
}

// The sequence at which the current lineage and this generation part.
function forkOf(generation, generations) {
  const next = generations.find((each) => each.parent === generation.id && each.inLineage);
  return generation.inLineage && next ? next.forkTime : generation.forkTime;
}

// A generation ends when the next one begins.
function endOf(generation, generations) {
  const later = generations.map((each) => each.at).filter((at) => at > generation.at);
  return later.sort()[0];
}
