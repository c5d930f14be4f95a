import type { FunctionContext } from './context.js';

/** Contexts in line for a turn: first in, first out, each at most once (S-45). */
export class TurnQueue {
  private items: FunctionContext[] = [];
  private head = 0;

  get length(): number {
    return this.items.length - this.head;
  }

  /** Puts a context at the end, unless it is in line already. */
  push(context: FunctionContext): void {
    if (context.queued) return;
    context.queued = true;
    this.items.push(context);
  }

  /** Takes the first one out. Call only while {@link length} > 0. */
  shift(): FunctionContext {
    const context = this.items[this.head++];
    context.queued = false;
    if (this.head === this.items.length) {
      this.items.length = 0;
      this.head = 0;
    } else if (this.head >= 1024) {
      this.items = this.items.slice(this.head);
      this.head = 0;
    }
    return context;
  }

  clear(): void {
    for (const context of this.items) context.queued = false;
    this.items = [];
    this.head = 0;
  }
}
