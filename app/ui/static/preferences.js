// What this browser remembers for its user: colours and time zone. Everything works where storage is forbidden.

function read(name, allowed) {
  try {
    const value = localStorage.getItem(name);
    return allowed.includes(value) ? value : allowed[0];
  } catch {
    return allowed[0];
  }
}

function write(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // It holds until the page is closed.
  }
}

const listeners = new Set();
const values = { theme: read("theme", ["system", "light", "dark"]), zone: read("zone", ["local", "utc"]) };

export const theme = () => values.theme;
export const zone = () => values.zone;

export function setTheme(value) {
  const { dataset } = document.documentElement; // as `theme.js` has it, before the first paint
  values.theme = value;
  if (value === "system") delete dataset.chosen;
  else dataset.chosen = value;
  dataset.theme = isDark() ? "dark" : "light";
  change("theme", value);
}

export function setZone(value) {
  change("zone", value);
}

function change(name, value) {
  values[name] = value;
  write(name, value);
  for (const listener of listeners) listener();
}

export function isDark() {
  return values.theme === "system" ? matchMedia("(prefers-color-scheme: dark)").matches : values.theme === "dark";
}

// Calls `listener` after each change, of the system's colours too. Returns what ends that.
export function onPreferenceChange(listener) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  listeners.add(listener);
  system.addEventListener("change", listener);
  return () => {
    listeners.delete(listener);
    system.removeEventListener("change", listener);
  };
}
