// Light, dark, or as the system has it.

const KEY = "sessile.theme";
export const THEMES = ["system", "light", "dark"];

export function theme() {
  try {
    const kept = localStorage.getItem(KEY);
    return THEMES.includes(kept) ? kept : "system";
  } catch {
    return "system";
  }
}

export function setTheme(wanted) {
  try {
    localStorage.setItem(KEY, wanted);
  } catch {
    // It holds until the page is left.
  }
  applyTheme(wanted);
}

export function applyTheme(wanted = theme()) {
  if (wanted === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = wanted;
}
