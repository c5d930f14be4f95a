import type { Bus } from '../bus/index.js';
import { FunctionError, type SdxiError } from '../errors.js';
import { Access, allocateRegion, PAGE_BYTES } from '../memory/index.js';
import {
  ContextState,
  CXT_L2_ENT,
  decodeRegister,
  doorbellOffset,
  encodeRegister,
  FunctionRequest,
  FunctionState,
  MMIO_CAP0,
  MMIO_CAP1,
  MMIO_CTL0,
  MMIO_CTL2,
  MMIO_RKEY,
  maxBufferBytes,
  maxRingEntries,
  nameOf,
  Reg,
} from '../spec/index.js';
import { CheckFailure, equal } from './check.js';
import { type ContextOptions, Csb, RkeyTable, TestContext } from './context.js';
import { CLEAR_ALL, type LogOptions, TestLog } from './log.js';
import { type Block, TestMemory } from './memory.js';
import { nop, withCsb } from './program.js';

/** What CAP0 and CAP1 say, and what the bus can do. Nothing else is taken for granted. */
export interface RigCaps {
  readonly sfunc: number;
  readonly csCap: number;
  readonly dbStride: number;
  readonly maxRingEntries: number;
  readonly rkeyCap: boolean;
  readonly maxErrorLogPages: number;
  readonly maxAkeySize: number;
  readonly maxBuffer: number;
  /** Largest size of one descriptor. */
  readonly maxBufferBytes: number;
  readonly maxContext: number;
  readonly opGroups: number;
  readonly vectors: number;
  /** Why the bus maps no PASIDs; undefined if it does. */
  readonly noPasid?: string;
  readonly embedded: boolean;
  /** Virtual functions that the bus reaches. */
  readonly vfs: number;
}

export interface RigLimits {
  /** For each wait. */
  timeoutMs: number;
  /** For each check. */
  checkTimeoutMs: number;
  signal?: AbortSignal;
}

export interface ActivateOptions {
  /** false: no error log. */
  log?: LogOptions | false;
  /** false: context 0 is not prepared. */
  admin?: ContextOptions | false;
  /** Fields of CTL0 beside fn_gsr. */
  ctl0?: Readonly<Record<string, number>>;
}

/** How long nothing has to happen before a check believes that nothing will, once a fence on another context has passed. */
const QUIET_MS = 2;
/** Spinning is for answers of microseconds. */
const SPIN_MS = 2;
/** After this many silent checks the waits become short: the report is needed more than patience. */
const PATIENCE = 3;
const IMPATIENT_MS = 50;

/** One function on the bench: registers, memory, contexts, and the way back to a clean STOP between checks. */
export class Rig {
  readonly bus: Bus;
  readonly caps: RigCaps;
  readonly mem: TestMemory;
  readonly log: TestLog;
  l2!: Block;
  admin!: TestContext;
  /** Checks in a row in which the function did not answer. */
  silent = 0;
  private readonly limits: RigLimits;
  private readonly tables = new Map<number, Block>();
  private interrupts: number[] = [];
  private fence: TestContext | undefined;
  private deadline = Number.POSITIVE_INFINITY;
  /** Virtual functions, and which of them the check has used. */
  private readonly virtualRigs = new Map<number, Rig>();
  private readonly used = new Set<Rig>();
  /** A context was rung since the last RESET that did something. */
  private remembers = false;

  constructor(bus: Bus, limits: RigLimits) {
    this.bus = bus;
    this.limits = limits;
    this.caps = readCaps(bus);
    this.mem = new TestMemory(bus);
    this.log = new TestLog(this);
  }

  // ---- registers

  read(offset: number): bigint {
    return this.bus.readRegister(offset);
  }

  write(offset: number, value: bigint | number): void {
    this.bus.writeRegister(offset, BigInt(value));
  }

  /** CTL0 with a state request; the group stays. */
  request(fn_gsr: FunctionRequest, fields: Readonly<Record<string, number>> = {}): void {
    const { fn_grp_id } = decodeRegister(MMIO_CTL0, this.read(Reg.CTL0));
    this.write(Reg.CTL0, encodeRegister(MMIO_CTL0, { fn_grp_id, ...fields, fn_gsr }));
  }

  get functionState(): number {
    return Number(this.read(Reg.STS0) & 7n);
  }

  async functionBecomes(...states: number[]): Promise<void> {
    const names = states.map((state) => nameOf(FunctionState, state)).join(' or ');
    await this.until(
      () => states.includes(this.functionState),
      () => `function state ${names} (it is ${nameOf(FunctionState, this.functionState)})`,
    );
  }

  doorbell(context: number, value = 0): void {
    this.remembers = true;
    this.bus.writeDoorbell(doorbellOffset(context, this.caps.dbStride), value);
  }

  // ---- waiting

  /** Until something is so. @throws CheckFailure when it does not become so in time */
  async until(condition: () => boolean, what: string | (() => string)): Promise<void> {
    const { bus, limits } = this;
    if (bus.spin(condition, SPIN_MS)) return;
    const patience = this.silent >= PATIENCE ? Math.min(IMPATIENT_MS, limits.timeoutMs) : limits.timeoutMs;
    const timeoutMs = Math.max(0, Math.min(patience, this.deadline - performance.now()));
    try {
      await bus.wait(condition, { what: 'a check', timeoutMs, mode: 'polled', signal: limits.signal });
    } catch (error) {
      if ((error as SdxiError).code !== 'ERR_SDXI_TIMEOUT') throw error;
      const name = typeof what === 'string' ? what : what();
      throw new CheckFailure(`no ${name} within ${Math.round(timeoutMs)} ms`, { silent: true });
    }
  }

  /**
   * For "nothing happens": a NOP on a context that was rung later has passed, and a moment.
   * @throws CheckFailure when `happened` becomes true
   */
  async quiet(happened: () => boolean, what: string): Promise<void> {
    if (this.functionState === FunctionState.ACTIVE && this.fence?.state === ContextState.RUN) {
      const { fence } = this;
      const csb = this.csb();
      fence.submit(withCsb(nop(), csb.iova));
      await this.until(() => csb.signal === 0n, `completion of a fence in context ${fence.number}`);
    }
    if (this.bus.spin(happened, QUIET_MS)) throw new CheckFailure(what);
  }

  /** Until the contexts that were rung have found out that there is nothing to do. */
  async settle(): Promise<void> {
    await this.quiet(() => false, '');
  }

  // ---- interrupts

  /** Times that a vector was delivered since the check began. */
  delivered(vector: number): number {
    return (this.bus.interruptCount(vector) - this.interrupts[vector]) >>> 0;
  }

  async interrupted(vector: number, times = 1): Promise<void> {
    await this.until(() => this.delivered(vector) >= times, `interrupt ${vector} for the ${times}. time`);
  }

  // ---- structures

  /** The level-1 table that holds a context. */
  level1(context: number): Block {
    const index = context >>> 7;
    let table = this.tables.get(index);
    if (!table) {
      table = this.mem.alloc(`level-1 table ${index}`, 4096, { align: 4096 });
      this.useLevel1(context, table);
    }
    return table;
  }

  /** Puts a level-1 table of the check's own in place. */
  useLevel1(context: number, table: Block): void {
    const index = context >>> 7;
    this.tables.set(index, table);
    this.l2.putU64(index * 8, new DataView(CXT_L2_ENT.encode({ vl: 1, lv01_ptr: table.iova }).buffer).getBigUint64(0, true));
  }

  csb(signal: number | bigint = 1): Csb {
    return new Csb(this.mem.alloc('a completion block', 32, { rule: 'csb' }), signal);
  }

  /** A context with all its structures, stopped unless the options say otherwise. */
  context(number: number, options: ContextOptions = {}): TestContext {
    return new TestContext(this, number, options);
  }

  /** A table of RKeys, with MMIO_RKEY pointing at it. */
  rkeys({ en = 1, sz = 0, block = this.mem.alloc('the RKey table', 4096, { align: 4096 }) } = {}): RkeyTable {
    this.write(Reg.RKEY, encodeRegister(MMIO_RKEY, { en, sz, ptr: block.iova }));
    return new RkeyTable(block);
  }

  /** A virtual function of this one, clean and in STOP. It is looked after together with this one. */
  async virtual(number: number): Promise<Rig> {
    let rig = this.virtualRigs.get(number);
    if (!rig) {
      rig = new Rig(this.bus.virtualFunctions[number - 1], this.limits);
      this.virtualRigs.set(number, rig);
    }
    if (this.used.has(rig)) return rig;
    this.used.add(rig);
    rig.silent = this.silent;
    await rig.begin();
    return rig;
  }

  // ---- bringing it up, in the order of ref §3.4

  /** ACTIVE, with an error log and context 0 running. */
  async activate(options: ActivateOptions = {}): Promise<TestContext> {
    this.prepare(options);
    this.request(FunctionRequest.ACTIVE, { fn_err_intr_en: 1, ...options.ctl0 });
    await this.functionBecomes(FunctionState.ACTIVE, FunctionState.ERROR);
    equal(this.functionState, FunctionState.ACTIVE, 'the function state');
    if (options.admin !== false) this.doorbell(0, this.admin.claimed);
    return this.admin;
  }

  /** Everything before step 9: CXT_L2, context 0 in RUN, the error log. */
  prepare({ log = {}, admin = {} }: ActivateOptions = {}): void {
    this.write(Reg.CXT_L2, this.l2.iova);
    if (admin !== false) {
      this.admin = this.context(0, { state: ContextState.RUN, ...admin });
      this.fence = this.admin;
    }
    if (log !== false) this.log.initialize(log);
  }

  /** A context that was jump-started: RUN in memory and a doorbell. The function is ACTIVE. */
  running(number: number, options: ContextOptions = {}): TestContext {
    const context = this.context(number, { state: ContextState.RUN, ...options });
    context.doorbell();
    return context;
  }

  /** A running context to try things on: 1, or 0 where there is no other. Brings the function up. */
  async worker(options: ContextOptions = {}, activate: ActivateOptions = {}): Promise<TestContext> {
    if (this.caps.maxContext === 0) {
      await this.activate({ ...activate, admin: options });
      this.fence = undefined;
      return this.admin;
    }
    await this.activate(activate);
    return this.running(1, options);
  }

  // ---- between checks

  /** A clean function in STOP, clean memory, interrupts counted from here. @throws FunctionError when it cannot be brought there */
  async begin(): Promise<void> {
    this.deadline = performance.now() + this.limits.checkTimeoutMs;
    const { bus, caps } = this;
    this.fence = undefined;
    this.log.reset();
    this.tables.clear();
    for (const rig of this.used) await rig.toStop();
    this.used.clear();
    await this.forget();
    await this.toStop();
    this.remembers = false;
    this.request(FunctionRequest.RESET);
    this.write(Reg.CTL2, defaultLimits(bus));
    for (const register of [Reg.CXT_L2, Reg.RKEY, Reg.ERR_CTL, Reg.ERR_CFG, Reg.ERR_WRT, Reg.ERR_RD]) this.write(register, 0n);
    this.write(Reg.ERR_STS, CLEAR_ALL);
    this.mem.reset();
    this.l2 = this.mem.alloc('the level-2 table', 4096, { align: 4096 });
    for (let vector = 0; vector < caps.vectors; vector++) bus.unmaskInterrupt(vector);
    this.interrupts = Array.from({ length: caps.vectors }, (_, vector) => bus.interruptCount(vector));
  }

  /** What every check demands: no record and no changed byte that it did not expect. */
  async end(): Promise<void> {
    for (const rig of this.used) await rig.end();
    this.log.verify();
    await this.toStop();
    this.mem.verify();
  }

  close(): void {
    for (const rig of this.virtualRigs.values()) rig.close();
    this.mem.close();
  }

  /**
   * A function that was stopped softly may still know its contexts, and copies of their tables (ref §4.11); RESET makes it forget both, but
   * in STOP it does nothing (O-7). So it has to be ACTIVE for a moment.
   */
  private async forget(): Promise<void> {
    if (!this.remembers || this.functionState !== FunctionState.STOP) return;
    this.write(Reg.CXT_L2, 0n);
    this.write(Reg.ERR_CFG, 0n);
    this.request(FunctionRequest.ACTIVE);
    await this.functionBecomes(FunctionState.ACTIVE);
  }

  /** From whatever a check left behind. */
  private async toStop(): Promise<void> {
    if (this.functionState === FunctionState.STOP) return;
    this.deadline = performance.now() + this.limits.checkTimeoutMs;
    // RESET hurries a soft stop and leaves ERROR (ref §3.2).
    this.request(FunctionRequest.RESET);
    try {
      await this.functionBecomes(FunctionState.STOP);
      this.remembers = false;
    } catch (error) {
      if (!(error instanceof CheckFailure)) throw error;
      this.bus.reset();
      if (this.bus.spin(() => this.functionState === FunctionState.STOP, IMPATIENT_MS)) return;
      throw new FunctionError(`the function stays in state ${nameOf(FunctionState, this.functionState)}, also after a reset`, {
        hint: 'reset the device by other means, or restart what runs it; the remaining checks need a function that can be stopped',
      });
    }
  }
}

/** CTL2 with all that CAP1 allows. */
function defaultLimits(bus: Bus): bigint {
  const { max_buffer, max_akey_sz, max_cxt, opb_000_cap } = decodeRegister(MMIO_CAP1, bus.readRegister(Reg.CAP1));
  return encodeRegister(MMIO_CTL2, { max_buffer, max_akey_sz, max_cxt, opb_000_avl: opb_000_cap });
}

/** @throws FunctionError when nothing that could be a function answers */
function readCaps(bus: Bus): RigCaps {
  const version = bus.readRegister(Reg.VERSION);
  if (version === 2n ** 64n - 1n || version === 0n) {
    throw new FunctionError(`${bus.uri} does not answer: VERSION reads 0x${version.toString(16)}`, {
      hint: 'is the device there, powered, and its memory space on? A register that reads all ones is one that nobody serves (ref F-49)',
      fields: { uri: bus.uri },
    });
  }
  const cap0 = decodeRegister(MMIO_CAP0, bus.readRegister(Reg.CAP0));
  const cap1 = decodeRegister(MMIO_CAP1, bus.readRegister(Reg.CAP1));
  return {
    sfunc: cap0.sfunc,
    csCap: cap0.cs_cap,
    dbStride: cap0.db_stride,
    maxRingEntries: maxRingEntries(cap0.max_ds_ring_sz),
    rkeyCap: cap1.rkey_cap === 1,
    maxErrorLogPages: 2 ** cap1.max_errlog_sz,
    maxAkeySize: cap1.max_akey_sz,
    maxBuffer: cap1.max_buffer,
    maxBufferBytes: Math.min(maxBufferBytes(cap1.max_buffer), 2 ** 32),
    maxContext: cap1.max_cxt,
    opGroups: cap1.opb_000_cap,
    vectors: bus.vectors,
    noPasid: tryPasid(bus),
    embedded: bus.uri.startsWith('embedded:'),
    vfs: bus.virtualFunctions.length,
  };
}

function tryPasid(bus: Bus): string | undefined {
  const region = allocateRegion(PAGE_BYTES, 'sdxi-conform-pasid');
  try {
    bus.map({ iova: 0x4_0000_0000, region, access: Access.READ, pasid: 1 });
    bus.unmap(0x4_0000_0000, PAGE_BYTES, 1);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    region.closeFile?.();
  }
}
