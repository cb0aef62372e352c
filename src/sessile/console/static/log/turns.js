// The turns of a log.

const NUMBERS = ["current_iteration", "total_iterations", "tokens_used", "total_tokens"];
const ENDS = new Set(["completed", "failed", "cancelled", "interrupted"]);

export function hasEnded(turn) {
  return turn !== undefined && ENDS.has(turn.status);
}

export function newTurn(turn_id) {
  return {
    turn_id,
    status: "running",
    position: 0,
    attempt: 1,
    input: null,
    message_id: null,
    by: null,
    current_iteration: 0,
    total_iterations: 0,
    tokens_used: 0,
    total_tokens: 0,
    note: "",
    error: null,
    reason: "",
    cancelling: false,
    at: null,
    messages: [],
  };
}

/** The turn of an entry; null of what is said outside of turns, as what a fork inherits may be. */
export function turnOf(state, entry) {
  if (entry.turn_id === null) return null;
  let turn = state.turns.get(entry.turn_id);
  if (!turn) {
    turn = newTurn(entry.turn_id);
    state.turns.set(entry.turn_id, turn);
  }
  return turn;
}

export function raise(turn, body) {
  for (const name of NUMBERS) turn[name] = Math.max(turn[name], body[name] ?? 0);
}
