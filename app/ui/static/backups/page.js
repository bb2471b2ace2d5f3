// The backups: which there are, whether each is good, and what can be done with it.
import { useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Button, Column, Empty, Fault, Icon, More, Segmented, When, html, isForbidden, tell, tellError, whyNot } from "../parts.js";
import { go } from "../route.js";
import { refresh, runOperation } from "../service.js";
import { CreateDialog } from "./create_dialog.js";
import { DeleteDialog } from "./delete_dialog.js";
import { PinDialog } from "./pin_dialog.js";
import { RestoreBackupDialog } from "./restore_backup_dialog.js";
import { BackupRow, pathOf } from "./row.js";
import { ShowDialog } from "./show_dialog.js";
import { Uploads, takeIn } from "./upload.js";
import { useBackups } from "./use_backups.js";

const CHOICES = [["", "All"], ["pinned", "Pinned"], ["labelled", "Labelled"], ["damaged", "Damaged"]];

export function Backups({ query, health, away, isSilent }) {
  const kind = query.show || "";
  const list = useBackups(kind);
  const [asked, setAsked] = useState(null); // {what, backup}
  const [busy, setBusy] = useState(new Map()); // name → the operation that reads it, as far as known
  const close = () => setAsked(null);
  const damaged = health.data?.backup?.damagedCount || 0;

  const run = async (backup, path, words) => {
    const mark = (operation) => setBusy((before) => new Map(before).set(backup.name, operation));
    mark(null);
    try {
      tell(words(await runOperation("POST", pathOf(backup.name, path), undefined, mark)));
    } catch (error) {
      tellError(error);
    }
    setBusy((before) => new Map([...before].filter(([name]) => name !== backup.name)));
    refresh("/api/backup", "/api/health");
  };
  const actions = {
    show: (backup) => setAsked({ what: "show", backup }),
    restore: (backup) => setAsked({ what: "restore", backup }),
    remove: (backup) => setAsked({ what: "delete", backup }),
    pin: (backup) => setAsked({ what: "pin", backup }),
    verify: (backup) => run(backup, "/verify", () => `${backup.name} is good: it was read to its end.`),
    rehearse: (backup) => run(backup, "/rehearse", rehearsalWords),
  };
  return html`<header class="page-head"><div><h1 tabindex="-1">Backups</h1><p class="quiet"><${Summary} health=${health.data} /></p></div>
      <div class="actions"><${UploadButton} disabled=${away} />
        <${Button} kind="primary" needs="backup" disabled=${away} onClick=${() => setAsked({ what: "create" })}>Back up now<//></div></header>
    <${Uploads} />
    <${Fault} look=${list} known=${!!list.backups} isSilent=${isSilent} />
    ${!list.backups && !list.error && html`<section class="card skeleton" aria-busy="true" aria-label="The list is coming"></section>`}
    ${list.backups && (list.backups.length || kind
      ? html`<section class="card flush"><div class="filters">
          <${Segmented} label="Which backups" choices=${CHOICES.map(([value, name]) => [value, value === "damaged" && damaged ? html`${name} <b class="badge bad">${damaged}</b>` : name])}
            value=${kind} onChoose=${(show) => go("backups", { show }, { replace: true })} /></div>
          ${list.backups.length ? html`<${Table} list=${list} busy=${busy} actions=${actions} away=${away} />`
            : html`<${Empty} icon="backups" title=${`None is ${kind}`}><a href="#/backups">Show all</a><//>`}</section>`
      : html`<section class="card"><${NoBackup} health=${health.data} /></section>`)}
    ${asked?.what === "create" && html`<${CreateDialog} onClose=${close} />`}
    ${asked?.what === "show" && html`<${ShowDialog} backup=${asked.backup} onClose=${close} />`}
    ${asked?.what === "pin" && html`<${PinDialog} backup=${asked.backup} onClose=${close} />`}
    ${asked?.what === "restore" && html`<${RestoreBackupDialog} backup=${asked.backup} onClose=${close} />`}
    ${asked?.what === "delete" && html`<${DeleteDialog} backup=${asked.backup} generation=${health.data?.store?.generation} onGone=${list.drop} onClose=${close} />`}`;
}

function rehearsalWords({ rehearsal }) {
  if (!rehearsal.ok) return `The tried restore failed: ${rehearsal.problem?.error || rehearsal.problem?.code}`;
  return `A restore was tried beside the data: ${f.count(rehearsal.compared, "event")} compared, back in ${f.duration(rehearsal.rtoSeconds)}.`;
}

const UploadButton = ({ disabled }) => html`<label class="button plain file" title=${whyNot("admin")}><${Icon} name="upload" /><span>Upload…</span>
  <input type="file" accept=".gz" multiple disabled=${disabled || isForbidden("admin")} onChange=${(event) => {
    takeIn(event.target.files);
    event.target.value = "";
  }} /></label>`;

function Summary({ health }) {
  const backup = health?.backup;
  if (!backup || backup.count === null) return html`\u00a0`;
  const schedule = health.jobs?.autoBackup;
  const next = schedule?.enabled && schedule.nextRun ? html` The next is made <${When} at=${schedule.nextRun} />.` : "";
  const size = health.disk?.backups?.archives;
  return html`${f.count(backup.count, "archive")}${size ? `, ${f.bytes(size)} on disk` : ""}. Each is whole: any <code>tar</code> opens it.${next}`;
}

function NoBackup({ health }) {
  const schedule = health?.jobs?.autoBackup;
  const first = schedule?.enabled && schedule.nextRun ? html`The first is made <${When} at=${schedule.nextRun} />, or now.` : "The first is made when you say so: automatic backups are off.";
  return html`<${Empty} icon="backups" title="No backup yet"><p>${first} Going back works without one too: the journal begins at the first event.</p><//>`;
}

function Table({ list, busy, actions, away }) {
  return html`<table role="table"><caption class="hidden">Backups, newest first</caption>
    <thead role="rowgroup"><tr role="row"><${Column}>Made<//><${Column}>Name<//><${Column} number>Events<//><${Column} number>Size<//><${Column}>Verified<//>
      <${Column}><span class="hidden">Actions</span><//></tr></thead>
    <tbody role="rowgroup">${list.backups.map((backup) => html`
      <${BackupRow} key=${backup.name} backup=${backup} isBusy=${busy.has(backup.name)} operation=${busy.get(backup.name)} actions=${actions} away=${away} />`)}</tbody></table>
    <${More} list=${list} />`;
}
