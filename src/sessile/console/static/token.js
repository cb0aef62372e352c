// The token that one is signed in with: of a link, or kept in this tab.

const KEY = "sessile.token";

/** Whether a server may know it: what is in no header is no token. */
export function isToken(token) {
  return /^[\x21-\x7e]+$/.test(token);
}

/** The token of the address, which has it no longer; "" where it has none. */
export function taken() {
  const given = /^#token=(.+)$/.exec(location.hash)?.[1];
  if (!given) return "";
  history.replaceState(null, "", `${location.pathname}${location.search}#/`);
  return plain(given);
}

/** As an address has it; what somebody pasted need not be escaped. */
export function plain(given) {
  try {
    return decodeURIComponent(given);
  } catch {
    return given;
  }
}

export function kept() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** "" forgets it. */
export function keep(token) {
  try {
    if (token) sessionStorage.setItem(KEY, token);
    else sessionStorage.removeItem(KEY);
  } catch {
    // It holds until the page is left.
  }
}
