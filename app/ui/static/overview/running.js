// What runs at the moment, whoever began it: this page, another tab, the schedule, a shell.
import * as f from "../format.js";
import { Bar, Button, Elapsed, Written, html, progressOf, tellError } from "../parts.js";
import { ask, change, hasEnded, refresh, useLook } from "../service.js";

const EVERY = 2000; // milliseconds
const DOING = {
  copy: "Bringing events back", create: "Backing up", export: "Exporting", import: "Importing", prune: "Removing old backups",
  recover: "Recovering", rehearse: "Trying a restore", restore: "Restoring", startup: "Starting", undo: "Undoing",
  upload: "Taking a backup in", verify: "Verifying",
};

const RESTORES = ["restore", "undo"];

export const doingOf = (operation) => DOING[operation.kind] || operation.kind;

// restore: of health; only health has the predicted duration of a restore.
export function Running({ restore }) {
  const look = useLook("/api/operations?state=running&limit=10", EVERY);
  const operations = look.data?.operations || [];
  if (!operations.length) return null;
  return html`<section class="card running" aria-label="Running now">${operations.map((operation) => html`<${RunningOperation} key=${operation.id} operation=${operation} restore=${restore} />`)}</section>`;
}

export function RunningOperation({ operation, restore }) {
  const predicted = RESTORES.includes(operation.kind) && restore?.running ? restore.predictedSeconds : null;
  const cancel = async () => {
    const path = `/api/operations/${operation.id}`;
    const isEnding = (present) => present.cancelRequested || hasEnded(present);
    try {
      await change("DELETE", path, undefined, async () => isEnding((await ask("GET", path)).operation));
      refresh("/api/operations");
    } catch (error) {
      tellError(error);
    }
  };
  return html`<div class="working">
    <div class="working-line"><span><strong>${doingOf(operation)}</strong> <span class="quiet">by <${Written} text=${operation.startedBy} />, since ${f.shortTime(operation.startedAt)}</span></span>
      <span class="quiet"><${Elapsed} since=${operation.startedAt} predicted=${predicted} /></span></div>
    <div class="working-bar"><${Bar} share=${operation.progress || undefined} label=${doingOf(operation)} />
      ${operation.cancellable && html`<${Button} kind="small" needs="admin" disabled=${operation.cancelRequested} onClick=${cancel}>${operation.cancelRequested ? "Stopping…" : "Cancel"}<//>`}</div>
    <p class="quiet small">${progressOf(operation)}</p>
  </div>`;
}
