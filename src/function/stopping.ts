import { ContextState } from '../spec/index.js';
import { type FunctionContext, Work } from './context.js';
import type { Core } from './core.js';
import { abandonFlight } from './flight.js';
import type { Retirement } from './retire.js';
import { CONTEXT_TRANSITIONS } from './state.js';
import { readStatus, Walk, walkTables } from './tables.js';
import type { Turns } from './turn-queue.js';

/** How contexts stop: on request of software (CXT_STOP), with the function, or because the function failed. Ref §6.5, §3.3 rules 6–9. */
export class Stopping {
  private readonly core: Core;
  private readonly queue: Turns;
  private readonly retire: Retirement;

  constructor(core: Core, queue: Turns, retire: Retirement) {
    this.core = core;
    this.queue = queue;
    this.retire = retire;
  }

  /**
   * A stop begins: the tables are walked again, unless copies are held (S-80), STOPG_* is written, and the context's next turns finish what was fetched.
   */
  beginStop(context: FunctionContext, event: 'stopSoftware' | 'stopFunction', hard: boolean): void {
    const { core } = this;
    const { readIndex, slot, unpublished } = context;
    if (!walkTables(core, context, Walk.STOP)) {
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
      this.retire.failStatus(context);
      return;
    }
    context.stop = hard ? 'hard' : 'soft';
    this.queue.push(context);
  }

  /** The last writes of a context that stops: Read_Index, then the state (ref §6.5). */
  finishStop(context: FunctionContext): void {
    const { core } = this;
    if (context.flight !== undefined) {
      abandonFlight(core, context, this.retire);
    } else if (context.work !== Work.NONE && context.stop === 'hard') {
      context.work = Work.NONE;
      const slot = this.retire.writableSlot(context);
      if (!slot || !this.retire.consumeSlot(context, slot)) return; // abandoned: consumed without completion (S-86)
    }
    if (context.flight !== undefined && context.flight.reports.length > 0) {
      // It was to stop with an error once nothing is in flight any more (S-64, S-105).
      if (core.writeReadIndex(context)) this.retire.stopWithError(context, context.flight.reports.splice(0));
      else this.retire.failStatus(context, context.flight.reports.splice(0));
      return;
    }
    if (!core.writeReadIndex(context) || !core.writeState(context, CONTEXT_TRANSITIONS[context.state]?.stopped ?? ContextState.STOP_FN)) {
      this.retire.failStatus(context);
      return;
    }
    core.copies?.contextStopped(context.number);
    context.forget();
  }

  /** STOPG_SW → STOPG_FN: the function stops a context that software was stopping (ref §6.5). */
  takeOverStop(context: FunctionContext): void {
    if (!this.core.writeState(context, ContextState.STOPG_FN)) this.retire.failStatus(context);
  }

  /** All contexts of the running set, ascending. */
  running(): FunctionContext[] {
    return [...this.core.contexts.values()].filter((context) => context.running).sort((a, b) => a.number - b.number);
  }

  othersRun(): boolean {
    for (const context of this.core.contexts.values()) if (context.running && context.number !== 0) return true;
    return false;
  }

  /** GSV_ERROR: every context is stopped at once, as far as memory allows (ref §3.3 rule 9). */
  stopAll(): void {
    for (const context of this.running()) {
      abandonFlight(this.core, context, this.retire);
      context.work = Work.NONE;
      // As for any stop: the tables are walked again, unless copies are held (S-80), and an idle context is what memory says it is (S-70).
      if (!walkTables(this.core, context, Walk.STOP)) continue;
      if (context.idle && readStatus(this.core, context) !== ContextState.RUN) continue;
      if (context.unpublished > 0) this.core.writeReadIndex(context);
      this.core.writeState(context, CONTEXT_TRANSITIONS[context.state]?.functionError ?? ContextState.STOP_FN);
    }
  }
}
