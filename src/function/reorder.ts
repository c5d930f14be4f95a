import { Access } from '../memory/address-space.js';
import { Prng } from '../prng.js';
import { DESCRIPTOR_BYTES, ErrorStep, loadShared32 } from '../spec/index.js';
import { signalCompletion } from './complete.js';
import { type FunctionContext, Work } from './context.js';
import { type Core, Outcome } from './core.js';
import { execute } from './execute.js';
import { clearSlot, FLIGHT_MAX, Flight, type Taken } from './flight.js';
import type { AdminHost } from './operations/admin.js';
import { type Retirement, VALID } from './retire.js';
import { readWriteIndex } from './tables.js';
import type { Turns } from './turn-queue.js';

// Bits of dword 0.
const SEQUENTIAL = 2;
/** fe and rb (S-17). */
const FENCE = 4 | 0x20;

/**
 * Option `reorder`: descriptors are taken in the order of the ring, up to {@link FLIGHT_MAX} of them, and executed in an order that
 * a seeded generator chooses. A descriptor with fe or rb is taken when nothing is in flight; one with se, or any under CXT_CTL.se,
 * executes when all before it are done. Later ones may overtake both. S-105, ref §6.3.
 *
 * Context 0 is not for here: what it does is fenced in any case (ref §5.6).
 */
export class OutOfOrder {
  private readonly core: Core;
  private readonly queue: Turns;
  private readonly retire: Retirement;
  private readonly host: AdminHost;
  private readonly random: Prng;
  private readonly slotAccess: Access;
  private readonly candidates: Taken[] = [];

  constructor(core: Core, queue: Turns, retire: Retirement, host: AdminHost) {
    this.core = core;
    this.queue = queue;
    this.retire = retire;
    this.host = host;
    this.random = new Prng(core.config.seed);
    this.slotAccess = core.config.clearValid === 'on' ? Access.READ_WRITE : Access.READ;
  }

  /** A context was loaded. */
  adopt(context: FunctionContext): void {
    if (context.number !== 0) context.flight ??= new Flight();
  }

  /**
   * Runs turns of a context: takes what can be taken, and executes one of what is in flight each turn.
   * @param park what to do when there is nothing to fetch; @returns turns
   */
  run(context: FunctionContext, maxTurns: number, bytesLimit: number, park: () => number): number {
    const { core, queue } = this;
    context.rung = false;
    for (let turns = 0; ; ) {
      if (this.mayTake(context) && !this.fill(context)) return turns;
      const entry = this.choose(context);
      if (entry === undefined) {
        if (this.mayTake(context)) return turns + park();
        queue.push(context); // it stops, or loads again
        return turns;
      }
      turns++;
      this.start(context, entry);
      if (!context.running || context.work !== Work.NONE) return turns;
      if (turns >= maxTurns || core.counters.bytes >= bytesLimit) {
        queue.push(context);
        return turns;
      }
    }
  }

  private mayTake({ stop, reload, flight }: FunctionContext): boolean {
    return !this.core.frozen && stop === 'none' && !reload && flight?.reports.length === 0;
  }

  /** Takes descriptors until one has to wait. @returns false when the context was stopped, which happens only with nothing in flight */
  private fill(context: FunctionContext): boolean {
    const { core, retire } = this;
    const { taken } = context.flight as Flight;
    while (taken.length < FLIGHT_MAX) {
      const index = core.early ? context.readIndex : context.readIndex + taken.length;
      if (index >= context.writeIndex) {
        if (!readWriteIndex(core, context)) return this.wait(context);
        if (index >= context.writeIndex) return true;
      }
      const address = context.ring + (index % context.ringSize) * DESCRIPTOR_BYTES;
      let map = context.ringMap;
      if (!map.covers(address, DESCRIPTOR_BYTES, this.slotAccess)) {
        const found = core.structure(context, address, DESCRIPTOR_BYTES, this.slotAccess);
        if (!found) {
          core.failAccess(ErrorStep.DSC_GEN, core.memory.of(context.structurePasid), address, DESCRIPTOR_BYTES);
          return this.wait(context, index);
        }
        map = found;
        context.ringMap = map;
      }
      const word = map.word(address);
      const header = loadShared32(map.u32, word);
      if ((header & VALID) === 0 || ((header & FENCE) !== 0 && taken.length > 0)) return true;
      if (core.early) {
        if (taken.length > 0 && !core.canWriteStatus(context)) return true;
        context.slotAddress = address;
        const entry = (context.flight as Flight).take(index, address, map.u32, word, header);
        if (!retire.take(context, map, entry.words[0])) return false;
      } else {
        (context.flight as Flight).take(index, address, map.u32, word, header);
      }
    }
    return true;
  }

  /** An error of the context, after {@link Core.fail}: it is met again once nothing is in flight. */
  private wait(context: FunctionContext, index?: number): boolean {
    if ((context.flight as Flight).taken.length > 0) return true;
    this.retire.failContext(context, index);
    return false;
  }

  /** One of those that may execute now. What is first is never done, so all before a descriptor are done only if it is first. */
  private choose(context: FunctionContext): Taken | undefined {
    const { candidates } = this;
    const { taken } = context.flight as Flight;
    candidates.length = 0;
    for (let position = 0; position < taken.length; position++) {
      const entry = taken[position];
      const ordered = context.sequential || (entry.words[0] & SEQUENTIAL) !== 0;
      if (!entry.done && (position === 0 || !ordered)) candidates.push(entry);
    }
    return candidates.length < 2 ? candidates[0] : candidates[this.random.below(candidates.length)];
  }

  private start(context: FunctionContext, entry: Taken): void {
    const { core } = this;
    (context.flight as Flight).current = entry;
    context.descriptor.set(entry.words);
    context.slotAddress = entry.slotAddress;
    context.workNumber++;
    core.ports.tracer?.descriptor(context.number, entry.index, new Uint8Array(context.descriptor.buffer));
    if (core.faults !== undefined) context.fault = core.faults.descriptor(context.number, (context.descriptor[0] >>> 8) & 0x7_ffff);
    this.settle(context, execute(core, context, this.host));
  }

  /** What follows from the outcome of a descriptor or of one slice of it. */
  settle(context: FunctionContext, outcome: Outcome): void {
    if (outcome === Outcome.DONE || outcome === Outcome.FAILED) this.finish(context, outcome === Outcome.FAILED);
    else this.queue.push(context);
  }

  /** er and signal, vl, and Read_Index as far as nothing before it is left (S-74, S-105). */
  private finish(context: FunctionContext, failed: boolean): void {
    const { core, retire } = this;
    const flight = context.flight as Flight;
    const { taken, reports } = flight;
    const entry = flight.current as Taken;
    const note = (operand = -1) => {
      const { step, subStep, address } = core.failure;
      reports.push({ step, subStep, address, index: entry.index, operand: operand < 0 ? undefined : operand });
    };
    flight.current = undefined;
    context.work = Work.NONE;
    if (failed) note(core.failure.operand);
    if (!signalCompletion(core, context, failed)) note();
    if (!core.early && !clearSlot(core, context, entry)) note();
    core.ports.tracer?.completion(context.number, entry.index, failed);
    entry.done = true;
    if (core.early) {
      flight.remove(taken.indexOf(entry));
    } else {
      while (taken[0]?.done) {
        flight.remove(0);
        retire.advance(context);
      }
      if (context.unpublished > 0 && !core.writeReadIndex(context)) {
        retire.failStatus(context, reports.splice(0));
        return;
      }
    }
    if (reports.length > 0 && taken.length === 0) retire.stopWithError(context, reports.splice(0));
  }
}
