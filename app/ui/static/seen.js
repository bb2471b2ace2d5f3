// A hidden page asks nothing: what it would ask again waits until somebody sees it.
const seen = () => (document.hidden ? new Promise((resolve) => document.addEventListener("visibilitychange", () => resolve(seen()), { once: true })) : undefined);

// Resolves after so many milliseconds, and not while the page is hidden.
export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)).then(seen);
