// A page whose files are asked for only once somebody opens it: the first paint of the others does not wait for them.
import { useEffect, useState } from "./vendor/hooks.mjs";
import { html } from "./html.js";

const RETRY = 2000; // milliseconds

// load: returns a promise of the page's component.
export const later = (load) => function Later(props) {
  const [Page, setPage] = useState(null);
  const [tries, setTries] = useState(0);
  useEffect(() => {
    let timer = 0;
    load().then((page) => setPage(() => page), () => {
      timer = setTimeout(() => setTries(tries + 1), RETRY);
    });
    return () => clearTimeout(timer);
  }, [tries]);
  if (Page) return html`<${Page} ...${props} />`;
  return html`<section class="card skeleton" aria-busy="true"><h1 class="hidden" tabindex="-1">${tries ? "Waiting for the service" : "Looking…"}</h1></section>`;
};
