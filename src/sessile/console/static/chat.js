// The conversation: what was said, what runs, and where to say more.
import { Composer, hasKeyboard } from "./chat/composer.js";
import { Message, Pending } from "./chat/message.js";
import { Queue } from "./chat/queue.js";
import { mayRedact, Redact } from "./chat/redact.js";
import { hasEnded } from "./log.js";
import { t } from "./i18n.js";
import { Alert, Empty, Icon, Loading } from "./parts.js";
import { html, useCallback, useLayoutEffect, useMemo, useRef, useState } from "./ui.js";

const NEAR_PX = 64;

export function Chat({ api, me, open, drafts }) {
  const { log, outbox } = open;
  const [error, setError] = useState(null);
  const [redacting, setRedacting] = useState(null); // the message that it is asked of
  const scroll = useScroll(open);
  const attempt = useCallback(async (what) => {
    setError(null);
    try {
      return await what();
    } catch (refusal) {
      setError(refusal);
      return refusal;
    }
  }, []);
  const may = mayRedact(me, open.session);
  const act = useMemo(
    () => ({ ...actions(api, open, attempt), redact: may ? setRedacting : null }),
    [api, open, attempt, may],
  );
  const owner = open.session.user_id;
  const said = log.messages.length + outbox.shown.length > 0;
  return html`<div class="chat" ref=${useFocus()}>
    <div class="scroller" ref=${scroll.ref} onScroll=${scroll.onScroll} tabindex="0" role="log" aria-label=${t("chat.conversation")}>
      <div class="lane">
        ${open.earlier && html`<button type="button" class="quiet earlier" disabled=${open.loadingEarlier}
          onClick=${() => attempt(() => open.loadEarlier())}>${t(open.loadingEarlier ? "app.loading" : "chat.earlier")}</button>`}
        <div class="log">
          ${log.messages.map((message) => html`<${Message} key=${message.message_id} message=${message}
            version=${message.version} ended=${hasEnded(log.turns.get(message.turn_id))}
            closed=${log.closed} expires=${expiry(log, message)} act=${act} owner=${owner} />`)}
          ${outbox.shown.map((item) => html`<${Pending} key=${item.key} item=${item} state=${item.state} act=${act} owner=${owner} />`)}
        </div>
        ${!said && (open.loading
          ? html`<${Loading} />`
          : html`<${Empty} title=${t("chat.empty")} hint=${t("chat.empty.hint")} />`)}
        <${Working} log=${log} />
      </div>
    </div>
    <footer class="foot">
      ${scroll.away && html`<button type="button" class="newest" onClick=${scroll.toEnd}>
        <${Icon} name="down" /> ${t("chat.newest")}</button>`}
      <div class="lane">
        <${Alert} error=${error} dismiss=${() => setError(null)} />
        <${Queue} queue=${log.queue} act=${act} />
        <${Composer} open=${open} drafts=${drafts} act=${act} closed=${log.closed} running=${log.running}
          cancelling=${log.turns.get(log.running)?.cancelling ?? false} />
      </div>
    </footer>
    ${redacting && html`<${Redact} api=${api} path=${open.path} message_id=${redacting} close=${() => setRedacting(null)} />`}
  </div>`;
}

function expiry(log, message) {
  const waits = message.call && log.awaiting?.call_ids.includes(message.call.call_id);
  return waits ? log.awaiting.expires_at_ms : null;
}

/** What runs and has said nothing yet. */
function Working({ log }) {
  const turn = log.turns.get(log.running);
  if (!log.running || turn?.status === "awaiting") return null;
  const last = log.messages.at(-1);
  if (last?.turn_id === log.running && last.state === "partial" && last.text) return null;
  return html`<p class="working"><span class="pulse" aria-hidden="true"></span>${t("chat.writing")}</p>`;
}

/** What the buttons of the conversation do. Each shows its refusal above the composer. */
function actions(api, open, attempt) {
  const at = (turn_id) => `${open.path}/turns/${turn_id}`;
  return {
    send: (input, when_busy) => attempt(() => open.send(input, when_busy)),
    again: (item) => attempt(() => open.again(item)),
    discard: (item) => open.discard(item),
    press: (message_id, { button, label, payload }) => {
      const input = { type: "button", button, payload, text: label, message_id };
      return attempt(() => open.send(input, "enqueue"));
    },
    answer: (call_id, verb) => attempt(() => api.post(`${open.path}/calls/${call_id}/${verb}`, {})),
    stop: (turn_id) => attempt(() => api.post(`${at(turn_id)}/cancel`, {})),
    withdraw: (turn_id) => attempt(() => api.post(`${at(turn_id)}/cancel`, {})),
    edit: (turn_id, input) => attempt(() => api.patch(at(turn_id), { input })),
    fork: (turn_id) =>
      attempt(async () => {
        const fork = await api.post(`${open.path}/fork`, { turn_id });
        location.hash = `#/s/${fork.session_id}`;
      }),
  };
}

/** Where the button that had the focus is gone, as one that was pressed may be, the composer has it. */
function useFocus() {
  const ref = useRef();
  const inside = useRef(false);
  useLayoutEffect(() => {
    const moved = (event) => {
      inside.current = ref.current.contains(event.target);
    };
    document.addEventListener("focusin", moved);
    return () => document.removeEventListener("focusin", moved);
  }, []);
  useLayoutEffect(() => {
    const lost = inside.current && document.activeElement === document.body;
    if (lost && hasKeyboard()) ref.current.querySelector("textarea")?.focus({ preventScroll: true });
  });
  return ref;
}

/** Keeps to the end while the reader is there, and where the reader is while earlier ones load. */
function useScroll(open) {
  const ref = useRef();
  const stuck = useRef(true);
  const kept = useRef(null);
  const [away, setAway] = useState(false);
  const first = open.log.messages[0];
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = ref.current;
    stuck.current = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    setAway(!stuck.current);
  };
  const toEnd = () => {
    stuck.current = true;
    ref.current.scrollTop = ref.current.scrollHeight;
    setAway(false);
  };
  useLayoutEffect(() => {
    if (stuck.current) ref.current.scrollTop = ref.current.scrollHeight;
  });
  useLayoutEffect(() => {
    // The message that was the first stays where it was on the screen.
    const { message_id, top } = kept.current ?? {};
    const article = message_id && ref.current.querySelector(`[data-message-id="${CSS.escape(message_id)}"]`);
    if (article && !stuck.current) ref.current.scrollTop += article.getBoundingClientRect().top - top;
  }, [first?.message_id]);
  useLayoutEffect(() => {
    const article = ref.current.querySelector("article");
    kept.current = article && {
      message_id: article.dataset.messageId,
      top: article.getBoundingClientRect().top,
    };
  });
  useLayoutEffect(() => {
    const watch = new ResizeObserver(() => stuck.current && toEnd());
    watch.observe(ref.current.firstElementChild);
    watch.observe(ref.current);
    return () => watch.disconnect();
  }, []);
  return { ref, onScroll, toEnd, away };
}
