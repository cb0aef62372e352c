// Runs before anything is drawn, so that no other theme than the chosen one is seen.
try {
  document.documentElement.dataset.theme = localStorage.getItem("sessile.theme") ?? "system";
} catch {
  // Storage is forbidden here: it is as the system has it.
}
