/** The work of the example, the same on both sides: what each descriptor does, and what memory looks like when all have done it once. */
import { openSync } from 'node:fs';
import { openRegion } from 'sdxi/driver';
import { AtomicOp, encodeAtomic, encodeCopy, encodeRepcopy } from 'sdxi/spec';

export const CONTEXTS = 12;
export const BATCHES = 30;
/** Descriptors of a batch; the last one is a NOP, whose completion block is the driver's. */
export const BATCH = 32;
export const RING = 1024;
/** At the end of each ring, so that there is something left to move. */
const BULK_COPIES = 16;
const BULK = 4 * 2 ** 20;
const SOURCE = 64 * 1024;
const PATTERN = 4096;
const SIZE_MAX = 8192;
/** A counter, and the old value that adding to it returns. */
const COUNTER = 16;
const NOT_RETURNED = 77n;
const GUARD = 64;
const GUARD_BYTE = 0xa5;
/** Each completion takes 1 away: who completes twice is seen. */
export const SIGNAL = 1000n;
const JOBS = BATCHES * (BATCH - 1);

/** Numbers that a seed repeats (mulberry32). */
function random(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** A piece of the memory that was inherited; a region closes its file, so each has one of its own. */
export function pieceOf(fd, offset, byteLength) {
  return openRegion(openSync(`/proc/self/fd/${fd}`, 'r+'), { offset, byteLength });
}

/** Where everything of one context lies in its buffer, and what its descriptors do. */
export function load(context) {
  const next = random(context);
  const source = 0;
  const bulkSource = source + SOURCE;
  const bulkTarget = bulkSource + BULK;
  const blocks = bulkTarget + BULK;
  const counters = blocks + JOBS * 32;
  let free = counters + JOBS * COUNTER + GUARD;
  const jobs = Array.from({ length: JOBS }, (_, n) => {
    const kind = n % 3 === 0 ? 'add' : n % 3 === 1 ? 'copy' : 'fill';
    const size = kind === 'add' ? 8 : 1 + next(SIZE_MAX);
    const from = kind === 'fill' ? PATTERN * next(SOURCE / PATTERN) : next(SOURCE - SIZE_MAX);
    const to = kind === 'add' ? counters + COUNTER * n : free;
    if (kind !== 'add') free += size + GUARD;
    return { kind, size, from, to, block: blocks + 32 * n };
  });
  return { source, bulkSource, bulkTarget, jobs, counters, byteLength: free };
}

/** Memory before the first descriptor. */
export function prepare(bytes, { source, bulkSource, jobs, counters }, context) {
  const next = random(1000 + context);
  bytes.fill(GUARD_BYTE, counters + JOBS * COUNTER);
  for (let at = 0; at < SOURCE; at += 4) bytes.writeUInt32LE(next(2 ** 32), source + at);
  for (let at = 0; at < BULK; at += SOURCE) bytes.copy(bytes, bulkSource + at, source, source + SOURCE);
  for (const { kind, to, block } of jobs) {
    bytes.writeBigUInt64LE(SIGNAL, block);
    if (kind === 'add') bytes.writeBigUInt64LE(NOT_RETURNED, to + 8);
  }
}

/** Queues everything in a context. */
export function submit(context, iova, { source, bulkSource, bulkTarget, jobs }) {
  for (let b = 0; b < BATCHES; b++) {
    const mine = jobs.slice(b * (BATCH - 1), (b + 1) * (BATCH - 1));
    const batch = context.begin(BATCH);
    for (const { kind, size, from, to, block } of mine) {
      batch.write((u32, word, flags) => {
        const operands = [u32, word, flags, iova + block];
        if (kind === 'copy') return encodeCopy(...operands, size, 0, 0, iova + source + from, iova + to);
        if (kind === 'fill') return encodeRepcopy(...operands, size, 0, 0, iova + source + from, iova + to);
        return encodeAtomic(...operands, AtomicOp.UADD, 8, 0, iova + to, 0, iova + to + 8, 1, 0, 0, 0);
      });
    }
    batch.nop();
    batch.submit();
  }
  const bulk = context.begin(BULK_COPIES, { bytes: BULK_COPIES * BULK });
  for (let i = 0; i < BULK_COPIES; i++) bulk.copy(BULK, iova + bulkSource, iova + bulkTarget);
  bulk.submit();
}

/** Compares memory with what it must be after each descriptor has been executed once. @returns what was compared */
export function verify(bytes, { source, bulkSource, bulkTarget, jobs, counters }, context) {
  const expected = Buffer.alloc(bytes.length);
  prepare(expected, { source, bulkSource, jobs, counters }, context);
  expected.copy(expected, bulkTarget, bulkSource, bulkSource + BULK);
  let moved = BULK;
  for (const { kind, size, from, to, block } of jobs) {
    expected.writeBigUInt64LE(SIGNAL - 1n, block);
    const data = expected.subarray(source + from, source + from + (kind === 'copy' ? size : PATTERN));
    if (kind === 'add') {
      expected.writeBigUInt64LE(1n, to);
      expected.writeBigUInt64LE(0n, to + 8);
    } else {
      expected.fill(data, to, to + size);
    }
    moved += size;
  }
  if (!expected.equals(bytes)) {
    const at = expected.findIndex((byte, i) => byte !== bytes[i]);
    const job = jobs.findLast(({ to, block }) => to <= at || block <= at);
    throw new Error(`context ${context}: byte ${at} is ${bytes[at]}, not ${expected[at]} (near ${JSON.stringify(job)})`);
  }
  return { blocks: jobs.length, counters: jobs.filter(({ kind }) => kind === 'add').length, bytes: moved };
}
