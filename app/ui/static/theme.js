// Before anything is painted: the colours that this browser chose, else those of the system.
(function () {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen === "light" || chosen === "dark") root.dataset.chosen = chosen;
  } catch {
    // The browser may forbid storage.
  }
  function apply() {
    root.dataset.theme = root.dataset.chosen || (system.matches ? "dark" : "light");
  }
  system.addEventListener("change", apply);
  apply();
})();
