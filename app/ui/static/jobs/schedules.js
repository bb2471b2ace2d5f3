// The schedules of jobs: when each fires next, and how its last job ended.
import { Column, Written, When, html } from "../parts.js";
import { useLook } from "../service.js";

const EVERY = 10000; // milliseconds

export function Schedules({ onShow }) {
  const { data } = useLook("/api/jobs/schedules", EVERY);
  const schedules = data?.schedules || [];
  if (!schedules.length) return null;
  return html`<section class="card flush"><h2>Schedules</h2><table role="table"><caption class="hidden">Schedules</caption>
    <thead role="rowgroup"><tr role="row"><${Column}>Schedule<//><${Column}>When<//><${Column}>Next<//><${Column}>Last<//></tr></thead>
    <tbody role="rowgroup">${schedules.map((each) => html`<tr role="row" key=${each.name}>
      <td role="cell" class="name"><${Written} text=${each.name} most=${120} /><span class="sub">${each.type === each.name ? "" : html`<${Written} text=${each.type} most=${120} />, `}${each.inCode ? "declared in code" : "made here"}</span></td>
      <td role="cell" class="wide-cell"><code><${Written} text=${each.cron} /></code><span class="sub"><${Written} text=${each.timeZone} /></span></td>
      <td role="cell" class="wide-cell">${each.paused ? "paused" : html`<span class="only-narrow">next </span><${When} at=${each.next} />`}</td>
      <td role="cell" class="wide-cell"><span class="only-narrow">last </span><${When} at=${each.last} none="not yet" />${each.lastJob && html`<span class="sub"><button type="button" class="link" onClick=${() => onShow(each.lastJob)}>its job</button></span>`}
        ${each.skipped > 0 && html`<span class="sub">${each.skipped} skipped, as the one before was unfinished</span>`}</td></tr>`)}</tbody></table></section>`;
}
