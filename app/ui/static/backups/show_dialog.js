// Everything that is known about one backup.
import { useEffect, useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Button, Dialog, Icon, Link, Problem, When, Written, html } from "../parts.js";
import { ask } from "../service.js";
import { pathOf, pinWords } from "./row.js";

export function ShowDialog({ backup, onClose }) {
  const [state, setState] = useState({});
  useEffect(() => {
    ask("GET", pathOf(backup.name)).then((answer) => setState({ manifest: answer.manifest || {} }), (error) => setState({ error }));
  }, []);
  return html`<${Dialog} title=${html`<${Written} text=${backup.label || backup.name} most=${120} />`} onClose=${onClose} wide>
    ${backup.problem && html`<div class="problem"><${Icon} name="stop" /><p><${Written} text=${f.sentence(backup.problem)} /></p></div>`}
    <dl class="pairs">${pairsOf(backup, state.manifest).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    ${state.error && html`<${Problem} error=${state.error} />`}
    <div class="actions"><${Link} icon="download" href=${pathOf(backup.name, "/download")} download>Download<//><${Button} onClick=${onClose}>Close<//></div><//>`;
}

function pairsOf(backup, manifest) {
  return [
    ["Made", html`<${When} at=${backup.created} absolute /> (${backup.trigger || backup.origin})`],
    ["Label", backup.label ? html`<${Written} text=${backup.label} />` : "none"],
    ["File", html`<code>${backup.path}</code>`],
    ["Holds", backup.events === null ? "not known" : `${f.count(backup.events, "event")}, up to #${f.number(backup.sequence)}`],
    ["Size", `${f.bytes(backup.size)} (${f.number(backup.size)} bytes${backup.sharedBytes ? `, ${f.bytes(backup.sharedBytes)} of them shared with other backups` : ""})`],
    ["Verified", html`<${When} at=${backup.verified} absolute />`],
    ["Rotation", backup.pinned ? pinWords(backup.pin) : backup.keptBy?.length ? `stays by the rules ${backup.keptBy.join(", ")}` : "no rule protects it"],
    ["Tried", backup.rehearsal ? html`<${When} at=${backup.rehearsal.at} />: ${backup.rehearsal.ok ? `back in ${f.duration(backup.rehearsal.rtoSeconds)}` : "failed"}` : "no restore of it was tried"],
    ["Proven", backup.proven ? "made here, and unchanged" : "not proven: its events are checked one by one when it is restored"],
    ["Generation", html`<code>${backup.generation || "not known"}</code>`],
    ["Digest", html`<code class="break">${backup.digest || backup.sha256 || "not known"}</code>`],
    ["Inside", manifest?.files ? f.count(manifest.files.length, "file") : "…"],
  ];
}
