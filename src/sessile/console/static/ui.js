// What every view draws with.
import { h, render } from "./vendor/preact-11.2.0.mjs";
import htm from "./vendor/htm-3.1.1.mjs";

export { Component, Fragment, createContext, createRef, h, render } from "./vendor/preact-11.2.0.mjs";
export {
  useCallback, useContext, useEffect, useErrorBoundary, useLayoutEffect, useMemo, useReducer, useRef,
  useState,
} from "./vendor/preact-hooks-11.2.0.mjs";

export const html = htm.bind(h);

/** Draw `view` into the element whose id is `app`. */
export function mount(view) {
  const root = document.getElementById("app");
  root.replaceChildren();
  render(view, root);
}
