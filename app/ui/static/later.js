// A page whose files are loaded only once somebody opens it: the first paint of the others does not wait for them.
import { useEffect, useLayoutEffect, useRef, useState } from "./vendor/hooks.mjs";
import { html } from "./html.js";
import { pause } from "./seen.js";

const RETRY = 2000; // milliseconds
const TRIES = 3; // that may fail although the service answers
const WITHIN = 20000; // milliseconds in which the service answers whether it has the files

// load(suffix): returns a promise of the page's component. A browser does not ask again for a module that it did not get,
// so each try after the first one has another suffix. Once the page is there, later visits have it at once.
export const later = (load) => {
  let loaded = null;
  return function Later(props) {
    const [Page, setPage] = useState(() => loaded);
    const [failed, setFailed] = useState({ tries: 0, answered: 0, isOld: false });
    const title = useRef(null);
    const hadFocus = useRef(false);
    useEffect(() => {
      if (failed.isOld) return undefined;
      if (loaded) {
        setPage(() => loaded); // it came after this was painted, for an earlier visit
        return undefined;
      }
      let isGone = false;
      const noteFocus = () => {
        hadFocus.current = !!title.current && document.activeElement === title.current;
      };
      const begin = () => load(failed.tries ? `?try=${failed.tries}` : "").then((page) => {
        loaded = page;
        noteFocus();
        setPage(() => page);
      }, async () => {
        const status = await statusOfFiles();
        if (isGone) return;
        const answered = failed.answered + (status ? 1 : 0);
        noteFocus();
        setFailed({ tries: failed.tries + 1, answered, isOld: status === 404 || answered >= TRIES });
      });
      if (failed.tries) pause(RETRY).then(() => isGone || begin());
      else begin();
      return () => {
        isGone = true;
      };
    }, [failed]);
    // The title that had the focus may be gone: the new title gets it.
    useLayoutEffect(() => {
      if (hadFocus.current) document.querySelector("main h1")?.focus();
      hadFocus.current = false;
    }, [Page, failed]);
    if (Page) return html`<${Page} ...${props} />`;
    if (failed.isOld) return html`<h1 tabindex="-1" ref=${title}>This page has to be loaded again</h1><p>EventVault was updated since it was opened, or it broke off.</p>
      <div class="actions start"><button type="button" class="button plain" onClick=${() => location.reload()}><span>Load it again</span></button></div>`;
    return html`<section class="card skeleton" aria-busy="true"><h1 class="hidden" tabindex="-1" ref=${title}>${failed.tries ? "Waiting for the service" : "Looking…"}</h1></section>`;
  };
};

// 404: the service has another version now. 0: nothing answers.
async function statusOfFiles() {
  try {
    return (await fetch(import.meta.url, { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(WITHIN) })).status;
  } catch {
    return 0;
  }
}
