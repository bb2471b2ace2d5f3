import * as f from "../format.js";
import { Column, Written, html } from "../parts.js";

const SHOWN = 160; // characters of an event's data

export const EventTable = ({ events, isNew = () => false, onShow }) => html`<table role="table"><caption class="hidden">Events, newest first</caption>
  <thead role="rowgroup"><tr role="row"><${Column}>Recorded<//><${Column}>Type<//><${Column}>Subject<//><${Column}>Data<//><${Column} number>Sequence<//></tr></thead>
  <tbody role="rowgroup">${events.map((event) => html`<tr role="row" key=${event.sequence} class=${isNew(event) ? "new" : ""}>
    <td role="cell" class="made"><time datetime=${event.recordedtime} title=${f.exact(event.recordedtime)}>${f.shortTime(event.recordedtime)}</time></td>
    <td role="cell" class="name"><button type="button" class="link plain-link mono" onClick=${() => onShow(event)}><${Written} text=${event.type} most=${SHOWN} /></button></td>
    <td role="cell" class="subject"><${Written} text=${event.subject || ""} most=${SHOWN} /></td>
    <td role="cell" class="data mono"><span><${Written} text=${dataOf(event)} /></span></td>
    <td role="cell" class="num">${f.number(event.sequence)}</td></tr>`)}</tbody></table>`;

function dataOf(event) {
  if (event.data === undefined) return event.data_base64 === undefined ? "" : "binary";
  const text = JSON.stringify(event.data);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}

