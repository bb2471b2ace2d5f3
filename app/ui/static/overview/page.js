// The first page: is my data safe, how far back can I go, what needs me, and what happens if I go back.
import { Bar, Copy, Elapsed, Empty, Icon, html } from "../parts.js";
import { SIGN, safety } from "../safety.js";
import { Facts } from "./facts.js";
import { LastRestore } from "./last_restore.js";
import { Needs } from "./needs.js";
import { Past } from "./past.js";
import { Running } from "./running.js";

// away: nothing can be changed now. isSilent: nothing answers at all.
export function Overview({ health, query, away, isSilent }) {
  const data = health.data;
  const state = safety(data || {}, { away: isSilent, at: health.at });
  return html`
    <${Hero} state=${state} restore=${data?.jobs?.restore} />
    ${data?.window && html`<${Facts} health=${data} />`}
    ${data?.store && html`<${Running} restore=${data.jobs?.restore} />`}
    ${data?.store && html`<${LastRestore} health=${data} away=${away} />`}
    ${data?.problems && html`<${Needs} health=${data} />`}
    ${data?.window && (data.window.newest.sequence
      ? html`<${Past} health=${data} away=${away} query=${query} />` : html`<${FirstEvent} />`)}`;
}

const Hero = ({ state, restore }) => html`<section class=${`hero ${state.tone}`} aria-labelledby="safe">
  <span class="hero-sign"><${Icon} name=${SIGN[state.tone]} size=${26} /></span>
  <div><h1 id="safe" tabindex="-1">${state.headline}.</h1><p>${state.detail}</p>
    ${state.tone === "busy" && html`<${Bar} label=${state.headline} share=${restore?.progress || undefined} />
      ${restore?.running && html`<p class="small"><${Elapsed} since=${restore.since} predicted=${restore.predictedSeconds} /></p>`}`}</div>
</section>`;

function FirstEvent() {
  const command = `curl -d '{"type": "order.created"}' ${location.origin}/api/events`;
  return html`<section class="card"><${Empty} icon="events" title="Post the first event">
    <p>It is on disk when the answer comes, and in the journal a moment later.</p>
    <pre tabindex="0">${command}</pre><${Copy} text=${command} label="Copy the command" /><//></section>`;
}
