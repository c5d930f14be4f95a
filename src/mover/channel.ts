import { Submission, type SubmissionListener } from '../driver/completions.js';
import type { Context, DescriptorBatch, SdxiDriver } from '../driver/index.js';
import { BusLostError, ClosedError, FunctionError, SdxiError } from '../errors.js';
import type { Plan } from './plan.js';

/** What one function has done for a mover. */
export interface ChannelStats {
  /** Requests, or shares of them. */
  requests: number;
  descriptors: number;
  bytes: number;
  /** Doorbells: each tells of a portion of descriptors, often of several requests. */
  doorbells: number;
  /** Requests that failed. */
  errors: number;
}

/** Who is told about a part. */
export interface PartOwner {
  partSettled(part: Part, error: Error | undefined): void;
  partIdle(part: Part): void;
}

/** The share of one request that one function executes. */
export class Part implements SubmissionListener {
  readonly plan: Plan;
  readonly channel: Channel;
  readonly submission: Submission;
  /** Operations that are in the ring already, or were. */
  next = 0;
  private readonly owner: PartOwner;

  constructor(plan: Plan, channel: Channel, owner: PartOwner) {
    this.plan = plan;
    this.channel = channel;
    this.owner = owner;
    this.submission = new Submission(this);
  }

  settled(error: Error | undefined): void {
    this.owner.partSettled(this, error);
    if (error) this.channel.failed(this, error);
  }

  idle(): void {
    this.owner.partIdle(this);
  }

  /** Ends it with an error: what is in the ring is taken back, what is not never gets there. */
  cancel(error: Error): void {
    const { channel, submission } = this;
    channel.withdraw(this);
    if (submission.live > 0) channel.context.cancel(submission, error);
    submission.seal(error);
  }
}

/** What of a part goes out with a portion. */
interface Share {
  readonly part: Part;
  readonly count: number;
}

/** A quarter of the ring at most goes out at once, so that the function always has the next portion while one completes. */
const PORTIONS = 4;

/**
 * The way from requests to one context: a queue, first come, first served. Whatever is queued in one turn of the event loop goes out
 * together, with one doorbell and one completion block; when the ring is full the rest waits for room.
 */
export class Channel {
  readonly driver: SdxiDriver;
  readonly context: Context;
  readonly stats: ChannelStats = { requests: 0, descriptors: 0, bytes: 0, doorbells: 0, errors: 0 };
  /** Bytes of parts that are not completely in the ring. */
  queuedBytes = 0;
  private queue: Part[] = [];
  private head = 0;
  private scheduled = false;
  private repairing = false;
  private gone = false;
  private waitingForTurn = false;
  private held = false;
  private readonly flushNow = () => this.flush();

  constructor(driver: SdxiDriver, context: Context) {
    this.driver = driver;
    this.context = context;
    context.onProgress = () => {
      if (this.queued > 0) this.schedule();
    };
  }

  /** Parts that wait for room. */
  get queued(): number {
    return this.queue.length - this.head;
  }

  /** The function is gone for good, as work that was sent there has found out: its thread or process died, the device was removed. */
  get lost(): boolean {
    return this.gone || this.context.failure instanceof BusLostError;
  }

  /** Bytes that are on their way, in the ring or before it. */
  get pendingBytes(): number {
    return this.queuedBytes + this.context.inFlight.bytes;
  }

  enqueue(part: Part): void {
    this.queue.push(part);
    this.queuedBytes += part.plan.bytes;
    this.stats.requests++;
    this.schedule();
  }

  /** Takes a part that is not completely in the ring out of the queue. */
  withdraw(part: Part): void {
    const at = this.queue.indexOf(part, this.head);
    if (at < 0) return;
    this.queue.splice(at, 1);
    this.queuedBytes -= part.plan.bytes;
  }

  /** A part has failed: nothing more of it goes out. */
  failed(part: Part, error: Error): void {
    this.stats.errors++;
    this.withdraw(part);
    part.submission.seal(error);
    if (this.queued > 0) this.schedule();
  }

  /** Nothing goes out until {@link release}; it waits in the queue. */
  hold(): void {
    this.held = true;
  }

  release(): void {
    this.held = false;
    if (this.queued > 0) this.schedule();
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    queueMicrotask(this.flushNow);
  }

  /** Nobody will call back, so look again in the next turn of the event loop. */
  private flushLater(): void {
    if (this.waitingForTurn) return;
    this.waitingForTurn = true;
    setImmediate(() => {
      this.waitingForTurn = false;
      this.flush();
    });
  }

  private flush(): void {
    this.scheduled = false;
    if (this.held) return;
    const { context } = this;
    const most = Math.floor(context.maxBatch / PORTIONS);
    while (this.queued > 0) {
      // Without room nobody would get as far as to hear of it.
      const { failure } = context;
      if (failure) {
        this.failAll(failure);
        return;
      }
      const wanted = this.waiting(most);
      const room = context.free;
      // Better a decent portion a little later than many small ones; but something must be on its way that will call back.
      if (room < wanted) {
        if (context.inFlight.descriptors === 0) this.flushLater();
        return;
      }
      try {
        this.send(wanted);
      } catch (error) {
        if (error instanceof SdxiError && error.code === 'ERR_SDXI_BUSY') {
          // Read_Index lags behind the completions for a moment.
          this.flushLater();
          return;
        }
        this.failAll(error as Error);
      }
    }
  }

  /** Operations in the queue, at most `most`. */
  private waiting(most: number): number {
    let count = 0;
    for (let i = this.head; i < this.queue.length && count < most; i++) count += this.queue[i].plan.count - this.queue[i].next;
    return Math.min(count, most);
  }

  /** Puts the next `count` operations into the ring. */
  private send(count: number): void {
    const { context, queue, stats } = this;
    const shares: Share[] = [];
    let bytes = 0;
    for (let i = this.head, left = count; left > 0; i++) {
      const part = queue[i];
      const share = Math.min(left, part.plan.count - part.next);
      shares.push({ part, count: share });
      bytes += part.plan.bytesOf(part.next, share);
      left -= share;
    }
    const batch = context.begin(count, { bytes });
    if (!this.emit(batch, shares)) return;
    for (const { part, count: share } of shares) {
      part.next += share;
      if (part.next < part.plan.count) break;
      this.head++;
      this.queuedBytes -= part.plan.bytes;
    }
    if (this.head * 2 >= queue.length) {
      this.queue = queue.slice(this.head);
      this.head = 0;
    }
    batch.submit();
    for (const { part } of shares) if (part.next === part.plan.count) part.submission.seal();
    stats.descriptors += count;
    stats.bytes += bytes;
    stats.doorbells++;
  }

  /** @returns false when a part cannot be encoded: it has failed then, and the batch is NOPs */
  private emit(batch: DescriptorBatch, shares: readonly Share[]): boolean {
    for (const { part, count } of shares) {
      try {
        part.plan.emit(batch, part.next, count);
      } catch (error) {
        batch.abandon();
        this.withdraw(part);
        part.submission.seal(error as Error);
        return false;
      }
      batch.cut(part.submission);
    }
    return true;
  }

  /** Nothing can be sent: the context is broken, or the function is gone. */
  private failAll(error: Error): void {
    if (error instanceof BusLostError) this.gone = true;
    else if (!(error instanceof ClosedError)) this.repair(error);
    const waiting = this.queue.slice(this.head);
    this.queue = [];
    this.head = 0;
    this.queuedBytes = 0;
    for (const part of waiting) part.submission.seal(error);
  }

  /** A context or function that is broken gets a new chance after each request that it has failed. */
  private repair(error: Error): void {
    if (this.repairing) return;
    this.repairing = true;
    const done = () => {
      this.repairing = false;
    };
    const recovery = error instanceof FunctionError ? this.driver.recover() : this.context.recover();
    recovery.then(done, done);
  }
}
