// The problems of health: what was found, what to do, and a button where the page can help.
import { hasOwnWords, hintOf, stepFor, titleOf } from "../advice.js";
import * as f from "../format.js";
import { Icon, Link, When, Words, Written, html } from "../parts.js";
import { safety } from "../safety.js";

export function Needs({ health }) {
  if (!health.problems.length || health.store?.state === "unreachable") return null;
  return html`<section class=${`todo ${safety(health).tone === "bad" ? "bad" : ""}`} aria-labelledby="todo"><h2 id="todo">Needs you</h2>
    <ul>${health.problems.map((problem) => html`<${Need} problem=${problem} />`)}</ul></section>`;
}

function Need({ problem }) {
  const step = stepFor(problem);
  const title = titleOf(problem);
  const found = f.sentence(problem.message);
  const about = problem.about?.kind === "backup" ? html`: <code>${problem.about.name}</code>` : "";
  return html`<li><${Icon} name="warn" />
    <div><p class="strong"><${Written} text=${title} />${about}${problem.since ? html`<span class="quiet"> since <${When} at=${problem.since} absolute seconds=${false} /></span>` : ""}</p>
      ${!hasOwnWords(problem) && found !== `${title}.` && html`<p><${Words} text=${found} /></p>`}
      <p><${Words} text=${hintOf(problem)} /></p>
      ${hasOwnWords(problem) && html`<details><summary>What was found</summary><p><${Words} text=${found} /></p></details>`}</div>
    ${step && html`<${Link} kind="small" href=${step.address}>${step.label}<//>`}</li>`;
}
