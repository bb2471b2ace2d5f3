// The events, newest first: live, or as of a moment; filtered; each in full.
import { useEffect, useRef, useState } from "../vendor/hooks.mjs";
import { Button, Empty, Fault, Icon, Link, More, When, html } from "../parts.js";
import { addressOf, go } from "../route.js";
import * as f from "../format.js";
import { useLook } from "../service.js";
import { BringBackDialog } from "./bring_back_dialog.js";
import { Compare } from "./compare.js";
import { EventDialog } from "./event_dialog.js";
import { EventTable } from "./table.js";
import { FILTERS, exportAddress, filterOf, useEvents } from "./use_events.js";

const TYPED = 400; // milliseconds after the last key

export function Events({ query, health, isSilent }) {
  const filter = filterOf(query);
  const isPast = !!query.asOf;
  const [isPaused, setPaused] = useState(false);
  const list = useEvents(filter, query.asOf, isPaused);
  const [shown, setShown] = useState(null);
  const [isBringing, setBringing] = useState(false);
  const isFiltered = FILTERS.some((name) => filter[name]);
  return html`<header class="page-head"><div><h1 tabindex="-1">Events</h1><p class="quiet"><${Summary} last=${list.answer?.lastSequence} isPast=${isPast} /></p></div>
      <div class="actions"><${Link} icon="download" href=${exportAddress(filter, query.asOf)} download="events.ndjson">Export<//>
        <${Button} onClick=${() => go("events", { ...query, compare: query.compare ? undefined : "1" })}>Compare two moments<//></div></header>
    ${isPast && html`<${AsOf} asOf=${query.asOf} onBring=${() => setBringing(true)} query=${query} />`}
    ${query.compare && html`<${Compare} query=${query} window=${health.data?.window} />`}
    <section class="card flush events">
      <div class="filters">${FILTERS.map((name) => html`<${Filter} key=${name} name=${name} query=${query} />`)}
        ${!isPast && html`<${Live} isPaused=${isPaused} onChange=${setPaused} />`}</div>
      <${Fault} look=${list} known=${!!list.rows?.length} isSilent=${isSilent}><${Nearest} error=${list.error} query=${query} /><//>
      ${!list.rows && !list.error && html`<div class="skeleton" aria-busy="true" aria-label="The events are coming"></div>`}
      ${list.rows && (list.rows.length
        ? html`<${EventTable} events=${list.rows} isNew=${list.isNew} onShow=${setShown} />`
        : html`<${Empty} title=${isFiltered ? "No event matches" : "No event yet"}>${isFiltered ? html`<a href=${addressOf("events", { asOf: query.asOf })}>Show all</a>` : "They appear here as they are posted."}<//>`)}
      <${More} list=${list} />
    </section>
    ${shown && html`<${EventDialog} event=${shown} asOf=${query.asOf} onClose=${() => setShown(null)} />`}
    ${isBringing && html`<${BringBackDialog} asOf=${query.asOf} filter=${filter} onClose=${() => setBringing(false)} />`}`;
}

function Summary({ last, isPast }) {
  const events = last === undefined ? "Newest first" : `${f.count(last, "event")}${isPast ? " then" : ""}, newest first`;
  return `${events}. Times are ${f.zoneName()}.`;
}

const EXAMPLES = { type: "any type", subject: "orders/4711", source: "shop/web" };

// The existing types, to choose from; any other may be typed.
function Types() {
  const look = useLook("/api/events/types?limit=20");
  return html`<datalist id="types">${(look.data?.types || []).map(({ type }) => html`<option value=${type}></option>`)}</datalist>`;
}

function Filter({ name, query }) {
  const wanted = query[name] || "";
  const [text, setText] = useState(wanted);
  const sent = useRef(wanted);
  if (wanted !== sent.current) { // a link or Back changed the query, not the keyboard
    sent.current = wanted;
    setText(wanted);
  }
  useEffect(() => {
    if (text.trim() === wanted) return undefined;
    const timer = setTimeout(() => {
      sent.current = text.trim();
      go("events", { ...query, [name]: text.trim() }, { replace: true });
    }, TYPED);
    return () => clearTimeout(timer);
  }, [text]);
  return html`<p class="field"><label for=${`filter-${name}`}>${name[0].toUpperCase() + name.slice(1)}</label>
    <input id=${`filter-${name}`} list=${name === "type" ? "types" : undefined} placeholder=${EXAMPLES[name]} value=${text} autocomplete="off" spellcheck=${false} maxlength="1000" onInput=${(event) => setText(event.target.value)} />${name === "type" && html`<${Types} />`}</p>`;
}

const Live = ({ isPaused, onChange }) => html`<div class=${`live ${isPaused ? "" : "on"}`}><i></i><span>${isPaused ? "paused" : "live"}</span>
  <${Button} kind="small" icon=${isPaused ? "play" : "pause"} onClick=${() => onChange(!isPaused)}>${isPaused ? "Go on" : "Pause"}<//></div>`;

const AsOf = ({ asOf, onBring, query }) => html`<div class="card note care" role="status"><${Icon} name="eye" />
  <p><strong>You look at <${When} at=${asOf} absolute />${isMoment(asOf) && html` (<${When} at=${asOf} />)`}.</strong> Nothing was changed. The present goes on meanwhile.</p>
  <div class="actions"><${Button} kind="small" needs="admin" onClick=${onBring}>Bring these back…<//>
    ${isMoment(asOf) && html`<${Link} kind="small" href=${addressOf("overview", { at: f.secondsOf(asOf).toFixed(6) })}>Go back to this moment…<//>`}
    <${Link} kind="small" href=${addressOf("events", { ...query, asOf: undefined })}>Leave<//></div></div>`;

const isMoment = (text) => !Number.isNaN(Date.parse(text));

function Nearest({ error, query }) {
  const near = error?.body?.nearest?.at(-1);
  return near?.time ? html`<p><a href=${addressOf("events", { ...query, asOf: near.time })}>Look at the nearest moment: <${When} at=${near.time} absolute /></a></p>` : null;
}
