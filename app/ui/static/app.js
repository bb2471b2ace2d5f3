// The frame: which page is shown, whether the data is safe, and the news.
import { render } from "./vendor/preact.mjs";
import { useEffect, useErrorBoundary, useRef, useState } from "./vendor/hooks.mjs";
import { Icon, Looking, News, Written, html } from "./parts.js";
import { DropTarget } from "./backups/drop_target.js";
import { KINDS } from "./backups/kinds.js";
import { overviewQuery } from "./overview/address.js";
import { Overview } from "./overview/page.js";
import { Sign } from "./icons.js";
import { later } from "./later.js";
import { allowStream } from "./live.js";
import { isDark, onPreferenceChange, setTheme } from "./preferences.js";
import { addressOf, corrected, go, isText, useRoute } from "./route.js";
import { SIGN, WORD, safety } from "./safety.js";
import { useLook } from "./service.js";
import { may, sessionKey, sessionName } from "./session.js";
import { SignIn } from "./sign_in.js";

// Most users want the Overview, so it waits for no file of another page.
const Backups = later((suffix) => import(`./backups/page.js${suffix}`).then((module) => module.Backups));
const Events = later((suffix) => import(`./events/page.js${suffix}`).then((module) => module.Events));
const Operations = later((suffix) => import(`./operations/page.js${suffix}`).then((module) => module.Operations));
const Jobs = later((suffix) => import(`./jobs/page.js${suffix}`).then((module) => module.Jobs));
const Kafka = later((suffix) => import(`./operations/kafka.js${suffix}`).then((module) => module.Kafka));
const Settings = later((suffix) => import(`./settings/page.js${suffix}`).then((module) => module.Settings));
const EVENTS = { type: isText, subject: isText, source: isText, asOf: isText, compare: isText, a: isText, b: isText };
// queryOf: returns the valid part of the query in the address.
const PAGES = [
  { name: "overview", title: "Overview", Page: Overview, needs: ["read"], queryOf: overviewQuery },
  { name: "backups", title: "Backups", Page: Backups, needs: ["read", "backup"], queryOf: (query) => corrected(query, { show: (kind) => Object.hasOwn(KINDS, kind) }) },
  { name: "events", title: "Events", Page: Events, needs: ["read"], queryOf: (query) => corrected(query, EVENTS) },
  { name: "operations", title: "Operations", Page: Operations, needs: ["read", "backup"], queryOf: () => ({}) },
  { name: "jobs", title: "Jobs", Page: Jobs, needs: ["read"], queryOf: (query) => corrected(query, { show: isText }) },
  { name: "kafka", title: "Kafka", Page: Kafka, needs: ["read"], queryOf: () => ({}) },
  { name: "settings", title: "Settings", Page: Settings, needs: ["read", "backup"], queryOf: () => ({}) },
];
const pagesOfSession = () => PAGES.filter(({ needs }) => needs.some(may));
const HEALTH_EVERY = 2000; // milliseconds

const focusOn = (selector) => (event) => {
  event.preventDefault(); // the address stays that of the page
  document.querySelector(selector)?.focus();
};

// Without a token, or with one for backups only, health shows nothing but its status.
const asksForToken = (health) => health.error?.status === 401 || (!health.error && saysLittle(health.data) && (!sessionKey() || may("read")));
const saysLittle = (data) => !!data && !data.store;

function App() {
  const { page, query: asked } = useRoute();
  const health = useLook("/api/health", HEALTH_EVERY);
  const [, update] = useState({});
  useEffect(() => onPreferenceChange(() => update({})), []);
  const closed = asksForToken(health);
  useEffect(() => allowStream(!closed && !!health.data?.store));
  const isAway = !!health.error && !closed;
  const isOff = isAway || health.data?.store?.state === "unreachable"; // nothing can be changed now
  const state = !closed && ((health.data && !saysLittle(health.data)) || isAway) ? safety(health.data || {}, { away: isAway, at: health.at }) : null;
  const { title, name, Page, queryOf } = pagesOfSession().find((each) => each.name === page) || pagesOfSession()[0] || PAGES[0];
  const query = queryOf(asked);
  useEffect(() => {
    if (closed || addressOf(page, asked) === addressOf(name, query)) return;
    go(name, query, { replace: true }); // what the page cannot show does not stay in the address
  });
  const main = usePageTitle(title, name, state);
  return html`<a class="skip" href="#main" onClick=${focusOn("main h1")}>Skip to the content</a>
    ${name === "overview" && health.data?.window?.newest.sequence
      ? html`<a class="skip" href="#past" onClick=${focusOn(".tl-handle")}>Skip to the timeline</a>` : null}
    <${Top} present=${name} state=${state} />
    <main id="main" ref=${main} class=${`page-${name}`}>
      ${isAway && name !== "overview" && html`<${Away} />`}
      ${!closed && html`<${Limits} />`}
      ${closed ? html`<${SignIn} />` : state || name !== "overview" ? html`<${Shown} key=${name} Page=${Page} query=${query} health=${health} away=${isOff} isSilent=${isAway} />` : html`<${Looking} />`}
    </main>
    <footer><p>EventVault · <a href="/docs/">Documents</a> · <a href="/docs/api">API</a> · <a href="/metrics">Metrics</a></p></footer>
    <${DropTarget} isOff=${closed || isOff || !health.data || !may("admin")} />
    <${News} />`;
}

// An error of a page is shown in place of the page; the frame goes on.
function Shown({ Page, ...rest }) {
  const [error, reset] = useErrorBoundary((fault) => console.error(fault));
  if (!error) return html`<${Page} ...${rest} />`;
  return html`<h1 tabindex="-1">This page has a fault</h1><p>The service is not touched by it. ${error.message}</p>
    <div class="actions start"><button type="button" class="button plain" onClick=${reset}><span>Show it again</span></button></div>`;
}

// The tab's title names the state if it is not "Safe". A new page moves the focus to its title.
function usePageTitle(title, name, state) {
  const main = useRef(null);
  const before = useRef(name);
  useEffect(() => {
    const word = state && state.tone !== "good" ? `${WORD[state.tone]} · ` : "";
    document.title = `${word}${title} · EventVault`;
    if (before.current === name) return;
    before.current = name;
    main.current.querySelector("h1")?.focus();
    scrollTo(0, 0);
  });
  return main;
}

function Top({ present, state }) {
  return html`<header class="top">
    <a class="brand" href="#/overview"><${Sign} /><span>EventVault</span></a>
    <nav aria-label="Pages"><ul>${pagesOfSession().map(({ name, title }) => html`
      <li><a href=${`#/${name}`} aria-current=${name === present ? "page" : undefined}><${Icon} name=${name} /><span>${title}</span></a></li>`)}</ul></nav>
    <div class="top-right">
      ${state && html`<a class=${`pill ${state.tone}`} href="#/overview" title=${state.headline}>
        <${Icon} name=${SIGN[state.tone]} size=${16} /><span role="status">${WORD[state.tone]}</span></a>`}
      <button type="button" class="icon-button" aria-label="Switch between light and dark" onClick=${() => setTheme(isDark() ? "light" : "dark")}>
        <${Icon} name=${isDark() ? "sun" : "moon"} /></button>
    </div></header>`;
}

// Says what this session's token allows, because somebody may wonder why a button is off.
function Limits() {
  if (may("admin")) return null;
  const can = !may("read") ? "only make and check backups" : may("backup") ? "read and make backups" : may("write") ? "read and post events" : "only read";
  return html`<p class="limits quiet"><${Icon} name="eye" size=${16} /><span>Signed in as <strong><${Written} text=${sessionName()} /></strong>, which may ${can}. What it may not do is off.</span></p>`;
}

const Away = () => html`<div class="card note away" role="alert"><${Icon} name="stop" />
  <p><strong>EventVault does not answer.</strong> What is shown is what was known before. This page tries again every 2 seconds.</p></div>`;

const root = document.getElementById("app");
root.textContent = "";
render(html`<${App} />`, root);
