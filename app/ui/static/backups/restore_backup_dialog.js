import { useEffect, useState } from "../vendor/hooks.mjs";
import { RestoreDialog } from "../overview/restore_dialog.js";
import { Button, Dialog, Problem, html } from "../parts.js";
import { ask } from "../service.js";

// Reads what would happen, then asks.
export function RestoreBackupDialog({ backup, onClose }) {
  const [state, setState] = useState({});
  const moment = { backupName: backup.name };
  useEffect(() => {
    ask("POST", "/api/backup/restore", { ...moment, dryRun: true }).then(({ plan }) => setState({ plan }), (error) => setState({ error }));
  }, []);
  if (state.plan) return html`<${RestoreDialog} moment=${moment} plan=${state.plan} name=${backup.label || backup.name} onClose=${onClose} />`;
  return html`<${Dialog} title="Restore this backup?" onClose=${onClose}>
    ${state.error ? html`<${Problem} error=${state.error} />` : html`<p role="status">Reading what would happen…</p>`}
    <div class="actions"><${Button} data-first onClick=${onClose}>Close<//></div><//>`;
}
