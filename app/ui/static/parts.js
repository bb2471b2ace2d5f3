// The parts that every page is made of.
import { useEffect, useId, useRef, useState } from "./vendor/hooks.mjs";
import * as clock from "./clock.js";
import * as f from "./format.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { AWAY, useLook } from "./service.js";
import { may } from "./session.js";

const LOOK_EVERY = 500; // milliseconds
const MUCH_LONGER = 1.5; // times the predicted seconds
const OLD = 10000; // milliseconds after which the page says that a list is old

export { html, Icon };

// A moment: as text how long ago, exact under the pointer, and always for machines. none: the text if there
// is no such moment.
export function When({ at, absolute = false, seconds = true, none = "never" }) {
  if (!at) return html`<span class="quiet">${none}</span>`;
  const when = new Date(at);
  if (Number.isNaN(when.getTime())) return html`<${Written} text=${at} />`;
  const shown = absolute ? f.time(when, { seconds }) : f.ago(when);
  return html`<time datetime=${when.toISOString()} title=${f.exact(when)}>${shown}</time>`;
}

// Text that users wrote: in its own direction, never as markup, folded anywhere. most: characters to show, if it only has to
// differ from others; there may be thousands.
export const Written = ({ text, most = Infinity }) => html`<bdi class="written">${String(text ?? "").length > most ? `${String(text).slice(0, most)}…` : text}</bdi>`;

// needs: the scope that a token must have for it. If this session's token lacks it, the button says so.
export const Button = ({ kind = "plain", icon, children, busy, disabled, needs, ...rest }) => html`
  <button type="button" class=${`button ${kind}`} disabled=${disabled || busy || isForbidden(needs)} title=${whyNot(needs)}
      aria-busy=${busy ? "true" : undefined} ...${rest}>
    ${icon && html`<${Icon} name=${icon} />`}<span>${children}</span>
  </button>`;

// Text between backticks in the service's words is something to type.
export const Words = ({ text }) => html`<bdi class="written">${String(text).split("`").map((part, index) => (index % 2 ? html`<code>${part}</code>` : part))}</bdi>`;

export const Looking = () => html`<section class="hero" aria-busy="true"><span class="hero-sign"></span>
  <div><h1 class="skeleton-text">Looking…</h1></div></section>`;

export const isForbidden = (scope) => !!scope && !may(scope);
export const whyNot = (scope) => (isForbidden(scope) ? `This token may not do that: it needs the scope ${scope}` : undefined);

export const Link = ({ kind = "plain", icon, children, ...rest }) => html`
  <a class=${`button ${kind}`} ...${rest}>${icon && html`<${Icon} name=${icon} />`}<span>${children}</span></a>`;

// The browser's own dialog: focus stays inside, Escape closes it, nothing behind it can be reached.
export function Dialog({ title, onClose, children, wide }) {
  const ref = useRef(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement;
    dialog.showModal();
    (dialog.querySelector("[data-first]") || dialog.querySelector("h2")).focus();
    return () => {
      if (dialog.open) dialog.close();
      before?.focus?.();
    };
  }, []);
  const cancel = (event) => {
    event.preventDefault();
    onClose();
  };
  const pressed = (event) => {
    if (event.target === ref.current) onClose();
  };
  return html`<dialog ref=${ref} class=${wide ? "wide" : ""} aria-labelledby=${id} onCancel=${cancel} onPointerDown=${pressed}>
    <div class="dialog-body"><h2 id=${id} tabindex="-1">${title}</h2>${children}</div>
  </dialog>`;
}

// A question before a change. onDone(onProgress, isOpen): makes it; onProgress gets the operation at each poll, isOpen says
// whether somebody still waits here. typed: a text to be typed, if the change cannot be undone.
// predicted: seconds that it takes, if known. dismiss: the word of the button that changes nothing.
export function Confirm({ title, children, verb, danger, typed, onClose, onDone, what, predicted, dismiss = "Cancel" }) {
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const [operation, setOperation] = useState(null);
  const [error, setError] = useState(null);
  const isOpen = useRef(true);
  const id = useId();
  useEffect(() => () => {
    isOpen.current = false;
  }, []);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    setOperation(null);
    try {
      await onDone(setOperation, () => isOpen.current);
      if (isOpen.current) onClose();
    } catch (problem) {
      if (!isOpen.current) tellError(problem);
      setError(problem);
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <form onSubmit=${send}>
      ${children}
      ${typed && html`<p class="field"><label for=${id}>There is no undo for this. Type <code>${typed}</code> to go on.</label>
        <input id=${id} value=${text} autocomplete="off" spellcheck=${false} onInput=${(event) => setText(event.target.value)} /></p>`}
      ${busy && html`<${Working} ...${{ what, operation, predicted }} />`}
      ${error && html`<${Refusal} error=${error} />`}
      <div class="actions">
        <button type="button" class="button plain" data-first onClick=${onClose}><span>${busy ? "Close" : dismiss}</span></button>
        <button type="submit" class=${`button ${danger ? "danger" : "primary"}`} disabled=${busy || (typed && text !== typed)}>
          <span>${verb}</span></button>
      </div>
    </form>
  <//>`;
}

const isForAnother = (error) => /_running$/.test(error.code || "");

// If another change is under way, its progress replaces the hint, which is for users without a page.
const Refusal = ({ error }) => (isForAnother(error)
  ? html`<${Problem} error=${{ message: error.message, body: error.body }}><${Meanwhile} hint=${error.hint} /><//>`
  : html`<${Problem} error=${error} />`);

// The progress of the other operation that prevents a change, until it has ended.
function Meanwhile({ hint }) {
  const [wasRunning, setRunning] = useState(false);
  const look = useLook("/api/operations?state=running&limit=10", LOOK_EVERY);
  const running = look.data?.operations || [];
  useEffect(() => {
    if (running.length) setRunning(true);
  }, [running.length]);
  if (!running.length) return html`<p>${wasRunning ? "It has ended. Close this and read the numbers again: they may be others now." : f.sentence(hint)}</p>`;
  return html`${running.map((operation) => html`<p class="small">Now: ${operation.kind} by <${Written} text=${operation.startedBy} />, since ${f.shortTime(operation.startedAt)}, ${progressOf(operation)}</p>
    <${Bar} share=${operation.progress || undefined} label=${operation.kind} />`)}`;
}

// Work under way. operation: from the API; null until it is known, AWAY while nothing answers.
export function Working({ what, operation, predicted }) {
  const [began] = useState(clock.now);
  const isAway = operation === AWAY;
  const known = isAway ? null : operation;
  return html`<div class="working" role="status">
    <div class="working-line"><span>${what}…</span><span class="quiet" aria-live="off"><${Elapsed} since=${began} predicted=${predicted} /></span></div>
    <${Bar} share=${known?.progress || undefined} label=${what} />
    ${known && html`<p class="quiet small" aria-live="off">${progressOf(known)}</p>`}
    <p class="quiet small">${isAway ? "EventVault does not answer. Once it does, this says what became of it." : "You may close this: it goes on without it."}</p>
  </div>`;
}

// "4 s of about 6 s". since: a time. predicted: seconds, if known.
export function Elapsed({ since, predicted }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 250);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.max(0, Math.floor((clock.now() - new Date(since).getTime()) / 1000));
  if (predicted === null || predicted === undefined) return f.duration(seconds);
  const whole = `${f.duration(seconds)} of about ${f.duration(Math.max(1, Math.round(predicted)))}`;
  return seconds > MUCH_LONGER * Math.max(1, predicted) ? `${whole}: longer than earlier ones` : whole;
}

// "62 %, 3.1 GB of 5 GB, 412 MB/s, 2 s left"
export function progressOf(operation) {
  const { progress, bytesDone, bytesTotal, bytesPerSecond, remainingSeconds } = operation;
  return [
    f.percent(progress || 0),
    bytesTotal ? `${f.bytes(bytesDone)} of ${f.bytes(bytesTotal)}` : null,
    bytesPerSecond ? `${f.bytes(bytesPerSecond)}/s` : null,
    remainingSeconds === null || remainingSeconds === undefined ? null : `${f.duration(Math.ceil(remainingSeconds))} left`,
  ].filter(Boolean).join(", ");
}

// share: from 0 to 1; undefined if it is unknown how much there is to do.
export function Bar({ share, label }) {
  const isKnown = share !== undefined && share !== null;
  return html`<div class=${`bar ${isKnown ? "" : "unknown"}`} role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax="100"
      aria-valuenow=${isKnown ? Math.round(share * 100) : undefined}>
    <div class="bar-fill" style=${isKnown ? { width: `${share * 100}%` } : {}}></div></div>`;
}

// An error in the service's words: what happened, then what to do.
export function Problem({ error, children }) {
  const fields = Object.entries(error.body?.fields || {});
  return html`<div class="problem" role="alert"><${Icon} name="stop" />
    <div><p class="strong"><${Words} text=${f.sentence(error.message)} /></p>
      ${error.hint && html`<p><${Words} text=${f.sentence(error.hint)} /></p>`}
      ${fields.map(([field, why]) => html`<p class="small"><code>${field}</code>: <${Written} text=${[].concat(why).join(" ")} /></p>`)}
      ${children}</div></div>`;
}

// Why a list cannot be loaded. look: of `useLook` or `usePages`. known: whether it was loaded before; then it stays, and if the
// service answers everything else (not isSilent), this says how old it is.
export function Fault({ look, known, isSilent, children }) {
  if (!look.error || (known && (isSilent || performance.now() - look.answeredAt < OLD))) return null;
  return html`<${Problem} error=${look.error}>${children}${known && html`<p>What is below is as it was <${When} at=${look.at} />.</p>`}<//>`;
}

export const Empty = ({ icon = "events", title, children }) => html`
  <div class="empty"><${Icon} name=${icon} size=${28} /><p class="strong">${title}</p><div class="quiet">${children}</div></div>`;

export function Fact({ name, tone = "", children, more }) {
  return html`<div class=${`fact ${tone}`}><dt>${name}</dt><dd>${children}</dd>${more && html`<dd class="fact-more">${more}</dd>`}</div>`;
}

// Actions behind a button: Escape, a click elsewhere and a choice close it. The rows that it covers cannot be pressed.
export function Menu({ label, children }) {
  const ref = useRef(null);
  const cover = (menu, isOpen) => {
    for (const row of menu.closest("tbody")?.rows || []) row.inert = isOpen && !row.contains(menu);
  };
  useEffect(() => {
    const menu = ref.current;
    const close = (event) => {
      if (!menu.open) return;
      if (event.type === "keydown" && event.key === "Escape") {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
      if (event.type === "pointerdown" && !menu.contains(event.target)) menu.open = false;
    };
    document.addEventListener("pointerdown", close);
    document.addEventListener("keydown", close);
    return () => {
      document.removeEventListener("pointerdown", close);
      document.removeEventListener("keydown", close);
      if (menu.open) cover(menu, false); // its row is gone, and the others stay
    };
  }, []);
  const chosen = (event) => {
    if (event.target.closest(".menu-list button, .menu-list a")) ref.current.open = false;
  };
  return html`<details class="menu" ref=${ref} onClick=${chosen} onToggle=${() => cover(ref.current, ref.current.open)}>
    <summary aria-label=${label} title=${label}><${Icon} name="more" /></summary><div class="menu-list">${children}</div></details>`;
}

// A column's heading. number: its cells are numbers, aligned to the right.
export const Column = ({ children, number }) => html`<th role="columnheader" scope="col" class=${number ? "num" : undefined}>${children}</th>`;

// The end of a list in pages. list: of `usePages`.
export const More = ({ list }) => html`${list.moreError && html`<${Problem} error=${list.moreError} />`}
  ${list.hasMore && html`<div class="more"><${Button} busy=${list.isReading} onClick=${list.showMore}>Show earlier ones<//></div>`}`;

// A group of buttons, one of which is chosen. choices: [value, label] pairs.
export const Segmented = ({ label, choices, value, onChoose }) => html`
  <div class="segmented" role="group" aria-label=${label}>${choices.map(([choice, name, disabled]) => html`
    <button type="button" aria-pressed=${choice === value ? "true" : "false"} disabled=${disabled}
      onClick=${() => onChoose(choice)}>${name}</button>`)}</div>`;

// --- News: said once, to be seen and heard.

let showNews = () => {};
let news = [];

export function tell(text, { tone = "good" } = {}) {
  const item = { id: crypto.randomUUID?.() || String(Math.random()), text, tone };
  news = [...news.slice(-2), item];
  showNews({});
  if (tone === "good") setTimeout(() => dismiss(item.id), 8000);
}

export const tellError = (error) => tell(`${f.sentence(error.message)} ${f.sentence(error.hint)}`, { tone: "bad" });

function dismiss(id) {
  news = news.filter((item) => item.id !== id);
  showNews({});
}

export function News() {
  const [, update] = useState({});
  useEffect(() => {
    showNews = update;
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite">${news.map((item) => html`
    <div class=${`toast ${item.tone}`} key=${item.id}><${Icon} name=${item.tone === "good" ? "check" : "warn"} />
      <span><${Written} text=${item.text} /></span>
      <button type="button" class="icon-button" aria-label="Dismiss" onClick=${() => dismiss(item.id)}>
        <${Icon} name="close" size=${16} /></button></div>`)}</div>`;
}

export function Copy({ text, label = "Copy" }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
      setTimeout(() => setDone(false), 1500);
    } catch {
      // The browser may forbid it; the text can be selected.
    }
  };
  return html`<button type="button" class="link" onClick=${copy}>${done ? "Copied" : label}</button>`;
}
