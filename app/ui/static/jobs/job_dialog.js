// One job: what it was given, each attempt with what it printed, and what it returned.
import * as f from "../format.js";
import { Button, Copy, Dialog, Problem, When, Written, html } from "../parts.js";
import { useLook } from "../service.js";

const EVERY = 1000; // milliseconds

export function JobDialog({ id, onClose }) {
  const { data, error } = useLook(`/api/jobs?id=${encodeURIComponent(id)}`, EVERY);
  const job = data?.job;
  return html`<${Dialog} title=${html`<${Written} text=${job?.type || id} most=${120} />`} onClose=${onClose} wide>
    ${error && html`<${Problem} error=${error} />`}
    ${!job && !error && html`<p role="status">Looking…</p>`}
    ${job && html`<${Whole} job=${job} />`}
    <div class="actions">${job && html`<${Copy} text=${JSON.stringify(job, null, 2)} label="Copy as JSON" />`}<${Button} data-first onClick=${onClose}>Close<//></div><//>`;
}

function Whole({ job }) {
  return html`<dl class="pairs">${pairsOf(job).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    ${job.error && html`<p class="bad-text"><${Written} text=${f.sentence(job.error.message)} /></p>`}
    ${job.payload !== null && html`<h3>Payload</h3><${Json} value=${job.payload} />`}
    ${job.result !== null && html`<h3>Result</h3><${Json} value=${job.result} />`}
    ${job.attempts.length > 0 && html`<h3>Attempts</h3><ol class="attempts" start=${job.attempts[0].number}>${job.attempts.map((each) => html`<li key=${each.number}><${Attempt} attempt=${each} /></li>`)}</ol>`}
    ${job.earlierAttempts > 0 && html`<p class="quiet">${f.count(job.earlierAttempts, "earlier attempt")} ${job.earlierAttempts === 1 ? "is" : "are"} not stored any more.</p>`}`;
}

const Json = ({ value }) => html`<pre class="json" tabindex="0"><${Written} text=${JSON.stringify(value, null, 2)} /></pre>`;

function pairsOf(job) {
  return [
    ["Id", html`<code><${Written} text=${job.id} most=${300} /></code>`],
    ["State", job.cancelRequested && !job.endedAt ? `${job.state}, and is to stop` : job.state],
    ["Submitted", html`<${When} at=${job.createdAt} absolute /> by <${Written} text=${job.startedBy || job.origin} />`],
    job.state === "pending" ? ["Due", html`<${When} at=${job.runAt} absolute />`] : null,
    job.endedAt ? ["Ended", html`<${When} at=${job.endedAt} absolute />`] : null,
    ["Tries", `${f.number(job.tries)} of ${f.number(job.maxAttempts)} failed; an attempt may take ${f.duration(job.timeout)}`],
    job.key === null ? null : ["Key", html`<${Written} text=${job.key} />`],
    job.schedule === null ? null : ["Schedule", html`<${Written} text=${job.schedule} />`],
  ].filter(Boolean);
}

function Attempt({ attempt }) {
  const began = attempt.startedAt || attempt.sentAt;
  const took = attempt.endedAt ? `, ${f.duration(Math.max(0, f.secondsOf(attempt.endedAt) - f.secondsOf(began)))}` : "";
  return html`<${When} at=${began} absolute /> at <${Written} text=${attempt.host} />: ${attempt.outcome || (attempt.startedAt ? "runs" : "was sent")}${took}
    ${attempt.error && html`<span class="sub"><${Written} text=${f.sentence(attempt.error.message)} /></span>`}
    ${attempt.output && html`<pre class="json" tabindex="0"><${Written} text=${attempt.output} /></pre>`}`;
}
