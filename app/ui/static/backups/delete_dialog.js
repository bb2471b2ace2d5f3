// A deletion cannot be undone: the dialog shows in numbers what it costs, and asks for the name.
import { useEffect, useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Button, Confirm, Dialog, Icon, Problem, When, Written, html, tell } from "../parts.js";
import { ask, change, isGone, refresh } from "../service.js";
import { pathOf } from "./row.js";

// generation: the current one. onGone(name): it is deleted.
export function DeleteDialog({ backup, generation, onGone, onClose }) {
  const [state, setState] = useState({});
  useEffect(() => {
    ask("DELETE", pathOf(backup.name, "?dryRun=true")).then(({ plan }) => setState({ plan }), (error) => setState({ error }));
  }, []);
  const { plan, error } = state;
  if (!plan) {
    return html`<${Dialog} title="Delete this backup?" onClose=${onClose}>
      ${error ? html`<${Problem} error=${error} />` : html`<p role="status">Reading what would happen…</p>`}
      <div class="actions"><${Button} data-first onClick=${onClose}>Close<//></div><//>`;
  }
  const remove = async (onProgress) => {
    await change("DELETE", pathOf(backup.name, plan.protectedBy ? "?force=true" : ""), undefined, () => isGone(pathOf(backup.name)), onProgress);
    onGone(backup.name);
    refresh();
    tell(`${backup.name} is deleted.`);
  };
  return html`<${Confirm} title="Delete this backup?" verb=${`Delete ${f.bytes(backup.size)} for good`} danger typed=${backup.name} what="Deleting it" onClose=${onClose} onDone=${remove}>
    <dl class="plan-numbers"><div><dt>of disk become free</dt><dd>${f.bytes(plan.freesBytes)}</dd></div>
      <div class=${plan.goodLeft ? "" : "strong"}><dt>good ones stay</dt><dd>${f.number(plan.goodLeft)}</dd></div></dl>
    ${plan.protectedBy && html`<div class="problem"><${Icon} name="stop" /><p>${protection(plan.protectedBy, backup)}</p></div>`}
    <${Losses} lost=${plan.lost || []} generation=${generation} />
    <p class="quiet"><${Reach} plan=${plan} /></p><//>`;
}

function protection(by, backup) {
  if (by === "pinned" || by === "pin") return `It is pinned${backup.pin?.reason ? `: ${backup.pin.reason}` : ""}.`;
  return "This is the last good backup. Without it only the journal can bring a lost disk back.";
}

// Everything that could no longer be restored, in numbers: of the current generation, and of earlier ones.
function Losses({ lost, generation }) {
  if (!lost.length) return null;
  return html`<div class="problem"><${Icon} name="stop" /><div><p class="strong">What no other backup and no part of the journal has:</p>
    <ul>${lost.map((each) => html`<li>${lossOf(each, each.generation === generation)}</li>`)}</ul></div></div>`;
}

function lossOf({ generation, lastSequence: { before, after } }, isPresent) {
  const events = `${f.count(before - after, "event")} (${after + 1 === before ? `#${f.number(before)}` : `#${f.number(after + 1)} to #${f.number(before)}`})`;
  if (isPresent) return `${events} of the present. They stay in the database, and would be lost with it.`;
  return html`${events} that an earlier restore set aside, in generation <code><${Written} text=${generation} /></code>.`;
}

function Reach({ plan }) {
  const { before, after } = plan.window || {};
  if (!after) return "After a loss of the database nothing could be restored any more.";
  const reach = html`After a loss of the database you could go back to any moment from <${When} at=${after.oldest.time} absolute /> to <${When} at=${after.newest.time} absolute />`;
  const isSame = before && before.oldest.sequence === after.oldest.sequence && before.newest.sequence === after.newest.sequence;
  return isSame ? html`${reach}, as before.` : html`${reach}; today to <${When} at=${before?.newest.time} absolute />.`;
}
