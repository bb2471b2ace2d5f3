// What earlier restores set aside, as text: the grey lines of the timeline.
import * as f from "../format.js";
import { When, html } from "../parts.js";
import { addressOf } from "../route.js";

export function SetAside({ branches }) {
  if (!branches.length) return null;
  const total = branches.reduce((sum, branch) => sum + branch.events, 0);
  return html`<details class="aside"><summary>Set aside by earlier restores: ${f.count(total, "event")}</summary>
    <ul>${branches.map((branch) => html`<li>
      <span>${f.count(branch.events, "event")} after <${When} at=${branch.from * 1000} absolute seconds=${false} /></span>
      <span class="quiet">${branch.name ? "stored as they were" : "in backups and the journal"}</span>
      <a href=${addressOf("overview", { generation: branch.generation, sequence: branch.sequence })}>See what bringing them back does</a></li>`)}</ul></details>`;
}
