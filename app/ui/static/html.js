// htm bound to Preact: markup in template literals, without a build step and without eval.
import { h } from "./vendor/preact.mjs";
import htm from "./vendor/htm.mjs";

export const html = htm.bind(h);
