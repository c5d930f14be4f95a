import { freemem } from 'node:os';
import type { SdxiDriver } from '../../driver/index.js';
import { ArgumentError } from '../../errors.js';
import { allocateRegion } from '../../memory/index.js';
import { open } from '../../mover/index.js';
import { Prng } from '../../prng.js';
import { compareEventLoop, type LoopComparison } from '../event-loop.js';
import { Functions } from '../functions.js';
import { closeAll } from '../lane.js';
import { type Machine, thisMachine } from './machine.js';
import { type PumpLane, runCpuPass, runPass } from './pump.js';
import { compareQos, type QosComparison } from './qos.js';
import { type BenchRow, type Ground, measureRow, type RowShape } from './rows.js';
import { type Latency, registerRead, roundTrip } from './single.js';

export interface BenchOptions {
  uri: string;
  functions: number;
  /** Bytes of one operation. */
  sizes: number[];
  /** Descriptors in flight on each context. */
  depths: number[];
  /** Contexts on each function. */
  contexts: number[];
  /** Bytes of sources that a row walks over, and of destinations behind them. */
  spans: number[];
  /** Also compare arbitration without and with option `qos`. */
  qos?: boolean;
  signal?: AbortSignal;
  onRow?: (row: BenchRow, done: number, total: number) => void;
}

export interface BenchReport {
  machine: Machine;
  uri: string;
  functions: number;
  rows: BenchRow[];
  /** One descriptor of 64 bytes at a time, function awake. */
  roundTrip: Latency;
  /** A register read while the function copies. */
  registerRead: Latency;
  /** The event loop while `mover.copy` moves 1 GiB. */
  eventLoop: LoopComparison;
  /** An urgent context beside 64 that copy; null unless asked for. */
  qos: QosComparison | null;
}

type Single = Pick<BenchReport, 'roundTrip' | 'registerRead'>;

const GIB = 2 ** 30;

/** REPCOPY repeats blocks of this size; smaller fills are copies in all but name. */
const FILL_MIN = 4096;
const FILL_BYTE = 0x5a;
const WARM_UP_MS = 600;

/** The rows that these options ask for: every copy, and fills at the greatest depth. A size larger than a span has no row there. */
function shapesOf({ sizes, depths, spans }: BenchOptions): RowShape[] {
  const deepest = Math.max(...depths);
  const copies = spans.flatMap((span) => depths.flatMap((depth) => sizes.map((size) => ({ op: 'copy', size, depth, span }) as const)));
  const fills = spans.flatMap((span) =>
    sizes.filter((size) => size >= FILL_MIN).map((size) => ({ op: 'fill', size, depth: deepest, span }) as const),
  );
  return [...copies, ...fills].filter(({ size, span }) => size <= span);
}

/**
 * Source bytes that differ from one place to the next, so that a copy from the wrong place is seen; but for the first 4 KiB, which
 * fills repeat and the CPU's `fill` must be able to write too.
 */
function scatter(bytes: Buffer, sources: number): void {
  new Prng(1).fill(bytes.subarray(0, Math.min(sources, 2 ** 20)));
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, sources >>> 2);
  for (let at = 2 ** 18; at < words.length; at++) words[at] = words[at - 2 ** 18] ^ Math.imul(at, 0x9e37_79b1);
  bytes.fill(FILL_BYTE, 0, FILL_MIN);
}

/** Runs until the engine's code and ours is compiled as it stays: that takes millions of descriptors. */
function warmUp({ lanes, bytes }: Ground, span: number): void {
  const end = performance.now() + WARM_UP_MS;
  const count = 20_000;
  for (let start = 0; performance.now() < end; start += count) {
    for (const op of ['copy', 'fill'] as const) {
      runPass(lanes, { op, size: 64, span, depth: 256, start, count });
      runCpuPass(bytes, { op, size: 64, span, start, count });
    }
    runPass(lanes, { op: 'copy', size: 64, span, depth: 1, start, count: 1000 });
  }
}

/** Contexts for a row, on all functions alike. */
async function openLanes(drivers: readonly SdxiDriver[], iovas: number[], contexts: number, ringEntries: number) {
  const opened = [];
  try {
    for (let i = 0; i < contexts; i++) {
      for (const [f, driver] of drivers.entries()) {
        opened.push({ iova: iovas[f], context: await driver.createContext({ ringEntries, completion: 'polled', vector: false }) });
      }
    }
  } catch (error) {
    await closeAll(opened.map(({ context }) => context));
    throw error;
  }
  return {
    lanes: opened.map(({ iova, context }): PumpLane => ({ iova, ring: context.ring })),
    contexts: opened.map(({ context }) => context),
  };
}

/**
 * Measures what functions do, beside what the CPU does in the same memory and the same run. The calling thread is busy all the
 * while: it is the one submitter.
 * @throws ArgumentError when nothing is left to measure; SdxiError when a byte is wrong; AbortError
 */
export async function runBench(options: BenchOptions): Promise<BenchReport> {
  const shapes = shapesOf(options);
  if (shapes.length === 0) {
    throw new ArgumentError('nothing to measure: every size is larger than the span', { hint: 'give a larger --span or smaller --sizes' });
  }
  const { rows, single } = await measureRings(options, shapes);
  const eventLoop = await measureLoop(options);
  const qos = options.qos ? await compareQos(options.uri, options.signal) : null;
  return { machine: thisMachine(), uri: options.uri, functions: options.functions, rows, ...single, eventLoop, qos };
}

/** `mover.copy` of 1 GiB in one call, if there is memory for twice as much. */
async function measureLoop({ uri, functions, signal }: BenchOptions): Promise<LoopComparison> {
  const mover = await open(uri, { functions });
  try {
    return await compareEventLoop(mover, GIB, freemem() > 4 * GIB ? GIB : GIB / 8, signal);
  } finally {
    await mover.close();
  }
}

/** Everything that goes through rings directly. */
async function measureRings(options: BenchOptions, shapes: RowShape[]): Promise<{ rows: BenchRow[]; single: Single }> {
  const { uri, contexts, signal } = options;
  const span = Math.max(...shapes.map((shape) => shape.span));
  const functions = await Functions.open(uri, options.functions);
  try {
    const region = allocateRegion(2 * span, 'sdxi-bench');
    const bytes = Buffer.from(region.bytes.buffer as ArrayBuffer, region.bytes.byteOffset, 2 * span);
    scatter(bytes, span);
    // Pages that were never written are not there yet: the first pass would measure the kernel.
    bytes.fill(0, span);
    const { drivers } = functions;
    const iovas = drivers.map((driver) => driver.map(region).iova);
    // Slots come back some time after their descriptors have completed.
    const ringEntries = Math.max(1024, ...options.depths.map((depth) => 2 * depth));
    const rows: BenchRow[] = [];
    const total = shapes.length * contexts.length;
    let single: Single | undefined;
    for (const count of contexts) {
      const opened = await openLanes(drivers, iovas, count, ringEntries);
      const ground: Ground = { lanes: opened.lanes, contexts: count, functions: drivers.length, bytes };
      try {
        warmUp(ground, span);
        single ??= { roundTrip: roundTrip(opened.lanes[0], span), registerRead: registerRead(drivers[0].bus, opened.lanes[0], span) };
        for (const shape of shapes) {
          const row = await measureRow(ground, shape, signal);
          rows.push(row);
          options.onRow?.(row, rows.length, total);
        }
      } finally {
        await closeAll(opened.contexts);
      }
    }
    return { rows, single: single as Single };
  } finally {
    await functions.close();
  }
}
