// What the newest restore did, for a day, with a button to undo it.
import { useEffect, useMemo, useState } from "../vendor/hooks.mjs";
import { now } from "../clock.js";
import * as f from "../format.js";
import { Button, Confirm, Icon, When, html, tell } from "../parts.js";
import { refresh, runOperation, useLook } from "../service.js";

const DAY = 86400000; // milliseconds
const TITLES = { backup: "Restored", moment: "Restored", undo: "Undone", recovered: "Recovered after the loss of STORAGE_DIR" };

export function LastRestore({ health, away }) {
  const last = health.lastRestore;
  const undo = useLook(last ? "/api/backup/undo" : null, 30000);
  const seenAt = useMemo(() => performance.now(), [last?.at]);
  useEffect(() => {
    if (undo.data) undo.again(); // the list is that of the restore before
  }, [last?.at]);
  const [asked, setAsked] = useState(null); // the dialog stays whatever becomes of the band meanwhile
  const dialog = asked && html`<${UndoDialog} ...${asked} onClose=${() => setAsked(null)} />`;
  if (!last || now() - Date.parse(last.at) > DAY || health.jobs?.restore?.running) return dialog;
  const since = Math.max(0, (health.store?.lastSequence ?? last.events) - last.events);
  const isListed = !!undo.data && undo.answeredAt >= seenAt;
  const previous = isListed ? previousOf(last, undo.data.undo) : undefined;
  const behind = last.leftBehind?.count || 0;
  return html`<section class="restored" aria-label="The last restore"><${Icon} name="undo" />
    <div><p class="strong">${TITLES[last.kind] || "Restored"} <${When} at=${last.at} />${targetOf(last)}: ${f.count(last.events, "event")} in ${f.duration(last.durationMs / 1000)}.</p>
      <p class="quiet">${since ? `${f.count(since, "event")} came in since.` : "Nothing came in since."} ${behind ? `${f.count(behind, "event")} ${behind === 1 ? "was" : "were"} set aside. ` : ""}${isListed ? storedOf(previous) : ""}</p></div>
    ${previous && html`<${Button} icon="undo" needs="admin" disabled=${away} onClick=${() => setAsked({ previous, since })}>${last.kind === "undo" ? "Redo…" : "Undo…"}<//>`}</section>${dialog}`;
}

const targetOf = (last) => (last.kind === "moment" && last.moment ? html`, to <${When} at=${last.moment.time} absolute />` : "");

// The database that undoes this restore. An older list has the one for the restore before.
const previousOf = ({ undo }, list) => (undo ? list.find(({ name, generation }) => name === undo.name && generation === undo.generation) : list[0]);

function storedOf(previous) {
  if (!previous) return "What was there before is not stored any more.";
  const events = previous.events === null ? "" : `${f.count(previous.events, "event")}, `;
  return `What was there before is stored: ${events}${f.bytes(previous.size)}.`;
}

function UndoDialog({ previous, since, onClose }) {
  const events = previous.events === null ? "it" : f.count(previous.events, "event");
  const undo = async (onProgress) => {
    const done = await runOperation("POST", "/api/backup/undo", { name: previous.name }, onProgress);
    refresh();
    const behind = done.leftBehind?.count ?? 0;
    tell(`As it was: ${f.count(done.events, "event")}. ${f.count(behind, "event")} set aside in turn.`);
  };
  return html`<${Confirm} title="Bring back what was there before?" verb=${`Bring back ${events}`} what="Bringing it back" onClose=${onClose} onDone=${undo}>
    <dl class="plan-numbers">
      <div><dt>events come back</dt><dd>${previous.events === null ? "all" : f.number(previous.events)}</dd></div>
      <div class=${since ? "strong" : ""}><dt>posted since are set aside</dt><dd>${f.number(since)}</dd></div></dl>
    <p>Nothing is deleted: an undo can be undone.</p><//>`;
}
