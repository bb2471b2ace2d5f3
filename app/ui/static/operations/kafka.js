// Kafka: what is consumed, how far, and what waits for a decision.
import { useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Button, Column, Confirm, Empty, Fact, Icon, Problem, When, Written, html, tell } from "../parts.js";
import { ask, change, refresh } from "../service.js";

export function Kafka({ health, away }) {
  const kafka = health.data?.kafka;
  const [asked, setAsked] = useState(null);
  return html`<header class="page-head"><div><h1 tabindex="-1">Kafka</h1><p class="quiet">${kafka?.configured ? html`Events from the topic <code>${kafka.topic}</code>.` : "\u00a0"}</p></div></header>
    ${!kafka ? html`<p class="quiet">Not known yet.</p>` : kafka.configured ? html`<${Consumed} kafka=${kafka} away=${away} onAsk=${setAsked} />`
      : html`<section class="card"><${Empty} icon="kafka" title="Kafka is not used">Set <code>KAFKA_BOOTSTRAP_SERVERS</code> to take events from a topic.<//></section>`}
    ${asked !== null && html`<${AcceptLoss} partition=${asked} topic=${kafka.topic} onClose=${() => setAsked(null)} />`}`;
}

function Consumed({ kafka, away, onAsk }) {
  const stopped = new Map((kafka.stoppedPartitions || []).map((each) => [each.partition ?? each, each]));
  return html`<dl class="facts inset">
      <${Fact} name="Broker">${kafka.connected ? "answers" : html`<span class="care-text">does not answer</span>`}<//>
      <${Fact} name="Behind" more="messages not taken yet">${kafka.lag === null ? "not known" : f.number(kafka.lag)}<//>
      <${Fact} name="Taken" more="since the store began">${f.number(kafka.consumed)}<//>
      <${Fact} name="Dead letters" more="since the store began">${f.number(kafka.deadLetters)}<//></dl>
    ${kafka.lastError && html`<${Problem} error=${{ message: String(kafka.lastError.message || kafka.lastError) }} />`}
    <section class="card flush"><h2>Partitions</h2><table role="table"><caption class="hidden">Partitions of the topic</caption>
      <thead role="rowgroup"><tr role="row"><${Column}>Partition<//><${Column}>State<//><${Column} number>Next offset<//><${Column} number>Behind<//><${Column}>Last message<//><${Column}><span class="hidden">Actions</span><//></tr></thead>
      <tbody role="rowgroup">${kafka.partitions.map((each) => html`<tr role="row" class=${each.state === "stopped" ? "bad" : ""}>
        <td role="cell" class="name">${each.partition}</td>
        <td role="cell">${each.state === "stopped" ? html`<span class="state bad"><${Icon} name="stop" size=${16} /><span>stopped<span class="sub"><${Written} text=${whyOf(stopped.get(each.partition))} /></span></span></span>` : html`<span class="state good"><${Icon} name="check" size=${16} /><span>${each.state}</span></span>`}</td>
        <td role="cell" class="num">${each.next === null ? "–" : f.number(each.next)}</td>
        <td role="cell" class="num">${each.lag === null ? "not known" : f.number(each.lag)}</td>
        <td role="cell"><${When} at=${each.lastMessageAt} /></td>
        <td role="cell" class="row-actions">${each.state === "stopped" && html`<${Button} kind="small" needs="admin" disabled=${away} onClick=${() => onAsk(each.partition)}>Go on without them…<//>`}</td></tr>`)}</tbody></table></section>`;
}

const whyOf = (stopped) => (typeof stopped === "object" ? stopped.reason || stopped.message || "" : "");

function AcceptLoss({ partition, topic, onClose }) {
  const goesOn = async () => (await ask("GET", "/api/health")).kafka.partitions.some((each) => each.partition === partition && each.state !== "stopped");
  const accept = async (onProgress) => {
    await change("POST", `/api/kafka/partitions/${partition}/accept-loss`, undefined, goesOn, onProgress);
    refresh();
    tell(`Partition ${partition} goes on.`);
  };
  return html`<${Confirm} title="Go on without the messages that are gone?" verb="Go on without them" danger typed=${`${topic}/${partition}`} what="Accepting it" onClose=${onClose} onDone=${accept}>
    <p>Messages of partition ${partition} that Kafka no longer has, and EventVault never got, are lost for good. No event is stored twice.</p><//>`;
}
