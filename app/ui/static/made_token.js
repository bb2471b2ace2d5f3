// The token that was made last. The page that made the first one is closed by it, so it stays in sight there too.
import { useState } from "./vendor/hooks.mjs";
import { Copy, Icon, html } from "./parts.js";

let made = null;

export function setMadeToken(token) {
  made = token;
}

export function MadeToken() {
  const [, update] = useState({});
  if (!made) return null;
  const dismiss = () => {
    made = null;
    update({});
  };
  return html`<div class="card note good" role="status"><${Icon} name="check" />
    <p><strong>This token is not shown again:</strong> <code class="break">${made}</code></p>
    <div class="actions"><${Copy} text=${made} /><button type="button" class="link" onClick=${dismiss}>I have it</button></div></div>`;
}
