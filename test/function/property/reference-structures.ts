/** Loading contexts, and errors: ref §6.2, §6.4, §8. */
import { type Failure, type Machine, record, type Spot, type Tables } from './reference.js';
import { type Busy, ERR_FN, ReferenceContext, RUN, STATES } from './reference-context.js';

/** A function's memory structures: how they are found, read and written, and what is logged when that fails. */
export class ReferenceStructures {
  readonly machine: Machine;
  readonly csCap: number;
  readonly contexts: ReferenceContext[];
  /** Records that were due since the last look, per context number. */
  readonly due = new Map<number, { bytes: Buffer; optional: boolean }[]>();
  /** Bytes of a descriptor that was abandoned: old or new, each of them. */
  abandon: (busy: Busy) => void = () => {};
  active = false;
  maxContext = 63;
  maxAkey = 8;
  level2 = 0n;

  constructor(machine: Machine, csCap: number, contexts: number) {
    this.machine = machine;
    this.csCap = csCap;
    this.contexts = Array.from({ length: contexts }, (_, number) => new ReferenceContext(number));
  }

  protected get banks(): Buffer[] {
    return this.machine.memory.banks;
  }

  protected log(failure: Failure, re: number, context: number, index?: bigint, optional = false): void {
    const queue = this.due.get(context) ?? [];
    queue.push({ bytes: record(failure, re, context, index), optional });
    this.due.set(context, queue);
  }

  protected structure(t: Tables, address: bigint, length: number, access: number): Spot | number {
    return this.machine.memory.find(t.structurePasid, address, length, access);
  }

  ring(number: number): void {
    if (!this.active || number > this.maxContext) return;
    const context = this.contexts[number];
    if (context) context.rung = true;
  }

  // ---- Loading (ref §6.2, S-69)

  protected walk(c: ReferenceContext, limit: boolean): Failure | undefined {
    const { memory, limits } = this.machine;
    const pasid = limits.functionPasid;
    if (limit && c.number > this.maxContext) return { step: 2, sub: 3, absent: true };
    const l2 = memory.find(pasid, this.level2 + BigInt((c.number >> 7) * 8), 8, 1);
    if (typeof l2 === 'number') return { step: 2, sub: l2 };
    const l2entry = this.banks[l2.bank].readBigUInt64LE(l2.at);
    if ((l2entry & 1n) === 0n) return { step: 2, sub: 3, absent: true };
    const l1 = memory.find(pasid, (l2entry & ~0xfffn) + BigInt((c.number & 127) * 32), 32, 1);
    if (typeof l1 === 'number') return { step: 3, sub: l1 };
    const b1 = this.banks[l1.bank];
    const head = b1.readBigUInt64LE(l1.at);
    if ((head & 1n) === 0n) return { step: 3, sub: 3, absent: true };
    const akey = b1.readBigUInt64LE(l1.at + 8);
    if (Number(akey & 15n) > this.maxAkey) return { step: 3, sub: 3 };
    const misc = b1.readUInt32LE(l1.at + 16);
    const control = memory.find(pasid, head & ~0x3fn, 64, 1);
    if (typeof control === 'number') return { step: 4, sub: control };
    const bc = this.banks[control.bank];
    const first = bc.readBigUInt64LE(control.at);
    if ((first & 1n) === 0n) return { step: 4, sub: 3, absent: true };
    const ringSize = bc.readUInt32LE(control.at + 8);
    if (ringSize < 1024) return { step: 4, sub: 3 };
    const own = (head & 4n) !== 0n ? misc & 0xfffff : undefined;
    c.tables = {
      structurePasid: own ?? pasid,
      dataPasid: own ?? -1,
      ring: first & ~0x3fn,
      ringSize,
      status: bc.readBigUInt64LE(control.at + 16) & ~0xfn,
      writeIndex: bc.readBigUInt64LE(control.at + 24) & ~0x7n,
      akeys: akey & ~0xfffn,
      akeyCount: 2 ** (Number(akey & 15n) + 8),
      maxBuffer: (misc >>> 20) & 15,
      opGroups: b1.readUInt32LE(l1.at + 20),
      csa: (first & 0x20n) !== 0n,
    };
    return undefined;
  }

  protected status(c: ReferenceContext): number | Failure {
    const t = c.tables as Tables;
    const spot = this.structure(t, t.status, 16, 1);
    if (typeof spot === 'number') return { step: 5, sub: spot };
    const bank = this.banks[spot.bank];
    const state = bank[spot.at] & 15;
    const index = bank.readBigUInt64LE(spot.at + 8);
    if (!STATES.includes(state) || index >= 1n << 53n) return { step: 5, sub: 3 };
    c.index = index;
    return state;
  }

  protected writeIndex(c: ReferenceContext): bigint | Failure {
    const t = c.tables as Tables;
    const spot = this.structure(t, t.writeIndex, 8, 1);
    if (typeof spot === 'number') return { step: 6, sub: spot };
    const value = this.banks[spot.bank].readBigUInt64LE(spot.at);
    if (value >= 1n << 53n || value < c.index || value - c.index > BigInt(t.ringSize)) return { step: 6, sub: 3 };
    return value;
  }

  protected writeState(c: ReferenceContext, state: number): boolean {
    const t = c.tables as Tables;
    const spot = this.structure(t, t.status, 16, 2);
    if (typeof spot === 'number') return false;
    this.banks[spot.bank][spot.at] = state;
    return true;
  }

  protected writeReadIndex(c: ReferenceContext): boolean {
    const t = c.tables as Tables;
    const spot = this.structure(t, t.status, 16, 2);
    if (typeof spot === 'number') return false;
    this.banks[spot.bank].writeBigUInt64LE(c.index, spot.at + 8);
    return true;
  }

  protected load(c: ReferenceContext): boolean {
    c.rung = false;
    if (!c.running && c.number > this.maxContext) return false;
    const failed = (failure: Failure, known: boolean): false => {
      const stopped = known && this.writeState(c, ERR_FN);
      // Where the next doorbell would fail just so, one record must do (S-36).
      const quiet = stopped && failure.step === 6;
      if (quiet || !c.failureLogged) this.log(failure, 1, c.number);
      c.failureLogged = !quiet;
      c.leave();
      return false;
    };
    const bad = this.walk(c, false);
    if (bad) return failed(bad, false);
    const state = this.status(c);
    if (typeof state !== 'number') return failed(state, true);
    if (state !== RUN) {
      c.failureLogged = false;
      c.leave();
      return false;
    }
    const end = this.writeIndex(c);
    if (typeof end !== 'bigint') return failed(end, true);
    c.running = true;
    c.failureLogged = false;
    c.idle = false;
    c.reload = false;
    return true;
  }

  // ---- Errors (ref §6.4)

  protected stopWithError(c: ReferenceContext, failures: { failure: Failure; index?: bigint; re?: number; context?: number }[]): void {
    const written = this.writeState(c, ERR_FN);
    for (const { failure, index, re = 1, context = c.number } of failures) this.log(failure, re, context, index);
    if (!written) this.logStatus(c);
    c.leave();
  }

  /** CXT_STS cannot be written (S-75). */
  protected logStatus(c: ReferenceContext): void {
    const t = c.tables as Tables;
    const spot = this.structure(t, t.status, 16, 2);
    this.log({ step: 5, sub: spot as number }, 1, c.number);
  }
}
