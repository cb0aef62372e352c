// Light, dark, or as the system has it. What is kept is applied by first.js.

export const THEMES = ["system", "light", "dark"];

export function theme() {
  const { theme: chosen } = document.documentElement.dataset;
  return THEMES.includes(chosen) ? chosen : "system";
}

export function setTheme(wanted) {
  document.documentElement.dataset.theme = wanted;
  try {
    localStorage.setItem("sessile.theme", wanted);
  } catch {
    // It holds until the page is left.
  }
}
