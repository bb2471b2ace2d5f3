// The types that workers have named; each can be paused.
import { useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Button, Column, Written, html, tell, tellError } from "../parts.js";
import { ask, refresh, useLook } from "../service.js";

const EVERY = 10000; // milliseconds

export function Types({ away }) {
  const { data } = useLook("/api/jobs/types", EVERY);
  const [busy, setBusy] = useState(null);
  const types = data?.types || [];
  if (!types.length) return null;
  const change = async (type, verb) => {
    setBusy(type);
    try {
      await ask("POST", `/api/jobs/${verb}`, { type });
      tell(verb === "pause" ? `Jobs of the type ${type} wait now; those that run go on.` : `Jobs of the type ${type} are sent again.`);
    } catch (error) {
      tellError(error);
    }
    setBusy(null);
    refresh("/api/jobs");
  };
  return html`<section class="card flush"><h2>Types</h2><table role="table"><caption class="hidden">Types of jobs</caption>
    <thead role="rowgroup"><tr role="row"><${Column}>Type<//><${Column} number>Workers<//><${Column}>Needs<//><${Column}><span class="hidden">Actions</span><//></tr></thead>
    <tbody role="rowgroup">${types.map(({ type, workers, scope, paused }) => html`<tr role="row" key=${type}>
      <td role="cell" class="name"><${Written} text=${type} most=${120} />${paused && html` <span class="tag">paused</span>`}</td>
      <td role="cell" class="num" data-name=${workers === 1 ? "worker" : "workers"}>${workers ? f.number(workers) : html`<span class="care-text">none</span>`}</td>
      <td role="cell" data-name="scope">${scope}</td>
      <td role="cell" class="row-actions"><${Button} kind="small ghost" needs="admin" disabled=${away} busy=${busy === type} aria-label=${`${paused ? "Resume" : "Pause"} ${type}`} onClick=${() => change(type, paused ? "resume" : "pause")}>${paused ? "Resume" : "Pause"}<//></td></tr>`)}</tbody></table></section>`;
}
