import { useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Confirm, html, tell } from "../parts.js";
import { refresh, runOperation } from "../service.js";

export function CreateDialog({ onClose }) {
  const [label, setLabel] = useState("");
  const create = async (onProgress) => {
    const done = await runOperation("POST", "/api/backup/create", label ? { label } : {}, onProgress);
    refresh();
    tell(`${f.count(done.events, "event")}, ${f.bytes(done.size)}, in ${f.duration(done.durationMs / 1000)}: read back and good.`);
  };
  return html`<${Confirm} title="Back up now" verb="Back up" what="Backing up" onClose=${onClose} onDone=${create}>
    <p>Posts and reads go on meanwhile.</p>
    <p class="field"><label for="label">Label <span class="quiet">(optional)</span></label>
      <input id="label" value=${label} maxlength="200" placeholder="before the migration" autocomplete="off" onInput=${(event) => setLabel(event.target.value)} /></p><//>`;
}
