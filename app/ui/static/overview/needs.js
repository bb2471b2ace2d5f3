// What needs somebody: each problem with what was found and what to do, and a button where the page can help.
import { stepFor, titleOf } from "../advice.js";
import * as f from "../format.js";
import { Icon, Link, When, Words, Written, html } from "../parts.js";

export function Needs({ health }) {
  if (!health.problems.length || health.store?.state === "unreachable") return null;
  return html`<section class="todo" aria-labelledby="todo"><h2 id="todo">Needs you</h2>
    <ul>${health.problems.map((problem) => html`<${Need} problem=${problem} />`)}</ul></section>`;
}

function Need({ problem }) {
  const step = stepFor(problem);
  return html`<li><${Icon} name="warn" />
    <div><p class="strong"><${Written} text=${titleOf(problem)} />${problem.since ? html`<span class="quiet"> since <${When} at=${problem.since} /></span>` : ""}</p>
      <p><${Words} text=${f.sentence(problem.message)} /></p><p><${Words} text=${f.sentence(problem.hint)} /></p></div>
    ${step && html`<${Link} kind="small" href=${step.address}>${step.label}<//>`}</li>`;
}
