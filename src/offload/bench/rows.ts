import { setImmediate as nextTurn } from 'node:timers/promises';
import { AbortError, SdxiError } from '../../errors.js';
import { median } from './machine.js';
import { type PassPlan, type PumpLane, piecesOf, runCpuPass, runPass } from './pump.js';

/** One line of the result. */
export interface BenchRow {
  op: 'copy' | 'fill';
  size: number;
  depth: number;
  contexts: number;
  functions: number;
  span: number;
  nsPerOp: number;
  /** 10^9 bytes per second. */
  gbPerS: number;
  cpuNsPerOp: number;
  /** Speed of the function divided by the CPU's: 1 is as fast, above 1 is faster. */
  ratioToCpu: number;
}

export interface RowShape {
  op: 'copy' | 'fill';
  size: number;
  depth: number;
  span: number;
}

/** What is measured on: contexts, and one mapping that holds sources and then destinations. */
export interface Ground {
  readonly lanes: readonly PumpLane[];
  /** On each function. */
  readonly contexts: number;
  readonly functions: number;
  readonly bytes: Buffer;
}

/** Each pass takes about so long: far longer than a clock tick or a wake-up, far shorter than patience. */
const PASS_NS = 20e6;
/** Rounds of a row; fewer when the passes are long, because long passes vary less. */
const ROUNDS = 7;
const ROUNDS_LONG = 3;
/** A pass is at least so many times the depth, else it is all beginning and end. */
const FULL_QUEUES = 2;
/** A row is settled when so many passes in a row were about as fast as the fastest, or after so long. */
const STEADY_PASSES = 4;
const STEADY_WITHIN = 1.15;
const SETTLE_MS = 1500;
/** Operations whose bytes are compared, at most, unless the depth is greater. */
const ONCE_OPS = 20_000;
/** A fill repeats the first 4 KiB of the sources. */
const FILL_BLOCK = 4096;

/**
 * Measures one row. Function and CPU take turns, pass by pass, so that whatever else the machine does meets both; the medians
 * count. Bytes are compared before, when the function has done the row's work on wiped destinations, and after the last pass.
 * @throws SdxiError ERR_SDXI_CONTEXT when a byte is wrong; errors of the pump; AbortError
 */
export async function measureRow(ground: Ground, shape: RowShape, signal?: AbortSignal): Promise<BenchRow> {
  const { lanes, bytes } = ground;
  const { op, size, depth, span } = shape;
  const pieces = piecesOf(shape);
  const plan = (start: number, count: number): PassPlan => ({ ...shape, start, count });
  const written = doOnce(ground, shape, pieces);
  compare(bytes, shape, written);
  const { count, passNs } = settle((count) => runPass(lanes, plan(0, count)), FULL_QUEUES * depth);
  // The CPU works half a span away: it finds nothing in the caches that the function has just left there.
  const away = pieces >> 1;
  runCpuPass(bytes, plan(away, count));
  const rounds = passNs > 3 * PASS_NS ? ROUNDS_LONG : ROUNDS;
  const own: number[] = [];
  const cpu: number[] = [];
  let start = 0;
  for (let round = 0; round < rounds; round++) {
    if (signal?.aborted) throw new AbortError('bench', { cause: signal.reason });
    own.push(runPass(lanes, plan(start, count)) / count);
    cpu.push(runCpuPass(bytes, plan(start + away, count)) / count);
    start = (start + count) % pieces;
    await nextTurn();
  }
  compare(bytes, shape, written);
  const nsPerOp = median(own);
  const cpuNsPerOp = median(cpu);
  return {
    op,
    size,
    depth,
    contexts: ground.contexts,
    functions: ground.functions,
    span,
    nsPerOp,
    gbPerS: size / nsPerOp,
    cpuNsPerOp,
    ratioToCpu: cpuNsPerOp / nsPerOp,
  };
}

/**
 * Finds how many operations make a pass long enough, and repeats such passes until they have become as fast as they get: a path
 * that a row is the first to take makes V8 compile the loops of both threads anew, which takes it some hundred thousand descriptors.
 */
function settle(pass: (count: number) => number, least: number): { count: number; passNs: number } {
  let count = least;
  let passNs = pass(count);
  while (passNs < PASS_NS / 2) {
    count *= 2;
    passNs = pass(count);
  }
  const limit = performance.now() + SETTLE_MS;
  let fastest = passNs;
  for (let steady = 0; steady < STEADY_PASSES && performance.now() < limit; ) {
    passNs = pass(count);
    steady = passNs < fastest * STEADY_WITHIN ? steady + 1 : 0;
    fastest = Math.min(fastest, passNs);
    // Compiled code may have made the passes far too short.
    if (fastest < PASS_NS / 4) {
      count *= 2;
      fastest = Number.POSITIVE_INFINITY;
      steady = 0;
    }
  }
  return { count, passNs };
}

/**
 * Does what a row does on wiped destinations: once over the whole span, or as much of it as small depths get through in reasonable time.
 * @returns the number of pieces
 */
function doOnce({ lanes, bytes }: Ground, shape: RowShape, pieces: number): number {
  const { size, depth, span } = shape;
  const count = Math.min(pieces, Math.max(ONCE_OPS, depth));
  bytes.fill(~bytes[0] & 0xff, span, span + count * size);
  runPass(lanes, { ...shape, start: 0, count });
  return count;
}

/** @throws SdxiError ERR_SDXI_CONTEXT unless the first `pieces` destinations hold what they should */
function compare(bytes: Buffer, { op, size, depth, span }: RowShape, pieces: number): void {
  const length = pieces * size;
  const target = bytes.subarray(span, span + length);
  if (op === 'copy' ? target.equals(bytes.subarray(0, length)) : repeats(target, bytes.subarray(0, FILL_BLOCK), size)) return;
  throw new SdxiError('ERR_SDXI_CONTEXT', `${op} of ${size} bytes left wrong bytes in the destination`, {
    hint: 'run sdxi test: it finds out which',
    fields: { op, size, depth, span },
  });
}

/** True when every piece of `size` bytes holds the block over and over. */
function repeats(target: Buffer, block: Buffer, size: number): boolean {
  const expected = Buffer.alloc(size, block);
  for (let at = 0; at < target.length; at += size) if (target.compare(expected, 0, size, at, at + size) !== 0) return false;
  return true;
}
