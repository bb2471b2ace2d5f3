// What this browser remembers for its user: colours and time zone. Everything works if storage is forbidden.
// The colours are in a cookie: so the page comes with them, and its first paint waits for no script. It is sent too when a
// link of another site opens the page (`Lax`).

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
    // The choice lasts until the page is closed.
  }
}

const YEAR = 31557600; // seconds

const listeners = new Set();
const root = document.documentElement;
const values = { theme: root.dataset.theme || "system", zone: read("zone", ["local", "utc"]) };

export const theme = () => values.theme;
export const zone = () => values.zone;

export function setTheme(value) {
  values.theme = value;
  if (value === "system") delete root.dataset.theme;
  else root.dataset.theme = value;
  document.cookie = `eventvault-theme=${value}; Path=/; SameSite=Lax; Max-Age=${value === "system" ? 0 : YEAR}`;
  tellOthers();
}

export function setZone(value) {
  values.zone = value;
  write("zone", value);
  tellOthers();
}

function tellOthers() {
  for (const listener of listeners) listener();
}

export function isDark() {
  return values.theme === "system" ? matchMedia("(prefers-color-scheme: dark)").matches : values.theme === "dark";
}

// Calls `listener` after each change, of the system's colours too. Returns a function that ends this.
export function onPreferenceChange(listener) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  listeners.add(listener);
  system.addEventListener("change", listener);
  return () => {
    listeners.delete(listener);
    system.removeEventListener("change", listener);
  };
}
