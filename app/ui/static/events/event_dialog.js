// One event, whole. "Just before it" is the shortest way from "this one is wrong" to the timeline.
import * as f from "../format.js";
import { Button, Copy, Dialog, Link, Written, html } from "../parts.js";
import { addressOf } from "../route.js";

const MICROSECOND = 1e-6;

export function EventDialog({ event, isPast, onClose }) {
  const text = JSON.stringify(event, null, 2);
  const before = f.secondsOf(event.recordedtime) - MICROSECOND;
  return html`<${Dialog} title=${html`<${Written} text=${event.type} />`} onClose=${onClose} wide>
    <dl class="pairs">
      <div><dt>Recorded</dt><dd>${f.exact(event.recordedtime)}</dd></div>
      <div><dt>Sequence</dt><dd>#${f.number(event.sequence)}</dd></div>
      <div><dt>Source</dt><dd><${Written} text=${event.source} /></dd></div>
      <div><dt>Id</dt><dd><code><${Written} text=${event.id} /></code></dd></div></dl>
    <pre class="json" tabindex="0"><${Written} text=${text} /></pre>
    <div class="actions"><${Copy} text=${text} label="Copy as JSON" />
      ${!isPast && html`<${Link} icon="undo" href=${addressOf("overview", { at: before.toFixed(6) })} onClick=${onClose}>Go to just before it<//>`}
      <${Button} onClick=${onClose}>Close<//></div><//>`;
}
