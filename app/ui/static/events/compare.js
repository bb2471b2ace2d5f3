// What differs between two moments: how many events only one of them has, and which.
import { useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Button, Icon, Problem, Written, html } from "../parts.js";
import { go } from "../route.js";
import { ServiceError, headersWithSession, noAnswer } from "../service.js";

const MOST_SHOWN = 200;
const MOST_READ = 20000; // lines; beyond them only that there are more is said

export function Compare({ query, window }) {
  const [typed, setFrom] = useState(query.a ?? null);
  const from = typed ?? window?.oldest.time ?? "";
  const [to, setTo] = useState(query.b || "now");
  const [state, setState] = useState({});
  const send = async (event) => {
    event.preventDefault();
    go("events", { ...query, a: from, b: to }, { replace: true });
    setState({ isReading: true });
    try {
      setState({ found: await difference(from.trim(), to.trim()) });
    } catch (error) {
      setState({ error });
    }
  };
  return html`<section class="card compare" aria-labelledby="compare"><h2 id="compare">Compare two moments</h2>
    <form class="filters" onSubmit=${send}>
      <p class="field grow"><label for="moment-a">From</label><input id="moment-a" value=${from} required spellcheck=${false} onInput=${(event) => setFrom(event.target.value)} /></p>
      <p class="field grow"><label for="moment-b">To</label><input id="moment-b" value=${to} required spellcheck=${false} onInput=${(event) => setTo(event.target.value)} /></p>
      <p class="quiet small">A time such as 2026-11-28T21:00:00Z, a sequence, the name of a backup, or now.</p>
      <button type="submit" class="button primary" disabled=${state.isReading}><span>Compare</span></button></form>
    ${state.isReading && html`<p role="status">Comparing…</p>`}
    ${state.error && html`<${Problem} error=${state.error} />`}
    ${state.found && html`<${Found} found=${state.found} />`}
    <div class="actions"><${Button} kind="small" onClick=${() => go("events", { ...query, compare: undefined, a: undefined, b: undefined })}>Close<//></div></section>`;
}

// Reads the answer line by line, in constant memory. Returns {summary, lines, hasMore}; summary: null if it is too long.
async function difference(from, to) {
  const address = `/api/backup/diff?${new URLSearchParams({ from, to })}`;
  const answer = await fetch(address, { headers: headersWithSession() }).catch(() => {
    throw noAnswer();
  });
  if (!answer.ok) throw new ServiceError(answer.status, await answer.json().catch(() => ({})));
  const found = { summary: null, lines: [], count: 0 };
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part = await next(reader); !part.done; part = await next(reader)) {
    const lines = (rest + part.value).split("\n");
    rest = lines.pop();
    for (const line of lines.filter(Boolean)) take(found, JSON.parse(line));
    if (found.count > MOST_READ) {
      await reader.cancel();
      return found;
    }
  }
  if (!found.summary) throw brokenOff();
  return found;
}

const next = (reader) => reader.read().catch(() => {
  throw brokenOff();
});

const brokenOff = () => new ServiceError(0, { error: "the answer broke off", hint: "Try again." });

function take(found, line) {
  if (line.in === "summary") {
    found.summary = line;
    return;
  }
  found.count += 1;
  if (found.lines.length < MOST_SHOWN) found.lines.push(line);
}

const WORDS = { from: "only from", to: "only to", both: "differs" };

function Found({ found }) {
  const { summary, lines } = found;
  if (!summary) return html`<div class="note"><${Icon} name="warn" /><p>They differ in more than ${f.number(MOST_READ)} events.</p></div>`;
  if (!lines.length) return html`<p role="status"><strong>Both are the same:</strong> ${f.count(summary.to.sequence, "event")}.</p>`;
  return html`<dl class="plan-numbers"><div><dt>only in the first</dt><dd>${f.number(summary.onlyInFrom)}</dd></div>
      <div><dt>only in the second</dt><dd>${f.number(summary.onlyInTo)}</dd></div><div><dt>different</dt><dd>${f.number(summary.different)}</dd></div>
      <div><dt>shared from the beginning</dt><dd>${f.number(summary.commonSequence)}</dd></div></dl>
    <ul class="differences">${lines.map((line) => {
      const event = line.event || line.to;
      return html`<li><span class="tag">${WORDS[line.in]}</span> <span class="mono"><${Written} text=${event.type} most=${80} /></span> <${Written} text=${event.subject || event.id} most=${120} /> <span class="quiet">#${f.number(event.sequence)}, ${f.time(event.recordedtime)}</span></li>`;
    })}</ul>
    ${found.count > lines.length && html`<p class="quiet">The first ${f.number(lines.length)} of ${f.number(found.count)}.</p>`}`;
}
