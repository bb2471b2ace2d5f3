// Taking a backup in: by the button, or dropped anywhere on the page.
import { useEffect, useRef, useState } from "../vendor/hooks.mjs";
import { now } from "../clock.js";
import * as f from "../format.js";
import { Bar, Button, Icon, Problem, Written, html } from "../parts.js";
import { ServiceError, headersWithSession, refresh } from "../service.js";

// Returns {state, begin(file), dismiss, cancel}. state: {file, share, speed} while it runs, then with done or error.
export function useUpload() {
  const [state, setState] = useState(null);
  const request = useRef(null);
  const begin = (file) => {
    request.current = send(file, setState);
  };
  return { state, begin, dismiss: () => setState(null), cancel: () => request.current?.abort() };
}

// XMLHttpRequest, as fetch does not tell how much of an upload has gone.
function send(file, setState) {
  const request = new XMLHttpRequest();
  const began = now();
  const show = (more) => setState((before) => ({ ...before, ...more }));
  setState({ file, share: 0 });
  request.upload.onprogress = (event) => show({ share: event.loaded / event.total, speed: event.loaded / Math.max(0.1, (now() - began) / 1000) });
  request.onload = () => {
    const body = parsed(request.responseText);
    refresh();
    if (request.status === 201) show({ done: body.backup || {} });
    else show({ error: new ServiceError(request.status, body) });
  };
  request.onerror = () => show({ error: new ServiceError(0, { error: "the upload broke off", hint: "Nothing of it was stored. Try again." }) });
  request.onabort = () => setState(null);
  request.open("POST", `/api/backup/upload?name=${encodeURIComponent(file.name)}`);
  for (const [name, value] of Object.entries(headersWithSession({ "Content-Type": "application/gzip" }))) request.setRequestHeader(name, value);
  request.send(file);
  return request;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

export function UploadState({ upload }) {
  if (!upload.state) return null;
  const { file, share, speed, done, error } = upload.state;
  const name = html`<strong><${Written} text=${file.name} /></strong>`;
  const dismiss = html`<button type="button" class="link" onClick=${upload.dismiss}>Dismiss</button>`;
  if (error) return html`<div class="card"><${Problem} error=${error}><p>The file was ${name}. ${dismiss}</p><//></div>`;
  if (done) {
    const events = done.events === null || done.events === undefined ? "" : `: ${f.count(done.events, "event")}`;
    return html`<div class="card note good"><${Icon} name="check" /><p>${name} was read to its end and is good${events}.</p>${dismiss}</div>`;
  }
  const isSending = share < 1;
  const rate = `${f.bytes(file.size * share)} of ${f.bytes(file.size)}${speed ? `, ${f.bytes(speed)}/s` : ""}`;
  return html`<div class="card"><div class="working">
    <div class="working-line"><span>${isSending ? "Uploading" : "Checking"} ${name}</span><span class="quiet">${isSending ? rate : "every record is read"}</span></div>
    <div class="working-bar"><${Bar} share=${isSending ? share : undefined} label="Upload" />${isSending && html`<${Button} kind="small" onClick=${upload.cancel}>Cancel<//>`}</div></div></div>`;
}

// Whether a file is held over the page. onFile gets the one that is dropped.
export function useDrop(onFile) {
  const [isOver, setOver] = useState(false);
  useEffect(() => {
    const over = (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      setOver(event.type !== "dragleave" || event.relatedTarget !== null);
    };
    const drop = (event) => {
      event.preventDefault();
      setOver(false);
      if (event.dataTransfer.files[0]) onFile(event.dataTransfer.files[0]);
    };
    const listeners = [["dragenter", over], ["dragover", over], ["dragleave", over], ["drop", drop]];
    for (const [name, listener] of listeners) addEventListener(name, listener);
    return () => {
      for (const [name, listener] of listeners) removeEventListener(name, listener);
    };
  }, []);
  return isOver;
}
