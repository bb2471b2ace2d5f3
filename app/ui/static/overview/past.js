// "Go back in time": the timeline, the ways to choose a moment, and what going back there would do.
import { useMemo, useState } from "../vendor/hooks.mjs";
import { now } from "../clock.js";
import * as f from "../format.js";
import { Button, Problem, Segmented, html } from "../parts.js";
import { go } from "../route.js";
import { isAway, useLook } from "../service.js";
import { branchesOf } from "../timeline/branches.js";
import { RANGES, centred, viewOf, zoomed } from "../timeline/scale.js";
import { Timeline, useMarks } from "../timeline/timeline.js";
import { Plan } from "./plan.js";
import { SetAside } from "./set_aside.js";

const BUCKETS = 400;
const EVERY = 15000; // milliseconds
const QUICK = [["1 min ago", 60], ["10 min ago", 600], ["1 h ago", 3600], ["1 day ago", 86400]];
const NUDGES = [["− 1 min", -60], ["− 1 s", -1], ["+ 1 s", 1], ["+ 1 min", 60]];

export function Past({ health, away, query }) {
  const look = useLook(`/api/backup/timeline?buckets=${BUCKETS}`, EVERY);
  if (look.error && !look.data) {
    return isAway(look.error) ? html`<section class="card" id="past"><p class="quiet">The timeline is shown once the event store answers.</p></section>`
      : html`<${Problem} error=${look.error} />`;
  }
  if (!look.data?.window) return html`<section class="card timeline skeleton" id="past" aria-busy="true" aria-label="The timeline is coming"></section>`;
  return html`<${PastOf} timeline=${look.data} query=${query} health=${health} away=${away} />`;
}

function PastOf({ timeline, query, health, away }) {
  const oldest = f.secondsOf(timeline.window.oldest.time);
  const newest = f.secondsOf(timeline.window.newest.time);
  const branches = useMemo(() => branchesOf(timeline), [timeline]);
  const marks = useMarks(timeline);
  const edge = useMemo(() => Math.max(now() / 1000, newest, ...branches.map((branch) => branch.to)), [timeline]);
  const { view, range } = viewOf(query, oldest, edge);
  const [dragged, setDragged] = useState(null);
  const chosen = query.at === undefined ? null : Number(query.at);
  const place = dragged ?? chosen;
  const branch = query.generation === undefined ? null : { generation: query.generation, sequence: Number(query.sequence) };

  const choose = (value, more = {}) => {
    const at = value === null ? undefined : value.toFixed(6);
    go("overview", { ...query, ...more, at, generation: undefined, sequence: undefined }, { replace: chosen !== null });
  };
  const show = ([from, to]) => ({ range: undefined, from: from.toFixed(0), to: to.toFixed(0) });
  const onAt = (value, isSettled) => {
    setDragged(isSettled ? null : value);
    if (isSettled) choose(value);
  };
  const onView = (next) => go("overview", { ...query, ...show(next) }, { replace: !!query.from });
  const jump = (wanted) => {
    const value = Math.min(newest, Math.max(oldest, wanted));
    const isInView = value >= view[0] && value <= view[1];
    setDragged(null);
    choose(value, isInView ? {} : show(centred(view, value, oldest, edge)));
  };
  const onRange = (length) => go("overview", { ...query, from: undefined, to: undefined, range: String(length) });
  const onBranch = (each) => go("overview", { ...query, at: undefined, generation: each.generation, sequence: each.sequence });
  const zoom = (factor) => onView(zoomed(view, place ?? edge, factor, oldest, edge));
  const ranges = RANGES.map(([length, name]) => [length, name, length > (edge - oldest) * 1.5]);
  const last = health.backup?.latest;
  return html`<section class="card timeline" id="past" aria-labelledby="past-title">
    <header class="card-head"><div><h2 id="past-title">Go back in time</h2>
      <p class="quiet">Drag the handle, or click where you want to be. Nothing changes until you say so. <span class="nowrap">Times are ${f.zoneName(newest * 1000)}.</span></p></div>
      <${Segmented} label="Time range" choices=${ranges} value=${range} onChoose=${onRange} /></header>
    <${Timeline} ...${{ timeline, branches, marks, edge, view, onView, onAt, onBranch }} at=${place} legend=${legendOf(timeline, branches, marks)} />
    <div class="tl-tools">
      ${place === null
        ? html`<div class="tl-group" role="group" aria-label="Choose a moment">${QUICK.filter(([, back]) => edge - back > oldest).map(([name, back]) => html`
            <${Button} kind="small" onClick=${() => jump(now() / 1000 - back)}>${name}<//>`)}
            ${last && html`<${Button} kind="small" onClick=${() => jump(f.secondsOf(last.created))}>Last backup<//>`}</div>`
        : html`<div class="tl-group" role="group" aria-label="Move the handle">${NUDGES.map(([name, by]) => html`
            <${Button} kind="small" onClick=${() => jump(place + by)}>${name}<//>`)}</div>`}
      <div class="tl-group" role="group" aria-label="Zoom"><${Button} kind="small" onClick=${() => zoom(1 / 4)}>Zoom in<//>
        <${Button} kind="small" onClick=${() => zoom(4)}>Zoom out<//></div>
      ${(place !== null || branch) && html`<${Button} kind="small" icon="close" onClick=${() => onAt(null, true)}>Back to now<//>`}
    </div>
    ${branch ? html`<${Plan} key=${branch.generation} moment=${branch} health=${health} away=${away} />`
      : chosen !== null ? html`<${Plan} key="moment" moment=${{ pointInTime: f.isoOf(chosen) }} health=${health} away=${away} />`
      : html`<${SetAside} branches=${branches} />`}
  </section>`;
}

function legendOf(timeline, branches, marks) {
  return [
    "events",
    "backup",
    marks.some((mark) => mark.pinned) && "pinned",
    marks.some((mark) => mark.damaged) && "damaged",
    branches.length > 0 && "set aside",
    timeline.gaps.length > 0 && "gap",
  ].filter(Boolean);
}
