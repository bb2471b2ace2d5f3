// The page in place of the others where a token is asked for.
import { useEffect, useState } from "./vendor/hooks.mjs";
import { MadeToken } from "./made_token.js";
import { Problem, html } from "./parts.js";
import { refresh, signIn } from "./service.js";
import { askOtherTabs, sessionKey } from "./session.js";

export function SignIn() {
  const [token, setToken] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    askOtherTabs().then(() => sessionKey() && refresh());
  }, []);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await signIn(token.trim());
      refresh();
    } catch (problem) {
      setError(problem);
      setBusy(false);
    }
  };
  return html`<section class="sign-in"><h1 tabindex="-1">This EventVault asks for a token</h1>
    <${MadeToken} />
    <p class="quiet">Whoever runs it makes one with <code>flask tokens create</code>. This browser forgets it after twelve hours without a request.</p>
    <form onSubmit=${send}>
      <p class="field"><label for="token">Token</label>
        <input id="token" type="password" autocomplete="current-password" required value=${token} onInput=${(event) => setToken(event.target.value)} /></p>
      ${error && html`<${Problem} error=${error} />`}
      <div class="actions start"><button type="submit" class="button primary" disabled=${busy}><span>Sign in</span></button></div>
    </form></section>`;
}
