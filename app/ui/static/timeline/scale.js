// The time axis: ranges, buckets of a round length, and zooming. Pure; times in seconds since the epoch.

export const RANGES = [[3600, "1 h"], [21600, "6 h"], [86400, "24 h"], [604800, "7 d"], [0, "All"]];

const STEPS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000];
const PIXELS_PER_BAR = 4;
const FEWEST_BARS = 40;
const MOST_BARS = 360;
const LEAST_SPAN = 20; // seconds that a zoomed view shows at least

// Buckets begin at round moments, so a past bucket never changes and is the same for everybody.
export function bucketsOf([from, to], width) {
  const bars = Math.max(FEWEST_BARS, Math.min(MOST_BARS, width / PIXELS_PER_BAR));
  const step = STEPS.find((each) => each >= (to - from) / bars) || STEPS.at(-1);
  const start = Math.floor(from / step) * step;
  const count = Math.max(1, Math.ceil((to - start) / step));
  return { start, step, count, end: start + count * step };
}

// The view of the same length with `moment` in its middle, as far as there is a past on both sides.
export function centred([from, to], moment, oldest, newest) {
  const length = to - from;
  const margin = length * 0.02;
  const end = Math.min(Math.max(moment + length / 2, oldest + length - margin), newest + margin);
  return [end - length, end];
}

// factor: below 1 shows less, above 1 more.
export function zoomed([from, to], moment, factor, oldest, newest) {
  const most = Math.max(newest - oldest, 60) * 1.02;
  const length = Math.min(most, Math.max(LEAST_SPAN, (to - from) * factor));
  return centred([moment - length / 2, moment + length / 2], moment, oldest, newest);
}

// The view for the address: {from, to}, otherwise {range}, otherwise all of a short past, or the last days of a long one.
export function viewOf(query, oldest, edge) {
  const length = edge - oldest;
  const asked = Number(query.range ?? (length > 14 * 86400 ? 604800 : 0));
  if (query.from !== undefined) {
    const slack = Math.max(length, 3600);
    const from = Math.max(Number(query.from), oldest - slack);
    const to = Math.min(Number(query.to), edge + slack);
    if (to - from >= LEAST_SPAN / 2) return { view: [from, to], range: null };
  }
  const range = asked > 0 && asked <= length * 1.5 ? asked : 0;
  const margin = Math.max(30, length * 0.022);
  const view = range ? [edge - range, edge + range * 0.022] : [oldest - Math.max(30, length * 0.006), edge + margin];
  return { view, range };
}
