// The service's clock. The `Date` header of the answers sets it, so that a wrong clock of this machine shows no wrong age.

let ahead = 0; // milliseconds that the service's clock is ahead of this machine's

export function setFromHeader(text) {
  const told = Date.parse(text || "");
  if (Number.isNaN(told)) return;
  const difference = told - Date.now();
  // The header has whole seconds: a smaller difference means nothing.
  if (Math.abs(difference - ahead) > 1500) ahead = Math.abs(difference) > 1500 ? difference : 0;
}

// Milliseconds since the epoch.
export const now = () => Date.now() + ahead;
