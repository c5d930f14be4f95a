import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Bus, WaitOptions } from '../bus/bus.js';
import { AbortError, BusLostError, ClosedError, type ContextError, TimeoutError } from '../errors.js';
import { ContextState, Reaction } from '../spec/codes.js';
import { Collected, InFlight, type Portion, type Submission } from './completions.js';
import type { Deadlines } from './deadlines.js';
import type { ErrorWatch } from './error-watch.js';
import type { ErrorRecord } from './errorlog.js';
import { contextError } from './errors.js';
import type { Ring } from './ring.js';

/** How completions are waited for: see {@link WaitOptions.mode}. */
export type CompletionMode = NonNullable<WaitOptions['mode']>;

/** What a tracker needs of its context. */
export interface TrackerHost {
  readonly bus: Bus;
  readonly deadlines: Deadlines;
  readonly functionName: string;
  readonly number: number;
  readonly mode: CompletionMode;
  /** Vector that INTR descriptors of this context raise. */
  readonly vector: number | undefined;
  /** Recover by itself after an error. */
  readonly autoRecover: boolean;
  /** Drains the error log. @returns the oldest record about this context that nobody has taken */
  takeRecord(): ErrorRecord | undefined;
  /** Stops the context softly; resolves when it stands still. */
  halt(): Promise<void>;
  /** Makes a stopped context run again, from whatever state. */
  restart(): Promise<void>;
  /** The same without the event loop, for callers that spin. @returns false when it must be done by {@link restart} */
  restartNow(): boolean;
  /** The function stopped the context though nobody asked: the function itself has a problem. */
  functionStopped(): void;
  /** Nothing has happened for long: looks whether the function is still at work. */
  functionSilent(): void;
  readonly watch: ErrorWatch;
}

/** A sleeper looks up at least this often: an interrupt may be lost (F-44), and a context that fails sends none. */
const WATCHDOG_MS = 200;
/** The record of an error is in the log microseconds after its context has stopped (S-74). */
const RECORD_MS = 50;

/**
 * Follows the work in one ring to its end: completion, error and restart, cancellation. Within one ring order helps: the last
 * descriptor of each portion is fenced, so its completion block speaks for all before it.
 *
 * A context that fails in the middle of a portion never signals that block; waiters therefore watch CXT_STS.state too.
 */
export class Tracker {
  readonly inFlight: InFlight;
  /** Why nothing can run any more; a restart clears it. */
  broken: Error | undefined;
  /** The context is stopped, or being stopped, on purpose. */
  paused = false;
  /** The function is suspended: nothing will complete, and nobody needs to look. */
  private parked = false;
  /** Its error has been dealt with; it waits for its restart. */
  down = false;
  private pumping = false;
  private lastFault = -1;
  private changes = 0;
  /** Records that come up now are looked for already. */
  private searching = false;
  private queue: Promise<unknown> = Promise.resolve();
  private readonly cancelled = new Map<Submission, Error>();
  private readonly host: TrackerHost;
  private readonly ring: Ring;

  constructor(host: TrackerHost, ring: Ring) {
    this.host = host;
    this.ring = ring;
    this.inFlight = new InFlight(ring);
  }

  /** Follows a portion that is about to be published. */
  add(portion: Portion): void {
    this.inFlight.add(portion);
  }

  /** Sees to it that someone waits for what is in flight. */
  watch(): void {
    if (!this.pumping && !this.parked && this.inFlight.oldest) void this.pump();
  }

  /** True when there is something for {@link look} to find. Cheap: polled by waits. */
  private readonly stirs = (): boolean => {
    const { oldest } = this.inFlight;
    if (!oldest || oldest.abandoned || this.ring.isDone(oldest.blockWord)) return true;
    return this.inTrouble();
  };

  /** Stopped by the function (bit 2 of the state), and not on our account. CXT_STOP is somebody's wish: work waits for CXT_START. */
  private inTrouble(): boolean {
    return !this.paused && !this.down && (this.ring.state & ContextState.STOP_FN) !== 0;
  }

  /** Collects completions. @returns true when the context needs help */
  private look(): boolean {
    if (this.inFlight.collect() === Collected.FAILED) return true;
    return this.inFlight.oldest !== undefined && this.inTrouble();
  }

  private async pump(): Promise<void> {
    const { host } = this;
    const { bus, number, vector, mode } = host;
    this.pumping = true;
    host.watch.workBegins();
    try {
      while (!this.broken && !this.parked) {
        if (this.look()) {
          await this.exclusive(() => this.recover());
          // Should that have been no help, the event loop must not wait for it.
          if (this.look()) await nextTurn();
          continue;
        }
        const { oldest } = this.inFlight;
        if (!oldest) return;
        // The vector only for work that announces itself by it.
        const sleeps = oldest.interrupt && mode !== 'polled';
        if (sleeps) host.watch.start();
        try {
          await bus.wait(this.stirs, {
            what: `work of context ${number}`,
            timeoutMs: WATCHDOG_MS,
            mode,
            vector: sleeps ? vector : undefined,
          });
        } catch (error) {
          if (!(error instanceof TimeoutError)) throw error;
          host.functionSilent();
        }
      }
    } catch (error) {
      this.lose(error as Error);
    } finally {
      this.pumping = false;
      host.watch.workEnds();
    }
  }

  /**
   * Waits on the calling thread until a submission has settled: for work of microseconds.
   * @returns false when it has not within `timeoutMs`
   */
  spin(submission: Submission, timeoutMs: number): boolean {
    const end = performance.now() + timeoutMs;
    for (let left = timeoutMs; ; left = end - performance.now()) {
      if (this.look()) this.recoverSync(left);
      if (submission.settled) return true;
      if (left <= 0 || this.broken) return false;
      if (!this.host.bus.spin(this.stirs, left)) {
        this.look();
        return submission.settled;
      }
    }
  }

  /** As {@link recover}, on the calling thread. */
  private recoverSync(timeoutMs: number): void {
    const { host } = this;
    if (this.ring.state === ContextState.STOP_FN) {
      host.functionStopped();
      return;
    }
    const found = this.recordSearch();
    host.bus.spin(found.look, Math.min(RECORD_MS, timeoutMs));
    this.apply(found.record);
    if (!this.down || this.broken || !host.autoRecover) return;
    if (this.changes === 0 && host.restartNow()) this.down = false;
    else this.exclusive(() => this.restart()).catch((error: Error) => this.lose(error));
  }

  /** Runs one change of the context's state at a time. */
  exclusive<T>(change: () => Promise<T>): Promise<T> {
    this.changes++;
    const next = this.queue.then(change).finally(() => this.changes--);
    this.queue = next.catch(() => {});
    return next;
  }

  /** Somebody else saw that the context may have failed, for instance in the error log. */
  notice(): void {
    if (this.host.autoRecover && !this.searching && !this.paused && this.ring.state === ContextState.ERR_FN) {
      this.exclusive(() => this.recover()).catch((error: Error) => this.lose(error));
    }
  }

  /** Finds out what failed, rejects whom it concerns, and lets the rest go on. */
  async recover(options: { always?: boolean } = {}): Promise<void> {
    const { ring, host } = this;
    // Whoever comes back is looked at then.
    if (this.parked) return;
    const failed = this.inFlight.collect() === Collected.FAILED;
    const { state } = ring;
    if (!this.down) {
      if (this.paused || (this.broken && !options.always)) return;
      if (state === ContextState.STOP_FN || state === ContextState.STOPG_FN) return host.functionStopped();
      if (state !== ContextState.ERR_FN && !failed) return;
      this.apply(await this.findRecord());
    }
    if (options.always || (host.autoRecover && !this.broken)) await this.restart();
  }

  private async findRecord(): Promise<ErrorRecord | undefined> {
    const found = this.recordSearch();
    try {
      await this.host.bus.wait(found.look, { what: 'error record', timeoutMs: RECORD_MS, mode: 'polled' });
    } catch (error) {
      // The log may be off, full or broken; state and Read_Index tell enough to go on.
      if (!(error instanceof TimeoutError)) throw error;
    }
    return found.record;
  }

  private recordSearch(): { record: ErrorRecord | undefined; look: () => boolean } {
    const found = {
      record: undefined as ErrorRecord | undefined,
      look: () => {
        this.searching = true;
        found.record = this.host.takeRecord();
        this.searching = false;
        return found.record !== undefined;
      },
    };
    return found;
  }

  /** Settles everything that an error decides. The context stands still, or (an informative record) only one descriptor failed. */
  private apply(record: ErrorRecord | undefined): void {
    const { ring, inFlight, host } = this;
    const read = ring.readIndex;
    const stopped = ring.state !== ContextState.RUN;
    const target = record?.reaction === Reaction.INFORMATIVE;
    // The record names the descriptor. Else: the one whose block shows the error, or the last one taken (S-34).
    const blocked = inFlight.oldest && ring.isDone(inFlight.oldest.blockWord) ? inFlight.oldest.last : undefined;
    const index =
      record && !target
        ? record.index
        : (blocked ?? (record === undefined && read > (inFlight.oldest?.first ?? read) ? read - 1 : undefined));
    const error = contextError({
      function: host.functionName,
      context: target ? (record.context ?? host.number) : host.number,
      step: record?.step ?? 0,
      subStep: record?.subStep ?? 0,
      index: target ? undefined : index,
      operand: record?.operand,
      address: index !== undefined && record?.operand !== undefined ? ring.operandAddress(index, record.operand) : undefined,
    });
    inFlight.explain(index, stopped ? read : 0);
    if (stopped) {
      this.down = true;
      inFlight.completeBefore(index ?? read);
    }
    const owner = index === undefined ? undefined : inFlight.ownerOf(index);
    if (owner) {
      owner.settle(error);
      if (stopped) inFlight.drop(owner, read);
    } else if (stopped && (index === undefined || read === this.lastFault)) {
      // Nobody's descriptor, or the same place again: the context itself does not work. Twice in a row, a restart is no cure.
      if (read === this.lastFault) this.broken = error;
      for (const submission of inFlight.submissions()) {
        submission.settle(error);
        inFlight.drop(submission, read);
      }
    }
    if (stopped) this.lastFault = read;
    inFlight.collect();
  }

  /** Runs the context again. When that fails, everything in flight fails with it. */
  async restart(): Promise<void> {
    if (!this.down && !this.paused) return;
    try {
      await this.host.restart();
      this.restarted();
    } catch (error) {
      this.lose(error as Error);
      throw error;
    }
  }

  /** The context runs. */
  restarted(): void {
    this.down = false;
    this.paused = false;
    this.parked = false;
    this.broken = undefined;
    this.watch();
  }

  /** The function is being suspended. */
  park(): void {
    this.paused = true;
    this.parked = true;
  }

  /** It is back. @param options.paused the context itself was stopped before, and still is */
  unpark({ paused }: { paused: boolean }): void {
    this.paused = paused;
    this.parked = false;
    this.watch();
  }

  /** Ends a submission at its deadline, or when a signal says so. @returns its promise */
  limit(submission: Submission, options: { what: string; timeoutMs: number; signal?: AbortSignal; hint?: string }): Promise<void> {
    const { what, timeoutMs, signal, hint = 'the function is slow or stuck, or the timeout is short for this much work' } = options;
    const { deadlines } = this.host;
    const { done } = submission;
    if (submission.settled) return done;
    const timed = {
      deadline: performance.now() + timeoutMs,
      expire: () => {
        this.inFlight.collect(); // one last look (F-43)
        const error = new TimeoutError(what, timeoutMs, { hint });
        submission.settle(error);
        this.cancel(submission, error);
      },
    };
    const abort = () => this.cancel(submission, new AbortError(what, { cause: signal?.reason }));
    deadlines.add(timed);
    signal?.addEventListener('abort', abort, { once: true });
    const release = () => {
      deadlines.delete(timed);
      signal?.removeEventListener('abort', abort);
    };
    done.then(release, release);
    if (signal?.aborted) abort();
    return done;
  }

  /**
   * Takes a submission out of the ring: stops the context softly, which lets the descriptor in execution finish, replaces what
   * is left of it by NOPs, and goes on. The submission settles with `error` when nothing of it can run any more.
   */
  cancel(submission: Submission, error: Error): void {
    // Context 0 cannot be stopped to take a descriptor back: giving up on it means to look away.
    if (submission.live === 0 || this.host.number === 0) {
      submission.settle(error);
      return;
    }
    this.cancelled.set(submission, error);
    if (this.cancelled.size > 1) return;
    this.exclusive(() => this.cancelAll()).catch((failure: Error) => this.lose(failure));
  }

  private async cancelAll(): Promise<void> {
    const stoppedBefore = this.paused;
    if (!stoppedBefore && !this.broken) {
      this.paused = true;
      try {
        await this.host.halt();
      } finally {
        this.paused = false;
      }
    }
    const failed = this.inFlight.collect() === Collected.FAILED;
    if (!this.broken && (failed || (this.ring.state === ContextState.ERR_FN && !this.down))) this.apply(await this.findRecord());
    const read = this.ring.readIndex;
    this.inFlight.completeBefore(read);
    for (const [submission, error] of this.cancelled) {
      this.cancelled.delete(submission);
      submission.settle(error);
      this.inFlight.drop(submission, read);
    }
    this.inFlight.collect();
    if (stoppedBefore || this.broken) return;
    this.down = true;
    await this.restart();
  }

  /** After a stop: what the function has abandoned (hard stop, S-86) fails with `error`, what it has finished completes. */
  settleStopped(hardError?: ContextError): void {
    const { ring, inFlight } = this;
    // An error that nobody has looked into decides who has failed; the stop found the context standing.
    if (ring.state === ContextState.ERR_FN && !this.down) return;
    const read = ring.readIndex;
    inFlight.collect();
    // What was taken may have been cut off, in whatever order it ran; only its completion block could say that it was not.
    for (const submission of hardError ? inFlight.undecided(read) : []) {
      submission.settle(hardError);
      inFlight.drop(submission, read);
    }
    inFlight.explain(undefined, read);
    inFlight.completeBefore(read);
    inFlight.collect();
  }

  /** The function has stopped or forgotten the context: everything in flight fails, the slots become NOPs. It can be restarted. */
  abort(error: Error): void {
    const read = this.ring.readIndex;
    this.inFlight.collect();
    this.down = true;
    for (const submission of this.inFlight.submissions()) {
      submission.settle(error);
      this.inFlight.drop(submission, read);
    }
    this.inFlight.explain(undefined, Number.POSITIVE_INFINITY);
  }

  /** Nothing can be done any more: everything in flight fails. Memory is let go only if the function cannot reach it. */
  lose(error: Error): void {
    this.broken = error;
    this.down = true;
    for (const submission of this.inFlight.submissions()) submission.settle(error);
    this.cancelled.clear();
    if (error instanceof BusLostError || error instanceof ClosedError) this.inFlight.clear();
  }

  /** Resolves when nothing of this producer is in flight. */
  async idle(): Promise<void> {
    while (this.inFlight.oldest && !this.broken) {
      await Promise.allSettled([...this.inFlight.submissions()].map((submission) => submission.done));
      if (this.inFlight.oldest && !this.broken) await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
