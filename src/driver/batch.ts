import { ArgumentError, SdxiError } from '../errors.js';
import {
  DescriptorFlag,
  encodeAtomic,
  encodeCopy,
  encodeInterrupt,
  encodeNop,
  encodeRepcopy,
  encodeWriteImmediate,
  NO_CSB,
} from '../spec/encode.js';
import { DESCRIPTOR_BYTES } from '../spec/limits.js';
import { type Portion, type Segment, Submission } from './completions.js';
import type { Context } from './context.js';

const SLOT_WORDS = DESCRIPTOR_BYTES / 4;
/** Key 0 of a context: its default translation, and its interrupt. */
const DEFAULT_KEY = 0;

/**
 * Descriptors on their way into a ring: claimed, and encoded straight into their slots. All addresses are DMA addresses.
 * Between `context.begin()` and `submit()` the function waits at the first slot, so do not hold a batch across other waits.
 *
 * The last descriptor gets a completion block and a fence, so that its completion means that of all before it.
 */
export class DescriptorBatch {
  /** Index of the first descriptor. */
  readonly first: number;
  /** Descriptors that were asked for; those not written become NOPs. */
  readonly count: number;
  /** Sum of the sizes so far. */
  bytes = 0;
  private readonly context: Context;
  private readonly u32: Uint32Array;
  private readonly end: number;
  private readonly announced: boolean;
  private readonly segments: Segment[] = [];
  private word: number;
  private left: number;
  private cutAt: number;
  private published = false;

  /** Use `context.begin()`. */
  constructor(context: Context, first: number, count: number, interrupt: boolean) {
    this.context = context;
    this.u32 = context.ring.u32;
    this.end = this.u32.length;
    this.first = first;
    this.count = count;
    this.announced = interrupt;
    this.left = count;
    this.cutAt = first;
    this.word = context.ring.slotWord(first);
  }

  /** Index of the next descriptor. */
  get index(): number {
    return this.first + this.count - this.left;
  }

  /** No data effect. */
  nop(flags = 0): void {
    encodeNop(this.u32, this.word, this.flags(flags), this.block());
    this.advance(0);
  }

  /** Copies 1 byte … the context's maxBufferBytes. The ranges must not overlap. @throws EncodeError; the batch is unchanged then */
  copy(size: number, source: number, destination: number, flags = 0, sourceKey = DEFAULT_KEY, destinationKey = DEFAULT_KEY): void {
    encodeCopy(this.u32, this.word, this.flags(flags), this.block(), size, sourceKey, destinationKey, source, destination);
    this.advance(size);
  }

  /** Repeats the 4 KiB at `block` (4 KiB aligned) over `size` bytes. @throws EncodeError */
  fill(size: number, block: number, destination: number, flags = 0, sourceKey = DEFAULT_KEY, destinationKey = DEFAULT_KEY): void {
    encodeRepcopy(this.u32, this.word, this.flags(flags), this.block(), size, sourceKey, destinationKey, block, destination);
    this.advance(size);
  }

  /** Writes 1 … 32 bytes that the descriptor carries. @throws EncodeError */
  writeImmediate(data: Uint8Array, destination: number, flags = 0, key = DEFAULT_KEY): void {
    encodeWriteImmediate(this.u32, this.word, this.flags(flags), this.block(), data.length, key, destination, data, 0);
    this.advance(data.length);
  }

  /** Raises the interrupt that an AKey names: a vector of this function, or of another under its consent. Ref §7.2. */
  interrupt(key: number, flags = 0): void {
    encodeInterrupt(this.u32, this.word, this.flags(flags), this.block(), key);
    this.advance(0);
  }

  /**
   * One indivisible operation on 4 or 8 bytes; `returnTo` gets the old value.
   * @param a operand A as [low, high] halves; `b` the compare value of CMPSWAP
   * @throws EncodeError
   */
  atomic(
    op: number,
    width: 4 | 8,
    target: number,
    returnTo: number,
    a: readonly [number, number],
    b: readonly [number, number] = [0, 0],
    flags = 0,
    targetKey = DEFAULT_KEY,
    returnKey = DEFAULT_KEY,
  ): void {
    const { u32, word } = this;
    encodeAtomic(u32, word, this.flags(flags), this.block(), op, width, targetKey, target, returnKey, returnTo, a[0], a[1], b[0], b[1]);
    this.advance(width);
  }

  /** Any other descriptor: `encode` is one of the encoders of `sdxi/spec`, with everything bound but slot, flags and block. */
  write(encode: (u32: Uint32Array, word: number, flags: number, csb: number) => unknown, flags = 0): void {
    encode(this.u32, this.word, this.flags(flags), this.block());
    this.advance(0);
  }

  /**
   * The fast path for many small copies of one size: pair `i` goes from `sources[i]` to `destinations[i]`.
   * @param from first pair; `count` pairs are written, at most what is left of the batch
   */
  copyPairs(
    sources: Float64Array,
    destinations: Float64Array,
    size: number,
    from = 0,
    count = Math.min(this.left, sources.length - from),
  ): void {
    const whole = Number.isInteger(from) && Number.isInteger(count) && from >= 0 && count >= 0;
    if (!whole || count > this.left || from + count > Math.min(sources.length, destinations.length)) {
      throw new ArgumentError(`cannot write ${count} copies`, { hint: `the batch has room for ${this.left}`, fields: { from, count } });
    }
    const { u32, end } = this;
    // The last descriptor of a batch is special; all others are alike.
    const plain = count === this.left ? count - 1 : count;
    let { word } = this;
    for (let i = from; i < from + plain; i++) {
      encodeCopy(u32, word, 0, NO_CSB, size, DEFAULT_KEY, DEFAULT_KEY, sources[i], destinations[i]);
      word += SLOT_WORDS;
      if (word === end) word = 0;
    }
    this.word = word;
    this.left -= plain;
    this.bytes += size * plain;
    if (plain < count) this.copy(size, sources[from + plain], destinations[from + plain]);
  }

  /** Everything since the last cut, or the start, belongs to `submission`. What is never cut off belongs to the one that submit() returns. */
  cut(submission: Submission): void {
    if (this.index > this.cutAt) this.segments.push({ first: this.cutAt, end: this.index, submission });
    this.cutAt = this.index;
  }

  /** Publishes all descriptors and rings the doorbell. Completion is followed in the background: see {@link Submission.done}. */
  submit(): Submission {
    const submission = this.publish();
    this.context.tracker.watch();
    return submission;
  }

  /**
   * As {@link submit}, and waits on the calling thread: for single small operations, where a promise would cost more than the work.
   * @throws TimeoutError, ContextError, FunctionError, BusLostError
   */
  submitAndSpin(timeoutMs = 1000): void {
    const submission = this.publish();
    this.context.spin(submission, timeoutMs);
  }

  /** Publishes NOPs in place of what was written, so that a batch that failed half-way does not block the ring. */
  abandon(): void {
    if (this.published) return;
    this.word = this.context.ring.slotWord(this.first);
    this.left = this.count;
    this.bytes = 0;
    this.segments.length = 0;
    this.cutAt = this.first;
    this.submit();
  }

  private publish(): Submission {
    if (this.published) throw new SdxiError('ERR_SDXI_STATE', 'this batch has been submitted', { hint: 'begin a new one' });
    this.context.assertOpen();
    while (this.left > 0) this.nop();
    const { context, first, count, announced: interrupt } = this;
    const { ring } = context;
    const last = first + count - 1;
    const submission = new Submission();
    this.cut(submission);
    const slots = interrupt ? count + 1 : count;
    if (interrupt) encodeInterrupt(this.u32, this.word, DescriptorFlag.FE, NO_CSB, DEFAULT_KEY);
    const blockWord = ring.blockWord(last);
    ring.arm(blockWord);
    const { bytes, segments } = this;
    const portion: Portion = { first, last, blockWord, slots, bytes, interrupt, segments, explained: false, abandoned: false };
    context.tracker.add(portion);
    submission.seal();
    this.published = true;
    context.ended();
    ring.publish(first, slots);
    try {
      ring.ringDoorbell(first + slots);
    } catch (error) {
      // The function is gone, and nobody may have noticed yet: what is in flight has nobody else to settle it.
      context.tracker.lose(error as Error);
    }
    return submission;
  }

  private flags(flags: number): number {
    return this.left === 1 ? flags | DescriptorFlag.FE : flags;
  }

  private block(): number {
    if (this.left === 1) return this.context.ring.blockIova(this.first + this.count - 1);
    if (this.left > 0) return NO_CSB;
    throw new ArgumentError(`the batch holds ${this.count} descriptors`, { hint: 'begin a larger one, or submit this one first' });
  }

  private advance(bytes: number): void {
    this.word += SLOT_WORDS;
    if (this.word === this.end) this.word = 0;
    this.left--;
    this.bytes += bytes;
  }
}
