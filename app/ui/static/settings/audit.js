// The audit: who did what, and how it ended, newest first. It has two lines for an action, which are shown as one.
import { useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Button, Column, Empty, Problem, When, Written, html } from "../parts.js";
import { useLook } from "../service.js";

const LINES = 100;
const MOST = 1000; // lines that are asked for at once
const EVERY = 10000; // milliseconds

export function Audit() {
  const tip = useLook("/api/audit?limit=1", EVERY);
  const [lines, setLines] = useState(LINES);
  const last = tip.data?.lastLine;
  const after = last === undefined ? null : Math.max(0, last - lines);
  const look = useLook(after === null ? null : `/api/audit?after=${after}&limit=${lines}`);
  const [shown, setShown] = useState(null); // stays until the next lines have come
  if (look.data && look.data !== shown) setShown(look.data);
  const error = tip.error || look.error;
  const deeds = shown && deedsOf(shown.lines);
  return html`<section class="card flush audit" aria-labelledby="audit"><header class="card-head inset"><div><h2 id="audit">Audit</h2>
      <p class="quiet">Who did what, newest first. <code>flask audit verify</code> checks that no line was changed.</p></div></header>
    ${error && !shown && html`<${Problem} error=${error} />`}
    ${!shown && !error && html`<div class="skeleton" aria-busy="true" aria-label="The audit is coming"></div>`}
    ${deeds && (deeds.length ? html`<${Table} deeds=${deeds} />` : html`<${Empty} title="Nothing was done yet">Each change is noted here.<//>`)}
    ${shown && after > 0 && (lines < MOST
      ? html`<div class="more"><${Button} busy=${!look.data} onClick=${() => setLines(Math.min(MOST, lines * 3))}>Show earlier ones<//></div>`
      : html`<p class="inset quiet"><code>flask audit show</code> has the earlier ones.</p>`)}</section>`;
}

// lines: of the API, oldest first. Returns [{begun, ended}], newest first; either may be missing.
function deedsOf(lines) {
  const deeds = new Map();
  for (const line of lines) {
    const key = line.state === "noted" || !line.operation ? line.line : line.operation;
    const deed = deeds.get(key) || {};
    deeds.set(key, line.state === "begun" ? { ...deed, begun: line } : { ...deed, ended: line });
  }
  return [...deeds.values()].reverse();
}

const Table = ({ deeds }) => html`<div class="scrolled" tabindex="0" role="group" aria-label="Lines of the audit"><table role="table" class="stack"><caption class="hidden">What was done, newest first</caption>
  <thead role="rowgroup"><tr role="row"><${Column}>When<//><${Column}>Who<//><${Column}>What<//><${Column}>Result<//></tr></thead>
  <tbody role="rowgroup">${deeds.map((deed) => html`<${Deed} key=${(deed.begun || deed.ended).line} ...${deed} />`)}</tbody></table></div>`;

function Deed({ begun, ended }) {
  const first = begun || ended;
  return html`<tr role="row"><td role="cell" class="made"><${When} at=${first.at} absolute /></td>
    <td role="cell"><span class="only-narrow">by </span><${Written} text=${first.who} /></td>
    <td role="cell" class="name"><strong>${first.action}</strong>${first.target && html` <${Written} text=${first.target} />`}</td>
    <td role="cell">${ended ? html`<${Result} line=${ended} />` : html`<span class="quiet">not ended</span>`}</td></tr>`;
}

function Result({ line }) {
  const { code, leftBehind, removed, events } = line.details;
  const more = [
    code,
    leftBehind !== undefined && `${f.count(leftBehind, "event")} set aside`,
    Array.isArray(removed) && `${f.count(removed.length, "backup")} removed`,
    leftBehind === undefined && events !== undefined && f.count(events, "event"),
  ].filter((each) => each && typeof each === "string").join(", ");
  return html`<span class=${line.result === "failed" ? "bad-text" : ""}>${line.result || "noted"}</span>${more && html`<span class="sub">${more}</span>`}`;
}
