// The one question before a restore, with its numbers.
import { useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Confirm, Written, html, tell } from "../parts.js";
import { go } from "../route.js";
import { refresh, runOperation } from "../service.js";

// moment: the request. plan: of its dry run. name: of the backup, if one is restored.
export function RestoreDialog({ moment, plan, name, onClose }) {
  const when = moment.pointInTime || plan.time;
  const behind = plan.eventsLeftBehind;
  const hasUndo = plan.undo?.kept !== false;
  const [replay, setReplay] = useState(false);
  const restore = async (onProgress, isOpen) => {
    const done = await runOperation("POST", "/api/backup/restore", replay ? { ...moment, replay } : moment, onProgress);
    refresh();
    if (isOpen()) go("overview", {});
    tell(`Back at ${name?.slice(0, 160) || f.time(when)}: ${f.count(done.events, "event")}, in ${f.duration(done.durationMs / 1000)}.`);
  };
  return html`<${Confirm} title=${name ? "Restore this backup?" : "Go back to this moment?"} what="Restoring" predicted=${plan.predictedSeconds} onClose=${onClose} onDone=${restore}
    verb=${behind ? `Set ${f.count(behind, "event")} aside and go back` : "Go back"} danger=${!hasUndo} typed=${hasUndo ? undefined : "restore"}>
    <p>The registry will be as it ${name ? html`is in <strong><${Written} text=${name} most=${160} /></strong>` : html`was at <strong class="nowrap">${f.exact(when).split(" · ")[0]}</strong>`},
      with ${f.count(plan.sequence, "event")}.</p>
    <dl class="plan-numbers"><div class=${behind ? "strong" : ""}><dt>${behind === 1 ? "event is set aside" : "events are set aside"}</dt><dd>${f.number(behind)}</dd></div>
      <div><dt>until it is done</dt><dd>${plan.predictedSeconds === null ? "not known" : `≈ ${f.duration(plan.predictedSeconds)}`}</dd></div></dl>
    ${plan.kafka && html`<${FromKafka} kafka=${plan.kafka} replay=${replay} onReplay=${setReplay} />`}
    ${plan.quarantineLeaves > 0 && html`<p>${f.count(plan.quarantineLeaves, "message")} of Kafka ${plan.quarantineLeaves === 1 ? "leaves" : "leave"} the quarantine. What Kafka still has is read again.</p>`}
    ${hasUndo && html`<p>Nothing is deleted. <strong>Undo</strong> brings all of it back in one click.</p>`}<//>`;
}

// After a restore of a backup, Kafka is read again from there on; after one to a moment, only if the user chooses so.
function FromKafka({ kafka, replay, onReplay }) {
  const many = kafka.messages === null ? "" : `: ${f.count(kafka.messages, "message")}`;
  const gone = kafka.replayable === false && html` <span class="care-text">Others that came after it are gone from Kafka.</span>`;
  if (kafka.again) return html`<p>What came from Kafka since then is read again${many}.${gone}</p>`;
  return html`<p><label><input type="checkbox" checked=${replay} onChange=${(event) => onReplay(event.target.checked)} />
    Read again what came from Kafka since then${many}</label>.${replay ? gone : " If not, only new messages are read."}</p>`;
}
