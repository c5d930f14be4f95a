/** The function and the reference over two copies of the same memory, and everything in which they must agree. */
import { type FunctionConfig, SdxiFunction } from '../../../src/function/index.js';
import { AddressSpaces } from '../../../src/memory/address-space.js';
import { Window } from '../../../src/memory/window.js';
import { Reg } from '../../../src/spec/index.js';
import { Estate, LOG, type Piece, type Setup, VECTORS } from './estate.js';
import type { Event } from './program.js';
import { ReferenceMemory, type Spot } from './reference.js';
import { type Busy, type ReferenceContext, Violation } from './reference-context.js';
import { ReferenceFunction } from './reference-function.js';
import { ERR_CFG_ON, FIRST_RECORD, Software } from './software.js';

/** Plants a fault; see planted.test.ts. */
export interface Sabotage {
  window?: (window: Window) => void;
  spaces?: (spaces: AddressSpaces) => void;
}

export const LOG_ENTRIES = 64n;

export class Witness extends Software {
  fn: SdxiFunction;
  readonly reference: ReferenceFunction;
  private readonly config: Partial<FunctionConfig>;
  readonly spaces = new AddressSpaces();
  protected readonly windows: Window[];
  protected readonly model: Buffer[];
  protected readonly interrupts: number[] = Array.from({ length: VECTORS }, () => 0);
  protected readonly original = new Map<Piece, number>();
  protected logWrite = FIRST_RECORD;
  protected logRead: bigint;
  protected logStatus = 0;
  protected logOn = true;
  protected loud = true;

  constructor(setup: Setup, sabotage: Sabotage = {}, options: Partial<FunctionConfig> = {}) {
    const windows: Window[] = [];
    const estate = new Estate(setup);
    super(setup, estate, (byteLength) => {
      const window = new Window(new ArrayBuffer(byteLength));
      windows.push(window);
      return Buffer.from(window.u8.buffer);
    });
    this.windows = windows;
    this.logRead = FIRST_RECORD - (LOG_ENTRIES - BigInt(setup.logRoom));
    this.model = this.banks.map((bank) => Buffer.from(bank));
    this.windows.forEach((window) => {
      sabotage.window?.(window);
    });
    for (const piece of estate.pieces) {
      this.original.set(piece, piece.access);
      this.mapReal(piece);
    }
    sabotage.spaces?.(this.spaces);
    const config: Partial<FunctionConfig> = { csCap: setup.csCap, maxContext: 63, ...options };
    this.config = config;
    this.fn = this.another();
    const machine = {
      memory: new ReferenceMemory(this.model, estate.pieces),
      limits: { functionPasid: estate.functionPasid, maxBuffer: 11, opGroups: 0x18 },
      interrupts: Array.from({ length: VECTORS }, () => 0),
    };
    // Two numbers more than there are contexts: software may ring those too.
    this.reference = new ReferenceFunction(machine, setup.csCap, setup.contexts.length + 2);
    this.reference.abandon = (busy) => this.adopt(busy);
  }

  /** Contexts of which any record may have been written in this step. */
  protected readonly wild = new Set<number>();

  /** A function over the same memory, as after power-on. */
  protected another(): SdxiFunction {
    return new SdxiFunction(this.config, {
      memory: this.spaces,
      interrupts: { vectors: VECTORS, raise: (vector) => this.interrupts[vector]++ },
    });
  }

  protected poke({ bank, at }: Spot, bytes: ArrayLike<number>): void {
    this.banks[bank].set(bytes, at);
    this.model[bank].set(bytes, at);
  }

  protected ring(number: number, value: number): void {
    this.fn.ringDoorbell(number, value);
    this.reference.ring(number);
  }

  protected mapReal(piece: Piece): void {
    const { pasid, start, length, access, bank, offset } = piece;
    this.spaces.bind(pasid).map(start, length, access as 1 | 2 | 3, this.windows[bank], offset);
  }

  protected touchLog(what: (Event & { kind: 'log' })['what']): void {
    const { fn } = this;
    if (what === 'clear') {
      fn.writeRegister(Reg.ERR_STS, 8, 0xbn);
      this.logStatus = 0;
    } else if (what === 'read') {
      fn.writeRegister(Reg.ERR_RD, 8, this.logWrite);
      this.logRead = this.logWrite;
    } else if (what === 'on' || what === 'off') {
      this.logOn = what === 'on';
      fn.writeRegister(Reg.ERR_CFG, 8, this.logOn ? ERR_CFG_ON : 0n);
    } else {
      this.loud = what === 'loud';
      fn.writeRegister(Reg.ERR_CTL, 8, this.loud ? 1n : 0n);
    }
  }

  protected slotOf(c: ReferenceContext): Spot | undefined {
    const t = c.tables;
    if (!t) return undefined;
    const address = Number(t.ring) + Number(c.index % BigInt(t.ringSize)) * 64;
    return this.estate.holder(t.structurePasid, address) && this.spot(t.structurePasid, address);
  }

  /** Takes over bytes that may be old or new, after looking that they are nothing else. */
  protected adopt({ spots, bytes }: Busy): void {
    let done = 0;
    for (const { bank, at, length } of spots) {
      const end = Math.min(length, bytes.length - done);
      for (let i = 0; i < end; i++) {
        const seen = this.banks[bank][at + i];
        if (seen !== this.model[bank][at + i] && seen !== bytes[done + i]) {
          throw new Violation(`bank ${bank} byte ${at + i} is neither old nor new`);
        }
      }
      this.banks[bank].copy(this.model[bank], at, at, at + end);
      done += length;
    }
  }

  // ---- Comparing

  /** Everything: log, interrupts, invariants, all bytes. */
  compare(): void {
    this.checkLog();
    this.compareBytes();
    for (const { place, writeIndex } of this.producers) {
      const index = this.readIndex(place);
      if (index > writeIndex) throw new Violation(`context ${place.number}: Read_Index ${index} > Write_Index ${writeIndex}`);
    }
  }

  /** Records came in any order between contexts, in order within one, and were lost only when there was no room. */
  protected checkLog(end?: bigint): void {
    const { due, machine } = this.reference;
    const write = end ?? this.fn.readRegister(Reg.ERR_WRT, 8);
    const first = this.logWrite;
    for (; this.logWrite < write; this.logWrite++) {
      const { bank, at } = this.spot(this.estate.functionPasid, LOG + Number(this.logWrite % LOG_ENTRIES) * 64);
      const bytes = this.banks[bank].subarray(at, at + 64);
      const number = bytes.readUInt16LE(6);
      const queue = due.get(number) ?? [];
      while (queue[0]?.optional && !queue[0].bytes.equals(bytes)) queue.shift();
      if (queue[0]?.bytes.equals(bytes)) queue.shift();
      else if (!this.wild.has(number)) {
        throw new Violation(`record ${bytes.toString('hex')}, due for context ${number}: ${queue[0]?.bytes.toString('hex') ?? 'none'}`);
      }
      this.model[bank].set(bytes, at);
    }
    const missed = [...due.values()].flat().filter(({ optional }) => !optional).length;
    due.clear();
    const reachable = typeof machine.memory.find(this.estate.functionPasid, BigInt(LOG), 64, 2) !== 'number';
    const full = this.logWrite - this.logRead >= LOG_ENTRIES;
    if (missed > 0 && this.logOn && reachable && !full) throw new Violation(`${missed} records are missing`);
    if (this.logOn && (missed > 0 || first < write)) this.expectStatus(missed > 0 && full, missed > 0 && !full);
    if (end === undefined) this.checkStatus();
    this.wild.clear();
    machine.interrupts.forEach((count, vector) => {
      if (this.interrupts[vector] !== count) throw new Violation(`vector ${vector} came ${this.interrupts[vector]} times, not ${count}`);
    });
  }

  private checkStatus(): void {
    const status = Number(this.fn.readRegister(Reg.ERR_STS, 8));
    // A record of a context with a disturbed descriptor may have been lost, too.
    if (this.wild.size > 0 && this.logOn && status !== this.logStatus) this.expectStatus((status & 2) !== 0, (status & 8) !== 0);
    if (status !== this.logStatus) throw new Violation(`ERR_STS is ${status}, should be ${this.logStatus}`);
  }

  private expectStatus(overflow: boolean, failure: boolean): void {
    if ((this.logStatus & 1) === 0 && this.loud) this.reference.machine.interrupts[0]++;
    this.logStatus |= 1 | (overflow ? 2 : 0) | (failure ? 8 : 0);
  }

  protected compareBytes(): void {
    this.banks.forEach((bank, i) => {
      const open = this.reference.contexts
        .flatMap(({ busy }) => busy?.spots ?? [])
        .filter((spot) => spot.bank === i)
        .sort((a, b) => a.at - b.at);
      let from = 0;
      for (const { at, length } of open) {
        if (at > from) this.comparePart(i, from, at);
        from = Math.max(from, at + length);
      }
      this.comparePart(i, from, bank.length);
    });
  }

  private comparePart(bank: number, from: number, to: number): void {
    const real = this.banks[bank];
    const model = this.model[bank];
    if (real.compare(model, from, to, from, to) === 0) return;
    let at = from;
    while (real[at] === model[at]) at++;
    const piece = this.estate.pieces.find((p) => p.bank === bank && at >= p.offset && at < p.offset + p.length);
    const where = piece ? `${piece.what} of ${piece.owner} at 0x${(piece.start + at - piece.offset).toString(16)}` : 'a guard byte';
    throw new Violation(`bank ${bank} byte ${at} (${where}) is 0x${real[at].toString(16)}, should be 0x${model[at].toString(16)}`);
  }

  /** Whether the log entry at an address is not what it was. */
  protected changed(address: number): boolean {
    const { bank, at } = this.spot(this.estate.functionPasid, address);
    return this.banks[bank].compare(this.model[bank], at, at + 64, at, at + 64) !== 0;
  }
}
