import type { Ring } from '../../driver/index.js';
import { SdxiError, TimeoutError } from '../../errors.js';
import { ContextState, nameOf } from '../../spec/codes.js';
import { DescriptorFlag, encodeCopy, encodeRepcopy, NO_CSB } from '../../spec/encode.js';
import { DESCRIPTOR_BYTES } from '../../spec/limits.js';

/** A pass that has not ended by then never will. */
const PASS_TIMEOUT_MS = 60_000;
/** Looks at completion blocks between two looks at the clock. */
const LOOKS = 64;
/** A wait beyond this is given to whoever else needs the processor. Shorter than it takes to wake a function, each sleep would let that fall asleep too. */
const SPIN_MS = 0.3;
const SLEEP_MS = 0.05;
const SLOT_WORDS = DESCRIPTOR_BYTES / 4;

/** One context, and where the memory of the measurement lies for its function. */
export interface PumpLane {
  readonly ring: Ring;
  readonly iova: number;
}

/** What a pass does, again and again: operation `i` works on the `i`-th piece of the span, modulo its number of pieces. */
export interface PassPlan {
  readonly op: 'copy' | 'fill';
  readonly size: number;
  /** Bytes of sources; the destinations lie behind, and are as many. */
  readonly span: number;
  /** Descriptors in flight on each context. */
  readonly depth: number;
  /** First piece. */
  readonly start: number;
  readonly count: number;
}

/** Pieces of the size that the span has. */
export function piecesOf({ span, size }: Pick<PassPlan, 'span' | 'size'>): number {
  return Math.max(1, Math.floor(span / size));
}

/** Nobody notifies this word: waiting on it is a short sleep. */
const IDLE = new Int32Array(new SharedArrayBuffer(4));

/**
 * Waits as a good submitter does: it looks again and again for as long as a small batch takes, and then sleeps between looks. On a
 * machine with processors to spare this changes nothing; on a busy one the engine would share its processor with a spinning thread.
 */
export class Patience {
  private looks = 0;
  private since = 0;

  reset(): void {
    this.looks = 0;
  }

  /** One look was in vain. @returns true when it has slept */
  look(): boolean {
    if (++this.looks % LOOKS !== 0) return false;
    const now = performance.now();
    if (this.looks === LOOKS) this.since = now;
    if (now - this.since < SPIN_MS) return false;
    Atomics.wait(IDLE, 0, 0, SLEEP_MS);
    return true;
  }
}

function failed({ context, state }: Ring): SdxiError {
  return new SdxiError('ERR_SDXI_CONTEXT', `context ${context} failed in a measured batch`, {
    hint: 'run sdxi test first: a function that fails cannot be measured',
    fields: { context, state: nameOf(ContextState, state) },
  });
}

/**
 * Writes plain descriptors for `count` pieces from piece `from` on, into the slots from `index` on. One loop for each operation:
 * an encoder that is known is inlined.
 * @returns the piece behind the last one
 */
function writeCopies({ ring, iova }: PumpLane, { size, span }: PassPlan, from: number, index: number, count: number): number {
  const { u32 } = ring;
  const words = u32.length;
  let at = from * size;
  let word = ring.slotWord(index);
  for (let i = 0; i < count; i++) {
    encodeCopy(u32, word, 0, NO_CSB, size, 0, 0, iova + at, iova + span + at);
    at += size;
    if (at + size > span) at = 0;
    word += SLOT_WORDS;
    if (word === words) word = 0;
  }
  return at / size;
}

/** The same with fills, which all repeat the first block of the sources. */
function writeFills({ ring, iova }: PumpLane, { size, span }: PassPlan, from: number, index: number, count: number): number {
  const { u32 } = ring;
  const words = u32.length;
  let at = from * size;
  let word = ring.slotWord(index);
  for (let i = 0; i < count; i++) {
    encodeRepcopy(u32, word, 0, NO_CSB, size, 0, 0, iova, iova + span + at);
    at += size;
    if (at + size > span) at = 0;
    word += SLOT_WORDS;
    if (word === words) word = 0;
  }
  return at / size;
}

/** Batches on their way in one ring: at most two, so that the function works on one while the next is written. */
export class Feed {
  readonly lane: PumpLane;
  private readonly blocks = [0, 0];
  private head = 0;
  inFlight = 0;

  constructor(lane: PumpLane) {
    this.lane = lane;
  }

  /**
   * Writes one batch of descriptors; the last carries the completion block for all of them.
   * @returns false when the ring has no room: Read_Index may lag behind completions
   */
  submit(plan: PassPlan, from: number, count: number): boolean {
    const { ring, iova } = this.lane;
    const { size, span } = plan;
    const first = ring.tryReserve(count);
    if (first < 0) return false;
    const last = first + count - 1;
    const blockWord = ring.blockWord(last);
    ring.arm(blockWord);
    const copies = plan.op === 'copy';
    const piece = (copies ? writeCopies : writeFills)(this.lane, plan, from % piecesOf(plan), first, count - 1);
    const target = iova + span + piece * size;
    const block = ring.blockIova(last);
    if (copies) encodeCopy(ring.u32, ring.slotWord(last), DescriptorFlag.FE, block, size, 0, 0, iova + piece * size, target);
    else encodeRepcopy(ring.u32, ring.slotWord(last), DescriptorFlag.FE, block, size, 0, 0, iova, target);
    ring.publish(first, count);
    ring.ringDoorbell(last + 1);
    this.blocks[(this.head + this.inFlight) & 1] = blockWord;
    this.inFlight++;
    return true;
  }

  /** Takes the oldest batch out if it is done. @throws SdxiError when it failed */
  retire(): boolean {
    const { ring } = this.lane;
    const block = this.blocks[this.head];
    if (!ring.isDone(block)) return false;
    if (ring.hasFailed(block)) throw failed(ring);
    this.head ^= 1;
    this.inFlight--;
    return true;
  }
}

/** A context that has stopped signals nothing any more. @throws SdxiError, TimeoutError */
export function checkAlive(lanes: readonly PumpLane[], deadline: number): void {
  for (const { ring } of lanes) if (ring.state !== ContextState.RUN) throw failed(ring);
  if (performance.now() > deadline) throw new TimeoutError('measured batch', PASS_TIMEOUT_MS);
}

/**
 * Runs `plan.count` operations through the lanes and returns when all are done: descriptors go straight into the rings, completion
 * is seen by polling. This thread does nothing else meanwhile; that is what is measured.
 * @returns nanoseconds
 * @throws TimeoutError, SdxiError
 */
export function runPass(lanes: readonly PumpLane[], plan: PassPlan): number {
  const feeds = lanes.map((lane) => new Feed(lane));
  // Two batches of half the depth keep the function busy while one of them is written anew.
  const batch = Math.max(1, plan.depth >> 1);
  const most = plan.depth > 1 ? 2 : 1;
  let next = plan.start;
  let left = plan.count;
  let waiting = 0;
  const begin = process.hrtime.bigint();
  const deadline = performance.now() + PASS_TIMEOUT_MS;
  const patience = new Patience();
  while (left > 0 || waiting > 0) {
    let moved = false;
    for (const feed of feeds) {
      if (feed.inFlight > 0 && feed.retire()) {
        waiting--;
        moved = true;
      }
      while (left > 0 && feed.inFlight < most) {
        const count = Math.min(batch, left);
        if (!feed.submit(plan, next, count)) break;
        next += count;
        left -= count;
        waiting++;
        moved = true;
      }
    }
    if (moved) patience.reset();
    else if (patience.look()) checkAlive(lanes, deadline);
  }
  return Number(process.hrtime.bigint() - begin);
}

/** The same on the CPU: `copyWithin` (or `fill`) in the same mapping, same sizes, same order. @returns nanoseconds */
export function runCpuPass(bytes: Uint8Array, plan: Omit<PassPlan, 'depth'>): number {
  const { size, span, count, op } = plan;
  const pieces = piecesOf(plan);
  let piece = plan.start % pieces;
  const value = bytes[0];
  const begin = process.hrtime.bigint();
  for (let i = 0; i < count; i++) {
    const at = piece * size;
    if (++piece === pieces) piece = 0;
    if (op === 'copy') bytes.copyWithin(span + at, at, at + size);
    else bytes.fill(value, span + at, span + at + size);
  }
  return Number(process.hrtime.bigint() - begin);
}
