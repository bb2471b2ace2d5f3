// The bars and the axis, drawn by uPlot. The page has their content elsewhere as text, too.
import * as f from "../format.js";
import { zone } from "../preferences.js";
import { colour, drawLanes, font } from "./lanes.js";

export const AXIS = 30; // pixels below the lanes
export const TOP = 26; // pixels above the bars, for the moment that is chosen
const LEAST_PEAK = 4;
const LEAST_SHARE = 0.025; // of the peak: beside a flood, an ordinary minute stays visible

// bars: {start, step, counts}. lanes: of `drawLanes`. Returns the chart; the caller destroys it.
export function drawChart(element, { width, height, bars, lanes }) {
  const counts = bars.counts.length ? bars.counts : [0];
  const peak = Math.max(LEAST_PEAK, ...counts) * 1.04;
  const times = counts.map((_, index) => bars.start + index * bars.step);
  const values = counts.map((value) => (value ? Math.max(value, peak * LEAST_SHARE) : 0));
  const { view, bottom } = lanes;
  const options = {
    width,
    height,
    pxAlign: 0,
    padding: [0, 0, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    tzDate: (seconds) => (zone() === "utc" ? window.uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") : new Date(seconds * 1000)),
    scales: { x: { time: true, range: view }, y: { range: heightRange(peak, height - AXIS, bottom) } },
    axes: [timeAxis(width, view), { show: false }],
    series: [{}, barSeries((bars.step * width) / (view[1] - view[0]))],
    hooks: { draw: [(chart) => drawLanes(chart, lanes)] },
  };
  return new window.uPlot(options, [times, values], element);
}

// Room for the lanes below the bars, and for the moment above them.
function heightRange(peak, plotted, bottom) {
  const barHeight = plotted - bottom - TOP;
  return [(-peak * bottom) / barHeight, (peak * (plotted - bottom)) / barHeight];
}

function barSeries(pixels) {
  return {
    fill: colour("--bar"),
    stroke: colour("--card"),
    width: pixels > 3 ? 1 : 0,
    points: { show: false },
    paths: window.uPlot.paths.bars({ size: [1, 40], align: 1, radius: 0.14 }),
  };
}

function timeAxis(width, [from, to]) {
  const labels = (chart, splits) =>
    splits.map((split, index) => (isCut(chart, split, width) ? "" : labelOf(split, splits[index - 1], to - from)));
  return {
    size: AXIS,
    font: font(12),
    stroke: colour("--ink-3"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
    gap: 8,
    space: width < 480 ? 74 : 96,
    values: labels,
  };
}

const isCut = (chart, split, width) => Math.abs(chart.valToPos(split, "x") - width / 2) > width / 2 - 22;

function labelOf(split, before, span) {
  const at = split * 1000;
  const date = f.day(at).replace(/^\w+ /, "");
  if (span > 3 * 86400) return date;
  const clock = f.clockTime(at, { seconds: span < 600 });
  const isNewDay = before === undefined || f.day(before * 1000) !== f.day(at);
  return isNewDay && span > 8 * 3600 && clock.startsWith("00:00") ? f.day(at) : clock;
}
