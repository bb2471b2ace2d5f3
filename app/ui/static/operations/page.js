// Long work of the last 30 days, whoever began it, and the restores that were tried beside the data.
import { useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { RunningOperation, doingOf } from "../overview/running.js";
import { Button, Column, Empty, Fault, Icon, More, When, Written, html, tell, tellError } from "../parts.js";
import { hasEnded, refresh, runOperation, useLook } from "../service.js";
import { usePages } from "../use_pages.js";
import { AutomaticWork } from "./automatic_work.js";

const EVERY = 2000; // milliseconds
const ROWS = 50;
const LIST = {
  every: EVERY,
  rowsOf: (answer) => answer.operations,
  nextOf: ({ operations }) => (operations.length === ROWS ? operations.at(-1).id : null),
  keyOf: (operation) => operation.id,
};

export function Operations({ health, away, isSilent }) {
  const list = usePages(`/api/operations?limit=${ROWS}`, LIST);
  const operations = list.rows;
  const running = operations?.filter((operation) => !hasEnded(operation)) || [];
  return html`<header class="page-head"><div><h1 tabindex="-1">Operations</h1><p class="quiet">Long work, whoever began it. Each is listed for 30 days.</p></div></header>
    ${running.length > 0 && html`<section class="card running" aria-label="Running now">${running.map((operation) => html`<${RunningOperation} key=${operation.id} operation=${operation} restore=${health.data?.jobs?.restore} />`)}</section>`}
    ${health.data?.jobs && html`<${AutomaticWork} health=${health.data} />`}
    <${Rehearsals} rehearsal=${health.data?.rehearsal} away=${away} />
    <${Fault} look=${list} known=${!!operations} isSilent=${isSilent} />
    ${!operations && !list.error && html`<section class="card skeleton" aria-busy="true" aria-label="The list is coming"></section>`}
    ${operations && html`<section class="card flush"><h2>What ran</h2>
      ${operations.some(hasEnded) ? html`<${Ended} operations=${operations.filter(hasEnded)} />` : html`<${Empty} icon="operations" title="Nothing ran yet">Backups, restores and checks are listed here.<//>`}
      <${More} list=${list} /></section>`}`;
}

const Ended = ({ operations }) => html`<table role="table" class="stack"><caption class="hidden">Operations that ended, newest first</caption>
  <thead role="rowgroup"><tr role="row"><${Column}>Began<//><${Column}>What<//><${Column}>By<//><${Column}>How it ended<//></tr></thead>
  <tbody role="rowgroup">${operations.map((operation) => html`<tr role="row" key=${operation.id}>
    <td role="cell" class="made"><${When} at=${operation.startedAt} absolute /></td>
    <td role="cell" class="name">${doingOf(operation)} <span class="sub mono">${operation.id}</span></td>
    <td role="cell"><span class="only-narrow">by </span><${Written} text=${operation.startedBy} /></td>
    <td role="cell" class="wide-cell"><${HowItEnded} operation=${operation} /></td></tr>`)}</tbody></table>`;

function HowItEnded({ operation }) {
  const took = f.duration((Date.parse(operation.endedAt) - Date.parse(operation.startedAt)) / 1000);
  if (operation.state === "succeeded") return html`<span class="state good"><${Icon} name="check" size=${16} /><span>done in ${took}</span></span>`;
  const why = operation.error ? html`<span class="sub"><${Written} text=${f.sentence(operation.error.error)} /></span>` : "";
  const tone = operation.state === "failed" ? "bad" : "";
  return html`<span class=${`state ${tone}`}><${Icon} name=${tone ? "stop" : "close"} size=${16} /><span>${operation.state} after ${took}${why}</span></span>`;
}

function Rehearsals({ rehearsal, away }) {
  const look = useLook("/api/backup/rehearsals", 10000);
  const [isBusy, setBusy] = useState(false);
  const rows = look.data?.rehearsals || [];
  const rehearse = async () => {
    setBusy(true);
    try {
      const { rehearsal: done } = await runOperation("POST", "/api/backup/rehearse");
      if (done.ok) tell(`It would be back in ${f.duration(done.rtoSeconds)}: ${f.count(done.compared, "event")} compared.`);
      else tell(`The tried restore failed: ${done.problem?.error || done.problem?.code}`, { tone: "bad" });
    } catch (error) {
      tellError(error);
    }
    setBusy(false);
    refresh();
  };
  return html`<section class="card" aria-labelledby="rehearsals"><header class="card-head"><div><h2 id="rehearsals">Tried restores</h2>
      <p class="quiet">A full restore beside the data: every record is read and compared, the time is measured, and nothing changes.${rehearsal?.next ? html` The next one runs <${When} at=${rehearsal.next} />.` : ""}</p></div>
      <${Button} busy=${isBusy} needs="backup" disabled=${away} onClick=${rehearse}>Try one now<//></header>
    ${rows.length ? html`<ul class="rehearsals">${rows.slice(0, 10).map((row) => html`<li class=${row.ok ? "" : "bad"}><${Rehearsal} row=${row} /></li>`)}</ul>` : look.data && html`<p class="quiet">None was tried yet.</p>`}</section>`;
}

function Rehearsal({ row }) {
  const when = html`<${When} at=${row.at} absolute />`;
  if (!row.ok) return html`<${Icon} name="stop" size=${16} /> ${when}: failed. <${Written} text=${f.sentence(row.problem?.error || row.problem?.code || "")} />`;
  const lost = row.rpoEvents === null ? "" : ` A loss of the database then would have cost ${f.count(row.rpoEvents, "event")}.`;
  return html`<${Icon} name="check" size=${16} /> ${when}: back in <strong>${f.duration(row.rtoSeconds)}</strong>, ${f.count(row.compared, "event")} compared and equal.${lost}`;
}
