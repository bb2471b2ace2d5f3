// Copies the shown events of a moment into the current registry, as new ones. Nothing else changes.
import * as f from "../format.js";
import { Confirm, Written, html, tell } from "../parts.js";
import { go } from "../route.js";
import { refresh, runOperation } from "../service.js";

export function BringBackDialog({ asOf, filter, onClose }) {
  const conditions = Object.entries(filter);
  const copy = async (onProgress, isOpen) => {
    const done = await runOperation("POST", "/api/backup/restore", { pointInTime: asOf, into: "present", filter }, onProgress);
    refresh();
    if (isOpen()) go("events", filter);
    tell(`${f.count(done.appended, "event")} came back; ${f.number(done.alreadyThere)} were there already.`);
  };
  return html`<${Confirm} title="Bring these events back?" verb="Bring them back" what="Bringing events back" onClose=${onClose} onDone=${copy}>
    <p>${conditions.length ? "The events of that moment that match" : "All events of that moment"} are posted again as new ones. Those that are stored already stay as they are, so nothing is doubled.</p>
    ${conditions.length > 0 && html`<dl class="pairs">${conditions.map(([name, value]) => html`<div><dt>${name}</dt><dd><${Written} text=${value} /></dd></div>`)}</dl>`}<//>`;
}
