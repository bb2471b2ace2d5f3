import { useState } from "../vendor/hooks.mjs";
import { Button, Confirm, Written, html, tell, tellError } from "../parts.js";
import { ask, change, refresh } from "../service.js";
import { pathOf, titleOf } from "./row.js";

// A pin protects a backup from rotation: for ever, or until a day.
export function PinDialog({ backup, onClose }) {
  const [reason, setReason] = useState(backup.pin?.reason || "");
  const [until, setUntil] = useState(backup.pin?.until?.slice(0, 10) || "");
  const isPinned = async () => (await ask("GET", pathOf(backup.name))).backup.pinned;
  const pin = async (onProgress) => {
    const body = { ...(reason && { reason }), ...(until && { until: `${until}T23:59:59Z` }) };
    await change("PUT", pathOf(backup.name, "/pin"), body, isPinned, onProgress);
    refresh();
    tell("Rotation leaves it where it is.");
  };
  const unpin = async () => {
    try {
      await change("DELETE", pathOf(backup.name, "/pin"), undefined, async () => !(await isPinned()));
      tell("Rotation may remove it again.");
    } catch (error) {
      tellError(error);
    }
    refresh();
    onClose();
  };
  return html`<${Confirm} title=${html`Pin ${titleOf(backup) ? html`<${Written} text=${titleOf(backup)} most=${120} />` : "this backup"}`} verb=${backup.pinned ? "Change the pin" : "Pin"} what="Writing it" onClose=${onClose} onDone=${pin}>
    <p>Rotation never removes a pinned backup.</p>
    <p class="field"><label for="reason">Reason <span class="quiet">(optional)</span></label>
      <input id="reason" value=${reason} maxlength="200" placeholder="audit 2026" autocomplete="off" onInput=${(event) => setReason(event.target.value)} /></p>
    <p class="field"><label for="until">Until the end of (UTC) <span class="quiet">(optional)</span></label>
      <input id="until" type="date" value=${until} onInput=${(event) => setUntil(event.target.value)} /></p>
    ${backup.pinned && html`<p><${Button} kind="small" onClick=${unpin}>Unpin it<//></p>`}<//>`;
}
