// Nothing takes a deletion back: what it costs, in numbers, and a name to be typed.
import { useEffect, useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Button, Confirm, Dialog, Icon, Problem, When, html, tell } from "../parts.js";
import { ask, refresh } from "../service.js";
import { pathOf } from "./row.js";

export function DeleteDialog({ backup, onClose }) {
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
  const remove = async () => {
    await ask("DELETE", pathOf(backup.name, plan.protectedBy ? "?force=true" : ""));
    refresh();
    tell(`${backup.name} is deleted.`);
  };
  return html`<${Confirm} title="Delete this backup?" verb=${`Delete ${f.bytes(backup.size)} for good`} danger typed=${backup.name} what="Deleting it" onClose=${onClose} onDone=${remove}>
    <dl class="plan-numbers"><div><dt>of disk become free</dt><dd>${f.bytes(plan.freesBytes)}</dd></div>
      <div class=${plan.goodLeft ? "" : "strong"}><dt>good ones stay</dt><dd>${f.number(plan.goodLeft)}</dd></div></dl>
    ${plan.protectedBy && html`<div class="problem"><${Icon} name="stop" /><p>${protection(plan.protectedBy, backup)}</p></div>`}
    <p class="quiet"><${Reach} plan=${plan} /></p><//>`;
}

function protection(by, backup) {
  if (by === "pinned" || by === "pin") return `It is pinned${backup.pin?.reason ? `: ${backup.pin.reason}` : ""}.`;
  return "This is the last good backup. Without it only the journal can bring a lost disk back.";
}

function Reach({ plan }) {
  const { before, after } = plan.window || {};
  if (plan.lost?.length) return html`Some moments cannot be reached any more after that.`;
  if (!after) return html`No moment can be reached any more after that.`;
  if (before && before.oldest.time !== after.oldest.time) {
    return html`You can then go back to <${When} at=${after.oldest.time} absolute /> at most; today it is <${When} at=${before.oldest.time} absolute />.`;
  }
  return html`You can still go back to any moment since <${When} at=${after.oldest.time} absolute />.`;
}
