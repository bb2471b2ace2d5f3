// Automatic work: how often it runs, how it ended last, and when it runs next.
import * as f from "../format.js";
import { Column, Icon, When, Written, html } from "../parts.js";
import { lateAfter } from "../safety.js";

export function AutomaticWork({ health }) {
  const rows = [journalRow(health.journal), backupRow(health.jobs.autoBackup), scrubRow(health.jobs.scrub), rehearsalRow(health.jobs.rehearsal, health.rehearsal, health.jobs.autoBackup?.timeZone)];
  return html`<section class="card flush"><h2>Automatic work</h2><table role="table" class="stack"><caption class="hidden">Automatic work</caption>
    <thead role="rowgroup"><tr role="row"><${Column}>What<//><${Column}>How often<//><${Column}>Last<//><${Column}>Next<//></tr></thead>
    <tbody role="rowgroup">${rows.filter(Boolean).map((row) => html`<tr role="row" key=${row.what}>
      <td role="cell" class="name">${row.what}</td><td role="cell" class="quiet">${row.often}</td>
      <td role="cell" class="wide-cell">${row.last}</td><td role="cell" class="quiet"><span class="only-narrow">next: </span>${row.next}</td></tr>`)}</tbody></table></section>`;
}

const stateOf = (isGood, words, more) => html`<span class=${`state ${isGood ? "good" : "bad"}`}><${Icon} name=${isGood ? "check" : "stop"} size=${16} />
  <span>${words}${more && html`<span class="sub"><${Written} text=${more} /></span>`}</span></span>`;

// The service says in words how the last run ended.
function outcomeOf(job) {
  if (!job.lastRun) return html`<span class="quiet">not yet</span>`;
  return stateOf(!/^failed|damaged/.test(job.lastOutcome || ""), html`<${When} at=${job.lastRun} />`, job.lastOutcome);
}

const nextOf = (job) => (!job.enabled ? "off" : job.nextRun ? html`<${When} at=${job.nextRun} />` : "not known");

const oftenOf = (job) => [job.intervalMs && f.every(job.intervalMs / 1000), job.cron && f.everyCron(job.cron, job.timeZone)].filter(Boolean).join(", and ") || "off";

function journalRow(journal) {
  if (!journal) return null;
  const risk = journal.secondsAtRisk;
  const last = risk === null || risk === undefined ? html`<span class="quiet">not known</span>` : stateOf(risk <= lateAfter(journal), `${f.duration(risk)} at risk`);
  return { what: "Copy new events to the journal", often: f.every(journal.intervalMs / 1000), last, next: "always" };
}

const backupRow = (job) => job && { what: "Back up what changed", often: oftenOf(job), last: outcomeOf(job), next: nextOf(job) };

const scrubRow = (job) => job && { what: "Read an old backup again", often: job.enabled ? f.every(job.intervalMs / 1000) : "off", last: outcomeOf(job), next: nextOf(job) };

// zone: the time zone of all schedules.
function rehearsalRow(job, newest, zone) {
  const last = !newest?.at ? html`<span class="quiet">not yet</span>`
    : stateOf(newest.ok, html`<${When} at=${newest.at} />`, newest.ok ? `back in ${f.duration(newest.rtoSeconds)}` : "failed");
  return { what: "Try a full restore", often: job?.enabled ? f.everyCron(job.cron, zone) : "off", last, next: newest?.next ? html`<${When} at=${newest.next} />` : "off" };
}
