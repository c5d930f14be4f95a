import { setMaxListeners } from 'node:events';
import type { Deadlines, Timed } from '../driver/deadlines.js';
import { AbortError, TimeoutError } from '../errors.js';
import type { Part, PartOwner } from './channel.js';
import type { Work } from './planner.js';

/** Options of every operation. */
export interface OperationOptions {
  /**
   * Rejects with AbortError once nothing of the operation can run any more: then the memory is yours again. The descriptor in execution
   * is finished first; what it wrote stays.
   */
  signal?: AbortSignal;
  /**
   * Rejects with TimeoutError after so long; default: the mover's, and 2 ms for each MiB that is on its way. 0 rejects in the next turn
   * of the event loop, unless all is done by then; Infinity waits for ever.
   */
  timeoutMs?: number;
  /**
   * Name of the function that does all of it, as in {@link Mover.functions}: `sdxi0/vf1`. Default: whichever has time, virtual functions
   * apart, which work only when they are named.
   */
  function?: string;
}

export const OPERATION_OPTIONS: readonly (keyof OperationOptions)[] = ['signal', 'timeoutMs', 'function'];

/** One promise of a mover: settles when all its parts have, with the first error if there was one. */
export class Request implements PartOwner, Timed {
  deadline: number;
  readonly promise: Promise<void>;
  parts: Part[] = [];
  private readonly what: string;
  private readonly work: Work;
  private readonly timeoutMs: number;
  private readonly live: Set<Request>;
  private readonly deadlines: Deadlines;
  private readonly signal: AbortSignal | undefined;
  private readonly onAbort = (): void => this.abort(new AbortError(this.what, { cause: this.signal?.reason }));
  private resolve!: () => void;
  private reject!: (error: Error) => void;
  private unsettled = 0;
  private busy = 0;
  private error: Error | undefined;
  private answered = false;
  private readonly after: (() => void) | undefined;

  /** @param after runs after success, while what the work holds is still held */
  constructor(
    what: string,
    work: Work,
    live: Set<Request>,
    deadlines: Deadlines,
    timeoutMs: number,
    signal: AbortSignal | undefined,
    after?: () => void,
  ) {
    this.after = after;
    this.what = what;
    this.work = work;
    this.live = live;
    this.deadlines = deadlines;
    this.timeoutMs = timeoutMs;
    this.deadline = performance.now() + timeoutMs;
    this.signal = signal;
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    live.add(this);
    deadlines.add(this);
    if (signal) {
      // One signal may end thousands of operations at once: that many listeners are no leak, so Node need not warn.
      setMaxListeners(0, signal);
      signal.addEventListener('abort', this.onAbort, { once: true });
    }
  }

  /** Sends the parts off. */
  start(parts: Part[]): void {
    this.parts = parts;
    this.unsettled = parts.length;
    this.busy = parts.length;
    for (const part of parts) part.channel.enqueue(part);
  }

  partSettled(settled: Part, error: Error | undefined): void {
    this.unsettled--;
    if (error && !this.error) {
      this.error = error;
      // One function has failed: the others need not go on.
      for (const part of this.parts) if (part !== settled && !part.submission.settled) part.cancel(error);
    }
    if (this.unsettled === 0) this.answer(this.error);
  }

  partIdle(): void {
    if (--this.busy === 0) this.work.release();
  }

  /** The deadline: answers at once, and takes back what is in the rings. */
  expire(): void {
    const error = new TimeoutError(this.what, this.timeoutMs, {
      hint: 'the function is slow or stuck, or the timeout is short for this much work',
    });
    // One last look (F-43): the event loop may have been too busy to see that all is done.
    for (const { channel } of this.parts) channel.context.poll();
    this.answer(error);
    this.abort(error);
  }

  /** Takes everything back; the promise rejects when nothing can run any more. */
  abort(error: Error): void {
    this.error ??= error;
    for (const part of this.parts) if (!part.submission.settled) part.cancel(error);
  }

  private answer(error: Error | undefined): void {
    if (this.answered) return;
    this.answered = true;
    this.live.delete(this);
    this.deadlines.delete(this);
    this.signal?.removeEventListener('abort', this.onAbort);
    if (error) {
      this.reject(error);
      return;
    }
    this.after?.();
    this.resolve();
  }
}
