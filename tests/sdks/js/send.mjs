// Sends the events of standard input to an address in each mode, and prints the replies; see tests/end_to_end/test_sdks.py.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/`); // the packages lie beside the copy of package.json, not here
const { CloudEvent, HTTP } = require("cloudevents");
const [address] = process.argv.slice(2);
const replies = [];
for (const { attributes, text, base64, json } of JSON.parse(readFileSync(0))) {
  const data = base64 === undefined ? (text ?? json) : new Uint8Array(Buffer.from(base64, "base64"));
  const event = new CloudEvent(data === undefined ? attributes : { ...attributes, data });
  for (const [mode, write] of Object.entries({ structured: HTTP.structured, binary: HTTP.binary })) {
    const { headers, body } = write(event);
    const response = await fetch(address, { method: "POST", headers, body });
    replies.push({ id: attributes.id, mode, status: response.status, reply: await response.json() });
  }
}
console.log(JSON.stringify(replies));
