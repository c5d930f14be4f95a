import { Access, type Mapping } from '../memory/address-space.js';
import { ContextState, DESCRIPTOR_BYTES, ErrorStep, Reaction, type SubStep } from '../spec/index.js';
import { signalCompletion } from './complete.js';
import { type FunctionContext, Work } from './context.js';
import type { Core } from './core.js';

/** vl in dword 0 of a descriptor. */
export const VALID = 1;

/** What is to be logged; by default about the context at hand, which is stopped. */
export interface Report {
  step: ErrorStep;
  subStep: SubStep;
  reaction?: Reaction;
  context?: number;
  index?: number;
  operand?: number;
  address?: number;
}

const NO_REPORTS: Report[] = [];

/**
 * How a descriptor leaves the ring, completed or failed, and how a context is stopped by an error. Ref §6.4; the order of the
 * writes is S-74: er, signal, vl, read_index, state, log.
 */
export class Retirement {
  private readonly core: Core;

  constructor(core: Core) {
    this.core = core;
  }

  /** Counts a descriptor as consumed; Read_Index in memory follows later. */
  advance(context: FunctionContext): void {
    context.readIndex++;
    context.unpublished++;
    if (++context.slot === context.ringSize) context.slot = 0;
    this.core.counters.descriptors++;
  }

  /**
   * Takes a descriptor before it executes (`readIndex=early`, S-28): vl, then Read_Index. Where CXT_STS cannot be written it is not
   * taken at all, because nobody could tell that it was.
   * @returns false when the context was stopped
   */
  take(context: FunctionContext, slot: Mapping, header: number): boolean {
    const { core } = this;
    if (!core.canWriteStatus(context)) {
      this.failStatus(context);
      return false;
    }
    if (core.config.clearValid === 'on') slot.store32(context.slotAddress, header & ~VALID);
    this.advance(context);
    core.writeReadIndex(context);
    return true;
  }

  /** The descriptor is done: completion block, vl, Read_Index; an admin descriptor may have a target to report (S-27). */
  complete(context: FunctionContext): void {
    const { core } = this;
    const target = context.adminFailure;
    const reports: Report[] = target === undefined ? NO_REPORTS : [{ ...target, reaction: Reaction.INFORMATIVE }];
    context.adminFailure = undefined;
    context.work = Work.NONE;
    const slot = this.writableSlot(context, reports);
    if (!slot) return;
    if (!signalCompletion(core, context, target !== undefined)) {
      const { step, subStep, address } = core.failure;
      const both = [...reports, { step, subStep, address, index: indexOf(context) }]; // S-43
      if (this.consumeSlot(context, slot, both)) this.stopWithError(context, both);
      return;
    }
    if (!this.consumeSlot(context, slot, reports)) return;
    this.traceCompletion(context, target !== undefined);
    for (const report of reports) this.log(context, report);
  }

  /** The descriptor failed: er and signal, vl, Read_Index, state, log (S-74); the context is stopped. */
  failDescriptor(context: FunctionContext): void {
    const { core } = this;
    const { step, subStep, address, operand } = core.failure;
    const index = indexOf(context);
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
  writableSlot(context: FunctionContext, reports: readonly Report[] = NO_REPORTS): Mapping | undefined {
    const { core } = this;
    const { slotAddress: address, ringMap } = context;
    if (context.taken) return ringMap; // nothing is left to do there
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
  consumeSlot(context: FunctionContext, slot: Mapping, reports: readonly Report[] = NO_REPORTS): boolean {
    const { core } = this;
    if (context.taken) {
      context.taken = false;
      return true;
    }
    if (core.config.clearValid === 'on') {
      // Asked once more, so that a watch sees vl change after signal (S-74). It is too late to refuse.
      if (slot.watch !== undefined) slot.covers(context.slotAddress, DESCRIPTOR_BYTES, Access.WRITE);
      slot.store32(context.slotAddress, context.descriptor[0] & ~VALID);
    }
    this.advance(context);
    if (core.writeReadIndex(context)) return true;
    this.failStatus(context, reports);
    return false;
  }

  /** An error of the context that is not one of a descriptor's execution; nothing is consumed. @returns 0 turns */
  failContext(context: FunctionContext, index?: number): number {
    const { step, subStep, address } = this.core.failure;
    if (context.unpublished > 0) this.core.writeReadIndex(context);
    this.stopWithError(context, [{ step, subStep, address, index }]);
    return 0;
  }

  stopWithError(context: FunctionContext, reports: readonly Report[]): void {
    const { core } = this;
    if (!core.writeState(context, ContextState.ERR_FN)) {
      this.failStatus(context, reports);
      return;
    }
    for (const report of reports) this.log(context, report);
    context.forget();
  }

  /** CXT_STS cannot be written: what was done stands, the context leaves the running set (S-75). @returns 0 turns */
  failStatus(context: FunctionContext, reports: readonly Report[] = NO_REPORTS): number {
    const { core } = this;
    core.failAccess(ErrorStep.CXT_STS, core.memory.of(context.structurePasid), context.statusAddress, 16);
    const { step, subStep, address } = core.failure;
    for (const report of reports) this.log(context, report);
    this.log(context, { step, subStep, address });
    context.forget();
    return 0;
  }

  log(context: FunctionContext, report: Report): void {
    this.core.counters.errors++;
    this.core.log.report({ reaction: Reaction.CONTEXT_STOPPED, context: context.number, ...report });
  }

  private traceCompletion(context: FunctionContext, error: boolean): void {
    this.core.ports.tracer?.completion(context.number, context.readIndex - 1, error);
  }
}

/** Index of the descriptor in execution. */
function indexOf({ readIndex, taken }: FunctionContext): number {
  return taken ? readIndex - 1 : readIndex;
}
