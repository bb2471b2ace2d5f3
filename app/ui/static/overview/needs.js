// What needs somebody: each problem with what was found and what to do, and a button where the page can help.
import { hintOf, stepFor, titleOf } from "../advice.js";
import * as f from "../format.js";
import { Icon, Link, When, Words, Written, html } from "../parts.js";

export function Needs({ health }) {
  if (!health.problems.length || health.store?.state === "unreachable") return null;
  return html`<section class="todo" aria-labelledby="todo"><h2 id="todo">Needs you</h2>
    <ul>${health.problems.map((problem) => html`<${Need} problem=${problem} />`)}</ul></section>`;
}

function Need({ problem }) {
  const step = stepFor(problem);
  const title = titleOf(problem);
  const found = f.sentence(problem.message);
  return html`<li><${Icon} name="warn" />
    <div><p class="strong"><${Written} text=${title} />${problem.since ? html`<span class="quiet"> since <${When} at=${problem.since} /></span>` : ""}</p>
      ${found !== `${title}.` && html`<p><${Words} text=${found} /></p>`}
      <p><${Words} text=${hintOf(problem)} /></p></div>
    ${step && html`<${Link} kind="small" href=${step.address}>${step.label}<//>`}</li>`;
}
