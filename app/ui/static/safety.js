// "Is my data safe?" in one sentence. Pure: the same health gives the same sentence.
import { titleOf } from "./advice.js";
import * as f from "./format.js";

const LEAST_LATE = 10; // seconds at risk below which the journal is not behind, however short its interval
const FEW_DAYS = 7;

export const WORD = { good: "Safe", care: "Needs you", bad: "At risk", away: "Away", busy: "Restoring", ready: "Ready" };
export const SIGN = { good: "check", care: "warn", bad: "stop", away: "stop", busy: "undo", ready: "check" };

// Seconds without a copy after which new events are at risk.
export const lateAfter = (journal) => Math.max(LEAST_LATE, ((journal?.intervalMs || 1000) * 10) / 1000);

const isBehind = (journal) => !!journal && (journal.state === "failed" || journal.secondsAtRisk > lateAfter(journal));

export function daysLeft(disk) {
  const known = [disk?.backups?.daysLeft, disk?.storage?.daysLeft].filter((days) => days !== null && days !== undefined);
  return known.length ? Math.min(...known) : null;
}

const fullIn = (days) => (days * 24 < 1
  ? "The disk is full, so new events wait until there is room."
  : `The disk is full in about ${f.duration(days * 86400)} at this rate.`);

function reachOf(window) {
  if (!window?.newest.sequence) return "";
  const since = `${f.time(window.oldest.time, { seconds: false })} ${f.zoneName(window.oldest.time)}`;
  return `You can go back to any moment since ${since}, to the single event.`;
}

// The first rule that holds. Each returns {tone, headline, detail}, or null.
const RULES = [
  ({ health }) => health.store?.state === "unreachable" && {
    tone: "away",
    headline: "The event store does not answer",
    detail: "The web server runs and starts another store automatically. No acknowledged event is lost.",
  },
  ({ health }) => health.status === "restoring" && {
    tone: "busy",
    headline: "Starting: events are being restored",
    detail: "Until that is done, requests wait. Nothing needs to be done.",
  },
  ({ health }) => health.jobs?.restore?.running && {
    tone: "busy",
    headline: "Going back in time",
    detail: `Restoring ${health.jobs.restore.source} since ${f.time(health.jobs.restore.since)}. Posts and reads go on meanwhile. You may close this page: it goes on without it.`,
  },
  ({ health }) => isBehind(health.journal) && {
    tone: "bad",
    headline: "New events are at risk",
    detail: `For ${f.duration(health.journal.secondsAtRisk)} new events have been in the database only. If this disk broke now, they would be lost.`,
  },
  ({ health }) => health.backup && !health.backup.available && {
    tone: "bad",
    headline: "The backups cannot be reached",
    detail: "Events are taken and stored, but nothing protects them against the loss of this disk.",
  },
  ({ health, reach }) => health.store?.state === "read_only" && {
    tone: "care",
    headline: "Your data is safe, for now",
    detail: `New events are refused until the disk takes them again. Reads go on. ${reach}`,
  },
  ({ health, reach }) => daysLeft(health.disk) !== null && daysLeft(health.disk) < FEW_DAYS && {
    tone: "care",
    headline: "Your data is safe, for now",
    detail: `${fullIn(daysLeft(health.disk))} ${reach}`,
  },
  ({ health, reach }) => health.problems?.length && {
    tone: "care",
    headline: "Your data is safe",
    detail: `${needsOf(health.problems)}. ${reach}`,
  },
  ({ health }) => !health.window?.newest.sequence && {
    tone: "ready",
    headline: "Ready for the first event",
    detail: `Nothing to protect yet. From the first event on, everything is copied ${f.every((health.journal?.intervalMs || 1000) / 1000)}.`,
  },
  ({ health, reach }) => !health.backup?.count && {
    tone: "care",
    headline: "Your data is safe",
    detail: `The journal holds every event, but there is no backup to carry away yet. ${reach}`,
  },
  ({ reach }) => ({ tone: "good", headline: "Your data is safe", detail: reach }),
];

const NAME = /^Kafka|^[A-Z][A-Z_]/; // words that keep their capitals in a sentence

function needsOf(problems) {
  const others = problems.length - 1;
  const title = titleOf(problems[0]);
  const first = NAME.test(title) ? title : title[0].toLowerCase() + title.slice(1);
  return others ? `${f.count(problems.length, "thing")} need you: ${first}, and ${others} more` : `One thing needs you: ${first}`;
}

// health: of the API. away: nothing answered; at: when the service answered last, in milliseconds.
export function safety(health, { away = false, at = 0 } = {}) {
  if (away) return unanswered(at);
  const reach = reachOf(health.window);
  for (const rule of RULES) {
    const found = rule({ health, reach });
    if (found) return found;
  }
  return null;
}

function unanswered(at) {
  const tries = "What is on disk stays as it is. This page tries again every 2 seconds";
  const since = at ? `Since ${f.time(at)} ${f.zoneName(at)}. ` : "";
  return { tone: "away", headline: "EventVault does not answer", detail: `${since}${tries}${at ? "; below is what was known then" : ""}.` };
}
