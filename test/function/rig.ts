import { SdxiFunction } from '../../src/function/function.js';
import type { FunctionConfig } from '../../src/function/config.js';
import { Access, AddressSpaces } from '../../src/memory/address-space.js';
import { Window } from '../../src/memory/window.js';
import {
  AKEY_ENT,
  CXT_CTL,
  CXT_L1_ENT,
  CXT_L2_ENT,
  CXT_STS,
  ContextState,
  FunctionState,
  type Layout,
  Reg,
} from '../../src/spec/index.js';

/** Where the rig puts things; far apart, so that a wrong address hits nothing. */
export const LAYOUT = {
  base: 0x10_0000,
  bytes: 0x80_0000,
  l2: 0x10_0000,
  l1: 0x10_1000,
  errorLog: 0x10_2000,
  /** Each context has 256 KiB: CXT_CTL, CXT_STS, Write_Index, AKeys, CSBs, ring. */
  contexts: 0x20_0000,
  contextBytes: 0x4_0000,
  data: 0x60_0000,
} as const;

export interface ContextPlace {
  number: number;
  control: number;
  status: number;
  writeIndex: number;
  akeys: number;
  csbs: number;
  ring: number;
  ringEntries: number;
}

/**
 * A function on plain memory with nothing in between: what a driver would have prepared is written here with the layouts of
 * spec/, and the function is stepped by hand. One flat mapping from `LAYOUT.base` on unless the test makes its own.
 */
export class Rig {
  readonly memory = new AddressSpaces();
  readonly interrupts: number[] = [];
  readonly fn: SdxiFunction;
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly window: Window;
  /** Called at each interrupt, before it is recorded. */
  onInterrupt: (vector: number) => void = () => {};

  constructor(config: Partial<FunctionConfig> = {}, options: { map?: boolean; vectors?: number } = {}) {
    const { window } = Window.of(new Uint8Array(LAYOUT.bytes));
    this.window = window;
    this.u8 = window.u8.subarray(0, LAYOUT.bytes);
    this.u32 = window.u32;
    if (options.map !== false) this.memory.own.map(LAYOUT.base, LAYOUT.bytes, Access.READ_WRITE, window, 0);
    this.fn = new SdxiFunction(config, {
      memory: this.memory,
      interrupts: {
        vectors: options.vectors ?? 66,
        raise: (vector) => {
          this.onInterrupt(vector);
          this.interrupts.push(vector);
        },
      },
    });
  }

  /** Index into `u8` of an address. */
  at(address: number): number {
    return address - LAYOUT.base;
  }

  bytes(address: number, length: number): Uint8Array {
    return this.u8.subarray(this.at(address), this.at(address) + length);
  }

  put(address: number, bytes: ArrayLike<number>): void {
    this.u8.set(bytes, this.at(address));
  }

  putFields(layout: Layout, address: number, fields: Record<string, number | bigint>): void {
    this.put(address, layout.encode(fields as never));
  }

  u64(address: number): bigint {
    return new DataView(this.u8.buffer, this.u8.byteOffset).getBigUint64(this.at(address), true);
  }

  putU64(address: number, value: bigint | number): void {
    new DataView(this.u8.buffer, this.u8.byteOffset).setBigUint64(this.at(address), BigInt(value), true);
  }

  reg(offset: number): bigint {
    return this.fn.readRegister(offset, 8);
  }

  setReg(offset: number, value: bigint | number): void {
    this.fn.writeRegister(offset, 8, BigInt(value));
  }

  /** Steps until the function has nothing to do. */
  drain(limit = 1_000_000): void {
    for (let i = 0; i < limit; i++) if (this.fn.step(64) === 0) return;
    throw new Error('the function does not come to rest');
  }

  place(number: number, ringEntries = 1024): ContextPlace {
    const base = LAYOUT.contexts + number * LAYOUT.contextBytes;
    return {
      number,
      control: base,
      status: base + 0x1000,
      writeIndex: base + 0x1040,
      akeys: base + 0x2000,
      csbs: base + 0x4000,
      ring: base + 0x1_0000,
      ringEntries,
    };
  }

  /** Writes a context's tables as a driver does; state as given, nothing queued. */
  prepare(number: number, options: { state?: number; ringEntries?: number; readIndex?: number; l1?: Record<string, number | bigint>; control?: Record<string, number | bigint> } = {}): ContextPlace {
    const p = this.place(number, options.ringEntries);
    this.putFields(CXT_L2_ENT, LAYOUT.l2 + (number >>> 7) * 8, { vl: 1, lv01_ptr: BigInt(LAYOUT.l1) });
    this.putFields(AKEY_ENT, p.akeys, { vl: 1 });
    this.putFields(CXT_STS, p.status, { state: options.state ?? ContextState.STOP_SW, read_index: BigInt(options.readIndex ?? 0) });
    this.putU64(p.writeIndex, options.readIndex ?? 0);
    this.putFields(CXT_CTL, p.control, {
      vl: 1,
      se: 1,
      csa: 1,
      ds_ring_ptr: BigInt(p.ring),
      ds_ring_sz: p.ringEntries,
      cxt_sts_ptr: BigInt(p.status),
      write_index_ptr: BigInt(p.writeIndex),
      ...options.control,
    } as never);
    this.putFields(CXT_L1_ENT, LAYOUT.l1 + (number & 127) * 32, {
      vl: 1,
      ka: 1,
      cxt_ctl_ptr: BigInt(p.control),
      akey_ptr: BigInt(p.akeys),
      max_buffer: 11,
      opb_000_enb: 0x18,
      ...options.l1,
    } as never);
    return p;
  }

  /** Context 0 ready, error log on, ACTIVE. */
  activate(options: { log?: boolean } = {}): ContextPlace {
    const admin = this.prepare(0, { state: ContextState.RUN });
    this.setReg(Reg.CXT_L2, LAYOUT.l2);
    if (options.log !== false) {
      this.setReg(Reg.ERR_CTL, 1);
      this.setReg(Reg.ERR_CFG, LAYOUT.errorLog | (1 << 1) | 1);
    }
    this.setReg(Reg.CTL0, 3);
    if (this.fn.state !== FunctionState.ACTIVE) throw new Error(`not ACTIVE: ${this.fn.state}`);
    this.fn.ringDoorbell(0, 0);
    this.drain();
    return admin;
  }

  /** A context jump-started: state RUN in memory and a doorbell. */
  running(number: number, options: Parameters<Rig['prepare']>[1] = {}): ContextPlace {
    const p = this.prepare(number, { state: ContextState.RUN, ...options });
    this.fn.ringDoorbell(number, 0);
    this.drain();
    return p;
  }

  /** Index into `u32` of slot `index`. */
  slotWord(p: ContextPlace, index: number): number {
    return this.at(p.ring + (index % p.ringEntries) * 64) / 4;
  }

  /**
   * Queues descriptors: each function writes one slot with an encoder of spec/ and returns dword 0 with vl. Write_Index and doorbell follow.
   * @returns index of the first
   */
  queue(p: ContextPlace, ...descriptors: ((u32: Uint32Array, word: number) => number)[]): number {
    const first = Number(this.u64(p.writeIndex));
    descriptors.forEach((encode, i) => {
      const word = this.slotWord(p, first + i);
      this.u32[word] = encode(this.u32, word);
    });
    this.putU64(p.writeIndex, first + descriptors.length);
    this.fn.ringDoorbell(p.number, first + descriptors.length);
    return first;
  }

  /** {@link queue}, then run until idle. */
  run(p: ContextPlace, ...descriptors: ((u32: Uint32Array, word: number) => number)[]): number {
    const first = this.queue(p, ...descriptors);
    this.drain();
    return first;
  }

  state(p: ContextPlace): number {
    return this.u8[this.at(p.status)];
  }

  readIndex(p: ContextPlace): number {
    return Number(this.u64(p.status + 8));
  }

  /** Arms completion block `n` of a context; returns its address. */
  csb(p: ContextPlace, n = 0, signal: bigint | number = 1): number {
    const address = p.csbs + 32 * n;
    this.bytes(address, 32).fill(0);
    this.putU64(address, signal);
    return address;
  }

  /** Signal and er of a completion block. */
  completion(address: number): { signal: bigint; er: boolean } {
    return { signal: this.u64(address), er: this.u8[this.at(address + 11)] >= 0x80 };
  }

  /** Records in the error log, as hex of 64 bytes each, in order. */
  records(): string[] {
    const count = Number(this.reg(Reg.ERR_WRT));
    return Array.from({ length: Math.min(count, 64) }, (_, i) => Buffer.from(this.bytes(LAYOUT.errorLog + 64 * i, 64)).toString('hex'));
  }
}
