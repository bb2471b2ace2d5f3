// The timeline: how many events there were when, which backups there are, what was set aside, and a handle to go back.
// The chart is drawn on a canvas; the handle is a slider above it, for the pointer and for the keyboard.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/hooks.mjs";
import { now } from "../clock.js";
import * as f from "../format.js";
import { html } from "../parts.js";
import { onPreferenceChange } from "../preferences.js";
import { useLook } from "../service.js";
import { AXIS, TOP, drawChart } from "./chart.js";
import { LANE } from "./lanes.js";
import { bucketsOf, centred, zoomed } from "./scale.js";

const BARS = 128; // pixels of height
const LOOK_EVERY = 15000; // milliseconds
const SLACK = 8; // pixels next to a branch that still belong to it

// at: the chosen moment in seconds, or null. onAt(seconds, isSettled): the handle moved. onBranch: a branch was chosen.
export function Timeline({ timeline, branches, marks, edge, view, at, legend, onView, onAt, onBranch }) {
  const host = useRef(null);
  const width = useWidth(host);
  const bars = useBars(view, width);
  const lanes = branches.length ? Math.max(...branches.map((branch) => branch.lane)) + 1 : 0;
  const bottom = 12 + LANE + lanes * LANE;
  const height = BARS + TOP + bottom + AXIS;
  const plot = useChart({ width, height, bars, lanes: { timeline, branches, marks, bottom, view, edge } });
  return html`<div class="tl" ref=${host}>
    <div class="tl-top"><p>${peakOf(bars)}</p>
      <ul class="legend" aria-label="Legend">${legend.map((name) => html`<li><i class=${`key ${name.replace(" ", "-")}`}></i>${name}</li>`)}</ul></div>
    <div class="tl-stage">
      <div class="tl-plot" ref=${plot} style=${{ height: `${height}px` }} aria-hidden="true"></div>
      <${Handle} ...${{ timeline, branches, marks, edge, view, at, bottom, onView, onAt, onBranch }} step=${bars.step} height=${height - AXIS} />
    </div>
    <p id="tl-help" class="hidden">Left and right arrow: one bar, with Shift ten. Page up and page down: the backup before
      and after. Home and End: the oldest moment, and now. Plus and minus: zoom. Escape: choose nothing.</p>
  </div>`;
}

function useWidth(host) {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(() => setWidth(host.current.clientWidth));
    observer.observe(host.current);
    setWidth(host.current.clientWidth);
    return () => observer.disconnect();
  }, []);
  return width;
}

// The counts of the view; the earlier ones stay drawn until these have come. isNew: whether they belong to the view.
function useBars(view, width) {
  const { start, step, count, end } = bucketsOf(view, width || 800);
  const span = `from=${encodeURIComponent(f.isoOf(start))}&to=${encodeURIComponent(f.isoOf(end))}`;
  const look = useLook(width ? `/api/events/histogram?${span}&buckets=${count}` : null, LOOK_EVERY);
  const drawn = useRef({ start, step, counts: [] });
  const counts = look.data?.counts;
  const isNew = counts?.length === count;
  if (isNew && drawn.current.counts !== counts) drawn.current = { start, step, counts };
  return { ...drawn.current, step, isNew, error: look.error };
}

function peakOf(bars) {
  if (bars.error && !bars.isNew) return "the events cannot be counted now";
  if (!bars.isNew) return "counting events…";
  const peak = Math.max(0, ...bars.counts);
  return peak ? `up to ${f.count(peak, "event")} ${f.perBucket(bars.step)}` : "no events in this range";
}

function useChart({ width, height, bars, lanes }) {
  const element = useRef(null);
  const [painted, repaint] = useState(0);
  useEffect(() => {
    const again = () => repaint((n) => n + 1);
    const script = document.getElementById("uplot");
    script?.addEventListener("load", again); // the sentence above does not wait for it
    const stop = onPreferenceChange(again);
    return () => {
      script?.removeEventListener("load", again);
      stop();
    };
  }, []);
  useEffect(() => {
    if (!width || !window.uPlot) return undefined;
    const chart = drawChart(element.current, { width, height, bars, lanes });
    return () => chart.destroy();
  }, [width, height, ...lanes.view, bars.counts, painted, lanes.timeline, lanes.branches]);
  return element;
}

function Handle({ timeline, branches, marks, edge, view, at, bottom, height, step, onView, onAt, onBranch }) {
  const over = useRef(null);
  const press = useRef(null); // "handle", or the branch that is pressed
  const [from, to] = view;
  const oldest = f.secondsOf(timeline.window.oldest.time);
  const newest = f.secondsOf(timeline.window.newest.time);
  const place = at ?? edge;
  const isChosen = at !== null;
  const clamp = (value) => Math.min(newest, Math.max(oldest, value));
  const percent = Math.min(100, Math.max(0, ((place - from) / (to - from)) * 100));

  const pointAt = (event) => {
    const box = over.current.getBoundingClientRect();
    return { value: from + ((event.clientX - box.left) / box.width) * (to - from), y: event.clientY - box.top, slack: ((to - from) / box.width) * SLACK };
  };
  const down = (event) => {
    if (event.button) return;
    const point = pointAt(event);
    press.current = branchAt(branches, point, height - bottom) || "handle";
    if (press.current !== "handle") return;
    over.current.setPointerCapture(event.pointerId);
    onAt(clamp(point.value), false);
  };
  const move = (event) => {
    if (press.current === "handle") onAt(clamp(pointAt(event).value), false);
  };
  const up = (event) => {
    const pressed = press.current;
    press.current = null;
    if (pressed === "handle") onAt(clamp(pointAt(event).value), true);
    else if (pressed) onBranch(pressed);
  };
  const cancelled = () => {
    if (press.current === "handle") onAt(null, true);
    press.current = null;
  };
  const key = (event) => {
    const moved = keyMove(event, { place, step, oldest, newest, marks });
    if (event.key === "Escape") onAt(null, true);
    else if (event.key === "+" || event.key === "=") onView(zoomed(view, place, 1 / 3, oldest, edge));
    else if (event.key === "-") onView(zoomed(view, place, 3, oldest, edge));
    else if (moved === null) return;
    else {
      const value = clamp(moved);
      if (value < from || value > to) onView(centred(view, value, oldest, edge));
      onAt(value, true);
    }
    event.preventDefault();
  };
  const words = isChosen ? `${f.time(place * 1000)} ${f.zoneName(place * 1000)}, ${f.ago(place * 1000)}` : "now: nothing is chosen";
  const left = { left: `${percent}%` };
  return html`<div class=${`tl-over ${isChosen ? "chosen" : ""}`} ref=${over} style=${{ height: `${height}px` }}
      onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerCancel=${cancelled}>
    ${isChosen && html`<div class="tl-shade" style=${{ ...left, bottom: `${bottom}px` }}></div>`}
    ${place >= from && place <= to && html`<div class="tl-line" style=${left}></div>`}
    <div class="tl-handle" tabindex="0" role="slider" aria-label="Moment to go back to" aria-orientation="horizontal"
      aria-valuemin=${Math.round(oldest)} aria-valuemax=${Math.round(edge)} aria-valuenow=${Math.round(place)}
      aria-valuetext=${words} aria-describedby="tl-help" onKeyDown=${key} style=${left}><span class="tl-knob"></span></div>
    ${isChosen && html`<div class=${`tl-bubble ${percent > 78 ? "right" : percent < 22 ? "left" : ""}`} style=${left}>
      <strong>${f.time(place * 1000)}</strong><span>${f.ago(place * 1000, now())}</span></div>`}
  </div>`;
}

// Which branch lies below the pointer. bars: pixels from the top to the lower end of the bars.
function branchAt(branches, { value, y, slack }, bars) {
  const below = y - bars - SLACK - LANE;
  if (below < -2) return null;
  const lane = Math.floor(below / LANE);
  return branches.find((each) => each.lane === lane && value >= each.from - slack && value <= each.to + 2 * slack) || null;
}

// The moment that a key leads to, or null.
function keyMove(event, { place, step, oldest, newest, marks }) {
  const bars = event.shiftKey ? 10 : 1;
  const times = marks.map((mark) => mark.at);
  const moves = {
    ArrowLeft: () => place - step * bars,
    ArrowRight: () => place + step * bars,
    Home: () => oldest,
    End: () => newest,
    PageUp: () => times.findLast((each) => each < place - 1) ?? oldest,
    PageDown: () => times.find((each) => each > place + 1) ?? newest,
  };
  return moves[event.key]?.() ?? null;
}

// One mark for the backups of each bucket, oldest first. timeline: of the API.
export function useMarks(timeline) {
  return useMemo(
    () => (timeline.marks || []).map((mark) => ({ ...mark, at: momentOf(mark, f.secondsOf(mark.from), f.secondsOf(mark.to)) })),
    [timeline],
  );
}

const MADE = /_(\d{4}-\d\d-\d\d)_(\d\d)(\d\d)(\d\d)/;
const WHOLE_SECOND = 0.999999; // events that were posted in the second of a backup may be in it

// When the newest backup of a mark was made, by its name; otherwise the middle of the mark.
function momentOf({ newest }, from, to) {
  const [, day, ...clock] = MADE.exec(newest || "") || [];
  const made = day ? Date.parse(`${day}T${clock.join(":")}Z`) / 1000 : NaN;
  return made + 1 > from && made <= to ? made + WHOLE_SECOND : (from + to) / 2;
}
