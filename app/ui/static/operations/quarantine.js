// Messages from Kafka that are not events: why, their content, and the decision about them.
import { useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Button, Column, Confirm, Copy, Dialog, Problem, Segmented, When, Written, html, tell } from "../parts.js";
import { ask, refresh, useLook } from "../service.js";

const EVERY = 5000; // milliseconds
const ROWS = 100;
const MOST = 1000;
const NAMED = 5;
const LIST = "/api/kafka/quarantine";
const MODES = [["", "As their headers say"], ["plain", "Plain"], ["structured", "Structured"], ["binary", "Binary"]];

export function Quarantine({ away, configured }) {
  const [rows, setRows] = useState(ROWS);
  const { data, error } = useLook(`${LIST}?limit=${rows}`, EVERY);
  const [shown, setShown] = useState(null);
  const [asked, setAsked] = useState(null); // the messages to decide about: {verb, messages}
  const messages = data?.quarantine || [];
  if (error && !data) return configured ? html`<${Problem} error=${error} />` : null;
  if (!messages.length) return null;
  const these = messages.length === 1 ? "this one" : `these ${f.number(messages.length)}`;
  return html`<section class="card flush"><div class="filters"><h2>Quarantine</h2><p class="quiet">${f.count(data.count, "message")} that ${data.count === 1 ? "is no event" : "are no events"}${data.dropped ? `, ${f.number(data.dropped)} dropped for want of room` : ""}.</p>
      <${Button} needs="write" disabled=${away} onClick=${() => setAsked({ verb: "replay", messages })}>Replay ${these}…<//>
      <${Button} needs="admin" disabled=${away} onClick=${() => setAsked({ verb: "drop", messages })}>Drop ${these}…<//></div>
    <table role="table" class="rows messages"><caption class="hidden">Messages in quarantine, newest first</caption>
      <thead role="rowgroup"><tr role="row"><${Column}>When<//><${Column}>Message<//><${Column} number>Size<//><${Column}>Why<//><${Column}><span class="hidden">Actions</span><//></tr></thead>
      <tbody role="rowgroup">${messages.map((each) => html`<tr role="row" key=${each.id}>
        <td role="cell" class="made"><${When} at=${each.at} absolute /></td>
        <td role="cell" class="name"><button type="button" class="link plain-link" onClick=${() => setShown(each.id)}><${Written} text=${each.id} most=${120} /></button></td>
        <td role="cell" class="num">${f.bytes(each.size)}</td>
        <td role="cell" class="wide-cell"><${Written} text=${f.sentence(each.reason)} most=${300} /></td>
        <td role="cell" class="row-actions"><${Button} kind="small ghost" needs="write" disabled=${away} aria-label=${`Replay ${each.id}…`} onClick=${() => setAsked({ verb: "replay", messages: [each] })}>Replay…<//>
          <${Button} kind="small ghost" needs="admin" disabled=${away} aria-label=${`Drop ${each.id}…`} onClick=${() => setAsked({ verb: "drop", messages: [each] })}>Drop…<//></td></tr>`)}</tbody></table>
    ${data.next && (rows < MOST ? html`<div class="more"><${Button} onClick=${() => setRows(Math.min(MOST, rows * 2))}>Show earlier ones<//></div>`
      : html`<p class="quiet more">These are the newest ${f.number(MOST)}. <code>flask kafka quarantine list</code> shows others.</p>`)}</section>
    ${shown !== null && html`<${MessageDialog} key=${shown} id=${shown} onClose=${() => setShown(null)} />`}
    ${asked?.verb === "replay" && html`<${Replay} messages=${asked.messages} onClose=${() => setAsked(null)} />`}
    ${asked?.verb === "drop" && html`<${Drop} messages=${asked.messages} onClose=${() => setAsked(null)} />`}`;
}

function MessageDialog({ id, onClose }) {
  const { data, error } = useLook(`${LIST}?id=${encodeURIComponent(id)}`);
  const message = data?.message;
  return html`<${Dialog} title=${html`<${Written} text=${id} most=${120} />`} onClose=${onClose} wide>
    ${error && html`<${Problem} error=${error} />`}
    ${!message && !error && html`<p role="status">Looking…</p>`}
    ${message && html`<p class="bad-text"><${Written} text=${f.sentence(message.reason)} /></p>
      <dl class="pairs"><div><dt>Quarantined</dt><dd><${When} at=${message.at} absolute /></dd></div>
        <div><dt>Sent</dt><dd><${When} at=${message.timestamp} absolute none="not told" /></dd></div>
        ${message.reference ? html`<div><dt>In Kafka</dt><dd><code><${Written} text=${`${message.reference.topic}/${message.reference.partition}@${message.reference.offset}`} /></code>, as it is too large to be here</dd></div>`
          : html`<div><dt>Key</dt><dd><${Bytes} of=${message.key} /></dd></div>
            ${message.headers.map((header) => html`<div><dt><${Written} text=${header.name} most=${120} /></dt><dd><${Bytes} of=${header.value} /></dd></div>`)}`}</dl>
      ${!message.reference && html`<h3>Value</h3><pre class="json" tabindex="0"><${Bytes} of=${message.value} /></pre>`}`}
    <div class="actions">${message && html`<${Copy} text=${JSON.stringify(message, null, 2)} label="Copy as JSON" />`}<${Button} data-first onClick=${onClose}>Close<//></div><//>`;
}

// Text if the bytes are UTF-8, otherwise base64.
const Bytes = ({ of: bytes }) => (bytes === null ? html`<span class="quiet">none</span>` : bytes.text === null ? html`<span class="quiet">base64</span> <${Written} text=${bytes.base64} />` : html`<${Written} text=${bytes.text} />`);

const Names = ({ messages }) => html`<ul>${messages.slice(0, NAMED).map((each) => html`<li class="mono"><${Written} text=${each.id} most=${120} /></li>`)}</ul>
  ${messages.length > NAMED && html`<p class="quiet">and ${f.number(messages.length - NAMED)} more, the newest of <${When} at=${messages[0].at} absolute />.</p>`}`;

const someOf = (messages) => (messages.length === 1 ? "this message" : `these ${f.number(messages.length)} messages`);

function Replay({ messages, onClose }) {
  const [mode, setMode] = useState("");
  const send = async () => {
    const done = await ask("POST", LIST, { ids: messages.map((each) => each.id), ...(mode ? { as: mode } : {}) });
    refresh(LIST, "/api/health", "/api/events");
    const refused = done.results.find((each) => each.outcome === "refused");
    if (refused && !done.replayed && !done.duplicates) tell(`Nothing is appended: ${f.sentence(refused.reason)}`, { tone: "bad" });
    else tell(newsOf(done));
  };
  return html`<${Confirm} title=${`Replay ${someOf(messages)}?`} verb=${messages.length === 1 ? "Replay it" : `Replay these ${f.number(messages.length)}`} what="Replaying" onClose=${onClose} onDone=${send}>
    <${Names} messages=${messages} />
    <${Segmented} label="How to read them" value=${mode} onChoose=${setMode} choices=${MODES} />
    <p class="quiet">Those that are events are appended, and leave the list. The others stay. Nothing is stored twice.</p><//>`;
}

function newsOf({ replayed, duplicates, refused }) {
  const said = [[replayed, "appended"], [duplicates, "already there"], [refused, refused === 1 ? "stays" : "stay"]];
  return `${said.filter(([count]) => count).map(([count, what]) => `${f.number(count)} ${what}`).join(", ") || "Nothing was there any more"}.`;
}

// The messages that were shown when the question was asked, and no later ones.
function Drop({ messages, onClose }) {
  const send = async () => {
    let dropped = 0;
    for (const { id } of messages) {
      try {
        dropped += (await ask("DELETE", `${LIST}?id=${encodeURIComponent(id)}`)).dropped;
      } catch (error) {
        if (error.status !== 404) throw error;
      }
    }
    refresh(LIST, "/api/health");
    tell(`${f.count(dropped, "message")} dropped.`);
  };
  return html`<${Confirm} title=${`Drop ${someOf(messages)}?`} verb=${messages.length === 1 ? "Drop it" : `Drop these ${f.number(messages.length)}`} danger typed=${messages.length === 1 ? messages[0].id : `drop ${messages.length}`} what="Dropping" onClose=${onClose} onDone=${send}>
    <${Names} messages=${messages} />
    <p class="quiet">${messages.length === 1 ? "It leaves" : "They leave"} EventVault for good. The topic of dead letters stays as it is.</p><//>`;
}
