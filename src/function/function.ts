import { ArgumentError, SdxiError } from '../errors.js';
import { doorbellStride, ErrorStep, FunctionRequest, FunctionState, nameOf, Reaction, Reg, SubStep } from '../spec/index.js';
import { type FunctionConfig, functionConfig } from './config.js';
import { Core, type FunctionCounters } from './core.js';
import { Engine } from './engine.js';
import { ERROR_VECTOR } from './errorlog.js';
import type { Peer } from './fabric.js';
import { loadLive, saveLive } from './live.js';
import { SLICE_BYTES } from './operations/dma.js';
import type { FaultPort, FunctionPorts } from './ports.js';
import { RegisterFile } from './registers.js';
import { applySnapshot, type FunctionSnapshot, takeSnapshot } from './snapshot.js';
import { FUNCTION_TRANSITIONS } from './state.js';

/**
 * One SDXI 1.0 function. Synchronous, deterministic, single-threaded: nothing happens but in these calls, and no call
 * throws, whatever a guest wrote. Threads, sockets and clocks are the business of whoever calls.
 *
 * ```ts
 * const fn = new SdxiFunction(functionConfig({ maxContext: 7 }), { memory, interrupts });
 * fn.writeRegister(Reg.CTL0, 8, 3n);      // fn_gsr = ACTIVE
 * fn.ringDoorbell(0, 0);
 * while (fn.step(64) > 0);
 * ```
 */
export class SdxiFunction {
  readonly config: FunctionConfig;
  private readonly core: Core;
  private readonly engine: Engine;
  private readonly stride: number;
  /** Scheduler steps left in INIT. */
  private initLeft = 0;
  /** Doorbells that came in INIT, one bit per context (S-10, S-71). */
  private readonly early = new Set<number>();
  /** Counts activations, so that what a fault holds back for one is not done to the next. */
  private activation = 0;
  /** F-9: the soft stop under way never finishes. */
  private softStopHeld = false;
  /** The stop under way ends in a reset (S-11). */
  private resetAtStop = false;
  /**
   * Virtual functions 1, 2, …: functions of their own, which whoever steps this one has to step too. This one reaches their contexts by
   * administrative operations alone (S-55), they reach it not at all (S-113).
   */
  readonly virtualFunctions: readonly SdxiFunction[];

  /**
   * @param kind `virtual` for those that a function makes itself
   * @throws ArgumentError for a configuration that cannot be
   */
  constructor(config: Partial<FunctionConfig>, ports: FunctionPorts, kind: 'physical' | 'virtual' = 'physical') {
    this.config = functionConfig(config);
    this.core = new Core(this.config, ports, kind === 'virtual');
    this.engine = new Engine(this.core);
    this.stride = doorbellStride(this.config.dbStride);
    this.virtualFunctions = Array.from({ length: this.config.vfs }, (_, i) => this.makeVirtual(i + 1));
  }

  /** S-113. */
  private makeVirtual(number: number): SdxiFunction {
    const { config, core } = this;
    const ports = core.ports.virtual?.(number);
    if (ports === undefined) {
      throw new ArgumentError(`virtual function ${number} has no memory and no interrupts`, {
        hint: 'a function with vfs needs ports.virtual(number)',
        fields: { vf: number },
      });
    }
    const shape = { ...config, vfs: 0, sfunc: config.sfunc + number };
    const fn = new SdxiFunction(shape, { ...ports, fabric: ports.fabric ?? core.fabric }, 'virtual');
    core.virtualFunctions.push({ core: fn.core, host: fn.engine });
    return fn;
  }

  /** STS0.fn_gsv. */
  get state(): FunctionState {
    return this.core.registers.state as FunctionState;
  }

  /** This function, as others of its group see it. */
  get peer(): Peer {
    return this.core.peer;
  }

  /**
   * What this function is, besides the memory that it works on: a plain object, to be kept as JSON. In GSV_STOP (ref §10), or in any state
   * while it is frozen: then with all that it was in the middle of (S-125).
   * @throws SdxiError ERR_SDXI_STATE
   */
  snapshot(): FunctionSnapshot {
    const { core, engine } = this;
    if (!core.frozen) return takeSnapshot(core);
    if (!engine.quiet) {
      throw new SdxiError('ERR_SDXI_STATE', 'a function in the middle of a descriptor cannot be saved', {
        hint: 'call freeze() until it returns true',
      });
    }
    const { initLeft, resetAtStop, early } = this;
    return takeSnapshot(
      core,
      saveLive(core, { initLeft, resetAtStop, early: [...early], isQueued: (context) => engine.isQueued(context) }),
    );
  }

  /**
   * Becomes the function of a snapshot, whole or not at all; in GSV_STOP only. Software then requests ACTIVE, jump-starts context 0
   * and resumes with CXT_START.RS the contexts that it finds in STOP_FN (ref §10). The function of a snapshot that was taken of a frozen
   * one is frozen and in the state that that one was in: {@link thaw} lets it go on, when its memory is there.
   * @throws SdxiError ERR_SDXI_STATE
   */
  restore(snapshot: FunctionSnapshot): void {
    const { core, engine } = this;
    const live = applySnapshot(core, snapshot);
    if (live === undefined) return;
    core.frozen = true;
    engine.forget();
    core.held.clear();
    this.initLeft = live.initLeft;
    this.resetAtStop = live.resetAtStop;
    this.softStopHeld = false;
    this.activation++;
    this.early.clear();
    for (const context of live.early) this.early.add(context);
    loadLive(core, live, (context, place) => engine.adopt(context, place));
    if (live.state !== FunctionState.STOP) this.enter(live.state as FunctionState);
  }

  /**
   * Holds the function still while it is in the middle of its work, so that it can be saved and go on elsewhere, and software sees nothing
   * of it: STS0 and the states of contexts stay as they are (S-125). To be called until it says so, at most `budget` turns or 256 KiB
   * each time; whoever does something around {@link step} (watches, fabrics between threads) does it around this too. Meanwhile and afterwards {@link step} does nothing, registers can be read, and what is written to registers and doorbells
   * is kept.
   * @returns true when nothing is under way any more: {@link snapshot} can be taken, and memory does not change until {@link thaw}
   */
  freeze(budget: number): boolean {
    this.core.frozen = true;
    return this.engine.quiesce(budget);
  }

  /** Goes on after {@link freeze}, or after {@link restore} of a function that was frozen. */
  thaw(): void {
    const { core } = this;
    if (!core.frozen) return;
    core.frozen = false;
    // Without a plan nobody holds back what the one at the source did (S-127).
    if (core.faults === undefined) core.held.flush();
  }

  /** Between {@link freeze} and {@link thaw}. */
  get frozen(): boolean {
    return this.core.frozen;
  }

  /** Leaves the fabric: nobody finds it any more. */
  disconnect(): void {
    for (const fn of this.virtualFunctions) fn.disconnect();
    this.core.revoke();
    this.core.fabric.leave(this.core.peer);
  }

  /**
   * Puts a fault plan in force, or ends it. What the one before holds back happens now.
   * @param faults ref §12; undefined: everything goes right
   * @throws ArgumentError for what a function that completes out of order cannot do; the plan before stays in force
   */
  setFaults(faults: FaultPort | undefined): void {
    if (faults !== undefined && faults.inOrderOnly.length > 0 && this.config.reorder === 'on') {
      throw new ArgumentError(`${faults.inOrderOnly.join(', ')} cannot be had together with reorder=on (F-39)`, {
        hint: 'descriptors in flight together cannot be held back one by one: leave one of the two out',
        fields: { faults: faults.inOrderOnly },
      });
    }
    this.core.faults = faults;
    this.softStopHeld = false;
    this.core.held.flush();
  }

  /** What it has done so far. */
  get counters(): Readonly<FunctionCounters> {
    return this.core.counters;
  }

  /**
   * Reads `size` bytes (1 … 8, any alignment) at a byte offset of BAR 0; bytes that belong to no register are 0 (S-100).
   */
  readRegister(offset: number, size: number): bigint {
    const { core } = this;
    core.counters.registerReads++;
    if (offset < Reg.GRP_ENUM + 8 && offset + size > Reg.GRP_ENUM) core.registers.setGroupBusy(core.fabric.probedFor(core.peer));
    let value = core.registers.read(offset, size);
    if (core.faults !== undefined) value = BigInt.asUintN(8 * size, core.faults.register(offset, value));
    core.ports.tracer?.registerRead(offset, size, value);
    return value;
  }

  /** Writes 4 or 8 naturally aligned bytes at a byte offset of BAR 0; any other write is dropped and counted (O-23, S-100). */
  writeRegister(offset: number, size: number, value: bigint): void {
    const { core } = this;
    core.ports.tracer?.registerWrite(offset, size, value);
    if (!RegisterFile.writable(offset, size)) {
      core.counters.writesDropped++;
      return;
    }
    core.counters.registerWrites++;
    const register = offset - (offset % 8);
    const written = core.registers.write(offset, size, value);
    if (register === Reg.CTL0 || register === Reg.RKEY) core.revoke();
    if (written === Reg.CTL0) this.request(core.registers.request as FunctionRequest);
  }

  /**
   * Writes to the doorbell region, BAR 2. An 8-byte write at the start of a stride is a doorbell; so is a 4-byte one, unless
   * `strictDoorbell` (S-2). Anything else is dropped (S-100).
   */
  writeDoorbell(offset: number, size: number, value: bigint): void {
    const wide = size === 8;
    const narrow = size === 4 && this.config.strictDoorbell === 'off';
    if ((!wide && !narrow) || offset < 0 || offset % this.stride !== 0) {
      this.core.counters.writesDropped++;
      return;
    }
    this.ringDoorbell(offset / this.stride, Number(value));
  }

  /**
   * Rings the doorbell of a context: a wake-up, nothing more (S-9). `value` is only traced.
   */
  ringDoorbell(context: number, value: number): void {
    const { core } = this;
    core.counters.doorbells++;
    core.ports.tracer?.doorbell(context, value);
    const { state } = this;
    // The shift also turns away what is no 32-bit number at all.
    if (
      context >>> 0 !== context ||
      context > core.registers.maxContext ||
      (state !== FunctionState.ACTIVE && state !== FunctionState.INIT)
    ) {
      core.counters.doorbellsDropped++;
    } else if (state === FunctionState.INIT) {
      this.early.add(context);
    } else {
      this.engine.ring(context);
    }
  }

  /**
   * Lets the function work: at most `budget` turns, and no more once 256 KiB have moved, so that registers are served in
   * between. A turn is one descriptor or one slice of it.
   * @returns the turns run; 0 = nothing to do until a doorbell or a register write, or a producer's store while {@link polls}
   */
  step(budget: number): number {
    const { core, state } = this;
    if (core.frozen) return 0;
    if (core.faults !== undefined && core.held.release(core.faults) > 0) return 1;
    if (state === FunctionState.ACTIVE) return this.engine.step(budget);
    if (state === FunctionState.INIT) {
      if (this.initLeft === Number.POSITIVE_INFINITY) return 0;
      if (--this.initLeft <= 0) this.activate();
      return 1;
    }
    if (state === FunctionState.STOPG_SF || state === FunctionState.STOPG_HD) return this.stepStop(budget);
    return 0;
  }

  /**
   * Whether {@link step} finds work by itself: some context waits on a slot that is looked at without a doorbell (option
   * `pollInvalid`). Whoever sleeps when `step` returns 0 should then call it again before long.
   */
  get polls(): boolean {
    return !this.core.frozen && (this.engine.polls || this.core.held.ticking);
  }

  /** Function-level reset by the transport: as power-on, not frozen any more, and no memory is touched (S-46, S-107). Virtual functions are reset too (S-114). */
  reset(): void {
    for (const fn of this.virtualFunctions) fn.reset();
    this.engine.forget();
    this.core.held.clear();
    this.early.clear();
    this.resetAtStop = false;
    this.core.frozen = false;
    this.core.copies?.clear();
    this.core.registers.powerOn();
    this.enter(FunctionState.STOP);
  }

  /** What can be told about the contexts that the function holds, for tools: number, state, Read_Index. */
  contexts(): { number: number; running: boolean; idle: boolean; state: number; readIndex: number; ringEntries: number }[] {
    return [...this.core.contexts.values()].map((c) => ({
      number: c.number,
      running: c.running,
      idle: c.idle,
      state: c.state,
      readIndex: c.readIndex,
      ringEntries: c.ringSize,
    }));
  }

  /**
   * An internal error, as a fault plan provokes it: of one context (ref §8.3), or of the function, which goes to GSV_ERROR
   * (ref §3.3 rule 9, S-91, S-92). Nothing else leads there.
   */
  injectInternalError(context?: number): void {
    if (context !== undefined) {
      this.engine.internalError(context);
      return;
    }
    if (this.state === FunctionState.STOP || this.state === FunctionState.ERROR) return;
    const { core } = this;
    this.engine.stopAll();
    this.early.clear();
    core.counters.errors++;
    core.log.report({ step: ErrorStep.INT, subStep: SubStep.OTHER, reaction: Reaction.FUNCTION_STOPPED });
    this.enter(FunctionState.ERROR);
    if (core.registers.errorInterruptEnabled) core.raise(ERROR_VECTOR);
  }

  /** A request in CTL0.fn_gsr, by {@link FUNCTION_TRANSITIONS}. */
  private request(request: FunctionRequest): void {
    const { state } = this;
    const { faults } = this.core;
    const next = FUNCTION_TRANSITIONS[state]?.[request];
    if (next === undefined) {
      if (faults !== undefined && state === FunctionState.STOP && request === FunctionRequest.RESET) this.resetLate(faults);
      return;
    }
    if (request === FunctionRequest.RESET) this.resetAtStop = true;
    if (next === FunctionState.STOP) this.stopped();
    else this.enter(next);
    if (next === FunctionState.STOPG_SF) this.softStopHeld = faults?.holdsSoftStop() ?? false;
    if (next === FunctionState.INIT) this.initialize(faults);
  }

  private initialize(faults: FaultPort | undefined): void {
    const ms = faults?.activationMs();
    this.activation++;
    this.initLeft = ms === undefined ? this.config.initDelay : Number.POSITIVE_INFINITY;
    if (this.initLeft === 0) this.activate();
    if (faults === undefined || ms === undefined) return;
    const activation = this.activation;
    this.core.held.hold({ now: faults.now() }, ms, () => {
      if (this.activation === activation && this.state === FunctionState.INIT) this.activate();
    });
  }

  /** F-8: what RESET in STOP does not do (O-7), done later. */
  private resetLate(faults: FaultPort): void {
    const ms = faults.lateResetMs();
    if (ms === undefined) return;
    this.core.held.hold({ now: faults.now() }, ms, () => {
      this.core.registers.restore();
      this.core.revoke();
    });
  }

  /** No table is read here (O-1, S-31); what rang in INIT is looked at now (O-2, S-10). */
  private activate(): void {
    this.core.copies?.activated(this.core.registers);
    this.enter(FunctionState.ACTIVE);
    for (const context of this.early) if (context <= this.core.registers.maxContext) this.engine.ring(context);
    this.early.clear();
    const { faults, held } = this.core;
    const ms = faults?.errorAfterActivationMs();
    if (faults !== undefined && ms !== undefined) {
      const { activation } = this;
      held.hold({ now: faults.now() }, ms, () => {
        if (this.activation === activation && this.state === FunctionState.ACTIVE) this.injectInternalError();
      });
    }
  }

  private stepStop(budget: number): number {
    const { counters } = this.core;
    const bytesLimit = counters.bytes + SLICE_BYTES;
    if (this.softStopHeld && this.state === FunctionState.STOPG_SF) return 0;
    let turns = 0;
    do {
      if (this.engine.progressStop(this.state === FunctionState.STOPG_HD)) {
        this.stopped();
        return turns + 1;
      }
      const used = this.engine.step(budget - turns);
      turns += Math.max(used, 1);
    } while (turns < budget && counters.bytes < bytesLimit);
    return turns;
  }

  private stopped(): void {
    this.engine.forget();
    this.early.clear();
    const { copies, registers } = this.core;
    copies?.functionStopped();
    if (this.resetAtStop) {
      copies?.clear();
      registers.restore(); // before STS0 shows STOP (S-89)
    }
    this.resetAtStop = false;
    this.enter(FunctionState.STOP);
  }

  private enter(state: FunctionState): void {
    this.core.registers.state = state;
    this.core.revoke();
    this.core.ports.tracer?.functionState(state);
  }

  /** For messages: `ACTIVE`. */
  get stateName(): string {
    return nameOf(FunctionState, this.state) ?? String(this.state);
  }
}
