// Jobs: the running and waiting ones, those that failed for good and why, and the schedules.
import { useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Bar, Button, Column, Confirm, Empty, Fact, Fault, Icon, Segmented, When, Written, html, tell } from "../parts.js";
import { go } from "../route.js";
import { ask, refresh, useLook } from "../service.js";
import { JobDialog } from "./job_dialog.js";
import { Schedules } from "./schedules.js";
import { Types } from "./types.js";

const EVERY = 2000; // milliseconds
const ROWS = 100;
const MOST = 1000;
const NAMED = 5;

export const KINDS = {
  unfinished: { title: "Unfinished", states: ["running", "sent", "pending", "held"], none: "No job is unfinished" },
  dead: { title: "Dead", states: ["dead"], none: "No job failed for good" },
  done: { title: "Done", states: ["done"], none: "No job is done yet" },
  cancelled: { title: "Cancelled", states: ["cancelled"], none: "No job was cancelled" },
};

export function Jobs({ query, health, away, isSilent }) {
  const kind = Object.hasOwn(KINDS, query.show) ? query.show : "unfinished";
  const [rows, setRows] = useState(ROWS);
  const list = useLook(`/api/jobs?state=${KINDS[kind].states.join(",")}&limit=${rows}`, EVERY);
  const [shown, setShown] = useState(null);
  const [asked, setAsked] = useState(null); // the jobs to retry or to cancel: {verb, jobs}
  const [isReleasing, setReleasing] = useState(false);
  const queue = health.data?.jobQueue;
  const jobs = list.data?.jobs;
  const choose = (show) => {
    setRows(ROWS);
    go("jobs", show === "unfinished" ? {} : { show }, { replace: true });
  };
  const isHeld = queue?.held > 0 || health.data?.problems?.some(({ code }) => code === "jobs_held" || code === "jobs_rewound");
  const isOff = away || !!list.error; // nothing can be changed while the dispatcher does not answer
  if (list.error?.code === "jobs_disabled") return html`<header class="page-head"><h1 tabindex="-1">Jobs</h1></header><section class="card"><${Empty} icon="jobs" title="Jobs are switched off">Set <code>JOBS_ENABLED=true</code> and restart the service.<//></section>`;
  return html`<header class="page-head"><div><h1 tabindex="-1">Jobs</h1><p class="quiet"><${Summary} queue=${queue} /></p></div></header>
    ${queue && html`<${Counts} queue=${queue} />`}
    <${Fault} look=${list} known=${!!jobs} isSilent=${isSilent} />
    ${isHeld && html`<${Held} count=${queue.held} disabled=${isOff} onRelease=${() => setReleasing(true)} />`}
    ${!jobs && !list.error && html`<section class="card skeleton" aria-busy="true" aria-label="The list is coming"></section>`}
    ${jobs && html`<section class="card flush"><div class="filters">
        <${Segmented} label="Which jobs" value=${kind} onChoose=${choose} choices=${Object.entries(KINDS).map(([name, each]) => [name, html`${each.title}${badge(name, queue)}`])} />
        ${kind === "dead" && jobs.length > 0 && html`<${Button} needs="admin" disabled=${isOff} onClick=${() => setAsked({ verb: "retry", jobs })}>Retry ${jobs.length === 1 ? "this one" : `these ${f.number(jobs.length)}`}…<//>`}</div>
      ${jobs.length ? html`<${Table} jobs=${jobs} kind=${kind} away=${isOff} onShow=${(job) => setShown(job.id)} onAsk=${(verb, job) => setAsked({ verb, jobs: [job] })} />`
        : html`<${Empty} icon="jobs" title=${KINDS[kind].none}>${kind === "unfinished" ? html`<code>flask jobs submit echo '{"hello": "world"}'</code> submits one.` : ""}<//>`}
      ${list.data.next && (rows < MOST ? html`<div class="more"><${Button} onClick=${() => setRows(Math.min(MOST, rows * 2))}>Show earlier ones<//></div>`
        : html`<p class="quiet more">These are the newest ${f.number(MOST)}. <code>flask jobs list</code> shows others.</p>`)}</section>`}
    <${Schedules} onShow=${setShown} />
    <${Types} away=${isOff} />
    ${shown !== null && html`<${JobDialog} key=${shown} id=${shown} onClose=${() => setShown(null)} />`}
    ${asked && html`<${Ask} ...${asked} onClose=${() => setAsked(null)} />`}
    ${isReleasing && html`<${Release} count=${queue?.held || 0} onClose=${() => setReleasing(false)} />`}`;
}

function Summary({ queue }) {
  if (!queue) return html`\u00a0`;
  if (!queue.workers) return "No worker is here: jobs wait for one.";
  return `${f.count(queue.workers, "worker")} with ${f.count(queue.slots, "slot")}.`;
}

const Counts = ({ queue }) => html`<dl class="facts inset">
  <${Fact} name="Waiting" more=${queue.oldestWaiting ? html`the oldest since <${When} at=${queue.oldestWaiting} />` : "nothing is due"}>${f.number(queue.waiting)}<//>
  <${Fact} name="Running">${f.number(queue.running)}<//>
  <${Fact} name="Dead" tone=${queue.dead ? "care" : ""}>${f.number(queue.dead)}<//>
  <${Fact} name="Held" tone=${queue.held ? "care" : ""}>${f.number(queue.held)}<//></dl>`;

const Held = ({ count, disabled, onRelease }) => html`<div class="card note care"><${Icon} name="warn" />
  <p><strong>${count ? `${f.count(count, "job")} ${count === 1 ? "waits" : "wait"}` : "All jobs wait"} for you.</strong> What is known of them may be older than what ran: cancel here what has run since, then let the rest go on.</p>
  <div class="actions"><${Button} kind="small" needs="admin" disabled=${disabled} onClick=${onRelease}>Let ${count === 1 ? "it" : "them"} go on…<//></div></div>`;

function Release({ count, onClose }) {
  const release = async () => {
    await ask("POST", "/api/jobs/resume", {});
    refresh("/api/jobs", "/api/health");
    tell("They wait for a worker now.");
  };
  return html`<${Confirm} title=${count ? `Let ${f.count(count, "job")} go on?` : "Let all jobs go on?"} verb=${count === 1 ? "Let it go on" : "Let them go on"} what="Letting them go on" onClose=${onClose} onDone=${release}>
    <p>Each is sent to a worker. What has run, and is not known to have run, runs again.</p>
    <p class="quiet">Types that are paused are resumed too.</p><//>`;
}

function badge(kind, queue) {
  const count = KINDS[kind].states.reduce((sum, state) => sum + (queue?.states[state] || 0), 0);
  return count ? html` <b class=${`badge ${kind === "dead" ? "bad" : ""}`}>${f.number(count)}</b>` : "";
}

function Table({ jobs, kind, away, onShow, onAsk }) {
  const isDead = kind === "dead";
  return html`<table role="table" class="rows"><caption class="hidden">Jobs, newest first</caption>
    <thead role="rowgroup"><tr role="row"><${Column}>${kind === "unfinished" ? "State" : "Ended"}<//><${Column}>Job<//><${Column} number>${isDead ? "Attempts" : "Attempt"}<//>
      <${Column}>${isDead ? "Why" : kind === "unfinished" ? "Progress" : "By"}<//><${Column}><span class="hidden">Actions</span><//></tr></thead>
    <tbody role="rowgroup">${jobs.map((job) => html`<tr role="row" key=${job.id} class=${isDead ? "bad" : ""}>
      <td role="cell" class="made">${job.endedAt ? html`<${When} at=${job.endedAt} absolute />` : html`${job.state}<span class="sub"><${When} at=${job.createdAt} /></span>`}</td>
      <td role="cell" class="name"><button type="button" class="link plain-link" onClick=${() => onShow(job)}><${Written} text=${job.type} most=${120} /></button> <span class="sub mono"><${Written} text=${job.id} most=${120} /></span></td>
      <td role="cell" class="num" data-name=${isDead ? plural(job.attempt) : plural(job.maxAttempts)}>${f.number(job.attempt)}${isDead ? "" : html` <span class="quiet">of ${f.number(job.maxAttempts)}</span>`}</td>
      <td role="cell" class="wide-cell"><${Middle} job=${job} /></td>
      <td role="cell" class="row-actions"><${Action} job=${job} away=${away} onAsk=${onAsk} /></td></tr>`)}</tbody></table>`;
}

const plural = (attempts) => (attempts === 1 ? "attempt" : "attempts");

function Middle({ job }) {
  if (job.state === "dead") return html`<${Written} text=${f.sentence(job.error?.message || "")} />`;
  if (job.cancelRequested && !job.endedAt) return "is to stop";
  if (job.state === "pending" && Date.parse(job.runAt) > Date.parse(job.createdAt)) return html`due <${When} at=${job.runAt} />`;
  if (job.progress && !job.endedAt) {
    const { fraction, text } = job.progress;
    return html`${fraction !== null && html`<${Bar} share=${fraction} label=${`Progress of ${job.id}`} />`}<span class="sub">${fraction !== null && f.percent(fraction)}${fraction !== null && text && " · "}<${Written} text=${text} /></span>`;
  }
  return job.endedAt ? html`<${Written} text=${job.startedBy} />` : "";
}

function Action({ job, away, onAsk }) {
  if (job.state === "done") return null;
  const verb = job.endedAt ? "retry" : "cancel";
  return html`<${Button} kind="small ghost" needs="admin" disabled=${away || (verb === "cancel" && job.cancelRequested)} aria-label=${`${TITLES[verb]} ${job.id}…`} onClick=${() => onAsk(verb, job)}>${TITLES[verb]}…<//>`;
}

const TITLES = { retry: "Retry", cancel: "Cancel" };

// The jobs that were shown when the question was asked, and no later ones.
function Ask({ verb, jobs, onClose }) {
  const send = async () => {
    const { jobs: changes } = await ask("POST", `/api/jobs/${verb}`, { ids: jobs.map((job) => job.id) });
    refresh("/api/jobs", "/api/health");
    tell(newsOf(changes));
  };
  const some = jobs.length === 1 ? "this job" : `these ${f.number(jobs.length)} jobs`;
  const newest = jobs.map((job) => job.endedAt || job.createdAt).sort().at(-1);
  return html`<${Confirm} title=${`${TITLES[verb]} ${some}?`} verb=${`${TITLES[verb]} ${jobs.length === 1 ? "it" : `these ${f.number(jobs.length)}`}`} danger=${verb === "cancel"} dismiss=${verb === "cancel" ? "Close" : undefined} what=${verb === "retry" ? "Retrying" : "Cancelling"} onClose=${onClose} onDone=${send}>
    <ul>${jobs.slice(0, NAMED).map((job) => html`<li><${Written} text=${job.type} most=${80} /> <span class="mono"><${Written} text=${job.id} most=${80} /></span></li>`)}</ul>
    ${jobs.length > NAMED && html`<p class="quiet">and ${f.number(jobs.length - NAMED)} more, the newest of <${When} at=${newest} absolute />.</p>`}
    <p class="quiet">${verb === "retry" ? "Each gets all its tries again. Its earlier attempts stay listed." : "One that waits ends at once. One that runs is asked to end, and killed 5 seconds later."}</p><//>`;
}

function newsOf(changes) {
  const counts = { changed: 0, stopping: 0, unchanged: 0, unknown: 0 };
  for (const { outcome } of changes) counts[outcome] += 1;
  const said = [[counts.changed, "changed"], [counts.stopping, "still running, and asked to end"], [counts.unchanged + counts.unknown, "left as they are"]];
  return `${said.filter(([count]) => count).map(([count, what]) => `${f.number(count)} ${what}`).join(", ")}.`;
}
