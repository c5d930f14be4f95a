import type { FunctionContext } from './context.js';

/**
 * Contexts in line for a turn: first in, first out, each at most once (S-45). A list through the contexts themselves
 * ({@link FunctionContext.behind}): this runs once a slice, and must not feed the garbage collector.
 */
export class TurnQueue {
  private first: FunctionContext | undefined;
  private last: FunctionContext | undefined;

  get empty(): boolean {
    return this.first === undefined;
  }

  /** Puts a context at the end, unless it is in line already. */
  push(context: FunctionContext): void {
    if (context.queued) return;
    context.queued = true;
    if (this.last === undefined) this.first = context;
    else this.last.behind = context;
    this.last = context;
  }

  /** Takes the first one out, if there is one. */
  shift(): FunctionContext | undefined {
    const context = this.first;
    if (context === undefined) return undefined;
    this.first = context.behind;
    if (this.first === undefined) this.last = undefined;
    context.behind = undefined;
    context.queued = false;
    return context;
  }

  clear(): void {
    while (this.shift() !== undefined);
  }
}
