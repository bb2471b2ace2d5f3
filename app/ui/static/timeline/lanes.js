// Draws below the bars: the current lineage with its backups, lines that fork off it for what was set aside, and gaps.
import * as f from "../format.js";
import { onPreferenceChange } from "../preferences.js";

export const LANE = 20; // pixels of height
const DENSE = 7; // pixels between two backups below which they become ticks
const WHOLE = 7; // radians: more than a full turn

const probe = document.createElement("span");
const colours = new Map();
onPreferenceChange(() => colours.clear());

// A colour as a canvas takes it; the style sheet names the light one and the dark one together.
export function colour(name) {
  if (!colours.has(name)) {
    document.body.append(probe);
    probe.style.color = `var(${name})`;
    colours.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return colours.get(name);
}

export const font = (pixels) => `${pixels}px ${getComputedStyle(document.body).fontFamily}`;

// chart: of uPlot. bottom: pixels from the chart's lower edge to the bars.
export function drawLanes(chart, { timeline, branches, marks, bottom, view, edge }) {
  const { ctx, bbox } = chart;
  const scale = devicePixelRatio || 1;
  const top = bbox.top + bbox.height - bottom * scale + 10 * scale;
  const pen = {
    ctx, bbox, scale,
    x: (seconds) => chart.valToPos(seconds, "x", true),
    y: (lane) => top + (lane * LANE + 4) * scale,
  };
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.lineCap = "round";
  drawLineage(pen, f.secondsOf(timeline.window.oldest.time), edge, view);
  drawBranches(pen, branches);
  for (const gap of timeline.gaps) drawGap(pen, gap);
  drawBackups(pen, marks);
  ctx.restore();
}

function line({ ctx, scale }, from, to, y, name, thickness) {
  ctx.strokeStyle = colour(name);
  ctx.lineWidth = thickness * scale;
  ctx.beginPath();
  ctx.moveTo(from, y);
  ctx.lineTo(to, y);
  ctx.stroke();
}

function drawLineage(pen, oldest, edge, [from, to]) {
  const span = to - from; // beyond the view by one view, as a canvas has no room for years
  line(pen, pen.x(Math.max(oldest, from - span)), pen.x(Math.min(edge, to + span)), pen.y(0), "--accent", 2);
}

function drawGap(pen, gap) {
  if (!gap.fromTime || !gap.toTime) return;
  line(pen, pen.x(f.secondsOf(gap.fromTime)), pen.x(f.secondsOf(gap.toTime)), pen.y(0), "--bad", 4);
}

function drawBranches(pen, branches) {
  const forks = branches.map((branch) => {
    const from = pen.x(branch.from);
    return { branch, lane: branch.lane, from, to: Math.max(pen.x(branch.to), from + 10 * pen.scale) };
  });
  for (const { from, to, lane } of forks) drawFork(pen, from, to, lane + 1);
  const taken = [...forks];
  for (const { branch, from, to } of forks) writeCount(pen, branch, from, to, taken);
}

function drawFork({ ctx, scale, y }, from, to, lane) {
  const level = y(lane);
  const bend = Math.min(10 * scale, (to - from) / 2);
  ctx.strokeStyle = colour("--branch");
  ctx.lineWidth = 2 * scale;
  ctx.beginPath();
  ctx.moveTo(from, y(0) + 2 * scale);
  ctx.bezierCurveTo(from, level - 2 * scale, from, level, from + bend, level);
  ctx.lineTo(to, level);
  ctx.stroke();
  dot({ ctx, scale }, to, level, 3, "--branch");
}

// A label is left out if another text or branch is in its place: the list below the timeline has all of them.
function writeCount({ ctx, bbox, scale, y }, branch, from, to, taken) {
  const text = `${f.number(branch.events)} set aside`;
  ctx.font = font(11.5 * scale);
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  ctx.fillStyle = colour("--ink-3");
  const width = ctx.measureText(text).width;
  const right = to + 8 * scale;
  const at = right + width < bbox.left + bbox.width ? right : from - 8 * scale - width;
  const overlaps = taken.some((each) => each.branch !== branch && each.lane === branch.lane && at < each.to && at + width > each.from);
  if (at <= bbox.left || overlaps) return;
  ctx.fillText(text, at, y(branch.lane + 1));
  taken.push({ lane: branch.lane, from: at - 12 * scale, to: at + width + 12 * scale });
}

function dot({ ctx, scale }, x, y, radius, name) {
  ctx.fillStyle = colour(name);
  ctx.beginPath();
  ctx.arc(x, y, radius * scale, 0, WHOLE);
  ctx.fill();
}

function drawBackups(pen, marks) {
  const { bbox, scale } = pen;
  let last = -Infinity;
  for (const mark of marks) {
    const x = pen.x(mark.at);
    if (x < bbox.left - 8 * scale || x > bbox.left + bbox.width + 8 * scale) continue;
    const isDense = x - last < DENSE * scale;
    drawBackup(pen, x, mark, isDense);
    if (!isDense) last = x;
  }
}

function drawBackup(pen, x, mark, isDense) {
  const { ctx, scale } = pen;
  const y = pen.y(0);
  const isTick = isDense && !mark.pinned && !mark.damaged;
  ctx.fillStyle = colour(mark.damaged ? "--bad" : "--accent");
  ctx.strokeStyle = colour("--card");
  ctx.lineWidth = 2 * scale;
  ctx.beginPath();
  if (mark.damaged) ctx.rect(x - 4 * scale, y - 4 * scale, 8 * scale, 8 * scale);
  else if (isTick) ctx.rect(x - scale / 2, y - 4 * scale, scale, 8 * scale);
  else ctx.arc(x, y, (mark.pinned ? 5 : 4) * scale, 0, WHOLE);
  if (!isTick) ctx.stroke();
  ctx.fill();
  if (!mark.pinned) return;
  ctx.strokeStyle = colour("--accent");
  ctx.lineWidth = 1.5 * scale;
  ctx.beginPath();
  ctx.arc(x, y, 7.5 * scale, 0, WHOLE);
  ctx.stroke();
}
