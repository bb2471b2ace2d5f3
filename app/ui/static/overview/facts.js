// Six facts in a row. An unknown one is shown as unknown, never as 0.
import { now } from "../clock.js";
import * as f from "../format.js";
import { Fact, When, html } from "../parts.js";
import { daysLeft, lateAfter } from "../safety.js";

export function Facts({ health }) {
  return html`<dl class="facts">
    <${GoesBack} window=${health.window} />
    <${AtRisk} journal=${health.journal} />
    <${LastBackup} backup=${health.backup} schedule=${health.jobs?.autoBackup} />
    <${Verified} backup=${health.backup} />
    <${LastRehearsal} rehearsal=${health.rehearsal} />
    <${DiskLeft} disk=${health.disk} isReadOnly=${health.store?.state === "read_only"} />
  </dl>`;
}

const unknown = (words) => html`<span class="quiet">${words}</span>`;

function GoesBack({ window }) {
  const length = now() / 1000 - f.secondsOf(window.oldest.time);
  return html`<${Fact} name="Goes back" more=${html`since <${When} at=${window.oldest.time} absolute seconds=${false} />`}>${f.duration(length)}<//>`;
}

function AtRisk({ journal }) {
  const risk = journal?.secondsAtRisk;
  if (risk === null || risk === undefined) return html`<${Fact} name="At risk now" more="the journal does not say">${unknown("not known")}<//>`;
  const isLate = risk > lateAfter(journal);
  const more = isLate ? "the journal is behind" : `copied ${f.every(journal.intervalMs / 1000)}`;
  return html`<${Fact} name="At risk now" tone=${isLate ? "bad" : ""} more=${more}>${f.duration(risk)}<//>`;
}

function LastBackup({ backup, schedule }) {
  const next = !schedule?.enabled
    ? html`<span class="care-text">automatic backups are off</span>`
    : schedule.nextRun ? html`next <${When} at=${schedule.nextRun} />` : f.every(schedule.intervalMs / 1000);
  return html`<${Fact} name="Last backup" more=${next}>
    ${backup?.latest ? html`<a href="#/backups"><${When} at=${backup.latest.created} /></a>` : unknown("none yet")}<//>`;
}

function Verified({ backup }) {
  const damaged = backup?.damagedCount || 0;
  if (!backup?.count) return html`<${Fact} name="Verified">${unknown(backup?.count === 0 ? "no backup yet" : "not known")}<//>`;
  const oldest = backup.oldestVerified ? html`oldest check <${When} at=${backup.oldestVerified} />` : "some were never read";
  return html`<${Fact} name="Verified" tone=${damaged ? "care" : ""} more=${oldest}>
    <a href=${damaged ? "#/backups?show=damaged" : "#/backups"}>${damaged ? `${f.number(damaged)} damaged` : `all ${f.number(backup.count)}`}</a><//>`;
}

function LastRehearsal({ rehearsal }) {
  if (!rehearsal?.at) {
    const next = rehearsal?.next ? html`the first <${When} at=${rehearsal.next} />` : "a full restore, tried beside the data";
    return html`<${Fact} name="Last rehearsal" more=${next}>${unknown("none yet")}<//>`;
  }
  const more = html`${rehearsal.ok && "to be back, "}<${When} at=${rehearsal.at} />`;
  if (!rehearsal.ok) return html`<${Fact} name="Last rehearsal" tone="bad" more=${more}><a href="#/operations">failed</a><//>`;
  return html`<${Fact} name="Last rehearsal" more=${more}>${f.duration(rehearsal.rtoSeconds)}<//>`;
}

function DiskLeft({ disk, isReadOnly }) {
  if (!disk) return html`<${Fact} name="Disk left">${unknown("not known")}<//>`;
  const days = daysLeft(disk);
  const tone = isReadOnly || (days !== null && days < 1) ? "bad" : days === null || days >= 7 ? "" : "care";
  const rate = isReadOnly ? "nothing can be written now" : days === null ? "growth not known yet" : days < 1 ? "full within a day" : `${f.duration(days * 86400)} at this rate`;
  return html`<${Fact} name="Disk left" tone=${tone} more=${rate}>${f.bytes(Math.min(disk.backups?.free ?? Infinity, disk.storage?.free ?? Infinity))}<//>`;
}
