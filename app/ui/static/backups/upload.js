// Taking backups in: by the button, or dropped anywhere. An upload goes on while other pages are shown.
import { useEffect, useState } from "../vendor/hooks.mjs";
import { now } from "../clock.js";
import * as f from "../format.js";
import { Bar, Button, Icon, Problem, Written, html } from "../parts.js";
import { ServiceError, ask, headersWithSession, isGone, onceItAnswers, refresh } from "../service.js";
import { pathOf } from "./row.js";

let uploads = []; // {id, file, share, speed, isAway} while it runs, then with done or error, and request while it is sent
const listeners = new Set();

function show(id, more) {
  uploads = uploads.map((each) => (each.id === id ? { ...each, ...more } : each));
  for (const listener of listeners) listener({});
}

function forget(id) {
  uploads = uploads.filter((each) => each.id !== id);
  for (const listener of listeners) listener({});
}

// Takes files in, one after another.
export async function takeIn(files) {
  const added = [...files].map((file) => ({ id: crypto.getRandomValues(new Uint32Array(2)).join("-"), file, share: 0 }));
  uploads = [...uploads, ...added];
  for (const { id, file } of added) {
    show(id, {});
    const isWanted = () => uploads.some((each) => each.id === id);
    if (isWanted()) await takeOne(id, file);
  }
}

async function takeOne(id, file) {
  try {
    await refuseIfThere(file.name);
    show(id, { done: await send(id, file), request: null });
    refresh();
  } catch (error) {
    show(id, { error, request: null });
  }
}

// This is asked before anything is sent: otherwise a refusal would reach the browser only after all of a large file.
async function refuseIfThere(name) {
  const { backup } = await ask("GET", pathOf(name)).catch((error) => {
    if (error.status === 0) throw error;
    return {}; // there is none, or the name is not valid: the upload gets the reason
  });
  if (!backup) return;
  const size = `${f.bytes(backup.size)}, made ${f.time(backup.created)}`;
  throw new ServiceError(409, { code: "backup_exists", error: `a backup named ${name} is there already: ${size}`, hint: "Give the file another name, or delete that one first. Nothing was sent." });
}

// XMLHttpRequest, because fetch does not report how much of an upload was sent.
function send(id, file) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const began = now();
    show(id, { request });
    request.upload.onprogress = (event) => show(id, { share: event.loaded / event.total, speed: event.loaded / Math.max(0.1, (now() - began) / 1000) });
    request.onload = () => {
      const body = parsed(request.responseText);
      if (request.status === 201) resolve(body.backup || {});
      else reject(new ServiceError(request.status, body));
    };
    request.onerror = () => whatBecameOf(id, file.name).then(resolve, reject);
    request.onabort = () => forget(id);
    request.open("POST", `/api/backup/upload?name=${encodeURIComponent(file.name)}`);
    for (const [name, value] of Object.entries(headersWithSession({ "Content-Type": "application/gzip" }))) request.setRequestHeader(name, value);
    request.send(file);
  });
}

// The connection broke. Whether the archive had arrived is known once the service answers.
async function whatBecameOf(id, name) {
  const isThere = !(await onceItAnswers(() => isGone(pathOf(name)), () => show(id, { isAway: true })));
  if (isThere) return (await ask("GET", pathOf(name))).backup || {};
  throw new ServiceError(0, { error: `the upload of ${name} broke off`, hint: "Nothing of it was stored. Send it again." });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

export function Uploads() {
  const [, update] = useState({});
  useEffect(() => {
    listeners.add(update);
    return () => listeners.delete(update);
  }, []);
  return html`${uploads.map((upload) => html`<${Upload} key=${upload.id} upload=${upload} />`)}`;
}

function Upload({ upload }) {
  const { id, file, share, speed, isAway, done, error, request } = upload;
  const name = html`<strong><${Written} text=${file.name} /></strong>`;
  const dismiss = html`<button type="button" class="link" onClick=${() => forget(id)}>Dismiss</button>`;
  if (error) return html`<div class="card"><${Problem} error=${error}><p>The file was ${name}. ${dismiss}</p><//></div>`;
  if (done) {
    const events = done.events === null || done.events === undefined ? "" : `: ${f.count(done.events, "event")}`;
    return html`<div class="card note good" role="status"><${Icon} name="check" /><p>${name} was read to its end and is good${events}.</p>${dismiss}</div>`;
  }
  const isSending = share < 1;
  const rate = `${f.bytes(file.size * share)} of ${f.bytes(file.size)}${speed ? `, ${f.bytes(speed)}/s` : ""}`;
  const state = isAway ? "EventVault does not answer; once it does, this says what became of it" : !request ? "waiting" : isSending ? rate : "every record is read";
  return html`<div class="card"><div class="working">
    <div class="working-line"><span>${isSending ? "Uploading" : "Checking"} ${name}</span><span class="quiet">${state}</span></div>
    <div class="working-bar"><${Bar} share=${isSending && request ? share : undefined} label="Upload" />${isSending && !isAway && html`<${Button} kind="small" onClick=${() => (request ? request.abort() : forget(id))}>Cancel<//>`}</div></div></div>`;
}
