/**
 * Contexts as the specification has them: taking descriptors, the admin group, stopping (ref §5.6, §6).
 *
 * The reference does not schedule. It is told whose turn it was and which slots were consumed (vl cleared), checks that this
 * was allowed and had to happen, and does the same to its own memory.
 */
import { complete, execute, type Failure, type Spaces, type Spot, spacesOf, type Tables } from './reference.js';
import { ERR_FN, ReferenceContext, RUN, type Seen, STOP_FN, STOPG_FN, STOPG_SW, Violation } from './reference-context.js';
import { ReferenceStructures } from './reference-structures.js';

export class ReferenceFunction extends ReferenceStructures {
  // ---- Taking descriptors (ref §6.2)

  private slot(c: ReferenceContext): Spot | number {
    const t = c.tables as Tables;
    return this.structure(t, t.ring + (c.index % BigInt(t.ringSize)) * 64n, 64, 3);
  }

  /** Everything that a context did in one turn. */
  turn(c: ReferenceContext, seen: Seen): void {
    if (c.stop === 'hard') {
      this.finishStop(c, 0);
      return;
    }
    if (c.busy) {
      if (!seen.finished) {
        this.goOn(c);
        return;
      }
      const busy = c.busy;
      c.busy = undefined;
      if (busy.disturbed) throw new Violation('the caller looks after disturbed descriptors');
      this.run(c, this.slot(c), busy.descriptor, busy.spaces);
      if (!c.running || !this.wentOn(c, seen)) return;
    }
    if (c.stop === 'soft') {
      this.finishStop(c, 0);
      return;
    }
    if (!c.running || c.idle || c.reload) {
      if (!(c.running && !c.idle) && !c.rung) return;
      if (!this.load(c)) {
        this.mustRest(c, seen);
        return;
      }
    }
    this.consume(c, seen);
  }

  /** After the last slice of a descriptor, it need not have looked at the next. */
  private wentOn(c: ReferenceContext, seen: Seen): boolean {
    const next = this.slot(c);
    return seen.rested || seen.busy || (typeof next !== 'number' && (this.banks[next.bank][next.at] & 1) === 1 && seen.cleared(next));
  }

  private mustRest(c: ReferenceContext, seen: Seen): void {
    if (!seen.rested) throw new Violation(`context ${c.number} goes on although it is stopped`);
  }

  private consume(c: ReferenceContext, seen: Seen): void {
    c.rung = false;
    const end = this.writeIndex(c);
    if (typeof end !== 'bigint') {
      this.stopWithError(c, [{ failure: end }]);
      this.mustRest(c, seen);
      return;
    }
    for (;;) {
      const spot = this.slot(c);
      const valid = c.index < end && typeof spot !== 'number' && (this.banks[spot.bank][spot.at] & 1) === 1;
      if (!valid || !seen.cleared(spot as Spot)) {
        this.rest(c, seen, end, spot, valid);
        return;
      }
      this.run(c, spot, this.descriptor(spot as Spot));
      if (!c.running) {
        this.mustRest(c, seen);
        return;
      }
      if (c.stop !== 'none') {
        const hard = c.stop === 'hard';
        c.stop = 'none';
        this.beginStop(c, STOPG_SW, hard);
        return;
      }
      if (c.reload) return;
    }
  }

  /** The turn ended here: was that right? */
  private rest(c: ReferenceContext, seen: Seen, end: bigint, spot: Spot | number, valid: boolean): void {
    const { lost } = c;
    c.lost = false;
    if (seen.busy) {
      if (!valid) throw new Violation(`context ${c.number} executes what is not there`);
      this.begin(c, this.descriptor(spot as Spot));
      return;
    }
    if (lost) {
      // Whether it saw the next slot before it missed CXT_STS is its own business.
      if (c.index !== end && typeof spot === 'number') this.log({ step: 7, sub: spot }, 1, c.number, c.index, true);
      this.logStatus(c);
      c.leave();
      this.mustRest(c, seen);
      return;
    }
    if (!seen.rested) return;
    if (c.index === end) c.idle = true;
    else if (typeof spot === 'number') this.stopWithError(c, [{ failure: { step: 7, sub: spot }, index: c.index }]);
    else if (!valid) c.idle = true;
    else throw new Violation(`context ${c.number} rests at index ${c.index} with a valid descriptor there`);
  }

  private descriptor(spot: Spot): Buffer {
    return Buffer.from(this.banks[spot.bank].subarray(spot.at, spot.at + 64));
  }

  /** Executes, completes and consumes one descriptor. */
  private run(c: ReferenceContext, spot: Spot | number, d: Buffer, held?: Spaces): void {
    const t = c.tables as Tables;
    const outcome = execute(this.machine, t, c.number, d, held);
    const result = outcome === 'admin' ? this.administer(c, d) : outcome;
    const target = c.target;
    c.target = undefined;
    c.next = -1;
    const { index } = c;
    const failures: { failure: Failure; index?: bigint; re?: number; context?: number }[] = [];
    if (result) failures.push({ failure: result, index });
    else if (target) failures.push({ failure: target.failure, re: 0, context: target.number });
    let stopped = result !== undefined;
    if (typeof spot === 'number') {
      // The slot vanished meanwhile: nothing is consumed, so nothing may be completed either.
      this.stopWithError(c, [...failures, { failure: { step: 7, sub: spot }, index }]);
      return;
    }
    const sub = complete(this.machine, t, d, failures.length > 0, this.csCap);
    if (sub !== 0) {
      failures.push({ failure: { step: 8, sub }, index });
      stopped = true;
    }
    this.banks[spot.bank].writeUInt32LE((d.readUInt32LE(0) & ~1) >>> 0, spot.at);
    c.index++;
    const published = this.writeReadIndex(c);
    if (stopped) this.stopWithError(c, failures);
    else {
      for (const { failure, re = 1, context = c.number } of failures) this.log(failure, re, context);
      const hot = outcome !== 'admin' && (d.readUInt32LE(0) & 0x07ff_ff08) === 0x0001_0300 && (d[56] & 1) === 1;
      if (!published && hot) c.lost = true;
      else if (!published) {
        this.logStatus(c);
        c.leave();
      }
    }
  }

  // ---- Descriptors of several slices (S-88)

  private begin(c: ReferenceContext, d: Buffer): void {
    const t = c.tables as Tables;
    c.busy = { descriptor: d, spots: [], bytes: Buffer.alloc(0), disturbed: false };
    if ((d.readUInt16LE(2) & 0x7ff) === 2) {
      c.next = d.readUInt16LE(8);
      this.goOn(c);
      return;
    }
    const size = d.readUInt32LE(4) + 1;
    if (size <= 256 * 1024) throw new Violation('a descriptor of one slice was left in the middle');
    // What it may write: the bytes it reads are kept as they are now, and where they might go is noted.
    const spaces = spacesOf(this.machine, t, d);
    if ('step' in spaces) throw new Violation('a descriptor that is not valid was begun');
    const { memory } = this.machine;
    const repeats = d[1] === 4;
    const source = memory.runs(spaces.from, d.readBigUInt64LE(16), repeats ? 4096 : size, 0);
    const destination = memory.runs(spaces.to, d.readBigUInt64LE(24), size, 0);
    const bytes = memory.gather(source.spots);
    c.busy.spaces = repeats ? { ...spaces, block: bytes } : spaces;
    c.busy.spots = destination.spots;
    c.busy.bytes = repeats ? Buffer.alloc(destination.length, bytes) : bytes;
  }

  /** Another slice of a descriptor: an admin range advances. */
  private goOn(c: ReferenceContext): void {
    const d = c.busy?.descriptor;
    if (d && (d.readUInt16LE(2) & 0x7ff) === 2 && (d[1] === 3 || d[1] === 8)) this.startRange(c, d);
  }

  // ---- The admin group (ref §5.6)

  private administer(c: ReferenceContext, d: Buffer): Failure | undefined {
    const malformed: Failure = { step: 7, sub: 3 };
    const operation = d[1];
    const [first, last, keyFirst, keyLast] = [8, 10, 12, 14].map((at) => d.readUInt16LE(at));
    if (d[5] & 0x80) return malformed;
    const filter = d[4] & 7;
    const ranges = [1, 2, 3, 4, 8].includes(operation) || (operation === 6 && [0, 1, 2].includes(filter));
    const keys = operation === 2 || operation === 7 || (operation === 6 && (filter === 2 || filter === 3));
    if (operation === 6 && filter > 4) return malformed;
    if ((ranges && first > last) || (keys && keyFirst > keyLast)) return malformed;
    const inRange = (other: ReferenceContext): boolean => other.running && other.number >= first && other.number <= last;
    switch (operation) {
      case 3:
      case 8:
        if (c.next < 0) c.next = first;
        if (!this.startRange(c, d)) throw new Violation('CXT_START went past a context that is stopping');
        return undefined;
      case 4:
        for (const other of this.contexts) if (other !== c && inRange(other)) this.requestStop(other, (d[5] & 0x20) !== 0);
        if (first === 0) c.stop = d[5] & 0x20 ? 'hard' : 'soft';
        return undefined;
      case 6:
        if (filter === 1 && this.contexts.some((other) => other !== c && inRange(other) && other.stop !== 'none')) {
          throw new Violation('SYNC.STOP completed before the stop');
        }
        return undefined;
      case 1:
        for (const other of this.contexts) if (inRange(other)) other.reload = true;
        return undefined;
      case 0:
        for (const other of this.contexts) if (other.running) other.reload = true;
        return undefined;
      case 5: {
        const vector = keyFirst & 0x7ff;
        if (vector >= this.machine.interrupts.length) return malformed;
        this.machine.interrupts[vector]++;
        return undefined;
      }
      default:
        return undefined;
    }
  }

  /** @returns false when a context of the range is still stopping */
  private startRange(c: ReferenceContext, d: Buffer): boolean {
    const [first, last] = [d.readUInt16LE(8), d.readUInt16LE(10)];
    for (; c.next <= last; c.next++) {
      if (c.next === 0) continue;
      const other = this.contexts[c.next] ?? new ReferenceContext(c.next);
      if (other.running && other.stop !== 'none') return false;
      const failure = this.startOne(other, d[1] === 8);
      if (failure) {
        if (first === last || !failure.absent) c.target ??= { failure, number: c.next };
      } else {
        other.running = true;
        other.idle = false;
        other.rung = true;
      }
    }
    return true;
  }

  private startOne(c: ReferenceContext, resume: boolean): Failure | undefined {
    if (c.running && !c.idle) return undefined;
    const bad = this.walk(c, true);
    if (bad) return bad;
    const state = this.status(c);
    if (typeof state !== 'number') return state;
    if (state === ERR_FN && !resume) return { step: 5, sub: 3 };
    if (state !== RUN) {
      if (!this.writeState(c, RUN))
        return { step: 5, sub: this.structure(c.tables as Tables, (c.tables as Tables).status, 16, 2) as number };
    } else {
      const spot = this.structure(c.tables as Tables, (c.tables as Tables).status, 16, 2);
      if (typeof spot === 'number') return { step: 5, sub: spot };
    }
    c.failureLogged = false;
    return undefined;
  }

  // ---- Stopping (ref §6.5)

  private requestStop(c: ReferenceContext, hard: boolean): void {
    if (c.stop === 'none') this.beginStop(c, STOPG_SW, hard);
    else if (hard) c.stop = 'hard';
  }

  private beginStop(c: ReferenceContext, state: number, hard: boolean): void {
    // S-80; while it was idle, memory had the word (S-70).
    const gone = this.walk(c, false) !== undefined || (c.idle && this.status(c) !== RUN);
    if (!gone && this.writeState(c, state)) {
      c.stop = hard ? 'hard' : 'soft';
      return;
    }
    if (!gone) this.logStatus(c);
    if (c.busy) this.abandon(c.busy);
    c.leave();
  }

  /** The last writes; a descriptor that is under way is abandoned (S-86). */
  private finishStop(c: ReferenceContext, state: number): void {
    const { index } = c;
    if (c.busy) {
      const spot = this.slot(c);
      if (typeof spot === 'number') {
        this.stopWithError(c, [{ failure: { step: 7, sub: spot }, index }]);
        return;
      }
      this.banks[spot.bank][spot.at] &= 0xfe;
      c.index++;
      this.abandon(c.busy);
    }
    if (!this.writeReadIndex(c) || !this.writeState(c, state)) this.logStatus(c);
    c.leave();
  }

  /**
   * The whole of a function stop, when it is over (ref §3.3 rules 6 and 7).
   * @param seen of a busy context: whether its descriptor was completed; of context 0, which comes last: whether a CXT_STOP
   * of its own was quicker than the function
   */
  stopFunction(hard: boolean, seen: { completed(c: ReferenceContext): boolean; quicker(c: ReferenceContext): boolean }): void {
    const running = [...this.contexts.slice(1), this.contexts[0]].filter((c) => c.running);
    for (const c of running) {
      const own = c.number === 0 && c.stop !== 'none' && seen.quicker(c);
      if (own) {
        this.finishStop(c, 0);
        continue;
      }
      if (c.stop !== 'none') {
        if (!this.writeState(c, STOPG_FN)) {
          this.logStatus(c);
          if (c.busy) this.abandon(c.busy);
          c.leave();
          continue;
        }
      } else {
        this.beginStop(c, STOPG_FN, hard);
      }
      if (!c.running) continue;
      if (c.busy && seen.completed(c)) {
        const { descriptor, spaces } = c.busy;
        c.busy = undefined;
        this.run(c, this.slot(c), descriptor, spaces);
        if (!c.running) continue;
      } else if (c.busy && !hard && c.number === 0) {
        c.busy = undefined; // given up, unconsumed: it runs again after the next start (S-85)
      }
      this.finishStop(c, STOP_FN);
    }
    this.forget();
  }

  /** The function knows of no context any more. */
  forget(): void {
    this.active = false;
    for (const c of this.contexts) {
      c.leave();
      c.rung = false;
      c.failureLogged = false;
    }
  }
}
