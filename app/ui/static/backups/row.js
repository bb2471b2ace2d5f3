// One backup in the table.
import { now } from "../clock.js";
import * as f from "../format.js";
import { Bar, Button, Icon, Menu, When, Written, html, isForbidden, whyNot } from "../parts.js";

const WHEN_MADE = 120000; // milliseconds after a backup was made in which a check counts as part of making it

export const pathOf = (name, more = "") => `/api/backup/${encodeURIComponent(name)}${more}`;
export const titleOf = (backup) => backup.label || (backup.origin === "created" ? "" : backup.origin);

export function BackupRow({ backup, isBusy, operation, actions, away }) {
  const title = titleOf(backup);
  const isBad = !!backup.problem;
  return html`<tr role="row" class=${isBad ? "bad" : ""}>
    <td role="cell" class="made"><${When} at=${backup.created} absolute seconds=${false} /><span class="sub inline"><${When} at=${backup.created} /></span></td>
    <td role="cell" class=${`name ${title ? "" : "auto-name"}`}>
      <button type="button" class=${`link plain-link ${title ? "" : "auto"}`} onClick=${() => actions.show(backup)}><${Written} text=${title || backup.name.replace(/\.tar\.gz$/, "")} most=${160} /></button>
      ${backup.pinned && html`<span class="tag" title=${pinWords(backup.pin)}><${Icon} name="pin" size=${14} />pinned</span>`}
      ${backup.origin !== "created" && html`<span class="tag">${backup.origin}</span>`}
      ${isBad ? html`<span class="sub bad-text"><${Written} text=${f.sentence(backup.problem)} /></span>` : title && html`<span class="sub">${backup.name}</span>`}</td>
    <td role="cell" class="num events-count" data-name="events">${backup.events === null ? html`<span class="quiet">not known</span>` : f.number(backup.events)}</td>
    <td role="cell" class="num">${f.bytes(backup.size)}</td>
    <td role="cell" class="verified">${isBusy ? html`<${Bar} label="Reading it" share=${operation?.progress || undefined} /><span class="sub">every record is read</span>` : html`<${Verified} backup=${backup} />`}</td>
    <td role="cell" class="row-actions"><${Button} kind="small ghost" needs="admin" disabled=${isBad || away} aria-label=${`Restore ${title || backup.name}…`} onClick=${() => actions.restore(backup)}>Restore…<//>
      <${Menu} label=${`More for ${backup.name}`}>
        <${Item} icon="check" needs="backup" disabled=${away} onClick=${() => actions.verify(backup)}>Verify<//>
        <${Item} icon="undo" needs="backup" disabled=${away || isBad} onClick=${() => actions.rehearse(backup)}>Try a restore<//>
        <a href=${pathOf(backup.name, "/download")} download><${Icon} name="download" />Download</a>
        <${Item} icon="pin" needs="backup" disabled=${away} onClick=${() => actions.pin(backup)}>${backup.pinned ? "Change the pin…" : "Pin…"}<//>
        <${Item} icon="trash" class="danger-text" needs="admin" disabled=${away} onClick=${() => actions.remove(backup)}>Delete…<//><//></td></tr>`;
}

const Item = ({ icon, children, needs, disabled, ...rest }) => html`
  <button type="button" disabled=${disabled || isForbidden(needs)} title=${whyNot(needs)} ...${rest}><${Icon} name=${icon} />${children}</button>`;

function Verified({ backup }) {
  if (backup.problem) return html`<span class="state bad"><${Icon} name="stop" size=${16} />damaged</span>`;
  if (!backup.verified) return html`<span class="quiet">never</span>`;
  const isWhenMade = Math.abs(Date.parse(backup.verified) - Date.parse(backup.created)) < WHEN_MADE;
  return html`<span class="state good"><${Icon} name="check" size=${16} />${isWhenMade
    ? html`<span class="quiet when-made" title=${f.exact(backup.verified)}>when made</span>` : html`<${When} at=${backup.verified} />`}</span>`;
}

export function pinWords(pin) {
  const until = pin?.until ? `until ${f.day(pin.until, { year: Date.parse(pin.until) - now() > 3e10 })}` : "until it is unpinned";
  return `Rotation leaves it ${until}${pin?.reason ? `: ${pin.reason}` : ""}`;
}
