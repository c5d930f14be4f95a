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
import { type FunctionContext, Work } from './context.js';
import { type Core, Outcome } from './core.js';
import { ERROR_VECTOR } from './errorlog.js';
import { execute, resume } from './execute.js';
import { abandonFlight } from './flight.js';
import type { AdminHost } from './operations/admin.js';
import { copyAtOnce, SLICE_BYTES } from './operations/dma.js';
import type { FaultPort } from './ports.js';
import { effectiveBufferBytes } from './registers.js';
import { OutOfOrder } from './reorder.js';
import { Retirement, VALID } from './retire.js';
import { Stopping } from './stopping.js';
import { readStatus, readWriteIndex, Walk, walkTables } from './tables.js';
import { TurnQueue, type Turns, WeightedQueue } from './turn-queue.js';
import { SlotWatch } from './watch.js';

/** Read_Index is written at the latest after so many descriptors: the line it lies in is shared with the producers. */
const PUBLISH_EVERY = 16;

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
  private readonly queue: Turns;
  private readonly retire: Retirement;
  private readonly stopping: Stopping;
  /** No option asks for more than {@link copyAtOnce} does. */
  private readonly direct: boolean;
  /** Options `reorder` and `pollInvalid`. */
  private readonly outOfOrder: OutOfOrder | undefined;
  private readonly watch: SlotWatch | undefined;
  /** Context 0 while it waits in SYNC or CXT_START; it is in line again after anything has happened. */
  private waiting: FunctionContext | undefined;

  constructor(core: Core) {
    this.core = core;
    const { clearValid, readIndex, reorder, pollInvalid, qos } = core.config;
    this.queue = qos === 'on' ? new WeightedQueue() : new TurnQueue();
    this.retire = new Retirement(core);
    this.stopping = new Stopping(core, this.queue, this.retire);
    this.outOfOrder = reorder === 'on' ? new OutOfOrder(core, this.queue, this.retire, this) : undefined;
    this.watch = pollInvalid === 'on' ? new SlotWatch(core) : undefined;
    this.direct = clearValid === 'on' && readIndex === 'late' && !core.strict;
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
    // Whether a virtual function is ready is seen by looking: it works in steps of its own.
    if (this.waiting !== undefined && this.waiting.adminTarget !== undefined) {
      queue.push(this.waiting);
      this.waiting = undefined;
    }
    if (this.watch !== undefined && core.registers.state === FunctionState.ACTIVE) this.watch.look((number) => this.ring(number));
    const bytesLimit = core.counters.bytes + SLICE_BYTES;
    let turns = 0;
    while (turns < budget && core.counters.bytes < bytesLimit) {
      const context = queue.shift();
      if (context === undefined) break;
      // Alone in line, a context may use all turns that are left; otherwise it gets one (S-45).
      turns += this.turn(context, queue.empty ? budget - turns : 1, bytesLimit);
      if (this.waiting !== undefined && this.waiting !== context) {
        queue.push(this.waiting);
        this.waiting = undefined;
      }
    }
    return turns;
  }

  /**
   * Brings what is under way to an end, at most `budget` turns or 256 KiB of it: copies and fills go on, descriptors in flight
   * complete, nothing new is taken, and what an administrative operation waits for may go on waiting (S-125, S-126).
   * @returns true when no descriptor that moves data is under way any more
   */
  quiesce(budget: number): boolean {
    const { core } = this;
    // Who is stopped at once abandons what it does (S-86).
    if (core.registers.state === FunctionState.STOPG_HD && !this.quiet) this.progressStop(true);
    const bytesLimit = core.counters.bytes + SLICE_BYTES;
    let turns = 0;
    for (const context of core.contexts.values()) {
      while (context.running && isUnderWay(context)) {
        if (turns >= budget || core.counters.bytes >= bytesLimit) return false;
        turns++;
        if (context.stop === 'hard' || context.work !== Work.NONE) this.turn(context, 1, bytesLimit);
        else this.consumeOutOfOrder(context, 1, bytesLimit);
        if (this.waiting !== undefined) this.queue.push(this.waiting);
        this.waiting = undefined;
      }
    }
    // Read_Index is in memory whenever a turn is over.
    return true;
  }

  /** Nothing is under way that {@link quiesce} would bring to an end. */
  get quiet(): boolean {
    for (const context of this.core.contexts.values()) if (context.running && isUnderWay(context)) return false;
    return true;
  }

  /** In line for a turn, or there as soon as anything happens. */
  isQueued(context: FunctionContext): boolean {
    return context.queued || context === this.waiting;
  }

  /** Puts a context of a snapshot where it was. */
  adopt(context: FunctionContext, { queued, watched }: { queued: boolean; watched: boolean }): void {
    this.core.contexts.set(context.number, context);
    if (context.running && !context.idle) this.outOfOrder?.adopt(context);
    if (watched) this.watch?.add(context);
    if (queued) this.queue.push(context);
  }

  /** True while somebody waits on a slot that is looked at without a doorbell. */
  get polls(): boolean {
    return this.watch?.active ?? false;
  }

  /** Forgets all contexts, without touching memory (S-107). */
  forget(): void {
    this.queue.clear();
    this.watch?.clear();
    this.waiting = undefined;
    this.core.contexts.clear();
  }

  private turn(context: FunctionContext, maxTurns: number, bytesLimit: number): number {
    const { core } = this;
    if (context.stop === 'hard') {
      this.stopping.finishStop(context);
      return 1;
    }
    // Context 0 stops when the others have; until then a hard stop holds it still (S-86).
    if (core.registers.state === FunctionState.STOPG_HD && context.stop === 'none') return 1;
    if (context.work !== Work.NONE) {
      this.settle(context, resume(core, context, this));
      if (context.running && !isBusy(context)) this.queue.push(context);
      return this.waiting === context && context.adminTarget !== undefined ? 0 : 1;
    }
    const inFlight = context.flight !== undefined && context.flight.taken.length > 0;
    if (inFlight && (context.stop === 'soft' || context.reload)) return this.consumeOutOfOrder(context, maxTurns, bytesLimit);
    if (context.stop === 'soft') {
      this.stopping.finishStop(context);
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
    if (!walkTables(core, context, Walk.LOAD)) return this.loadFailed(context, false);
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
    this.outOfOrder?.adopt(context);
    return true;
  }

  private loadFailed(context: FunctionContext, statusKnown: boolean): false {
    const { core } = this;
    const { step, subStep, address } = core.failure;
    const stopped = statusKnown && core.writeState(context, ContextState.ERR_FN);
    // A context that says ERR_FN for all to read is quiet until software starts it again. Else every doorbell would fail anew (S-36).
    const quiet = stopped && step === ErrorStep.WRT_IDX;
    if (quiet || !context.loadFailureLogged) this.retire.log(context, { step, subStep, address });
    context.loadFailureLogged = !quiet;
    context.forget();
    return false;
  }

  // ---- taking descriptors (ref §6.2 main loop)

  private consume(context: FunctionContext, maxTurns: number, bytesLimit: number): number {
    if (context.flight !== undefined) return this.consumeOutOfOrder(context, maxTurns, bytesLimit);
    const { core } = this;
    const { descriptor } = context;
    const clearValid = core.config.clearValid === 'on';
    // Without a way to write CXT_STS the first descriptor is the last one (S-75), so each is taken by itself.
    const publishes = context.statusMap.covers(context.statusAddress, 16, Access.WRITE);
    const hot = this.direct && core.ports.tracer === undefined && core.faults === undefined && publishes;
    const slotAccess = clearValid ? Access.READ_WRITE : Access.READ;
    this.refreshLimits(context);
    // What others stored since the last step is looked at once; within a step Write_Index is read again when it is reached.
    context.rung = false;
    if (!readWriteIndex(core, context)) return this.retire.failContext(context);

    for (let turns = 0; ; ) {
      if (context.readIndex === context.writeIndex) {
        if (!readWriteIndex(core, context)) return turns + this.retire.failContext(context);
        if (context.readIndex === context.writeIndex) return turns + this.park(context);
      }
      const address = context.ring + context.slot * DESCRIPTOR_BYTES;
      let map = context.ringMap;
      if (!map.covers(address, DESCRIPTOR_BYTES, slotAccess)) {
        const found = core.structure(context, address, DESCRIPTOR_BYTES, slotAccess);
        if (!found) {
          core.failAccess(ErrorStep.DSC_GEN, core.memory.of(context.structurePasid), address, DESCRIPTOR_BYTES);
          return turns + this.retire.failContext(context, context.readIndex);
        }
        map = found;
        context.ringMap = map;
      }
      // qword 0 first, the rest only after vl was seen: the body may be younger than the header (S-72).
      const word = map.word(address);
      const header = loadShared32(map.u32, word);
      if ((header & VALID) === 0) return turns + this.parkAtSlot(context);
      const slot = map.u32;
      turns++;
      if (hot && (header & HEADER_MASK) === PLAIN_COPY && copyAtOnce(core, context, slot, word) > 0) {
        const completion = slot[word + 14];
        if ((completion & NO_POINTER) !== 0) {
          // No completion block: only vl and Read_Index are left to write.
          slot[word] = header & ~VALID;
          this.retire.advance(context);
          if (context.unpublished >= PUBLISH_EVERY && !core.writeReadIndex(context)) return turns + this.retire.failStatus(context);
        } else {
          descriptor[0] = header;
          descriptor[14] = completion;
          descriptor[15] = slot[word + 15];
          context.slotAddress = address;
          this.retire.complete(context);
          if (!context.running) return turns;
        }
      } else {
        descriptor[0] = header;
        for (let i = 1; i < 16; i++) descriptor[i] = slot[word + i];
        context.slotAddress = address;
        context.workNumber++;
        if (core.ports.tracer !== undefined) this.traceDescriptor(context);
        if (core.faults !== undefined && this.holdsBack(context, core.faults)) return turns - 1 + this.park(context);
        if (core.early && !this.takeEarly(context, map)) return turns;
        this.settle(context, execute(core, context, this));
        if (!context.running || isBusy(context)) return turns;
        if (context.stop !== 'none') {
          this.stopSelf(context);
          return turns;
        }
      }
      if (turns >= maxTurns || core.counters.bytes >= bytesLimit) {
        if (context.unpublished > 0 && !core.writeReadIndex(context)) return turns + this.retire.failStatus(context);
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
    if (context.unpublished > 0 && !this.core.writeReadIndex(context)) return this.retire.failStatus(context);
    context.idle = true;
    return 0;
  }

  /** The same while Write_Index is ahead: the slot is looked at again without a doorbell, too, if the option says so. */
  private parkAtSlot(context: FunctionContext): number {
    const turns = this.park(context);
    if (context.running) this.watch?.add(context);
    return turns;
  }

  /** Asks the fault plan about the descriptor at hand. @returns whether it has to wait in its slot */
  private holdsBack(context: FunctionContext, faults: FaultPort): boolean {
    const { core } = this;
    if (context.held === 'yes') return true;
    if (context.held === 'released') {
      context.held = 'no';
      return false;
    }
    const fault = faults.descriptor(context.number, (context.descriptor[0] >>> 8) & 0x7_ffff);
    const noise = faults.noise(context.number);
    if (noise === 'interrupt') core.raise(ERROR_VECTOR);
    if (noise === 'record') this.retire.log(context, { step: ErrorStep.INT, subStep: SubStep.OTHER, reaction: Reaction.INFORMATIVE });
    if (fault?.kind !== 'hold') {
      context.fault = fault;
      return false;
    }
    context.held = 'yes';
    const hold = ++context.holds;
    core.held.hold({ now: faults.now() }, fault.ms, () => {
      if (context.held !== 'yes' || context.holds !== hold) return;
      context.held = 'released';
      this.ring(context.number);
    });
    return true;
  }

  /** `readIndex=early`; operations of the admin group are taken late, because they may be given up unconsumed (S-85). */
  private takeEarly(context: FunctionContext, slot: Mapping): boolean {
    const header = context.descriptor[0];
    if (context.number === 0 && ((header >>> 16) & 0x7ff) === DescriptorType.ADMIN) return true;
    if (!this.retire.take(context, slot, header)) return false;
    context.taken = true;
    return true;
  }

  private consumeOutOfOrder(context: FunctionContext, maxTurns: number, bytesLimit: number): number {
    this.refreshLimits(context);
    const park = () => (context.readIndex === context.writeIndex ? this.park(context) : this.parkAtSlot(context));
    return this.outOfOrder?.run(context, maxTurns, bytesLimit, park) ?? 0;
  }

  // ---- completing (ref §6.4, S-74)

  /** What follows from the outcome of an operation or of one slice of it. */
  private settle(context: FunctionContext, outcome: Outcome): void {
    if (context.flight !== undefined) {
      this.outOfOrder?.settle(context, outcome);
      return;
    }
    switch (outcome) {
      case Outcome.DONE:
        this.retire.complete(context);
        break;
      case Outcome.FAILED:
        this.retire.failDescriptor(context);
        break;
      case Outcome.MORE:
        if (context.unpublished > 0) this.core.writeReadIndex(context);
        this.queue.push(context);
        break;
      case Outcome.WAIT:
        if (this.core.registers.state === FunctionState.ACTIVE || this.stopping.othersRun()) this.waiting = context;
        else this.giveUp(context);
        break;
    }
  }

  /** An internal error of one context, as only fault injection makes it (ref §8.3). */
  internalError(number: number): void {
    const context = this.core.contexts.get(number);
    if (!context?.running) return;
    const report = { step: ErrorStep.INT, subStep: SubStep.OTHER };
    abandonFlight(this.core, context, this.retire);
    if (context.unpublished > 0) this.core.writeReadIndex(context);
    if (context.idle && !walkTables(this.core, context, Walk.STOP)) {
      this.retire.log(context, report);
      context.forget();
    } else {
      this.retire.stopWithError(context, [report]);
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

  ringDoorbell(number: number, _value: number): void {
    if (number <= this.core.registers.maxContext) this.ring(number);
  }

  /** Context 0 named itself in a CXT_STOP and has finished that descriptor (O-13, S-53). */
  private stopSelf(context: FunctionContext): void {
    const hard = context.stop === 'hard';
    context.stop = 'none';
    this.stopping.beginStop(context, 'stopSoftware', hard);
  }

  /** A waiting SYNC or CXT_START when the function stops: unconsumed, it runs again after the next start (S-85). */
  private giveUp(context: FunctionContext): void {
    context.work = Work.NONE;
    context.adminFailure = undefined;
    context.adminWaits = undefined;
    context.adminTarget = undefined;
  }

  /**
   * One round of a function stop (ref §3.3 rules 6 and 7): all contexts but 0 begin to stop, and context 0 when they have.
   * @returns true when nothing runs any more
   */
  progressStop(hard: boolean): boolean {
    const running = this.stopping.running();
    if (running.length === 0) return true;
    const others = running.filter((context) => context.number !== 0);
    for (const context of others.length > 0 ? others : running) {
      if (context.stop !== 'none') {
        if (hard) context.stop = 'hard';
        if (context.state === ContextState.STOPG_SW) this.stopping.takeOverStop(context);
      } else if (context.number === 0 && isBusy(context) && !hard) {
        this.waiting = undefined; // a SYNC gets its last look, now that the others have stopped (S-85)
      } else {
        this.stopping.beginStop(context, 'stopFunction', hard);
      }
      this.queue.push(context);
    }
    return false;
  }

  stopContext(context: FunctionContext, hard: boolean): void {
    if (!context.running) return;
    if (context.stop !== 'none') {
      if (hard && context.state === ContextState.STOPG_SW) context.stop = 'hard';
      return;
    }
    this.stopping.beginStop(context, 'stopSoftware', hard);
  }

  /** GSV_ERROR (ref §3.3 rule 9). */
  stopAll(): void {
    this.stopping.stopAll();
    this.forget();
  }

  // ---- tracing

  private traceDescriptor(context: FunctionContext): void {
    this.core.ports.tracer?.descriptor(context.number, context.readIndex, new Uint8Array(context.descriptor.buffer));
  }
}

/** True in the middle of a descriptor that moves data, or while any are in flight. */
function isUnderWay({ work, flight }: FunctionContext): boolean {
  return work === Work.COPY || work === Work.FILL || (flight !== undefined && flight.taken.length > 0);
}

/** True between the slices of a descriptor. */
function isBusy(context: FunctionContext): boolean {
  return context.work !== Work.NONE;
}
