import type { FunctionConfig } from '../../src/function/config.js';
import type { Fabric } from '../../src/function/fabric.js';
import { SdxiFunction } from '../../src/function/function.js';
import type { FunctionPorts, InterruptPort } from '../../src/function/ports.js';
import { Access, AddressSpaces } from '../../src/memory/address-space.js';
import { Window } from '../../src/memory/window.js';
import type { Tracer } from '../../src/observe/tracer.js';
import {
  AKEY_ENT,
  ContextState,
  CXT_CTL,
  CXT_L1_ENT,
  CXT_L2_ENT,
  CXT_STS,
  FunctionState,
  type Layout,
  Reg,
  RKEY_ENT,
} from '../../src/spec/index.js';
import { everyRig, ShadowWatch } from './shadow.js';

/** Where the rig puts things; far apart, so that a wrong address hits nothing. */
export const LAYOUT = {
  base: 0x10_0000,
  bytes: 0x80_0000,
  l2: 0x10_0000,
  l1: 0x10_1000,
  errorLog: 0x10_2000,
  /** Level-1 table of contexts 128 … 255. */
  l1Upper: 0x10_4000,
  /** RKey table, 256 entries. */
  rkeys: 0x10_6000,
  /** Each context has 256 KiB: CXT_CTL, CXT_STS, AKeys, Write_Index, CSBs on pages of their own, ring. */
  contexts: 0x20_0000,
  contextBytes: 0x4_0000,
  data: 0x60_0000,
  dataBytes: 0x30_0000,
} as const;

export const PAGE = 4096;

/** Contexts from here on share the last place. */
const LAST_PLACE = 15;

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

/** Writes one slot with vl = 0 and returns dword 0 with vl: an encoder of spec/, or one of ops.ts. */
export type Encode = (u32: Uint32Array, word: number) => number;

export interface RigOptions {
  /** false: nothing is mapped. */
  map?: boolean;
  /** Every 4 KiB page is a mapping of its own, which {@link Rig.unmap} and {@link Rig.protect} can change. */
  pages?: boolean;
  vectors?: number;
  /** The function works on a copy, and a watch carries bytes to and fro. */
  shadowed?: boolean;
  fabric?: Fabric;
  tracer?: Tracer;
  virtual?: FunctionPorts['virtual'];
}

export interface Preparation {
  state?: number;
  ringEntries?: number;
  readIndex?: number;
  l1?: Record<string, number | bigint>;
  control?: Record<string, number | bigint>;
}

/**
 * A function on plain memory with nothing in between: what a driver would have prepared is written here with the layouts of
 * spec/, and the function is stepped by hand. One flat mapping from `LAYOUT.base` on unless the test makes its own.
 */
export class Rig {
  readonly memory = new AddressSpaces();
  readonly interrupts: number[] = [];
  readonly fn: SdxiFunction;
  readonly port: InterruptPort;
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly window: Window;
  readonly shadow: ShadowWatch | undefined;
  /** Called at each interrupt, before it is recorded. */
  onInterrupt: (vector: number) => void = () => {};

  constructor(config: Partial<FunctionConfig> = {}, options: RigOptions = {}) {
    const { window } = Window.of(new Uint8Array(LAYOUT.bytes));
    this.window = window;
    if (options.shadowed ?? everyRig.shadowed) this.shadow = new ShadowWatch();
    this.u8 = window.u8.subarray(0, LAYOUT.bytes);
    this.u32 = window.u32;
    if (options.pages) for (let at = 0; at < LAYOUT.bytes; at += PAGE) this.map(LAYOUT.base + at);
    else if (options.map !== false) this.map(LAYOUT.base, LAYOUT.bytes);
    this.port = {
      vectors: options.vectors ?? 66,
      raise: (vector) => {
        this.shadow?.flush();
        this.onInterrupt(vector);
        this.interrupts.push(vector);
      },
    };
    const { fabric, tracer, virtual } = options;
    this.fn = new SdxiFunction(config, { memory: this.memory, interrupts: this.port, fabric, tracer, virtual });
    this.shadow?.follow(this.fn);
  }

  // ---- memory

  /** Maps the rig's own bytes at their address, or at another one with `at`, or in the space of a PASID. */
  map(address: number, length: number = PAGE, options: { access?: number; at?: number; pasid?: number } = {}): void {
    const { access = Access.READ_WRITE, at = address, pasid = -1 } = options;
    const window = this.shadow?.of(this.window) ?? this.window;
    this.memory.bind(pasid).map(at, length, access, window, this.at(address), this.shadow);
  }

  /** Takes whole pages away. For rigs with `pages`. */
  unmap(address: number, length: number = PAGE): void {
    this.memory.own.unmap(address - (address % PAGE), length);
  }

  /** Changes what is allowed on the page of an address. For rigs with `pages`. */
  protect(address: number, access: number): void {
    const page = address - (address % PAGE);
    this.memory.own.unmap(page, PAGE);
    this.map(page, PAGE, { access });
  }

  /** Index into `u8` of an address. */
  at(address: number): number {
    return address - LAYOUT.base;
  }

  /** Address of an index into `u8`. */
  addressOf(at: number): number {
    return at + LAYOUT.base;
  }

  bytes(address: number, length: number): Uint8Array {
    return this.u8.subarray(this.at(address), this.at(address) + length);
  }

  hex(address: number, length: number): string {
    return Buffer.from(this.bytes(address, length)).toString('hex');
  }

  /** A copy of all memory, to be compared later. */
  snapshot(): Buffer {
    return Buffer.from(this.u8);
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

  // ---- registers

  reg(offset: number): bigint {
    return this.fn.readRegister(offset, 8);
  }

  setReg(offset: number, value: bigint | number): void {
    this.fn.writeRegister(offset, 8, BigInt(value));
  }

  // ---- time

  /** Steps until the function has nothing to do. */
  drain(limit = 1_000_000): void {
    for (let i = 0; i < limit; i++) if (this.fn.step(64) === 0) return;
    throw new Error('the function does not come to rest');
  }

  /** Steps one turn at a time until something is so. @returns steps taken */
  stepUntil(done: () => boolean, limit = 100_000): number {
    for (let i = 0; i < limit; i++) {
      if (done()) return i;
      this.fn.step(1);
    }
    throw new Error('it never happens');
  }

  // ---- contexts

  place(number: number, ringEntries = 1024): ContextPlace {
    const base = LAYOUT.contexts + Math.min(number, LAST_PLACE) * LAYOUT.contextBytes;
    return {
      number,
      control: base,
      status: base + 0x1000,
      akeys: base + 0x2000,
      writeIndex: base + 0x3000,
      csbs: base + 0x4000,
      ring: base + 0x1_0000,
      ringEntries,
    };
  }

  /** Address of a context's level-1 entry. */
  l1Entry(number: number): number {
    return (number < 128 ? LAYOUT.l1 : LAYOUT.l1Upper) + (number & 127) * 32;
  }

  /** Address of a context's level-2 entry. */
  l2Entry(number: number): number {
    return LAYOUT.l2 + (number >>> 7) * 8;
  }

  /** Writes a context's tables as a driver does; state as given, nothing queued. */
  prepare(number: number, options: Preparation = {}): ContextPlace {
    const p = this.place(number, options.ringEntries);
    this.putFields(CXT_L2_ENT, this.l2Entry(number), { vl: 1, lv01_ptr: BigInt(number < 128 ? LAYOUT.l1 : LAYOUT.l1Upper) });
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
    this.putFields(CXT_L1_ENT, this.l1Entry(number), {
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

  /** Writes AKey entry `index` of a context. */
  akey(p: ContextPlace, index: number, fields: Record<string, number | bigint>): void {
    this.putFields(AKEY_ENT, p.akeys + 16 * index, fields);
  }

  /** An entry of this function's RKey table. */
  rkey(index: number, fields: Record<string, number | bigint>): void {
    this.putFields(RKEY_ENT, LAYOUT.rkeys + 16 * index, fields);
  }

  /** CXT_L2 and the error log as a driver programs them. */
  program(options: { log?: boolean } = {}): void {
    this.setReg(Reg.CXT_L2, LAYOUT.l2);
    if (options.log === false) return;
    this.setReg(Reg.ERR_CTL, 1);
    this.setReg(Reg.ERR_CFG, LAYOUT.errorLog | (1 << 1) | 1);
  }

  /** Context 0 ready, error log on, ACTIVE. */
  activate(options: { log?: boolean } = {}): ContextPlace {
    const admin = this.prepare(0, { state: ContextState.RUN });
    this.program(options);
    this.setReg(Reg.CTL0, 3);
    if (this.fn.state !== FunctionState.ACTIVE) throw new Error(`not ACTIVE: ${this.fn.state}`);
    this.fn.ringDoorbell(0, 0);
    this.drain();
    return admin;
  }

  /** A context jump-started: state RUN in memory and a doorbell. */
  running(number: number, options: Preparation = {}): ContextPlace {
    const p = this.prepare(number, { state: ContextState.RUN, ...options });
    this.fn.ringDoorbell(number, 0);
    this.drain();
    return p;
  }

  // ---- ring

  /** Address of the slot of a descriptor. */
  slot(p: ContextPlace, index: number): number {
    return p.ring + (index % p.ringEntries) * 64;
  }

  /** Index into `u32` of slot `index`. */
  slotWord(p: ContextPlace, index: number): number {
    return this.at(this.slot(p, index)) / 4;
  }

  /** Writes slots, vl included, and nothing else. */
  write(p: ContextPlace, index: number, ...descriptors: Encode[]): void {
    descriptors.forEach((encode, i) => {
      const word = this.slotWord(p, index + i);
      this.u32[word] = encode(this.u32, word);
    });
  }

  /** Moves Write_Index forward. @returns the first claimed index */
  claim(p: ContextPlace, count: number): number {
    const first = Number(this.u64(p.writeIndex));
    this.putU64(p.writeIndex, first + count);
    return first;
  }

  /**
   * Queues descriptors: slots, Write_Index and doorbell.
   * @returns index of the first
   */
  queue(p: ContextPlace, ...descriptors: Encode[]): number {
    const first = this.claim(p, descriptors.length);
    this.write(p, first, ...descriptors);
    this.fn.ringDoorbell(p.number, first + descriptors.length);
    return first;
  }

  /** {@link queue}, then run until idle. */
  run(p: ContextPlace, ...descriptors: Encode[]): number {
    const first = this.queue(p, ...descriptors);
    this.drain();
    return first;
  }

  /** vl of the slot of a descriptor. */
  isValid(p: ContextPlace, index: number): boolean {
    return (this.u32[this.slotWord(p, index)] & 1) === 1;
  }

  state(p: ContextPlace): number {
    return this.u8[this.at(p.status)];
  }

  setState(p: ContextPlace, state: number): void {
    this.u8[this.at(p.status)] = state;
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
    return Array.from({ length: Math.min(count, 64) }, (_, i) => this.hex(LAYOUT.errorLog + 64 * i, 64));
  }
}
