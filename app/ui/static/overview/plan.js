// What going back would do, in numbers. The question before it has the same numbers.
import { useEffect, useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Button, Link, Problem, When, Written, html } from "../parts.js";
import { addressOf } from "../route.js";
import { pause } from "../seen.js";
import { ask, isAway } from "../service.js";
import { RestoreDialog } from "./restore_dialog.js";

const SETTLED = 180; // milliseconds after the last move
const AGAIN = 2000; // milliseconds until an unanswered request is repeated

// moment: a restore's request.
export function Plan({ moment, health, away }) {
  const { plan, error, isOld } = usePlan(moment, health.store?.generation);
  const [asked, setAsked] = useState(null); // the plan that the dialog shows, whatever becomes of this one meanwhile
  return html`<${PlanNow} ...${{ moment, health, away, plan, error, isOld }} onAsk=${() => setAsked(plan)} />
    ${asked && html`<${RestoreDialog} moment=${moment} plan=${asked} onClose=${() => setAsked(null)} />`}`;
}

function PlanNow({ moment, health, away, plan, error, isOld, onAsk }) {
  if (error && !isOld) return html`<div class="plan"><${Refused} error=${error} generation=${health.store?.generation} /></div>`;
  if (!plan) return html`<div class="plan" aria-busy="true"><p class="quiet">Reading what would happen…</p></div>`;
  const isOther = plan.generation !== health.store?.generation && !!moment.generation;
  const nothing = !isOther && plan.eventsLeftBehind === 0;
  const isBlocked = nothing || isOld || away || health.jobs?.restore?.running;
  return html`<div class=${`plan ${isOld ? "stale" : ""}`} aria-live="polite" aria-busy=${isOld ? "true" : "false"}>
    <div class="plan-columns"><div>
      <h3>${isOther ? "If you bring back what was there at" : "If you go back to"} <span class="moment">${f.time(isOther ? plan.time : moment.pointInTime)}</span></h3>
      <${PlanNumbers} plan=${plan} /></div>
      ${plan.eventsLeftBehind > 0 && html`<${LeftBehind} plan=${plan} />`}</div>
    ${plan.eventsLeftBehind > 0 && html`<p class="plan-span">${stored(plan)}</p>`}
    <div class="actions start">
      <${Button} kind="primary" icon="undo" needs="admin" disabled=${isBlocked} onClick=${onAsk}>${nothing ? "Nothing would change" : "Go back…"}<//>
      ${!isOther && html`<${Link} icon="eye" href=${addressOf("events", { asOf: plan.time })}>Look first<//>`}
      <${How} plan=${plan} />
    </div>
  </div>`;
}

// The plan before stays until the new one has come. generation: the current one; a restore elsewhere changes it and the plan.
function usePlan(moment, generation) {
  const body = JSON.stringify(moment);
  const [state, setState] = useState({});
  useEffect(() => {
    const stop = new AbortController();
    const read = async () => {
      try {
        const answer = await ask("POST", "/api/backup/restore", { ...moment, dryRun: true }, { signal: stop.signal });
        setState({ plan: answer.plan, body });
      } catch (error) {
        if (error.name === "AbortError") return;
        if (!isAway(error)) {
          setState({ error, body });
          return;
        }
        await pause(AGAIN);
        if (!stop.signal.aborted) read();
      }
    };
    const timer = setTimeout(read, SETTLED);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [body, generation]);
  return { ...state, isOld: state.body !== body };
}

// generation: the current one.
function Refused({ error, generation }) {
  const near = error.body?.nearest?.at(-1);
  const { window } = error.body || {};
  const hint = window?.oldest.time && window.newest.time ? `any moment from ${f.time(window.oldest.time)} to ${f.time(window.newest.time)} can be had` : near ? "" : error.hint;
  return html`<${Problem} error=${{ message: error.message, hint, body: error.body }}>${near && html`<p>
    <a href=${addressOf("overview", momentOf(near, generation))}>Go to the nearest moment: ${near.time ? html`<${When} at=${near.time} absolute />` : `after event #${f.number(near.sequence)}`}</a></p>`}<//>`;
}

const momentOf = ({ generation, time, sequence }, present) =>
  (time && (!generation || generation === present) ? { at: f.secondsOf(time).toFixed(6) } : { generation, sequence });

const PlanNumbers = ({ plan }) => html`<dl class="plan-numbers">
  <div class=${plan.eventsLeftBehind ? "strong" : ""}><dt>${plan.eventsLeftBehind === 1 ? "event is set aside" : "events are set aside"}</dt><dd>${f.number(plan.eventsLeftBehind)}</dd></div>
  <div><dt>are there then${plan.lastKept ? `, the last of ${f.shortTime(plan.lastKept.recordedtime)}` : ""}</dt><dd>${f.number(plan.sequence)}</dd></div>
  <div><dt>until it is done</dt><dd>${plan.predictedSeconds === null ? "not known" : `≈ ${f.duration(plan.predictedSeconds)}`}</dd></div>
  <div><dt>of disk; ${f.bytes(plan.diskFree)} are free</dt><dd>${f.bytes(plan.diskNeeded)}</dd></div></dl>`;

function stored(plan) {
  if (!plan.undo?.kept) return "With KEEP_UNDO=0 they are stored nowhere after the next backup: there is no undo.";
  const drops = plan.undo.drops?.length ? " With the next backup, what an earlier restore set aside is dropped." : "";
  return `They are stored beside the database, and one click brings them back.${drops}`;
}

// The most frequent types say what happened since that moment.
function LeftBehind({ plan }) {
  const types = plan.types || [];
  const most = Math.max(1, ...types.map((type) => type.events));
  return html`<div class="what"><h4>Set aside</h4>
    <ul>${types.map((type) => html`<li><span class="mono"><${Written} text=${type.type} most=${80} /></span>
      <i style=${{ width: `${(type.events / most) * 100}%` }}></i><b>${f.number(type.events)}</b></li>`)}</ul>
    <p class="sub">From ${nameOf(plan.firstLeftBehind)} to ${nameOf(plan.lastLeftBehind)}.</p></div>`;
}

const nameOf = (event) => `#${f.number(event.sequence)} (${f.time(event.recordedtime)})`;

const How = ({ plan }) => html`<details class="how"><summary>How</summary><p>
  ${plan.archive ? html`Reads <code>${plan.archive}</code>` : plan.presentDatabase ? "Copies the open database by hard links" : "Reads the journal from its beginning"}${plan.segments.length ? ` and ${f.count(plan.segments.length, "segment")} of the journal` : ""}:
  ${f.bytes(plan.bytesToRead)}. The time comes from earlier restores of this machine. Posts and reads go on meanwhile, and wait for the swap alone.</p></details>`;
