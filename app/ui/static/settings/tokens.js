// Tokens: who may do what. A new one is shown once.
import { useState } from "../vendor/hooks.mjs";
import { MadeToken, setMadeToken } from "../made_token.js";
import { Button, Column, Confirm, When, Written, html, tell } from "../parts.js";
import { ServiceError, ask, change, refresh, signInWithNew, useLook } from "../service.js";
import { may } from "../session.js";

const SCOPES = ["read", "write", "backup", "metrics", "admin"];

export function Tokens({ away }) {
  const look = useLook(may("admin") ? "/api/tokens" : null);
  const [asked, setAsked] = useState(null); // {what, token}
  if (!may("admin")) return null;
  const tokens = look.data?.tokens;
  const close = () => setAsked(null);
  return html`<section class="card flush" aria-labelledby="tokens"><header class="card-head inset"><h2 id="tokens">Tokens</h2>
      <${Button} needs="admin" disabled=${away} onClick=${() => setAsked({ what: "create" })}>Make a token…<//></header>
    <${MadeToken} />
    ${tokens?.length ? html`<${Table} tokens=${tokens} away=${away} onRevoke=${(token) => setAsked({ what: "revoke", token })} />`
      : tokens && html`<p class="inset quiet">None was made: everybody who reaches this service may do everything. It answers only where its settings allow that.</p>`}
    ${asked?.what === "create" && html`<${CreateToken} isFirst=${!tokens?.length} onClose=${close} />`}
    ${asked?.what === "revoke" && html`<${RevokeToken} token=${asked.token} onClose=${close} />`}</section>`;
}

const Table = ({ tokens, away, onRevoke }) => html`<table role="table" class="stack"><caption class="hidden">Tokens</caption>
  <thead role="rowgroup"><tr role="row"><${Column}>Name<//><${Column}>Scope<//><${Column}>Expires<//><${Column}>Last used<//><${Column}><span class="hidden">Actions</span><//></tr></thead>
  <tbody role="rowgroup">${tokens.map((token) => html`<tr role="row" key=${token.id}>
    <td role="cell" class="name"><${Written} text=${token.name} /><span class="sub mono">${token.id}</span></td>
    <td role="cell"><span class="only-narrow">scope </span>${token.scope}</td>
    <td role="cell">${!token.expired && html`<span class="only-narrow">expires </span>`}${token.expired ? html`<span class="care-text">expired</span>` : token.expires ? html`<${When} at=${token.expires} absolute seconds=${false} />` : "never"}</td>
    <td role="cell"><span class="only-narrow">last used </span><${When} at=${token.lastUsed} /></td>
    <td role="cell" class="row-actions"><${Button} kind="small" needs="admin" disabled=${away} onClick=${() => onRevoke(token)}>Revoke…<//></td></tr>`)}</tbody></table>`;

const isThere = async (condition) => (await ask("GET", "/api/tokens")).tokens.some(condition);

const unseen = (name) => new ServiceError(0, { error: `the token ${name} was made, but EventVault went away before it was shown`, hint: "revoke it, and make another one" });

function CreateToken({ isFirst, onClose }) {
  const [name, setName] = useState("");
  const [scope, setScope] = useState(isFirst ? "admin" : "read");
  const [days, setDays] = useState("");
  const create = async (onProgress) => {
    const expires = days ? { expires: `${days}d` } : {};
    const answer = await change("POST", "/api/tokens", { name: name.trim(), scope, ...expires }, () => isThere((token) => token.name === name.trim()), onProgress);
    if (!answer.token) throw unseen(name.trim());
    setMadeToken(answer.token);
    if (isFirst) await signInWithNew(answer.token).catch(() => {}); // if it fails, the page asks for the token, and shows it
    refresh();
  };
  return html`<${Confirm} title="Make a token" verb="Make it" what="Writing it" onClose=${onClose} onDone=${create}>
    ${isFirst && html`<p><strong>From the first token on, every request needs one,</strong> this page too. Make one with the scope admin first.</p>`}
    <p class="field"><label for="token-name">Name</label><input id="token-name" value=${name} required maxlength="100" autocomplete="off" onInput=${(event) => setName(event.target.value)} /></p>
    <p class="field"><label for="token-scope">Scope</label><select id="token-scope" value=${scope} onChange=${(event) => setScope(event.target.value)}>${SCOPES.map((each) => html`<option value=${each}>${each}</option>`)}</select></p>
    <p class="field"><label for="token-days">Days until it expires <span class="quiet">(empty: never)</span></label><input id="token-days" type="number" min="1" max="3650" value=${days} onInput=${(event) => setDays(event.target.value)} /></p><//>`;
}

function RevokeToken({ token, onClose }) {
  const revoke = async (onProgress) => {
    await change("DELETE", `/api/tokens/${token.id}`, undefined, async () => !(await isThere((each) => each.id === token.id)), onProgress);
    refresh();
    tell(`${token.name} is revoked: no request of it is served from now on.`);
  };
  return html`<${Confirm} title="Revoke this token?" verb="Revoke it" danger what="Revoking it" onClose=${onClose} onDone=${revoke}>
    <p><strong><${Written} text=${token.name} /></strong> (<code>${token.id}</code>) ends at once, with its open streams. There is no undo: make a new one instead.</p><//>`;
}
