// Which rows of a log a filter takes: the log is gone through once, and then as it grows.

import { BLOCK, blockOf } from "./pages.js";
import { standsOut } from "./rows.js";

export const MATCHES_MAX = 100_000;
export const WITHOUT_DELTAS = "-message.delta";
export const STANDS_OUT = "!";

/** Whether a row is of the turn, "" for any, and of the kind: "" for any, a kind, a group of them
 * such as `tool.`, or one of the two above. */
export function takes(row, { turn, kind }) {
  if (turn && row.turn_id !== turn) return false;
  if (!kind) return true;
  if (kind === STANDS_OUT) return standsOut(row);
  if (kind === WITHOUT_DELTAS) return row.kind !== "message.delta";
  return kind.endsWith(".") ? (row.kind ?? "").startsWith(kind) : row.kind === kind;
}

/** `rows`: those found among the first `upto` entries; `error`: why it does not go on. */
export class Scan {
  constructor(pages, filter, onChange) {
    this._pages = pages;
    this._filter = filter;
    this._onChange = onChange;
    this._running = false;
    this._stopped = false;
    this.rows = [];
    this.upto = 0;
    this.error = null;
  }

  get full() {
    return this.rows.length >= MATCHES_MAX;
  }

  /** Go through what is not yet: returns when that is done, or failed. */
  async run() {
    if (this._running) return;
    this._running = true;
    this.error = null;
    try {
      while (!this._stopped && !this.full && this.upto < this._pages.head) {
        await this._step();
        this._onChange();
      }
    } catch (error) {
      this.error = error;
      this._onChange();
    } finally {
      this._running = false;
    }
  }

  stop() {
    this._stopped = true;
  }

  async _step() {
    const number = blockOf(this.upto + 1);
    const rows = await this._pages.block(number);
    const from = this.upto - number * BLOCK;
    if (rows.length <= from) throw new Error("the log is shorter than it was");
    for (const row of rows.slice(from)) {
      if (!this.full && takes(row, this._filter)) this.rows.push(row);
    }
    this.upto = number * BLOCK + rows.length;
  }
}
