import type { DescriptorBatch } from '../driver/index.js';
import { DescriptorFlag } from '../spec/encode.js';

/** Kinds of planned operations. */
const COPY = 0;
const FILL = 1;
const IMMEDIATE = 2;
const ATOMIC = 3;
/** Added to the kind: wait for all earlier operations of the plan. */
const FENCED = 8;

/** Four numbers an operation: kind, size, and two DMA addresses. */
const STRIDE = 4;

/** An atomic operation as a descriptor carries it; operands are [low, high] halves. */
export interface AtomicCall {
  readonly op: number;
  readonly a: readonly [number, number];
  readonly b: readonly [number, number];
}

/** Most plans have none. */
const NO_EXTRAS = new Map<number, Uint8Array | AtomicCall>();

/**
 * What a request will put into rings: descriptors in the small, as numbers, so that thousands of them cost no objects. DMA addresses
 * hold for all functions of a mover, so a plan does not say which one will execute it.
 */
export class Plan {
  /** Descriptors. */
  count = 0;
  /** Sum of their sizes. */
  bytes = 0;
  /** Some wait for others, so one function must execute all. */
  ordered = false;
  private readonly numbers: number[] = [];
  private extras: Map<number, Uint8Array | AtomicCall> = NO_EXTRAS;

  copy(size: number, source: number, destination: number, fence = false): void {
    this.push(COPY, size, source, destination, fence);
  }

  /** @param block DMA address of 4 KiB, aligned */
  fill(size: number, block: number, destination: number, fence = false): void {
    this.push(FILL, size, block, destination, fence);
  }

  writeImmediate(data: Uint8Array, destination: number, fence = false): void {
    this.extra(data);
    this.push(IMMEDIATE, data.length, 0, destination, fence);
  }

  atomic(call: AtomicCall, width: 4 | 8, target: number, returnTo: number): void {
    this.extra(call);
    this.push(ATOMIC, width, target, returnTo, false);
  }

  /** Bytes that operations `from` … `from + count - 1` move. */
  bytesOf(from: number, count: number): number {
    const { numbers } = this;
    let sum = 0;
    for (let at = from * STRIDE + 1; at < (from + count) * STRIDE; at += STRIDE) sum += numbers[at];
    return sum;
  }

  /** Writes `count` operations into a batch. @throws EncodeError */
  emit(batch: DescriptorBatch, from: number, count: number): void {
    const { numbers, extras } = this;
    for (let i = from; i < from + count; i++) {
      const at = i * STRIDE;
      const kind = numbers[at];
      const size = numbers[at + 1];
      const first = numbers[at + 2];
      const second = numbers[at + 3];
      const flags = kind & FENCED ? DescriptorFlag.FE : 0;
      switch (kind & ~FENCED) {
        case COPY:
          batch.copy(size, first, second, flags);
          break;
        case FILL:
          batch.fill(size, first, second, flags);
          break;
        case IMMEDIATE:
          batch.writeImmediate(extras.get(i) as Uint8Array, second, flags);
          break;
        default: {
          const { op, a, b } = extras.get(i) as AtomicCall;
          batch.atomic(op, size as 4 | 8, first, second, a, b, flags);
        }
      }
    }
  }

  /**
   * Deals the operations out to `parts` plans, so that each moves about the same number of bytes; large copies and fills are cut,
   * into pieces of at least `pieceBytes`. Not for ordered plans.
   */
  split(parts: number, pieceBytes: number): Plan[] {
    const plans = Array.from({ length: parts }, () => new Plan());
    const { numbers, extras } = this;
    let next = 0;
    for (let i = 0; i < this.count; i++) {
      const [kind, size, first, second] = numbers.slice(i * STRIDE, (i + 1) * STRIDE);
      // The phase of a fill starts with its first byte (S-22): pieces of whole pages keep it.
      const piece = kind === COPY || kind === FILL ? Math.max(pieceBytes, Math.ceil(size / parts / 4096) * 4096) : size;
      for (let done = 0; done < size; done += piece) {
        const length = size - done < piece + pieceBytes ? size - done : piece;
        const plan = lightest(plans, next++);
        const extra = extras.get(i);
        if (extra) plan.extra(extra);
        plan.push(kind, length, kind === COPY ? first + done : first, kind === COPY || kind === FILL ? second + done : second, false);
        if (length > piece) break;
      }
    }
    return plans.filter((plan) => plan.count > 0);
  }

  private extra(value: Uint8Array | AtomicCall): void {
    if (this.extras === NO_EXTRAS) this.extras = new Map();
    this.extras.set(this.count, value);
  }

  private push(kind: number, size: number, first: number, second: number, fence: boolean): void {
    this.numbers.push(fence ? kind | FENCED : kind, size, first, second);
    this.count++;
    this.bytes += size;
    if (fence) this.ordered = true;
  }
}

/** What a small descriptor costs, in bytes of copying. */
const DESCRIPTOR_COST = 512;

function lightest(plans: Plan[], start: number): Plan {
  let best = plans[start % plans.length];
  for (const plan of plans) if (load(plan) < load(best)) best = plan;
  return best;
}

function load(plan: Plan): number {
  return plan.bytes + plan.count * DESCRIPTOR_COST;
}
