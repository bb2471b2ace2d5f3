// The address says where the page is: Back undoes a zoom, and a link shows a colleague the same moment.
import { useEffect, useState } from "./vendor/hooks.mjs";

// Returns {page, query}.
export function present() {
  const [page, search] = location.hash.replace(/^#\/?/, "").split("?");
  return { page: page || "overview", query: Object.fromEntries(new URLSearchParams(search || "")) };
}

export function addressOf(page, query = {}) {
  const said = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(said).toString();
  return `#/${page}${search ? `?${search}` : ""}`;
}

// Returns the part of a query that a page knows. rules: name → whether a value of it is valid.
export const corrected = (query, rules) =>
  Object.fromEntries(Object.entries(query).filter(([name, value]) => Object.hasOwn(rules, name) && rules[name](value)));

export const isText = (value) => value !== "";

// replace: Back does not return to the address before.
export function go(page, query = {}, { replace = false } = {}) {
  const address = addressOf(page, query);
  if (address === location.hash) return;
  if (replace) {
    history.replaceState(null, "", address);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = address;
  }
}

export function useRoute() {
  const [route, setRoute] = useState(present);
  const { hash } = location;
  useEffect(() => {
    const changed = () => setRoute(present());
    addEventListener("hashchange", changed);
    if (location.hash !== hash) changed(); // after this was painted
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
