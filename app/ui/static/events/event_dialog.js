// One event, whole. "Just before it" is the shortest way from "this one is wrong" to the timeline.
import * as f from "../format.js";
import { Button, Copy, Dialog, Link, Written, html } from "../parts.js";
import { addressOf } from "../route.js";
import { FILTERS } from "./use_events.js";

const MICROSECOND = 1e-6;

// asOf: the moment whose events are shown, or undefined for now.
export function EventDialog({ event, asOf, onClose }) {
  const text = JSON.stringify(event, null, 2);
  const before = f.secondsOf(event.recordedtime) - MICROSECOND;
  return html`<${Dialog} title=${`Event #${f.number(event.sequence)}`} onClose=${onClose} wide>
    <dl class="pairs">
      ${FILTERS.map((name) => event[name] && html`<div><dt>${name[0].toUpperCase() + name.slice(1)}</dt>
        <dd><a href=${addressOf("events", { asOf, [name]: event[name] })} onClick=${onClose}><${Written} text=${event[name]} most=${300} /></a></dd></div>`)}
      <div><dt>Recorded</dt><dd>${f.exact(event.recordedtime)}</dd></div>
      <div><dt>Id</dt><dd><code><${Written} text=${event.id} most=${300} /></code></dd></div></dl>
    <pre class="json" tabindex="0"><${Written} text=${text} /></pre>
    <div class="actions"><${Copy} text=${text} label="Copy as JSON" />
      ${!asOf && html`<${Link} icon="undo" href=${addressOf("overview", { at: before.toFixed(6) })} onClick=${onClose}>Go to just before it<//>`}
      <${Button} onClick=${onClose}>Close<//></div><//>`;
}
