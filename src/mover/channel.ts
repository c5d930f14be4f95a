import { Submission, type SubmissionListener } from '../driver/completions.js';
import type { Context, SdxiDriver } from '../driver/index.js';
import { SdxiError } from '../errors.js';
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

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    queueMicrotask(this.flushNow);
  }

  private flush(): void {
    this.scheduled = false;
    const { context } = this;
    const most = Math.floor(context.maxBatch / PORTIONS);
    while (this.queued > 0) {
      const wanted = this.waiting(most);
      const room = context.free;
      // Better a decent portion a little later than many small ones; but something must be on its way that will call back.
      if (room < wanted) {
        if (context.inFlight.descriptors === 0) setImmediate(this.flushNow);
        return;
      }
      try {
        this.send(wanted);
      } catch (error) {
        if (error instanceof SdxiError && error.code === 'ERR_SDXI_BUSY') {
          // Read_Index lags behind the completions for a moment.
          setImmediate(this.flushNow);
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
    let bytes = 0;
    for (let i = this.head, left = count; left > 0; i++) {
      const { plan, next } = queue[i];
      const share = Math.min(left, plan.count - next);
      bytes += plan.bytesOf(next, share);
      left -= share;
    }
    const batch = context.begin(count, { bytes });
    const complete: Part[] = [];
    for (let left = count; left > 0; ) {
      const part = queue[this.head];
      const { plan, next } = part;
      const share = Math.min(left, plan.count - next);
      plan.emit(batch, next, share);
      batch.cut(part.submission);
      left -= share;
      part.next += share;
      if (part.next === plan.count) {
        this.head++;
        this.queuedBytes -= plan.bytes;
        complete.push(part);
      }
    }
    if (this.head * 2 >= queue.length) {
      this.queue = queue.slice(this.head);
      this.head = 0;
    }
    batch.submit();
    for (const part of complete) part.submission.seal();
    stats.descriptors += count;
    stats.bytes += bytes;
    stats.doorbells++;
  }

  /** Nothing can be sent any more. */
  private failAll(error: Error): void {
    const waiting = this.queue.slice(this.head);
    this.queue = [];
    this.head = 0;
    this.queuedBytes = 0;
    for (const part of waiting) part.submission.seal(error);
  }
}
