// The page's own words for a problem. The service's hints name requests and commands, which a page does not have.

import { sentence } from "./format.js";

const TITLES = {
  backup_damaged: "A backup is damaged",
  backup_late: "A backup is late",
  backup_unreadable: "A backup cannot be read",
  backups_changed: "The backup folder is not the one of before",
  backups_unavailable: "The backup folder cannot be read",
  clock_ahead: "The clock is ahead",
  clock_behind: "The clock is behind",
  database_damaged: "The database is damaged",
  disk_failed: "A disk cannot be read or written",
  disk_full_soon: "The disk will be full soon",
  jobs_held: "Jobs from a copy wait for a decision",
  jobs_late: "Jobs wait for a worker",
  jobs_not_sent: "Jobs are accepted, and none is sent",
  jobs_rewound: "The newest changes of the jobs are missing",
  jobs_unavailable: "The dispatcher of jobs does not answer",
  jobs_damaged: "The database of jobs is damaged",
  jobs_wait_for_worker: "No worker runs some jobs",
  journal_damaged: "A part of the journal is damaged",
  journal_failed: "The journal cannot be written",
  kafka_cluster_changed: "A partition of Kafka is stopped",
  kafka_event_too_large: "An event is too large for Kafka",
  kafka_messages_gone: "Messages of Kafka are gone",
  kafka_offset_out_of_range: "A partition of Kafka is stopped",
  kafka_publish_late: "Events wait to be published to Kafka",
  kafka_publish_topic_missing: "The topic to publish to does not exist",
  kafka_topic_diverged: "A partition of Kafka is stopped",
  kafka_topic_recreated: "A partition of Kafka is stopped",
  kafka_topic_truncated: "A partition of Kafka is stopped",
  kafka_unreachable: "Kafka does not answer",
  kafka_refused: "Kafka refuses EventVault",
  local_worker_failed: "The service's own worker keeps ending",
  no_space: "The disk is full",
  notify_failing: "Notifications do not arrive",
  read_only: "The database can only be read",
  rehearsal_failed: "A tried restore failed",
  rolled_back: "The database lost events that the journal has",
  stuck: "The store makes no progress",
  unfinished_jobs_unwritten: "The copy of the unfinished jobs cannot be written",
  write_failed: "A write did not reach the disk",
};

const HINTS = {
  backup_damaged: "It cannot be restored. The other backups and the journal are not affected: make a new backup, and check the disk if it happens again.",
  backup_unreadable: "It cannot be restored until it can be read. The other backups and the journal are not affected.",
  backups_changed: "Nothing is written there meanwhile. If its disk is not mounted, mount it: backups and journal then go on automatically. Otherwise correct BACKUP_DIR. If you mean this folder, say so on the machine: `flask problems accept backups_changed`.",
  jobs_held: "They come from a copy of the unfinished jobs, and some may have run since. Below Jobs, cancel those and let the rest go on.",
  rehearsal_failed: "Nothing was changed. See below Operations what was found, and try another backup.",
};

export const hasOwnWords = (problem) => problem.code in HINTS;

// What to do: in the page's own words, otherwise in those of the service.
export const hintOf = (problem) => HINTS[problem.code] || sentence(problem.hint);

// A title for each code that the page knows; otherwise the service's words.
export function titleOf(problem) {
  const words = problem.message || problem.code;
  return TITLES[problem.code] || words[0].toUpperCase() + words.slice(1);
}

// Where the page can help: {label, address}, or null.
export function stepFor(problem) {
  const about = problem.about || {};
  if (about.kind === "backup") return { label: "Show it", address: "#/backups?show=damaged" };
  if (problem.code.startsWith("kafka")) return { label: "Kafka", address: "#/kafka" };
  if (problem.code.startsWith("jobs_")) return { label: "Jobs", address: "#/jobs" };
  if (problem.code.startsWith("rehearsal")) return { label: "Rehearsals", address: "#/operations" };
  return null;
}
