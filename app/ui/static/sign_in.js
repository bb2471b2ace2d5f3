// The page that asks for a token, in place of the others.
import { useEffect, useState } from "./vendor/hooks.mjs";
import { MadeToken } from "./made_token.js";
import { Looking, Problem, html } from "./parts.js";
import { ServiceError, refresh, signIn, signOut } from "./service.js";
import { askOtherTabs, dropSession, may } from "./session.js";

const SCOPES_OF_PAGES = ["read", "write", "backup"];
const notForPages = () =>
  new ServiceError(403, { error: "this token reads metrics alone", hint: "sign in with one of another scope" });

export function SignIn() {
  const [token, setToken] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const [isAsked, setAsked] = useState(false);
  useEffect(() => {
    dropSession(); // if there was one, it is over
    askOtherTabs().then(() => setAsked(true)); // what one of them answers is tried at once
  }, []);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await signIn(token.trim());
      if (!SCOPES_OF_PAGES.some(may)) {
        await signOut();
        throw notForPages();
      }
      refresh();
    } catch (problem) {
      setError(problem);
      setBusy(false);
    }
  };
  if (!isAsked) return html`<${Looking} />`;
  return html`<section class="sign-in"><h1 tabindex="-1">This EventVault asks for a token</h1>
    <${MadeToken} />
    <p class="quiet">Whoever runs it makes one with <code>flask tokens create</code>. This browser forgets it after twelve hours without a request.</p>
    <form onSubmit=${send}>
      <input class="hidden" type="text" autocomplete="username" value="EventVault" readonly tabindex="-1" aria-hidden="true" />
      <p class="field"><label for="token">Token</label>
        <input id="token" type="password" autocomplete="current-password" required value=${token} onInput=${(event) => setToken(event.target.value)} /></p>
      ${error && html`<${Problem} error=${error} />`}
      <div class="actions start"><button type="submit" class="button primary" disabled=${busy}><span>Sign in</span></button></div>
    </form></section>`;
}
