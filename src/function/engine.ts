import { Access, type Mapping } from '../memory/address-space.js';
import {
  ContextState,
  DESCRIPTOR_BYTES,
  DescriptorType,
  DmaOp,
  ErrorStep,
  FunctionState,
  loadShared32,
  Reaction,
  SubStep,
} from '../spec/index.js';
import { signalCompletion } from './complete.js';
import { type FunctionContext, Work } from './context.js';
import { type Core, Outcome } from './core.js';
import { execute, resume } from './execute.js';
import type { AdminHost } from './operations/admin.js';
import { copyAtOnce, SLICE_BYTES } from './operations/dma.js';
import { effectiveBufferBytes } from './registers.js';
import { CONTEXT_TRANSITIONS } from './state.js';
import { readStatus, readWriteIndex, walkTables } from './tables.js';
import { TurnQueue } from './turn-queue.js';

/** Read_Index is written at the latest after so many descriptors: the line it lies in is shared with the producers. */
const PUBLISH_EVERY = 16;

const VALID = 1;
/** np in dword 14. */
const NO_POINTER = 1;
/** ch, subtype and type of dword 0, and what they are for a COPY. */
const HEADER_MASK = 0x07ff_ff08;
const PLAIN_COPY = (DescriptorType.DMAB << 16) | (DmaOp.COPY << 8);

/**
 * The data mover: gives contexts their turns, takes descriptors from rings, completes them, stops contexts. Ref §6.
 *
 * A context's way through here: {@link ring} puts it in line, its turn loads it (ref §6.2 rows 1–5), {@link consume} takes
 * descriptors until the ring is empty or the turns are used up, and it is idle again.
 */
export class Engine implements AdminHost {
  private readonly core: Core;
  private readonly queue = new TurnQueue();
  /** Context 0 while it waits in SYNC or CXT_START; it is in line again after anything has happened. */
  private waiting: FunctionContext | undefined;

  constructor(core: Core) {
    this.core = core;
  }

  /** A doorbell: sets the latch and puts the context in line (S-9, S-71). */
  ring(number: number): void {
    const context = this.core.context(number);
    context.rung = true;
    this.queue.push(context);
  }

  /**
   * Runs turns until `budget` is used up, 256 KiB have moved or nobody is in line.
   * @returns turns run
   */
  step(budget: number): number {
    const { queue, core } = this;
    const bytesLimit = core.counters.bytes + SLICE_BYTES;
    let turns = 0;
    while (turns < budget && queue.length > 0 && core.counters.bytes < bytesLimit) {
      const context = queue.shift();
      // Alone in line, a context may use all turns that are left; otherwise it gets one (S-45).
      const used = this.turn(context, queue.length === 0 ? budget - turns : 1, bytesLimit);
      turns += used;
      if (this.waiting !== undefined && this.waiting !== context) {
        queue.push(this.waiting);
        this.waiting = undefined;
      }
    }
    return turns;
  }

  /** True while somebody is in line. */
  get busy(): boolean {
    return this.queue.length > 0;
  }

  /** Forgets all contexts, without touching memory (S-107). */
  forget(): void {
    this.queue.clear();
    this.waiting = undefined;
    this.core.contexts.clear();
  }

  private turn(context: FunctionContext, maxTurns: number, bytesLimit: number): number {
    const { core } = this;
    if (context.stop === 'hard') {
      this.finishStop(context);
      return 1;
    }
    // Context 0 stops when the others have; until then a hard stop holds it still (S-86).
    if (core.registers.state === FunctionState.STOPG_HD && context.stop === 'none') return 1;
    if (context.work !== Work.NONE) {
      this.settle(context, resume(core, context, this));
      if (context.running && !isBusy(context)) this.queue.push(context);
      return 1;
    }
    if (context.stop === 'soft') {
      this.finishStop(context);
      return 1;
    }
    if (core.registers.state !== FunctionState.ACTIVE) return 1; // stopping: nothing new is fetched
    if (!context.running || context.idle || context.reload) {
      if (!(context.running && !context.idle) && !context.rung) return 0;
      if (!this.load(context)) return 1;
    }
    return this.consume(context, maxTurns, bytesLimit);
  }

  // ---- loading (ref §6.2, S-69, S-70)

  /** @returns false when the context is not to run; whatever had to be written or logged has been */
  private load(context: FunctionContext): boolean {
    const { core } = this;
    core.counters.loads++;
    context.rung = false;
    if (!context.running && context.number > core.registers.maxContext) return false;
    if (!walkTables(core, context, { limit: false })) return this.loadFailed(context, false);
    const state = readStatus(core, context);
    if (state < 0) return this.loadFailed(context, true);
    if (state !== ContextState.RUN) {
      context.loadFailureLogged = false;
      context.forget();
      return false;
    }
    context.running = true;
    context.state = ContextState.RUN;
    if (!readWriteIndex(core, context)) return this.loadFailed(context, true);
    context.loadFailureLogged = false;
    context.idle = false;
    context.reload = false;
    return true;
  }

  private loadFailed(context: FunctionContext, statusKnown: boolean): false {
    const { core } = this;
    const { step, subStep, address } = core.failure;
    if (statusKnown) core.writeState(context, ContextState.ERR_FN);
    if (!context.loadFailureLogged) {
      context.loadFailureLogged = true;
      this.log(context, { step, subStep, address });
    }
    context.forget();
    return false;
  }

  // ---- taking descriptors (ref §6.2 main loop)

  private consume(context: FunctionContext, maxTurns: number, bytesLimit: number): number {
    const { core } = this;
    const { descriptor } = context;
    const clearValid = core.config.clearValid === 'on';
    // Without a way to write CXT_STS the first descriptor is the last one (S-75), so each is taken by itself.
    const publishes = context.statusMap.covers(context.statusAddress, 16, Access.WRITE);
    const hot = clearValid && core.ports.tracer === undefined && publishes;
    const slotAccess = clearValid ? Access.READ_WRITE : Access.READ;
    this.refreshLimits(context);
    // What others stored since the last step is looked at once; within a step Write_Index is read again when it is reached.
    context.rung = false;
    if (!readWriteIndex(core, context)) return this.failContext(context);

    for (let turns = 0; ; ) {
      if (context.readIndex === context.writeIndex) {
        if (!readWriteIndex(core, context)) return turns + this.failContext(context);
        if (context.readIndex === context.writeIndex) return turns + this.park(context);
      }
      const address = context.ring + context.slot * DESCRIPTOR_BYTES;
      let map = context.ringMap;
      if (!map.covers(address, DESCRIPTOR_BYTES, slotAccess)) {
        const found = core.structure(context, address, DESCRIPTOR_BYTES, slotAccess);
        if (!found) {
          core.failAccess(ErrorStep.DSC_GEN, core.memory.of(context.structurePasid), address, DESCRIPTOR_BYTES);
          return turns + this.failContext(context, context.readIndex);
        }
        map = found;
        context.ringMap = map;
      }
      // qword 0 first, the rest only after vl was seen: the body may be younger than the header (S-72).
      const word = map.word(address);
      const header = loadShared32(map.u32, word);
      if ((header & VALID) === 0) return turns + this.park(context);
      const slot = map.u32;
      turns++;
      if (hot && (header & HEADER_MASK) === PLAIN_COPY && copyAtOnce(core, context, slot, word) > 0) {
        const completion = slot[word + 14];
        if ((completion & NO_POINTER) !== 0) {
          // No completion block: only vl and Read_Index are left to write.
          slot[word] = header & ~VALID;
          this.advance(context);
          if (context.unpublished >= PUBLISH_EVERY && !core.writeReadIndex(context)) return turns + this.failStatus(context);
        } else {
          descriptor[0] = header;
          descriptor[14] = completion;
          descriptor[15] = slot[word + 15];
          context.slotAddress = address;
          this.complete(context);
          if (!context.running) return turns;
        }
      } else {
        descriptor[0] = header;
        for (let i = 1; i < 16; i++) descriptor[i] = slot[word + i];
        context.slotAddress = address;
        context.workNumber++;
        if (core.ports.tracer !== undefined) this.traceDescriptor(context);
        this.settle(context, execute(core, context, this));
        if (!context.running || isBusy(context)) return turns;
        if (context.stop !== 'none') {
          this.stopSelf(context);
          return turns;
        }
      }
      if (turns >= maxTurns || core.counters.bytes >= bytesLimit) {
        if (context.unpublished > 0 && !core.writeReadIndex(context)) return turns + this.failStatus(context);
        this.queue.push(context);
        return turns;
      }
      if (context.reload) {
        this.queue.push(context);
        return turns;
      }
    }
  }

  private refreshLimits(context: FunctionContext): void {
    const { registers } = this.core;
    if (context.limitsGeneration === registers.limitsGeneration) return;
    context.limitsGeneration = registers.limitsGeneration;
    context.maxBytes = effectiveBufferBytes(registers, context.l1MaxBuffer);
    context.opGroups = (context.l1OpGroups & registers.opGroups) >>> 0;
  }

  /** Nothing to fetch: the next doorbell loads the context again. */
  private park(context: FunctionContext): number {
    if (context.unpublished > 0 && !this.core.writeReadIndex(context)) return this.failStatus(context);
    context.idle = true;
    return 0;
  }

  private advance(context: FunctionContext): void {
    context.readIndex++;
    context.unpublished++;
    if (++context.slot === context.ringSize) context.slot = 0;
    this.core.counters.descriptors++;
  }

  // ---- completing (ref §6.4, S-74)

  /** What follows from the outcome of an operation or of one slice of it. */
  private settle(context: FunctionContext, outcome: Outcome): void {
    switch (outcome) {
      case Outcome.DONE:
        this.complete(context);
        break;
      case Outcome.FAILED:
        this.failDescriptor(context);
        break;
      case Outcome.MORE:
        if (context.unpublished > 0) this.core.writeReadIndex(context);
        this.queue.push(context);
        break;
      case Outcome.WAIT:
        if (this.core.registers.state === FunctionState.ACTIVE || this.othersRun()) this.waiting = context;
        else this.giveUp(context);
        break;
    }
  }

  private complete(context: FunctionContext): void {
    const { core } = this;
    const target = context.adminFailure;
    const reports: Report[] = target === undefined ? NO_REPORTS : [{ ...target, reaction: Reaction.INFORMATIVE }];
    context.adminFailure = undefined;
    context.work = Work.NONE;
    const slot = this.writableSlot(context, reports);
    if (!slot) return;
    if (!signalCompletion(core, context, target !== undefined)) {
      const { step, subStep, address } = core.failure;
      const both = [...reports, { step, subStep, address, index: context.readIndex }]; // S-43
      if (this.consumeSlot(context, slot, both)) this.stopWithError(context, both);
      return;
    }
    if (!this.consumeSlot(context, slot, reports)) return;
    this.traceCompletion(context, target !== undefined);
    for (const report of reports) this.log(context, report);
  }

  /** The descriptor failed: er and signal, vl, Read_Index, state, log (S-74); the context is stopped. */
  private failDescriptor(context: FunctionContext): void {
    const { core } = this;
    const { step, subStep, address, operand } = core.failure;
    const { readIndex: index } = context;
    const reports: Report[] = [{ step, subStep, address, index, operand: operand < 0 ? undefined : operand }];
    context.work = Work.NONE;
    const slot = this.writableSlot(context, reports);
    if (!slot) return;
    if (!signalCompletion(core, context, true)) {
      reports.push({ step: core.failure.step, subStep: core.failure.subStep, address: core.failure.address, index });
    }
    if (!this.consumeSlot(context, slot, reports)) return;
    this.traceCompletion(context, true);
    this.stopWithError(context, reports);
  }

  /**
   * The slot of the descriptor in execution. It may have vanished while that ran in slices (S-102): then it cannot be
   * consumed, will run again after a restart, and so must not be completed now.
   * @param reports what the descriptor itself has to log in that case
   * @returns undefined when the context was stopped
   */
  private writableSlot(context: FunctionContext, reports: readonly Report[] = NO_REPORTS): Mapping | undefined {
    const { core } = this;
    const { slotAddress: address, ringMap } = context;
    if (core.config.clearValid === 'off' || ringMap.covers(address, DESCRIPTOR_BYTES, Access.WRITE)) return ringMap;
    const map = core.structure(context, address, DESCRIPTOR_BYTES, Access.WRITE);
    if (map) return map;
    core.failAccess(ErrorStep.DSC_GEN, core.memory.of(context.structurePasid), address, DESCRIPTOR_BYTES);
    const { step, subStep } = core.failure;
    this.stopWithError(context, [...reports, { step, subStep, address, index: context.readIndex }]);
    return undefined;
  }

  /**
   * Clears vl and writes Read_Index behind the descriptor.
   * @param reports what the descriptor itself has to log, should this fail
   * @returns false when the context was stopped because Read_Index cannot be written
   */
  private consumeSlot(context: FunctionContext, slot: Mapping, reports: readonly Report[] = NO_REPORTS): boolean {
    const { core } = this;
    if (core.config.clearValid === 'on') slot.store32(context.slotAddress, context.descriptor[0] & ~VALID);
    this.advance(context);
    if (core.writeReadIndex(context)) return true;
    this.failStatus(context, reports);
    return false;
  }

  // ---- errors (ref §6.4, §8)

  /** An error of the context that is not one of a descriptor's execution; nothing is consumed. @returns 0 turns */
  private failContext(context: FunctionContext, index?: number): number {
    const { step, subStep, address } = this.core.failure;
    if (context.unpublished > 0) this.core.writeReadIndex(context);
    this.stopWithError(context, [{ step, subStep, address, index }]);
    return 0;
  }

  private stopWithError(context: FunctionContext, reports: readonly Report[]): void {
    const { core } = this;
    if (!core.writeState(context, ContextState.ERR_FN)) {
      this.failStatus(context, reports);
      return;
    }
    for (const report of reports) this.log(context, report);
    context.forget();
  }

  /** CXT_STS cannot be written: what was done stands, the context leaves the running set (S-75). @returns 0 turns */
  private failStatus(context: FunctionContext, reports: readonly Report[] = NO_REPORTS): number {
    const { core } = this;
    core.failAccess(ErrorStep.CXT_STS, core.memory.of(context.structurePasid), context.statusAddress, 16);
    const { step, subStep, address } = core.failure;
    for (const report of reports) this.log(context, report);
    this.log(context, { step, subStep, address });
    context.forget();
    return 0;
  }

  private log(context: FunctionContext, report: Report): void {
    this.core.counters.errors++;
    this.core.log.report({ reaction: Reaction.CONTEXT_STOPPED, context: context.number, ...report });
  }

  /** An internal error of one context, as only fault injection makes it (ref §8.3). */
  internalError(number: number): void {
    const context = this.core.contexts.get(number);
    if (!context?.running) return;
    const report = { step: ErrorStep.INT, subStep: SubStep.OTHER };
    if (context.idle && !walkTables(this.core, context, { limit: false })) {
      this.log(context, report);
      context.forget();
    } else {
      this.stopWithError(context, [report]);
    }
    // Context 0 may be waiting for this one to stop.
    if (this.waiting !== undefined) this.queue.push(this.waiting);
    this.waiting = undefined;
  }

  // ---- starting and stopping (ref §5.6, §6.5)

  startContext(context: FunctionContext): void {
    context.running = true;
    context.idle = false;
    context.rung = true;
    this.queue.push(context);
  }

  stopContext(context: FunctionContext, hard: boolean): void {
    if (!context.running) return;
    if (context.stop !== 'none') {
      if (hard && context.state === ContextState.STOPG_SW) context.stop = 'hard';
      return;
    }
    this.beginStop(context, 'stopSoftware', hard);
  }

  ringDoorbell(number: number, _value: number): void {
    if (number <= this.core.registers.maxContext) this.ring(number);
  }

  /** Context 0 named itself in a CXT_STOP and has finished that descriptor (O-13, S-53). */
  private stopSelf(context: FunctionContext): void {
    const hard = context.stop === 'hard';
    context.stop = 'none';
    this.beginStop(context, 'stopSoftware', hard);
  }

  /**
   * A stop begins: the tables are walked again (S-80), STOPG_* is written, and the context's next turns finish what was fetched.
   */
  beginStop(context: FunctionContext, event: 'stopSoftware' | 'stopFunction', hard: boolean): void {
    const { core } = this;
    const { readIndex, slot, unpublished } = context;
    if (!walkTables(core, context, { limit: false })) {
      context.forget();
      return;
    }
    if (context.idle) {
      // While it was idle nothing was held of Read_Index: memory has the word (S-70).
      const state = readStatus(core, context);
      if (state !== ContextState.RUN) {
        context.forget();
        return;
      }
    } else {
      context.readIndex = readIndex;
      context.slot = slot;
      context.unpublished = unpublished;
    }
    const next = CONTEXT_TRANSITIONS[context.state]?.[event];
    if (next === undefined || !core.writeState(context, next)) {
      this.failStatus(context);
      return;
    }
    context.stop = hard ? 'hard' : 'soft';
    this.queue.push(context);
  }

  /** The last writes of a context that stops: Read_Index, then the state (ref §6.5). */
  private finishStop(context: FunctionContext): void {
    const { core } = this;
    if (context.work !== Work.NONE && context.stop === 'hard') {
      context.work = Work.NONE;
      const slot = this.writableSlot(context);
      if (!slot || !this.consumeSlot(context, slot)) return; // abandoned: consumed without completion (S-86)
    }
    if (!core.writeReadIndex(context) || !core.writeState(context, CONTEXT_TRANSITIONS[context.state]?.stopped ?? ContextState.STOP_FN)) {
      this.failStatus(context);
      return;
    }
    context.forget();
  }

  /** A waiting SYNC or CXT_START when the function stops: unconsumed, it runs again after the next start (S-85). */
  private giveUp(context: FunctionContext): void {
    context.work = Work.NONE;
    context.adminFailure = undefined;
    context.adminWaits = undefined;
  }

  /**
   * One round of a function stop (ref §3.3 rules 6 and 7): all contexts but 0 begin to stop, and context 0 when they have.
   * @returns true when nothing runs any more
   */
  progressStop(hard: boolean): boolean {
    const running = this.running();
    if (running.length === 0) return true;
    const others = running.filter((context) => context.number !== 0);
    for (const context of others.length > 0 ? others : running) {
      if (context.stop !== 'none') {
        if (hard) context.stop = 'hard';
        if (context.state === ContextState.STOPG_SW) this.takeOverStop(context);
      } else if (context.number === 0 && isBusy(context) && !hard) {
        this.waiting = undefined; // a SYNC gets its last look, now that the others have stopped (S-85)
      } else {
        this.beginStop(context, 'stopFunction', hard);
      }
      this.queue.push(context);
    }
    return false;
  }

  /** STOPG_SW → STOPG_FN: the function stops a context that software was stopping (ref §6.5). */
  private takeOverStop(context: FunctionContext): void {
    if (!this.core.writeState(context, ContextState.STOPG_FN)) this.failStatus(context);
  }

  /** All contexts of the running set, ascending. */
  private running(): FunctionContext[] {
    return [...this.core.contexts.values()].filter((context) => context.running).sort((a, b) => a.number - b.number);
  }

  private othersRun(): boolean {
    for (const context of this.core.contexts.values()) if (context.running && context.number !== 0) return true;
    return false;
  }

  /** GSV_ERROR: every context is stopped at once, as far as memory allows (ref §3.3 rule 9). */
  stopAll(): void {
    for (const context of this.running()) {
      context.work = Work.NONE;
      // As for any stop: the tables are walked again (S-80), and an idle context is what memory says it is (S-70).
      if (!walkTables(this.core, context, { limit: false })) continue;
      if (context.idle && readStatus(this.core, context) !== ContextState.RUN) continue;
      if (context.unpublished > 0) this.core.writeReadIndex(context);
      this.core.writeState(context, CONTEXT_TRANSITIONS[context.state]?.functionError ?? ContextState.STOP_FN);
    }
    this.forget();
  }

  // ---- tracing

  private traceDescriptor(context: FunctionContext): void {
    this.core.ports.tracer?.descriptor(context.number, context.readIndex, new Uint8Array(context.descriptor.buffer));
  }

  private traceCompletion(context: FunctionContext, error: boolean): void {
    this.core.ports.tracer?.completion(context.number, context.readIndex - 1, error);
  }
}

const NO_REPORTS: Report[] = [];

/** True between the slices of a descriptor. */
function isBusy(context: FunctionContext): boolean {
  return context.work !== Work.NONE;
}

/** What is to be logged; by default about the context at hand, which is stopped. */
interface Report {
  step: ErrorStep;
  subStep: SubStep;
  reaction?: Reaction;
  context?: number;
  index?: number;
  operand?: number;
  address?: number;
}
