// Numbers and times for people: each number with its unit, each time with its zone. No other file formats anything.
import { now } from "./clock.js";
import { zone } from "./preferences.js";

const DAY = 86400;
const YEAR = 31557600;
const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
const ONE = { 1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week" };

const formatters = new Map();

function formatter(options) {
  const key = zone() + JSON.stringify(options);
  if (!formatters.has(key)) {
    const timeZone = zone() === "utc" ? "UTC" : undefined;
    formatters.set(key, new Intl.DateTimeFormat("en-GB", { ...options, timeZone }));
  }
  return formatters.get(key);
}

const dateOf = (when) => (when instanceof Date ? when : new Date(when));

const FRACTION = /(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

// Seconds since the epoch, to the microsecond, in which the service counts; the browser's own clock has milliseconds.
export function secondsOf(text) {
  const [, fraction = ".0"] = text.match(FRACTION) || [];
  return Date.parse(text.replace(FRACTION, "$2")) / 1000 + Number(`0${fraction}`);
}

// "2026-11-28T20:00:24.123456Z"
export function isoOf(seconds) {
  const whole = Math.floor(seconds);
  const micros = Math.min(999999, Math.round((seconds - whole) * 1e6));
  return `${new Date(whole * 1000).toISOString().slice(0, 19)}.${String(micros).padStart(6, "0")}Z`;
}

// "CET", "UTC", "GMT+5:30"
export function zoneName(when = now()) {
  const parts = formatter({ timeZoneName: "short", hour: "numeric" }).formatToParts(dateOf(when));
  return parts.find((part) => part.type === "timeZoneName").value;
}

// "21:20:12"
export function clockTime(when, { seconds = true } = {}) {
  const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return formatter(seconds ? { ...options, second: "2-digit" } : options).format(dateOf(when));
}

// "Fri 27 Nov"
export function day(when, { year = false } = {}) {
  const options = { weekday: "short", day: "numeric", month: "short" };
  return formatter(year ? { ...options, year: "numeric" } : options).format(dateOf(when)).replace(",", "");
}

// "Fri 27 Nov, 10:56:12". The zone stands beside it once, or in `exact`.
export function time(when, { seconds = true, year = false } = {}) {
  return `${day(when, { year })}, ${clockTime(when, { seconds })}`;
}

const isToday = (when) => day(when, { year: true }) === day(now(), { year: true });

// Today's times need no day.
export const shortTime = (when) => (isToday(when) ? clockTime(when) : time(when));

// For titles and for copying: never ambiguous.
export const exact = (when) => `${time(when, { year: true })} ${zoneName(when)} · ${dateOf(when).toISOString()}`;

// One unit, rounded: "2 min" is understood sooner than "1 minute 57 seconds".
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "unknown";
  if (seconds < 10) return `${number(Math.max(0, seconds), Number.isInteger(seconds) ? 0 : 1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (Math.abs(seconds - 3600) < 30) return "1 h";
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 2 * DAY) return `${Math.round(seconds / 3600)} h`;
  if (seconds < 2 * YEAR) return `${Math.round(seconds / DAY)} days`;
  return `${number(seconds / YEAR, seconds < 9.95 * YEAR ? 1 : 0)} years`;
}

// "every hour", "every 30 s"
export const every = (seconds) => `every ${ONE[seconds] || (seconds < 0.1 ? `${Math.round(seconds * 1000)} ms` : duration(seconds))}`;

const WEEKDAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const ONCE = /^(\d+) (\d+) \* \* (\*|[0-7])$/;

// "every day at 02:30, UTC", "every Sunday at 03:00, Europe/Berlin"; other schedules as they are written.
export function everyCron(cron, zoneOfCron) {
  const [, minute, hour, weekday] = cron.match(ONCE) || [];
  if (minute === undefined) return `cron ${cron}, ${zoneOfCron}`;
  return `every ${WEEKDAYS[weekday] || "day"} at ${hour.padStart(2, "0")}:${minute.padStart(2, "0")}, ${zoneOfCron}`;
}

// "an hour", "in 30 s": what follows a number of events.
export function perBucket(seconds) {
  if (!ONE[seconds]) return `in ${duration(seconds)}`;
  return `${seconds === 3600 ? "an" : "a"} ${ONE[seconds]}`;
}

export function ago(when, present = now()) {
  const seconds = (present - dateOf(when)) / 1000;
  const size = Math.abs(seconds);
  if (size < 2) return "just now";
  const words = size > 60 && size < 90 ? "1 min" : duration(size > 60 ? size : Math.round(size));
  return seconds < 0 ? `in ${words}` : `${words} ago`;
}

export function number(value, digits = 0) {
  const options = { maximumFractionDigits: digits, minimumFractionDigits: digits };
  return new Intl.NumberFormat("en-GB", options).format(value);
}

export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

// Decimal units, as disks are sold.
export function bytes(value) {
  if (value === null || value === undefined) return "unknown";
  let step = 0;
  let size = value;
  while (size >= 999.5 && step < UNITS.length - 1) {
    size /= 1000;
    step += 1;
  }
  return `${number(size, step === 0 || size >= 100 ? 0 : 1)} ${UNITS[step]}`;
}

export const percent = (share) => `${Math.round(share * 100)} %`;

// The service's words as a sentence. A name at its beginning keeps its letters.
export function sentence(text) {
  if (!text) return "";
  const begins = /^\S*([_./]|:\d)/.test(text) ? text : text[0].toUpperCase() + text.slice(1);
  return begins + (/[.!?…)]$/.test(text) ? "" : ".");
}
