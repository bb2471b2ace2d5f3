// Kafka: what is consumed, how far, and what waits for a decision.
import { useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { Button, Column, Confirm, Empty, Fact, Icon, Problem, When, Written, html, tell } from "../parts.js";
import { ask, change, refresh } from "../service.js";
import { Quarantine } from "./quarantine.js";

const nameOf = (each) => `${each.topic}/${each.partition}`;

export function Kafka({ health, away }) {
  const kafka = health.data?.kafka;
  const [asked, setAsked] = useState(null);
  return html`<header class="page-head"><div><h1 tabindex="-1">Kafka</h1><p class="quiet">${kafka?.configured ? html`<${Source} kafka=${kafka} />` : "\u00a0"}</p></div></header>
    ${!kafka ? html`<p class="quiet">Not known yet.</p>` : kafka.configured ? html`<${Consumed} kafka=${kafka} problems=${health.data.problems || []} away=${away} onAsk=${setAsked} />`
      : html`<section class="card"><${Empty} icon="kafka" title="Kafka is not used">Set <code>KAFKA_BOOTSTRAP_SERVERS</code> to take events from topics.<//></section>`}
    ${kafka && html`<${Quarantine} away=${away} configured=${kafka.configured} />`}
    ${asked !== null && html`<${AcceptLoss} asked=${asked} onClose=${() => setAsked(null)} />`}`;
}

function Source({ kafka }) {
  if (kafka.topic !== null) return html`Events from the topic <code>${kafka.topic}</code>.`;
  const matching = kafka.pattern === null ? "" : html` whose names match <code>${kafka.pattern}</code>`;
  return html`Events from ${f.count(kafka.topics.length, "topic")}${matching}.`;
}

function Consumed({ kafka, problems, away, onAsk }) {
  const reasons = new Map(problems.filter((each) => each.about?.kind === "partition").map((each) => [each.about.name, each.message]));
  const unread = kafka.topics.filter((topic) => kafka.connected && topic.partitions === 0);
  const shown = (each) => (kafka.topic === null ? nameOf(each) : each.partition);
  return html`<dl class="facts inset">
      <${Fact} name="Broker">${kafka.connected ? "answers" : html`<span class="care-text">does not answer</span>`}<//>
      <${Fact} name="Behind" more="messages not taken yet">${kafka.lag === null ? "not known" : f.number(kafka.lag)}<//>
      <${Fact} name="Taken" more="since the store began">${f.number(kafka.consumed)}<//>
      <${Fact} name="Dead letters" more=${kafka.quarantine?.count ? html`${f.number(kafka.quarantine.count)} in quarantine, the oldest since <${When} at=${kafka.quarantine.oldest} />` : "none in quarantine"} tone=${kafka.quarantine?.count ? "care" : ""}>${f.number(kafka.deadLetters)}<//></dl>
    ${kafka.lastError && html`<${Problem} error=${{ message: String(kafka.lastError.message || kafka.lastError) }} />`}
    ${unread.map((topic) => html`<p class="quiet" key=${topic.name}><code>${topic.name}</code>: <${Written} text=${topic.error || (topic.exists ? "nothing is read yet" : "the topic does not exist")} /></p>`)}
    <section class="card flush"><h2>Partitions</h2><table role="table"><caption class="hidden">Partitions of the topics</caption>
      <thead role="rowgroup"><tr role="row"><${Column}>Partition<//><${Column}>State<//><${Column} number>Next offset<//><${Column} number>Behind<//><${Column}>Last message<//><${Column}><span class="hidden">Actions</span><//></tr></thead>
      <tbody role="rowgroup">${kafka.partitions.map((each) => html`<tr role="row" key=${nameOf(each)} class=${each.state === "stopped" ? "bad" : ""}>
        <td role="cell" class="name">${shown(each)}</td>
        <td role="cell">${each.state === "stopped" ? html`<span class="state bad"><${Icon} name="stop" size=${16} /><span>stopped<span class="sub"><${Written} text=${reasons.get(nameOf(each)) || ""} /></span></span></span>`
          : each.state === "waiting" ? html`<span class="state"><span>waiting<span class="sub"><${Written} text=${errorOf(kafka, each.topic)} /></span></span></span>` : html`<span class="state good"><${Icon} name="check" size=${16} /><span>${each.state}</span></span>`}</td>
        <td role="cell" class="num">${each.next === null ? "–" : f.number(each.next)}</td>
        <td role="cell" class="num">${each.lag === null ? "not known" : f.number(each.lag)}</td>
        <td role="cell"><${When} at=${each.lastMessageAt} /></td>
        <td role="cell" class="row-actions">${each.state === "stopped" && html`<${Button} kind="small" needs="admin" disabled=${away} onClick=${() => onAsk(each)}>Go on without them…<//>`}</td></tr>`)}</tbody></table></section>`;
}

const errorOf = (kafka, name) => kafka.topics.find((topic) => topic.name === name)?.error || "";

function AcceptLoss({ asked, onClose }) {
  const name = nameOf(asked);
  const goesOn = async () => (await ask("GET", "/api/health")).kafka.partitions.some((each) => nameOf(each) === name && each.state !== "stopped");
  const accept = async (onProgress) => {
    await change("POST", `/api/kafka/partitions/${name}/accept-loss`, undefined, goesOn, onProgress);
    refresh();
    tell(`Partition ${name} goes on.`);
  };
  return html`<${Confirm} title="Go on without the messages that are gone?" verb="Go on without them" danger typed=${name} what="Accepting it" onClose=${onClose} onDone=${accept}>
    <p>Messages of partition ${name} that Kafka no longer has, and EventVault never got, are lost for good. No event is stored twice.</p><//>`;
}
