import { Worker } from 'node:worker_threads';
import { BusLostError, ClosedError } from '../../errors.js';
import { createEventfd, signalEventfd } from '../../native/eventfd.js';
import { closeFd } from '../../native/libc.js';
import type { WaitOptions } from '../bus.js';
import type { InterruptWords } from '../interrupt-words.js';
import { Life } from '../life.js';
import { sleepOnInterrupts } from '../sleep.js';
import type { LostWhen, WatchData } from './loop.js';
import { WatchState } from './state.js';

/** How long close() asks before it forces. */
const CLOSE_MS = 2000;

export interface WatchOptions {
  /** Of the bus, for errors. */
  uri: string;
  /** Interrupt vectors, each with an eventfd: `ulimit -n` must allow as many. */
  vectors: number;
  /** Descriptors, the caller's, whose events mean that the other side is gone. They stay open until {@link EventWatch.close} resolves. */
  lost?: readonly LostWhen[];
  /** Program of the thread in place of the plain one, and what it is told: for a bus that serves a descriptor there. */
  program?: { readonly entry: URL; readonly own: unknown };
}

/** The built thread (scripts/setup.mjs): Node 20 starts no thread from a TypeScript source, so sources (tests) take it from dist/. */
export function watcherEntry(): URL {
  const built = import.meta.url.replace(/\/src\/bus\/watch\/[^/]+\.ts$/, '/dist/bus/watch/event-watch.js');
  return new URL('./watcher-thread.js', built);
}

/**
 * How a thread with an event loop waits for event counters of the kernel: another thread blocks in `poll` on them, and delivers into words
 * of shared memory. One for each bus.
 */
export class EventWatch {
  /** An eventfd for each vector; whoever interrupts writes to it. */
  readonly fds: readonly number[];
  private readonly state: WatchState;
  private readonly uri: string;
  private readonly wakeFd: number;
  private readonly worker: Worker;
  private readonly ended: Promise<void>;
  private readonly atExit = () => void signalEventfd(this.wakeFd);
  private waiting = 0;
  private references = 0;
  private closing?: Promise<void>;

  /**
   * Starts the thread; what happens from now on is seen, also before it runs. The process may end meanwhile; see {@link ref}.
   * @throws SystemError when there are no descriptors left
   */
  static start(options: WatchOptions): EventWatch {
    const made: number[] = [];
    try {
      for (let i = 0; i <= options.vectors; i++) made.push(createEventfd());
      return new EventWatch(options, made);
    } catch (error) {
      for (const fd of made) closeFd(fd);
      throw error;
    }
  }

  private constructor({ uri, vectors, lost = [], program }: WatchOptions, made: readonly number[]) {
    this.uri = uri;
    this.wakeFd = made[0];
    this.fds = made.slice(1);
    const state = new WatchState(vectors);
    this.state = state;
    // None of the parent's flags: loaders and inspectors are not for the watcher.
    const worker = new Worker(program?.entry ?? watcherEntry(), {
      workerData: { buffer: state.buffer, fds: this.fds, wake: this.wakeFd, lost, own: program?.own } satisfies WatchData,
      execArgv: [],
      name: 'sdxi watcher',
    });
    this.worker = worker;
    this.ended = new Promise((resolve) => {
      worker.once('exit', (code) => {
        state.fail(`its watcher ended with code ${code}`);
        process.off('exit', this.atExit);
        resolve();
      });
    });
    worker.on('error', (error) => state.fail(`its watcher failed: ${error.message}`));
    worker.unref();
    // A thread that waits in a system call would keep the process from ending.
    process.on('exit', this.atExit);
    state.setLife(Life.RUNNING);
  }

  get words(): InterruptWords {
    return this.state.interrupts;
  }

  /** False once the other side is gone, or close() was called. */
  get running(): boolean {
    return this.state.life === Life.RUNNING;
  }

  /** Why it is not running, once the other side is gone. */
  get reason(): string {
    return this.state.reason;
  }

  /** What the thread and this one share besides; may be posted to other threads. */
  get buffer(): SharedArrayBuffer {
    return this.state.buffer;
  }

  /** @throws ClosedError, BusLostError */
  check(): void {
    const { life } = this.state;
    if (life === Life.RUNNING) return;
    if (life === Life.LOST) throw this.lostError();
    throw new ClosedError(this.uri);
  }

  /** The other side is gone, as its user has found: all who wait find it too. The first reason stays. */
  fail(reason: string): void {
    this.state.fail(reason);
    this.wake();
  }

  /** @see fail */
  lostError(): BusLostError {
    const { reason } = this.state;
    return new BusLostError(`the function behind ${this.uri} is gone: ${reason}`, { fields: { uri: this.uri, reason } });
  }

  /** Makes the thread look up. */
  wake(): void {
    signalEventfd(this.wakeFd);
  }

  /** As `Bus.wait`; arguments have been checked. */
  async wait(condition: () => boolean, options: WaitOptions): Promise<void> {
    this.check();
    if (condition()) return;
    const alone = this.waiting === 0;
    this.waiting++;
    try {
      await sleepOnInterrupts(this.words, this, condition, options, alone);
    } finally {
      this.waiting--;
    }
  }

  /** Something is in flight: the thread keeps the process alive. Counted. */
  ref(): void {
    if (this.references++ === 0) this.worker.ref();
  }

  unref(): void {
    if (this.references > 0 && --this.references === 0 && !this.closing) this.worker.unref();
  }

  /** Ends the thread and closes the eventfds. Idempotent; waits that are pending reject with ClosedError. */
  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  private async end(): Promise<void> {
    this.state.setLife(Life.CLOSED);
    this.worker.ref();
    this.wake();
    const force = setTimeout(() => void this.worker.terminate(), CLOSE_MS);
    await this.ended;
    clearTimeout(force);
    for (const fd of [this.wakeFd, ...this.fds]) closeFd(fd);
  }

  /** Ends the thread without asking it, as a crash would: for tests of what happens then. @internal */
  async terminate(): Promise<void> {
    const keeper = setInterval(() => {}, 1000);
    const gone = this.worker.terminate();
    this.wake();
    await gone;
    clearInterval(keeper);
  }
}
