// Kafka: what is consumed and published, how far, and what waits for a decision.
import { useState } from "../vendor/hooks.mjs";
import * as f from "../format.js";
import { hintOf } from "../advice.js";
import { Button, Column, Confirm, Empty, Fact, Icon, Problem, When, Words, Written, html, tell } from "../parts.js";
import { ask, change, refresh } from "../service.js";
import { Quarantine } from "./quarantine.js";

const nameOf = (each) => `${each.topic}/${each.partition}`;

export function Kafka({ health, away }) {
  const kafka = health.data?.kafka;
  const [asked, setAsked] = useState(null);
  return html`<header class="page-head"><div><h1 tabindex="-1">Kafka</h1><p class="quiet">${kafka?.configured ? html`<${Source} kafka=${kafka} />` : "\u00a0"}</p></div></header>
    ${!kafka ? html`<p class="quiet">Not known yet.</p>` : kafka.configured ? html`<${Consumed} kafka=${kafka} problems=${health.data.problems || []} away=${away} onAsk=${setAsked} />`
      : html`<section class="card"><${Empty} icon="kafka" title="Kafka is not used">Set <code>KAFKA_BOOTSTRAP_SERVERS</code> to consume events from topics.<//></section>`}
    ${kafka?.publish && html`<${Published} publish=${kafka.publish} problems=${health.data.problems || []} />`}
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
  const unread = kafka.topics.filter((topic) => kafka.topic !== null && kafka.connected && topic.partitions === 0);
  const shown = (each) => (kafka.topic === null ? nameOf(each) : each.partition);
  return html`<dl class="facts inset">
      <${Fact} name="Broker">${kafka.connected ? "answers" : html`<span class="care-text">does not answer</span>`}<//>
      <${Fact} name="Behind" more=${rateOf(kafka)}>${kafka.lag === null ? "not known" : f.number(kafka.lag)}<//>
      <${Fact} name="Consumed" more="since the store began">${f.number(kafka.consumed)}<//>
      <${Fact} name="Dead letters" more=${kafka.quarantine?.count ? html`${f.number(kafka.quarantine.count)} in quarantine, the oldest since <${When} at=${kafka.quarantine.oldest} />` : "none in quarantine"} tone=${kafka.quarantine?.count ? "care" : ""}>${f.number(kafka.deadLetters)}<//></dl>
    ${kafka.lastError && html`<${Problem} error=${{ message: String(kafka.lastError.message || kafka.lastError) }} />`}
    ${unread.map((topic) => html`<p class="quiet" key=${topic.name}><code>${topic.name}</code>: <${Written} text=${topic.error || (topic.exists ? "nothing is read yet" : "the topic does not exist")} /></p>`)}
    ${kafka.topic === null && html`<${Topics} kafka=${kafka} />`}
    <section class="card flush"><h2>Partitions</h2><table role="table" class="partitions"><caption class="hidden">Partitions of the topics</caption>
      <thead role="rowgroup"><tr role="row"><${Column}>Partition<//><${Column}>State<//><${Column} number>Next offset<//><${Column} number>Behind<//><${Column}>Last message<//><${Column}><span class="hidden">Actions</span><//></tr></thead>
      <tbody role="rowgroup">${kafka.partitions.map((each) => html`<tr role="row" key=${nameOf(each)} class=${each.state === "stopped" ? "bad" : ""}>
        <td role="cell" class="name">${kafka.topic === null ? "" : html`<span class="only-narrow">Partition </span>`}${shown(each)}</td>
        <td role="cell" class="wide-cell">${each.state === "stopped" ? html`<span class="state bad"><${Icon} name="stop" size=${16} /><span>stopped<span class="sub"><${Written} text=${reasons.get(nameOf(each)) || ""} /></span></span></span>`
          : each.state === "waiting" ? html`<span class="state"><span>waiting<span class="sub"><${Written} text=${errorOf(kafka, each.topic)} /></span></span></span>` : html`<span class="state good"><${Icon} name="check" size=${16} /><span>${each.state}</span></span>`}</td>
        <td role="cell" class="num"><span class="only-narrow">next offset </span>${each.next === null ? "not known" : f.number(each.next)}</td>
        <td role="cell" class="num"><span class="only-narrow">behind by </span>${each.lag === null ? "not known" : f.number(each.lag)}</td>
        <td role="cell"><span class="only-narrow">last message </span><${When} at=${each.lastMessageAt} none="none yet" /></td>
        <td role="cell" class="row-actions">${each.state === "stopped" && html`<${Button} kind="small" needs="admin" disabled=${away} onClick=${() => onAsk(each)}>Go on without them…<//>`}</td></tr>`)}</tbody></table></section>`;
}

const SHORT_BACKLOG = 2; // seconds: the time left is not shown for a shorter one

function rateOf({ messagesPerSecond, remainingSeconds }) {
  if (!messagesPerSecond || !(remainingSeconds >= SHORT_BACKLOG)) return "messages not consumed yet";
  return `messages not consumed yet; ${f.number(messagesPerSecond)} consumed a second, ${f.duration(Math.ceil(remainingSeconds))} to go`;
}

// Each topic if there are several, also topics of which no partition is read.
function Topics({ kafka }) {
  if (!kafka.topics.length) return html`<p class="quiet">No topic is there yet.</p>`;
  return html`<section class="card flush"><h2>Topics</h2><table role="table"><caption class="hidden">Topics that are consumed</caption>
    <thead role="rowgroup"><tr role="row"><${Column}>Topic<//><${Column}>State<//><${Column} number>Partitions<//><${Column} number>Behind<//></tr></thead>
    <tbody role="rowgroup">${kafka.topics.map((topic) => html`<tr role="row" key=${topic.name}>
      <td role="cell" class="name"><${Written} text=${topic.name} /></td>
      <td role="cell" class="wide-cell"><${TopicState} topic=${topic} kafka=${kafka} /></td>
      <td role="cell" class="num" data-name=${topic.partitions === 1 ? "partition" : "partitions"}>${f.number(topic.partitions)}</td>
      <td role="cell" class="num" data-name=${topic.lag === null ? undefined : "behind"}>${topic.lag === null ? "not known" : f.number(topic.lag)}</td></tr>`)}</tbody></table></section>`;
}

// The reason why a partition is stopped is shown with the partition.
function TopicState({ topic, kafka }) {
  const stopped = kafka.partitions.filter((each) => each.topic === topic.name && each.state === "stopped").length;
  if (stopped) return html`<span class="state bad"><${Icon} name="stop" size=${16} /><span>${f.count(stopped, "partition")} stopped</span></span>`;
  if (topic.error) return html`<span class="state bad"><${Icon} name="stop" size=${16} /><span>not all of it is read<span class="sub"><${Written} text=${topic.error} /></span></span></span>`;
  if (!topic.exists || !topic.partitions) return html`<span class="state"><span>${topic.exists ? "nothing is read yet" : "does not exist yet"}</span></span>`;
  return html`<span class="state good"><${Icon} name="check" size=${16} /><span>consuming</span></span>`;
}

// Events that go to a topic: how many wait, since when, and which the topic did not take whole.
function Published({ publish, problems }) {
  const named = problems.filter((each) => /^kafka_(publish|event_too_large)/.test(each.code));
  const isLate = named.some((each) => each.code.startsWith("kafka_publish"));
  const waiting = publish.backlog === null ? "being counted" : publish.backlog ? html`the oldest since <${When} at=${publish.oldestWaiting} />` : "the brokers have all of them";
  return html`<section class="card flush" aria-labelledby="published"><h2 id="published">Publishing</h2>
    <p class="quiet inset">Events that did not come from Kafka go to the topic <code><${Written} text=${publish.topic} /></code>.</p>
    <dl class="facts inset">
      <${Fact} name="Events that wait" more=${waiting} tone=${isLate ? "care" : ""}>${publish.backlog === null ? "not known" : f.number(publish.backlog)}<//>
      <${Fact} name="Published" more="since the store began">${f.number(publish.published)}<//>
      <${Fact} name="Without data" more="too large for the topic" tone=${publish.withoutData > publish.notPublished ? "care" : ""}>${f.number(publish.withoutData - publish.notPublished)}<//>
      <${Fact} name="Not published" more="too large even without data" tone=${publish.notPublished ? "bad" : ""}>${f.number(publish.notPublished)}<//></dl>
    ${named.map((each) => (each.code.startsWith("kafka_publish") ? html`<${Problem} key=${each.code} error=${{ message: each.message, hint: hintOf(each) }} />`
      : html`<p class="inset" key=${each.code}><${Words} text=${`${f.sentence(each.message)} ${f.sentence(hintOf(each))}`} /></p>`))}</section>`;
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
