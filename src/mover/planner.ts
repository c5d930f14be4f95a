import { ArgumentError } from '../errors.js';
import { REPCOPY_BLOCK, WRT_IMM_MAX } from '../spec/limits.js';
import { AtomicOp } from '../spec/operations.js';
import { fromBigInt } from '../spec/u64.js';
import type { Grant, MemoryTable, Scratch } from './memory.js';
import { Plan } from './plan.js';

/** Names of the atomic operations: `uadd`, `cmpswap`, … */
export type AtomicName = Lowercase<keyof typeof AtomicOp>;

export interface AtomicOperands {
  /** Operand A. */
  operand: bigint | number;
  /** What `cmpswap` compares with. */
  compare?: bigint | number;
}

/** One element of a batch. `fence`: not before all elements before it are done; otherwise their order is open. */
export type BatchItem =
  | { op: 'copy'; source: ArrayBufferView; destination: ArrayBufferView; fence?: boolean }
  | { op: 'fill'; destination: ArrayBufferView; value: number | Uint8Array; fence?: boolean }
  | { op: 'writeImmediate'; destination: ArrayBufferView; data: Uint8Array; fence?: boolean };

/** Longest piece of a large copy: a soft stop (abort, close) waits for the descriptor in execution, so that takes some 10 ms at most. */
const PIECE_MAX = 64 * 2 ** 20;
/**
 * Overlapping ranges that are this far apart are moved in fenced pieces of their distance, which moves each byte once; closer ones go
 * through a bounce buffer, because a fence for every few bytes costs more than moving them twice.
 */
const DISTANCE_MIN = 16 * 1024;
const BOUNCE_BYTES = 2 ** 20;
/** Patterns other than single bytes that are kept. */
const PATTERNS_MAX = 16;

/** A plan with what it holds on to while it is executed. */
export class Work {
  readonly plan = new Plan();
  readonly grants: Grant[] = [];
  readonly scratch: Scratch[] = [];
  private recent: Grant | undefined;
  private before: Grant | undefined;

  /** Notes that a grant is used. Work mostly goes back and forth between two, which are looked at first; noting one again is harmless. */
  use(grant: Grant): void {
    if (grant === this.recent || grant === this.before) return;
    this.before = this.recent;
    this.recent = grant;
    grant.users++;
    this.grants.push(grant);
  }

  /** Nothing of it is in flight any more, or it never was. */
  release(): void {
    for (const grant of this.grants.splice(0)) grant.release();
    for (const piece of this.scratch.splice(0)) piece.free();
  }
}

/** Turns operations on views into descriptors: finds the memory, checks ranges, splits, and takes overlaps apart. */
export class Planner {
  private readonly memory: MemoryTable;
  private readonly pieceMax: number;
  private readonly patterns = new Map<string, Scratch>();
  private readonly bytesBlocks: (Scratch | undefined)[] = new Array(256);

  /** @param maxBufferBytes what every function of the mover can move by one descriptor */
  constructor(memory: MemoryTable, maxBufferBytes: number) {
    this.memory = memory;
    this.pieceMax = Math.min(PIECE_MAX, maxBufferBytes);
  }

  /** Any element of a batch. @throws ArgumentError, SdxiError ERR_SDXI_NOT_REGISTERED, ERR_SDXI_DETACHED */
  item(work: Work, item: BatchItem): void {
    switch (item?.op) {
      case 'copy':
        this.copy(work, item.source, item.destination, item.fence);
        break;
      case 'fill':
        this.fill(work, item.destination, item.value, item.fence);
        break;
      case 'writeImmediate':
        this.writeImmediate(work, item.destination, item.data, item.fence);
        break;
      default:
        throw new ArgumentError(`there is no batch operation "${String((item as { op: unknown } | undefined)?.op)}"`, {
          hint: 'one of copy, fill, writeImmediate',
        });
    }
  }

  copy(work: Work, source: ArrayBufferView, destination: ArrayBufferView, fence = false): void {
    const { memory } = this;
    checkView(source, 'source');
    checkView(destination, 'destination');
    const size = source.byteLength;
    if (destination.byteLength !== size || size === 0) {
      this.checkLengths(source, destination);
      return;
    }
    const from = memory.locate(source, size, 'source');
    const sourceGrant = memory.grant;
    const to = memory.locate(destination, size, 'destination');
    const { grant } = memory;
    work.use(sourceGrant);
    work.use(grant);
    // Overlap is a matter of memory, not of DMA addresses: the same bytes may have been registered twice.
    const distance = grant.address - grant.iova + to - (sourceGrant.address - sourceGrant.iova + from);
    if (distance < size && distance > -size) this.overlapping(work, size, from, to, distance, fence);
    else this.pieces(work.plan, size, from, to, fence);
  }

  /** Out of line: not for work as usual. @throws unless both are empty */
  private checkLengths(source: ArrayBufferView, destination: ArrayBufferView): void {
    for (const view of [source, destination])
      if (view.byteLength === 0) this.memory.checkEmpty(view, view === source ? 'source' : 'destination');
    if (source.byteLength === destination.byteLength) return;
    throw new ArgumentError(`source has ${source.byteLength} bytes, destination ${destination.byteLength}`, {
      hint: 'give two views of the same length (subarray)',
    });
  }

  private pieces(plan: Plan, size: number, from: number, to: number, fence: boolean): void {
    const { pieceMax } = this;
    for (let done = 0; done < size; done += pieceMax) plan.copy(Math.min(pieceMax, size - done), from + done, to + done, fence);
  }

  /** As memmove: the result is as if all had been read before anything was written. */
  private overlapping(work: Work, size: number, from: number, to: number, distance: number, fence: boolean): void {
    if (distance === 0) return;
    const { plan } = work;
    const apart = Math.abs(distance);
    const bounced = apart < DISTANCE_MIN;
    const piece = bounced ? Math.min(size, BOUNCE_BYTES, this.pieceMax) : Math.min(apart, this.pieceMax);
    const bounce = bounced ? this.scratch(work, piece).iova : 0;
    // From the end when the destination lies higher: each piece then overwrites only what has been read.
    for (let done = 0; done < size; done += piece) {
      const length = Math.min(piece, size - done);
      const at = distance > 0 ? size - done - length : done;
      const ordered = fence || done > 0;
      if (bounced) {
        plan.copy(length, from + at, bounce, ordered);
        plan.copy(length, bounce, to + at, true);
      } else {
        plan.copy(length, from + at, to + at, ordered);
      }
    }
    plan.ordered = true;
  }

  fill(work: Work, destination: ArrayBufferView, value: number | Uint8Array, fence = false): void {
    const { memory, pieceMax } = this;
    checkView(destination, 'destination');
    const size = destination.byteLength;
    if (size === 0) memory.checkEmpty(destination, 'destination');
    const block = typeof value === 'number' ? this.byteBlock(value) : this.patternBlock(work, value);
    if (size === 0) return;
    const to = memory.locate(destination, size, 'destination');
    work.use(memory.grant);
    // pieceMax is a multiple of 4 KiB, so that each piece starts with the first byte of the block.
    for (let done = 0; done < size; done += pieceMax) work.plan.fill(Math.min(pieceMax, size - done), block, to + done, fence);
  }

  writeImmediate(work: Work, destination: ArrayBufferView, data: Uint8Array, fence = false): void {
    const { memory } = this;
    checkView(destination, 'destination');
    checkView(data, 'data');
    if (data.byteLength !== destination.byteLength || data.byteLength > WRT_IMM_MAX) {
      throw new ArgumentError(`cannot write ${data.byteLength} bytes to ${destination.byteLength} at once`, {
        hint: `give a destination of the same length as the data, at most ${WRT_IMM_MAX} bytes; copy() moves more`,
      });
    }
    if (destination.byteLength === 0) {
      memory.checkEmpty(destination, 'destination');
      return;
    }
    const to = memory.locate(destination, destination.byteLength, 'destination');
    work.use(memory.grant);
    // The caller may change the data while this waits for its turn.
    work.plan.writeImmediate(Uint8Array.from(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)), to, fence);
  }

  /** @returns where the old value will be */
  atomic(work: Work, name: AtomicName, target: ArrayBufferView, operands: AtomicOperands): Scratch {
    checkView(target, 'target');
    const op = typeof name === 'string' ? AtomicOp[name.toUpperCase() as keyof typeof AtomicOp] : undefined;
    if (op === undefined || name !== name.toLowerCase()) {
      const names = Object.keys(AtomicOp).map((known) => known.toLowerCase());
      throw new ArgumentError(`there is no atomic operation "${String(name)}"`, { hint: `one of ${names.join(', ')}` });
    }
    const width = target.byteLength;
    if (width === 0) this.memory.checkEmpty(target, 'target');
    if (width !== 4 && width !== 8)
      throw new ArgumentError(`an atomic operation works on 4 or 8 bytes, not ${width}`, { hint: 'give a view of exactly that length' });
    const at = this.memory.locate(target, width, 'target');
    if (at % width !== 0) {
      throw new ArgumentError(`the target is not aligned to ${width} bytes`, {
        hint: 'its address in memory counts: alloc() memory is aligned to 64 bytes',
      });
    }
    const a = halves(operands?.operand, width, 'operand');
    if (op === AtomicOp.CMPSWAP && operands.compare === undefined) {
      throw new ArgumentError('cmpswap needs a value to compare with', {
        hint: 'pass { operand, compare }: the target becomes operand if it is compare',
      });
    }
    const b = halves(operands.compare ?? 0n, width, 'compare');
    work.use(this.memory.grant);
    const old = this.scratch(work, 8);
    work.plan.atomic({ op, a, b }, width, at, old.iova);
    return old;
  }

  private scratch(work: Work, byteLength: number): Scratch {
    const scratch = this.memory.scratch(byteLength);
    work.scratch.push(scratch);
    return scratch;
  }

  private byteBlock(value: number): number {
    if (!Number.isInteger(value) || value < 0 || value > 255)
      throw new ArgumentError(`cannot fill with ${value}`, { hint: 'a byte, 0 … 255, or a pattern' });
    let block = this.bytesBlocks[value];
    if (!block) {
      block = this.memory.scratch(REPCOPY_BLOCK, REPCOPY_BLOCK);
      block.bytes.fill(value);
      this.bytesBlocks[value] = block;
    }
    return block.iova;
  }

  private patternBlock(work: Work, pattern: Uint8Array): number {
    checkView(pattern, 'pattern');
    const { byteLength } = pattern;
    if (byteLength === 0 || REPCOPY_BLOCK % byteLength !== 0) {
      throw new ArgumentError(`a pattern of ${byteLength} bytes cannot be repeated`, {
        hint: `its length must divide ${REPCOPY_BLOCK}: 1, 2, 4, … ${REPCOPY_BLOCK}`,
      });
    }
    const bytes = Buffer.from(pattern.buffer, pattern.byteOffset, byteLength);
    const key = bytes.toString('latin1');
    const known = this.patterns.get(key);
    if (known) return known.iova;
    const block = this.memory.scratch(REPCOPY_BLOCK, REPCOPY_BLOCK);
    block.bytes.fill(bytes);
    if (this.patterns.size < PATTERNS_MAX) this.patterns.set(key, block);
    else work.scratch.push(block);
    return block.iova;
  }
}

function checkView(view: unknown, what: string): void {
  if (ArrayBuffer.isView(view)) return;
  throw new ArgumentError(`the ${what} is no view of memory`, { hint: 'pass a Buffer or typed array (new Uint8Array(buffer))' });
}

/** An operand as [low, high], cut to its width like the function does. @throws ArgumentError */
function halves(value: bigint | number, width: number, what: string): [number, number] {
  if (typeof value !== 'bigint' && !Number.isSafeInteger(value)) {
    throw new ArgumentError(`${what} ${String(value)} is not a whole number`, { hint: 'pass a bigint or a safe integer' });
  }
  const bits = width * 8;
  const wide = BigInt(value);
  if (BigInt.asUintN(bits, wide) !== wide && BigInt.asIntN(bits, wide) !== wide) {
    throw new ArgumentError(`${what} ${wide} does not fit into ${bits} bits`, { hint: 'give a target of 8 bytes, or a smaller value' });
  }
  return fromBigInt(BigInt.asUintN(bits, wide));
}

/** The old value that an atomic operation has returned. */
export function oldValue(scratch: Scratch, width: number): bigint {
  return width === 4 ? BigInt(scratch.bytes.readUInt32LE(0)) : scratch.bytes.readBigUInt64LE(0);
}
