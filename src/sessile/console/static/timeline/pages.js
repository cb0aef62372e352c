// The rows of a log, read in blocks where they are looked at, and forgotten where they are not.

import { annotate, holeOf, rowOf } from "./rows.js";

export const BLOCK = 500;
/** Entries of a block; a page of the server's has up to 1,000, by default. */
export const BLOCKS_MAX = 200;
export const BACK_BLOCKS_MAX = 20;
/** How far back the start of an attempt is looked for. */
const AT_ONCE_MAX = 2;

export function blockOf(seq) {
  return Math.floor((seq - 1) / BLOCK);
}

/**
 * `read(after, limit)` answers a page `{items, next}` or throws; `onChange()` is called when there
 * is more to show. `head` is how many entries there are.
 */
export class Pages {
  constructor(read, onChange) {
    this._read = read;
    this._onChange = onChange;
    this._blocks = new Map();
    this._reading = new Map();
    this._wanted = [];
    this.era = 0; // how often all was forgotten
    this.head = 0;
    this.error = null;
  }

  /** The log has so many entries; `entry` is the last of them, where it is at hand. Returns
   * whether the log is another than it was: it had more. */
  grow(head, entry = null) {
    const anew = head < this.head;
    if (anew) this.forget();
    this.head = head;
    if (entry?.seq === head) {
      const block = this._blocks.get(blockOf(head));
      if (block && block.upto === head - 1) this._place(block, [entry], head);
      else if (!block && (head - 1) % BLOCK === 0) this._place(this._new(blockOf(head)), [entry], head);
    }
    return anew;
  }

  /** Read everything anew. */
  forget() {
    this.era += 1;
    this._blocks.clear();
    this._reading.clear();
    this.error = null;
  }

  /** The row at a seq; null where it is not read yet. */
  row(seq) {
    const block = this._blocks.get(blockOf(seq));
    return block?.rows[(seq - 1) % BLOCK] ?? null;
  }

  /** Have these blocks read, and what their rows' attempts take; nothing else is, any more. */
  want(seqs) {
    this._wanted = [...new Set(seqs.map(blockOf))];
    this._pump();
  }

  /** The rows of a block, up to the head. Throws where they cannot be read. */
  async block(number) {
    const due = this._due(number);
    if (this._upto(number) < due) await (this._reading.get(number) ?? this._start(number));
    return this._blocks.get(number)?.rows ?? [];
  }

  /** After an error: go on. */
  retry() {
    this.error = null;
    this._pump();
  }

  _due(number) {
    return Math.min((number + 1) * BLOCK, this.head);
  }

  _upto(number) {
    return this._blocks.get(number)?.upto ?? number * BLOCK;
  }

  _pump() {
    for (const number of this._missing()) {
      if (this._reading.size >= AT_ONCE_MAX || this.error) return;
      if (this._reading.has(number)) continue;
      this._start(number).then(
        () => this._pump(),
        () => {}, // it is in `error`
      );
    }
  }

  /** What is wanted and not there: first what is in sight, then what tells its attempts. */
  _missing() {
    const missing = this._wanted.filter((number) => this._upto(number) < this._due(number));
    if (missing.length) return missing;
    const back = new Set();
    for (const number of this._wanted) {
      if (!this._blocks.get(number)?.rows.some((row) => row.attempt === undefined)) continue;
      const least = Math.max(0, number - BACK_BLOCKS_MAX);
      let each = number - 1;
      while (each >= least && this._blocks.has(each)) each -= 1;
      if (each >= least) back.add(each);
    }
    return [...back];
  }

  _start(number) {
    const era = this.era;
    const reading = this._fill(number, era)
      .then(() => {
        if (era === this.era) this.error = null;
      })
      .catch((error) => {
        if (era === this.era) this.error = error;
        throw error;
      })
      .finally(() => {
        if (this._reading.get(number) === reading) this._reading.delete(number);
        if (era === this.era) this._onChange();
      });
    this._reading.set(number, reading);
    return reading;
  }

  async _fill(number, era) {
    while (this._upto(number) < this._due(number)) {
      const after = this._upto(number);
      const due = this._due(number);
      const page = await this._read(after, BLOCK);
      if (era !== this.era) return;
      const block = this._blocks.get(number) ?? this._new(number);
      // What is behind the last item of a last page, and not behind the head, is missing.
      const upto = page.next === null ? due : page.items.at(-1).seq;
      this._place(block, page.items, upto);
    }
  }

  _new(number) {
    const block = { number, upto: number * BLOCK, rows: [], after: undefined };
    this._blocks.set(number, block);
    this._evict(number);
    return block;
  }

  /** Put entries, and the holes between them up to `upto`, behind what the block has. */
  _place(block, entries, upto) {
    const folds = entries
      .filter(({ kind }) => kind === "log.compacted")
      .map(({ seq, body }) => ({ seq, from: body.from_seq, to: body.to_seq }));
    const bySeq = new Map(entries.map((entry) => [entry.seq, entry]));
    const last = Math.min(upto, (block.number + 1) * BLOCK);
    for (let seq = block.upto + 1; seq <= last; seq++) {
      const entry = bySeq.get(seq);
      const fold = entry ? null : folds.find(({ from, to }) => from <= seq && seq <= to);
      block.rows.push(entry ? rowOf(entry) : holeOf(seq, fold?.seq ?? null));
    }
    block.upto = Math.max(block.upto, last);
    this._tell(block);
  }

  /** Work out attempts: of this block, and of those behind it that waited for its end. */
  _tell(block) {
    for (let each = block; each; each = this._blocks.get(each.number + 1)) {
      const before = each.number === 0 ? null : this._whole(each.number - 1)?.after;
      const after = annotate(each.rows, before);
      if (each !== block && sameState(after, each.after)) return;
      each.after = after;
    }
  }

  _whole(number) {
    const block = this._blocks.get(number);
    return block && block.upto === (number + 1) * BLOCK ? block : undefined;
  }

  /** Forget the block that is furthest from what was wanted last. */
  _evict(added) {
    if (this._blocks.size <= BLOCKS_MAX) return;
    const kept = new Set([added, blockOf(Math.max(1, this.head)), ...this._wanted]);
    const centre = this._wanted[0] ?? added;
    const far = [...this._blocks.keys()]
      .filter((number) => !kept.has(number))
      .sort((a, b) => Math.abs(b - centre) - Math.abs(a - centre))[0];
    if (far !== undefined) this._blocks.delete(far);
  }
}

function sameState(a, b) {
  if (!a || !b) return a === b;
  return a.turn_id === b.turn_id && a.attempt === b.attempt && a.waits === b.waits;
}
