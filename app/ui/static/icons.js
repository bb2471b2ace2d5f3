// Icons of 20 × 20 in one stroke, in the colour of the text around them.
import { html } from "./html.js";

const PATHS = {
  backups: "M3.5 6.5h13M4.5 3.5h11l1 3v8.5a1.5 1.5 0 0 1-1.5 1.5H5a1.5 1.5 0 0 1-1.5-1.5V6.5zM8 10h4",
  check: "M4.5 10.5l3.6 3.6 7.4-8",
  close: "M5 5l10 10M15 5L5 15",
  download: "M10 3.5v9M6.5 9.5l3.5 3.5 3.5-3.5M4 16h12",
  events: "M4 5.5h12M4 10h12M4 14.5h7",
  eye: "M2.5 10S5 5.5 10 5.5 17.5 10 17.5 10 15 14.5 10 14.5 2.5 10 2.5 10zM10 8.3a1.7 1.7 0 1 1 0 3.4 1.7 1.7 0 0 1 0-3.4z",
  jobs: "M4 4.5h8v3H4zM4 8.7h12v3H4zM4 12.9h10v3H4z",
  kafka: "M4 4.5h5v4H4zM11 11.5h5v4h-5zM9 6.5h3.5a1 1 0 0 1 1 1v4",
  moon: "M15.5 11.8A6 6 0 0 1 8.2 4.5a6 6 0 1 0 7.3 7.3z",
  more: "M5 10v.1M10 10v.1M15 10v.1",
  operations: "M10 3.5v2M10 14.5v2M3.5 10h2M14.5 10h2M5.4 5.4l1.4 1.4M13.2 13.2l1.4 1.4M5.4 14.6l1.4-1.4M13.2 6.8l1.4-1.4",
  overview: "M10 3.5a6.5 6.5 0 1 0 6.5 6.5M10 6.5V10l2.6 1.8M12.8 3.2l3.7.6-.6 3.6",
  pause: "M7.5 5v10M12.5 5v10",
  pin: "M7.5 3.5h5l-.6 5 2.1 2.5H6L8.1 8.5zM10 11v5.5",
  play: "M7 5l8 5-8 5z",
  settings: "M4 6h7M15 6h1M4 14h1M9 14h7M13 4.2v3.6M7 12.2v3.6",
  stop: "M6.5 3.5h7l3 3v7l-3 3h-7l-3-3v-7zM10 6.8v4M10 13.2v.1",
  sun: "M10 6.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7zM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M15.7 4.3l-1.1 1.1M5.4 14.6l-1.1 1.1",
  trash: "M4 6h12M8 6V4h4v2M5.5 6l.7 10h7.6l.7-10",
  undo: "M4 8h7.5a4 4 0 0 1 0 8H8M4 8l3.5-3.5M4 8l3.5 3.5",
  upload: "M10 13V4M6.5 7.5L10 4l3.5 3.5M4 16h12",
  warn: "M10 4l7 12H3zM10 8.5v3.2M10 13.9v.1",
};

export const Icon = ({ name, size = 20 }) => html`
  <svg class="icon" width=${size} height=${size} viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    <path d=${PATHS[name]} />
  </svg>`;

// As `icon.svg` and the frame in `index.html` have it.
export const Sign = () => html`
  <svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true"><rect width="32" height="32" rx="8" fill="#0b6b5d" />
    <g fill="none" stroke="#fff" stroke-width="2.6" stroke-linecap="round"><path d="M9.2 11.2A8.4 8.4 0 1 1 7.7 17" /><path d="M8.6 6.6v5.2h5.2" /></g>
    <circle cx="16" cy="16" r="2.4" fill="#fff" /></svg>`;
