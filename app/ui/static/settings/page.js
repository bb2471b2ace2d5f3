// Settings: the colours and the zone of this browser, then those of the service, which are read-only here.
import { useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Button, Column, Empty, Problem, Segmented, Words, Written, html, tellError } from "../parts.js";
import { setTheme, setZone, theme, zone } from "../preferences.js";
import { signOut, useLook } from "../service.js";
import { may, sessionName } from "../session.js";
import { Audit } from "./audit.js";
import { Tokens } from "./tokens.js";

export function Settings({ away }) {
  const look = useLook(may("read") ? "/api/settings" : null);
  const settings = look.data?.settings;
  return html`<header class="page-head"><div><h1 tabindex="-1">Settings</h1><p class="quiet">The service reads its settings from the environment when it starts. To change one, set it and restart the service.</p></div></header>
    <section class="card" aria-labelledby="browser"><h2 id="browser">This browser</h2>
      <div class="preferences"><div><span class="quiet">Colours</span><${Segmented} label="Colours" choices=${[["system", "As the system"], ["light", "Light"], ["dark", "Dark"]]} value=${theme()} onChoose=${setTheme} /></div>
        <div><span class="quiet">Times</span><${Segmented} label="Times" choices=${[["local", "Local"], ["utc", "UTC"]]} value=${zone()} onChoose=${setZone} /><span class="sub">shown in ${f.zoneName()}</span></div>
        ${sessionName() && html`<div><span class="quiet">Signed in</span><p>as <strong><${Written} text=${sessionName()} /></strong> <${Button} kind="small" onClick=${leave}>Sign out<//></p></div>`}</div></section>
    <${Tokens} away=${away} />
    ${may("admin") && html`<${Audit} />`}
    ${look.error && !settings && html`<${Problem} error=${look.error} />`}
    ${may("read") && !settings && !look.error && html`<section class="card skeleton" aria-busy="true" aria-label="The settings are coming"></section>`}
    ${settings && html`<${Service} settings=${settings} />`}`;
}

const leave = () => signOut().catch(tellError);

function Service({ settings }) {
  const [text, setText] = useState("");
  const wanted = text.trim().toLowerCase();
  const shown = settings.filter(({ name, meaning }) => `${name} ${meaning}`.toLowerCase().includes(wanted));
  return html`<section class="card flush settings" aria-labelledby="service"><header class="filters"><h2 id="service">The service</h2>
      <p class="field"><label for="find">Find a setting</label><input id="find" type="search" value=${text} placeholder="backup, kafka, interval" onInput=${(event) => setText(event.target.value)} /></p></header>
    ${shown.length ? html`<${Table} settings=${shown} />` : html`<${Empty} icon="settings" title="No setting has these words">Try another word.<//>`}</section>`;
}

const Table = ({ settings }) => html`<table role="table"><caption class="hidden">Settings in force</caption>
  <thead role="rowgroup"><tr role="row"><${Column}>Setting<//><${Column}>Value<//><${Column}>From<//></tr></thead>
  <tbody role="rowgroup">${settings.map((setting) => html`<tr role="row" key=${setting.name}>
    <td role="cell" class="name"><code>${setting.name}</code><span class="sub"><${Words} text=${setting.meaning} /></span></td>
    <td role="cell"><strong><${Written} text=${valueOf(setting)} /></strong>${wordsOf(setting)}</td>
    <td role="cell"><${Source} setting=${setting} /></td></tr>`)}</tbody></table>`;

const Source = ({ setting }) => (setting.source === "default" ? html`<span class="quiet">default</span>`
  : html`environment<span class="sub">default: <${Written} text=${valueOf({ value: setting.default })} /></span>`);

const valueOf = ({ value }) => (value === null || value === "" ? "not set" : typeof value === "object" ? JSON.stringify(value) : String(value));

// The value with its unit in words.
function wordsOf({ value, unit }) {
  const amount = Number(value);
  if (value === null || value === "" || Number.isNaN(amount)) return null;
  if (unit === "ms") return html`<span class="sub">${amount ? f.every(amount / 1000) : "never"}</span>`;
  if (unit === "bytes") return html`<span class="sub">${f.bytes(amount)}</span>`;
  return null;
}
