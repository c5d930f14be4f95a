import type { AddressSpace, AddressSpaces, Mapping } from '../memory/address-space.js';
import type { ContextState, ErrorStep, FunctionState, SubStep } from '../spec/index.js';
import { loadSharedU64, SubStep as Sub } from '../spec/index.js';
import { EntryCache } from './cache.js';
import type { FunctionConfig } from './config.js';
import { FunctionContext } from './context.js';
import { ErrorLog } from './errorlog.js';
import { Fabric, type Peer } from './fabric.js';
import { Held } from './held.js';
import type { AdminTarget } from './operations/admin.js';
import type { FabricPort, FaultPort, FunctionPorts, InterruptPort } from './ports.js';
import { RegisterFile } from './registers.js';

/** What the function has done since power-on: plain numbers, free to read. */
export interface FunctionCounters {
  /** Descriptors consumed, failed ones included. */
  descriptors: number;
  /** Bytes written by data operations. */
  bytes: number;
  doorbells: number;
  /** Doorbells that came while not INIT or ACTIVE, or beyond max_cxt. */
  doorbellsDropped: number;
  loads: number;
  errors: number;
  interrupts: number;
  /** Register or doorbell writes of a width or place that takes none (S-100). */
  writesDropped: number;
  registerReads: number;
  registerWrites: number;
}

/**
 * First value of the counters that outgrow 2^31 within seconds: V8 then keeps a double in the field from the start, and does not
 * throw the compiled engine away on the day it has to.
 */
const FRACTION = 0.5;

/** How an operation left the context. */
export const Outcome = {
  /** The descriptor is done. */
  DONE: 0,
  /** A slice is done, more follows next turn. */
  MORE: 1,
  /** It failed: see {@link Core.failure}. */
  FAILED: 2,
  /** It cannot go on until something else happens. */
  WAIT: 3,
} as const;
export type Outcome = (typeof Outcome)[keyof typeof Outcome];

/** F-44 delivers an interrupt so often at most. */
const REPEATS_MAX = 16;

/** The parts of one function, for the modules that make it up. */
export class Core {
  readonly config: FunctionConfig;
  readonly ports: FunctionPorts;
  readonly memory: AddressSpaces;
  readonly registers: RegisterFile;
  readonly log: ErrorLog;
  readonly fabric: FabricPort;
  /** This function, as others of its group see it. */
  readonly peer: Peer;
  /** See {@link Peer.epoch}. */
  epoch = 0;
  /** The fault plan in force. */
  faults: FaultPort | undefined;
  /** What a fault holds back. */
  readonly held = new Held();
  /** Nothing new is begun: the function is being moved while it works (S-125). */
  frozen = false;
  /** Copies of table entries, unless `cache=none`. */
  readonly copies: EntryCache | undefined;
  /** Reserved bits are looked at (S-1). */
  readonly strict: boolean;
  /** vl and Read_Index move before a descriptor executes (S-28). */
  readonly early: boolean;
  readonly counters: FunctionCounters = {
    descriptors: FRACTION,
    bytes: FRACTION,
    doorbells: 0,
    doorbellsDropped: 0,
    loads: 0,
    errors: 0,
    interrupts: 0,
    writesDropped: 0,
    registerReads: 0,
    registerWrites: 0,
  };
  /** Every context that was ever rung or started since activation. */
  readonly contexts = new Map<number, FunctionContext>();
  /** The virtual functions, in the order of their numbers; they do not change once the function is made. */
  readonly virtualFunctions: AdminTarget[] = [];

  /** The failure of the operation that returned {@link Outcome.FAILED}. */
  readonly failure = { step: 0 as ErrorStep, subStep: 0 as SubStep, operand: -1, address: -1, absent: false };

  constructor(config: FunctionConfig, ports: FunctionPorts, virtual = false) {
    this.counters.descriptors = 0;
    this.counters.bytes = 0;
    this.config = config;
    this.ports = ports;
    this.memory = ports.memory;
    this.registers = new RegisterFile(config, virtual);
    this.copies = config.cache === 'none' ? undefined : new EntryCache(config.cache);
    this.strict = config.strictReserved === 'on';
    this.early = config.readIndex === 'early';
    this.log = new ErrorLog(
      config,
      this.registers,
      ports,
      (vector) => this.raise(vector),
      () => this.faults,
    );
    this.fabric = ports.fabric ?? new Fabric();
    this.peer = new OwnPeer(this);
    this.fabric.join(this.peer);
  }

  /** Others must not rely any more on what they have read of this function. See {@link Peer.epoch}. */
  revoke(): void {
    this.epoch++;
    this.fabric.revoked(this.peer);
  }

  /** The working copy of a context, made on first use. */
  context(number: number): FunctionContext {
    let context = this.contexts.get(number);
    if (!context) {
      context = new FunctionContext(number);
      this.contexts.set(number, context);
    }
    return context;
  }

  /** Forgets a context that nothing is known of. */
  dropUnused(context: FunctionContext): void {
    if (!context.running && !context.queued && !context.loadFailureLogged) this.contexts.delete(context.number);
  }

  raise(vector: number): void {
    const times = Math.min(this.faults?.interrupts(vector) ?? 1, REPEATS_MAX);
    for (let n = 0; n < times; n++) {
      this.counters.interrupts++;
      this.ports.tracer?.interrupt(vector);
      this.ports.interrupts.raise(vector);
    }
    this.held.interrupted();
  }

  /** Notes why an operation fails. @param operand -1 when no buffer is concerned */
  fail(step: ErrorStep, subStep: SubStep, operand = -1, address = -1): typeof Outcome.FAILED {
    const { failure } = this;
    failure.step = step;
    failure.subStep = subStep;
    failure.operand = operand;
    failure.address = address;
    failure.absent = false;
    return Outcome.FAILED;
  }

  /** Notes that memory of a step cannot be reached: translation or access failure, as the space says (ref §7.1 item 4). */
  failAccess(step: ErrorStep, space: AddressSpace | undefined, address: number, length: number, operand = -1): typeof Outcome.FAILED {
    const mapped = space !== undefined && space.refusal(address, length) === 'refused';
    return this.fail(step, mapped ? Sub.DAF : Sub.ATF, operand, address);
  }

  /** One of a context's own structures (ring, CXT_STS, Write_Index, CSB), or undefined when it cannot be accessed this way. */
  structure(context: FunctionContext, address: number, length: number, access: number): Mapping | undefined {
    return this.memory.of(context.structurePasid)?.find(address, length, access);
  }

  canWriteStatus({ statusMap, statusAddress, structurePasid }: FunctionContext): boolean {
    if (statusMap.covers(statusAddress, 16, 2)) return true;
    return this.memory.of(structurePasid)?.find(statusAddress, 16, 2) !== undefined;
  }

  /** Writes CXT_STS.state as one byte. @returns false when CXT_STS cannot be written */
  writeState(context: FunctionContext, state: ContextState): boolean {
    context.state = state;
    const map = context.statusMap.covers(context.statusAddress, 16, 2)
      ? context.statusMap
      : this.structure(context, context.statusAddress, 16, 2);
    if (!map) return false;
    context.statusMap = map;
    map.store8(context.statusAddress, this.faults?.contextState(context.number, state) ?? state);
    this.ports.tracer?.contextState(context.number, state);
    return true;
  }

  /** Read_Index as a fault plan wants it; the real one is remembered for the next load. */
  private showReadIndex(faults: FaultPort, context: FunctionContext, map: Mapping): void {
    const { number, readIndex: real, statusAddress } = context;
    const shown = faults.readIndex(number, real);
    if (shown !== undefined) map.publish64(statusAddress + 8, shown);
    const seen = shown ?? loadSharedU64(map.u32, map.word(statusAddress + 8));
    context.concealed = seen === real ? undefined : { shown: seen, real };
  }

  /** Writes Read_Index. The low dword goes first: for a moment the value is too small, which is harmless (S-72). */
  writeReadIndex(context: FunctionContext): boolean {
    context.unpublished = 0;
    const address = context.statusAddress + 8;
    const map = context.statusMap.covers(address, 8, 2) ? context.statusMap : this.structure(context, address, 8, 2);
    if (!map) return false;
    context.statusMap = map;
    if (this.faults === undefined) map.publish64(address, context.readIndex);
    else this.showReadIndex(this.faults, context, map);
    return true;
  }
}

/** What a function shows to its group. */
class OwnPeer implements Peer {
  private readonly core: Core;
  readonly interrupts: InterruptPort;

  constructor(core: Core) {
    this.core = core;
    const { vectors } = core.ports.interrupts;
    this.interrupts = { vectors, raise: (vector) => core.raise(vector) };
  }

  get sfunc(): number {
    return this.core.config.sfunc;
  }

  get groupId(): number {
    return this.core.registers.groupId;
  }

  get state(): FunctionState {
    return this.core.registers.state as FunctionState;
  }

  get epoch(): number {
    return this.core.epoch;
  }

  get rkeysUsable(): boolean {
    return this.core.config.rkeyCap && this.core.registers.rkeysEnabled;
  }

  get rkeyTable(): number {
    return this.core.registers.rkeyTable;
  }

  get rkeyCount(): number {
    return this.core.registers.rkeyCount;
  }

  get functionPasid(): number {
    return this.core.registers.functionPasid;
  }

  get probing(): boolean {
    return this.core.registers.probing;
  }

  get memory(): AddressSpaces {
    return this.core.memory;
  }

  get copies(): EntryCache | undefined {
    return this.core.copies;
  }
}
