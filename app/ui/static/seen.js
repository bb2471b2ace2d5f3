// A hidden page sends no requests: they wait until somebody sees the page.
const seen = () => (document.hidden ? new Promise((resolve) => document.addEventListener("visibilitychange", () => resolve(seen()), { once: true })) : undefined);

// Resolves after so many milliseconds, and not while the page is hidden.
export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)).then(seen);
