import type { Ring } from './ring.js';

/** Called when a submission has its result (`error` undefined: success), and when none of it is in the ring any more. */
export interface SubmissionListener {
  settled(error: Error | undefined): void;
  idle?(): void;
}

/**
 * Work that succeeds or fails as one: one or several runs of descriptors in one ring. It settles once, and it is idle once the
 * function touches nothing of it any more; only after a timeout does the first come before the second.
 */
export class Submission {
  settled = false;
  error: Error | undefined;
  /** Runs of descriptors in the ring. */
  live = 0;
  private sealed = false;
  private over = false;
  private doom: Error | undefined;
  private readonly listener: SubmissionListener | undefined;
  private result: { promise: Promise<void>; resolve: () => void; reject: (error: Error) => void } | undefined;

  constructor(listener?: SubmissionListener) {
    this.listener = listener;
  }

  /** Resolves when all descriptors have completed; rejects with ContextError, FunctionError, TimeoutError, AbortError, BusLostError or ClosedError. */
  get done(): Promise<void> {
    if (!this.result) {
      let resolve = (): void => {};
      let reject = (_: Error): void => {};
      const promise = new Promise<void>((yes, no) => {
        resolve = yes;
        reject = no;
      });
      this.result = { promise, resolve, reject };
      if (this.settled) this.error ? reject(this.error) : resolve();
    }
    return this.result.promise;
  }

  settle(error?: Error): void {
    if (this.settled) return;
    this.settled = true;
    this.error = error;
    if (this.result) error ? this.result.reject(error) : this.result.resolve();
    this.listener?.settled(error);
  }

  /** One run has left the ring. */
  release(): void {
    this.live--;
    this.finish();
  }

  /**
   * No more runs will follow.
   * @param doom settles it once the runs in the ring are over: not all of it was submitted
   */
  seal(doom?: Error): void {
    this.sealed = true;
    this.doom = doom;
    this.finish();
  }

  private finish(): void {
    if (this.live > 0 || !this.sealed || this.over) return;
    this.over = true;
    this.settle(this.doom);
    this.listener?.idle?.();
  }
}

/** A run of descriptors of one submission. */
export interface Segment {
  readonly first: number;
  /** Index behind the last one. */
  readonly end: number;
  readonly submission: Submission;
}

/** Descriptors that were published together: the last one (but for an INTR) carries the completion block and a fence. */
export interface Portion {
  readonly first: number;
  /** Index of the descriptor with the completion block. */
  readonly last: number;
  readonly blockWord: number;
  /** Slots, with the INTR. */
  readonly slots: number;
  readonly bytes: number;
  /** An INTR follows. */
  readonly interrupt: boolean;
  segments: Segment[];
  /** The block shows an error that has been dealt with. */
  explained: boolean;
  /** The block will never be signalled: its descriptor was consumed without. */
  abandoned: boolean;
}

/** A portion in a snapshot. Each submission has a number in place of its name. */
export interface SavedPortion extends Omit<Portion, 'blockWord' | 'segments'> {
  readonly segments: readonly (readonly [first: number, end: number, submission: number])[];
}

/** What {@link InFlight.collect} found. */
export const Collected = { EMPTY: 0, WAITING: 1, FAILED: 2 } as const;
export type Collected = (typeof Collected)[keyof typeof Collected];

/** Everything of one producer that is in one ring, oldest first. */
export class InFlight {
  slots = 0;
  bytes = 0;
  /** Called when something has left the ring. */
  onProgress: (() => void) | undefined;
  private readonly ring: Ring;
  private portions: Portion[] = [];
  private head = 0;

  constructor(ring: Ring) {
    this.ring = ring;
  }

  get oldest(): Portion | undefined {
    return this.portions[this.head];
  }

  add(portion: Portion): void {
    for (const segment of portion.segments) segment.submission.live++;
    this.portions.push(portion);
    this.slots += portion.slots;
    this.bytes += portion.bytes;
  }

  /** Takes out what has completed. FAILED: the oldest portion's block shows an error nobody has looked into. */
  collect(): Collected {
    const { slots } = this;
    const found = this.takeCompleted();
    if (this.slots !== slots) this.onProgress?.();
    return found;
  }

  private takeCompleted(): Collected {
    const { ring } = this;
    for (;;) {
      const portion = this.portions[this.head];
      if (portion === undefined) return Collected.EMPTY;
      if (!portion.abandoned) {
        if (!ring.isDone(portion.blockWord)) return Collected.WAITING;
        if (!portion.explained && ring.hasFailed(portion.blockWord)) return Collected.FAILED;
      }
      if (++this.head === this.portions.length || this.head === 1024) {
        this.portions.splice(0, this.head);
        this.head = 0;
      }
      this.slots -= portion.slots;
      this.bytes -= portion.bytes;
      for (const segment of portion.segments) segment.submission.release();
    }
  }

  /** Releases every run that lies before an index. The context is stopped, or has stopped at that index: all before it is done. */
  completeBefore(index: number): void {
    for (const portion of this.live()) {
      if (portion.first >= index) return;
      this.takeOut(portion, ({ end }) => end <= index);
    }
  }

  /** Whose descriptors were taken and have not completed for sure. The context must be stopped. */
  undecided(readIndex: number): Set<Submission> {
    const some = new Set<Submission>();
    for (const portion of this.live()) {
      if (this.ring.isDone(portion.blockWord)) continue;
      for (const { first, submission } of portion.segments) if (first < readIndex) some.add(submission);
    }
    return some;
  }

  /** Whose descriptor an index is. */
  ownerOf(index: number): Submission | undefined {
    for (const portion of this.live()) {
      for (const { first, end, submission } of portion.segments) if (first <= index && index < end) return submission;
    }
    return undefined;
  }

  /** Replaces what is left of a submission, from Read_Index on, by NOPs. The context must be stopped. */
  drop(submission: Submission, readIndex: number): void {
    for (const portion of this.live()) {
      this.takeOut(portion, (segment) => {
        if (segment.submission !== submission) return false;
        for (let i = Math.max(segment.first, readIndex); i < segment.end; i++) this.ring.overwrite(i, i === portion.last ? 'keep' : 'none');
        return true;
      });
    }
  }

  /** The error at an index has been dealt with, and blocks that the stopped context has passed will not change any more. */
  explain(index: number | undefined, readIndex: number): void {
    for (const portion of this.live()) {
      if (portion.last === index) portion.explained = true;
      if (portion.last < readIndex && !this.ring.isDone(portion.blockWord)) portion.abandoned = true;
    }
  }

  /** Everyone with something in the ring. */
  submissions(): Set<Submission> {
    const all = new Set<Submission>();
    for (const portion of this.live()) for (const { submission } of portion.segments) all.add(submission);
    return all;
  }

  /** All of it, for a snapshot. The context must be stopped. */
  save(): SavedPortion[] {
    const numbers = new Map([...this.submissions()].map((submission, number) => [submission, number]));
    return this.live().map(({ first, last, slots, bytes, interrupt, explained, abandoned, segments }) => ({
      ...{ first, last, slots, bytes, interrupt, explained, abandoned },
      segments: segments.map((segment) => [segment.first, segment.end, numbers.get(segment.submission) as number] as const),
    }));
  }

  /** Follows what {@link save} has saved. @returns the runs in the ring, oldest first */
  restore(saved: readonly SavedPortion[]): Segment[] {
    const submissions = new Map<number, Submission>();
    const all: Segment[] = [];
    for (const { segments, ...portion } of saved) {
      const runs = segments.map(([first, end, number]) => {
        const submission = submissions.get(number) ?? new Submission();
        submissions.set(number, submission);
        return { first, end, submission };
      });
      this.add({ ...portion, blockWord: this.ring.blockWord(portion.last), segments: runs });
      all.push(...runs);
    }
    for (const submission of submissions.values()) submission.seal();
    return all;
  }

  /** Forgets everything: the function is gone or will never look at it. */
  clear(): void {
    const gone = this.live();
    this.portions = [];
    this.head = 0;
    this.slots = 0;
    this.bytes = 0;
    for (const portion of gone) for (const { submission } of portion.segments) submission.release();
    this.onProgress?.();
  }

  private live(): Portion[] {
    return this.portions.slice(this.head);
  }

  private takeOut(portion: Portion, which: (segment: Segment) => boolean): void {
    const gone = portion.segments.filter(which);
    if (gone.length === 0) return;
    portion.segments = portion.segments.filter((segment) => !gone.includes(segment));
    for (const { submission } of gone) submission.release();
  }
}
