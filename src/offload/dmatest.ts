import { AbortError, ArgumentError, BusLostError, ClosedError, SdxiError, TimeoutError } from '../errors.js';
import { Prng } from '../prng.js';
import type { Lane, LaneBuffer } from './lane.js';
import { type Mismatch, PatternChecker, type Transfer } from './pattern.js';

/** Patterned bytes before and after each test buffer, so that the largest transfer has something to spoil too. */
const GUARD_BYTES = 256;
/** Failures that are reported one by one; all are counted. */
const DETAILS_MAX = 32;
/** A lane that does not answer so often in a row is given up. */
const TIMEOUTS_MAX = 3;

export interface DmatestOptions {
  /** Transfers on each lane. */
  iterations: number;
  /** Bytes of the test buffers, guards excluded. */
  bufferBytes: number;
  /** Offsets and lengths are multiples of 2^n bytes, as dmatest's `alignment` means it. */
  alignment: number;
  seed: number;
  timeoutMs: number;
  /** Without, only the transfers are timed. */
  verify: boolean;
  /**
   * Flips one bit after the function's work and before the check, in the middle of the run of the first lane: in the copied bytes, or
   * in a guard. Shows that the check finds it.
   */
  corrupt?: 'data' | 'guard';
  signal?: AbortSignal;
  /** Called now and then with the number of transfers done. */
  onProgress?: (done: number) => void;
}

export interface DmatestFailure extends Transfer {
  /** Name of the lane's thread. */
  thread: string;
  /** Number of the transfer, from 1. */
  test: number;
  /** `data error`, `test timed out` or `transfer error`. */
  result: string;
  /** Wrong bytes. */
  errors: number;
  mismatches: Mismatch[];
  /** Of the error, when there was one. */
  code?: string;
  message?: string;
}

export interface DmatestThread {
  /** As dmatest names its threads: channel, operation, number. */
  name: string;
  tests: number;
  failures: number;
  bytes: number;
  /** Time of the transfers alone: filling and checking buffers does not count, as in dmatest. */
  seconds: number;
  iops: number;
  bytesPerSecond: number;
}

export interface DmatestReport {
  seed: number;
  tests: number;
  failures: number;
  bytes: number;
  /** Wall clock, all included. */
  seconds: number;
  /** Sums over the threads. */
  iops: number;
  bytesPerSecond: number;
  threads: DmatestThread[];
  /** The first failures, by thread and test. */
  details: DmatestFailure[];
}

/** @throws ArgumentError when no transfer fits into the buffer */
function checkOptions({ bufferBytes, alignment }: DmatestOptions): void {
  if (2 ** alignment <= bufferBytes) return;
  throw new ArgumentError(`${bufferBytes}-byte buffer too small for ${2 ** alignment}-byte alignment`, {
    hint: 'alignment is the exponent, as in dmatest: 6 aligns to 64 bytes; or give larger buffers',
    fields: { bufferBytes, alignment },
  });
}

/** The next transfer of a stream: size and offsets as dmatest draws them. */
function draw(random: Prng, bufferBytes: number, alignment: number): Transfer {
  const unit = 2 ** alignment;
  const align = (value: number) => value - (value % unit);
  const length = align(random.below(bufferBytes) + 1) || unit;
  const sourceOffset = align(random.below(bufferBytes - length + 1));
  const destinationOffset = align(random.below(bufferBytes - length + 1));
  return { sourceOffset, destinationOffset, length };
}

/** Where the planted error goes: the place depends on the seed alone. */
function flip(what: 'data' | 'guard', destination: Buffer, { destinationOffset, length }: Transfer, random: Prng): void {
  const first = GUARD_BYTES + destinationOffset;
  const before = random.next() & 1;
  const at =
    what === 'data'
      ? first + random.below(length)
      : before
        ? random.below(first)
        : first + length + random.below(destination.length - first - length);
  destination[at] ^= 1 << random.below(8);
}

function resultOf(error: unknown): string {
  return error instanceof TimeoutError ? 'test timed out' : 'transfer error';
}

/** Nothing more can be expected of the lane. */
function isFinal(error: unknown): boolean {
  return error instanceof BusLostError || error instanceof ClosedError;
}

/** One lane's share of the test: fills, transfers, checks, again and again. */
class Worker {
  readonly name: string;
  readonly failures: DmatestFailure[] = [];
  tests = 0;
  failed = 0;
  bytes = 0;
  transferMs = 0;
  private readonly lane: Lane;
  private readonly options: DmatestOptions;
  private readonly checker: PatternChecker;
  private readonly random: Prng;
  /** Test in which the bit is flipped; 0: none. */
  private readonly corruptIn: number;
  private readonly corruptRandom: Prng;
  private readonly buffers: LaneBuffer[] = [];

  constructor(lane: Lane, number: number, options: DmatestOptions, checker: PatternChecker) {
    this.lane = lane;
    this.name = `${lane.name.replace('/', '')}-copy0`;
    this.options = options;
    this.checker = checker;
    this.random = new Prng(options.seed, number);
    this.corruptRandom = new Prng(options.seed, 2 ** 31 + number);
    this.corruptIn = options.corrupt && number === 0 ? Math.ceil(options.iterations / 2) : 0;
  }

  async run(onTest: () => void): Promise<void> {
    const { lane, checker, options, buffers } = this;
    for (let i = 0; i < 2; i++) buffers.push(lane.allocate(checker.totalBytes));
    let timeouts = 0;
    while (this.tests < options.iterations && timeouts < TIMEOUTS_MAX) {
      if (options.signal?.aborted) throw new AbortError('test', { cause: options.signal.reason });
      const transfer = draw(this.random, options.bufferBytes, options.alignment);
      if (options.verify || this.tests === 0) checker.prepare(buffers[0].bytes, buffers[1].bytes, transfer);
      this.tests++;
      const error = await this.transfer(transfer);
      timeouts = error instanceof TimeoutError ? timeouts + 1 : 0;
      if (error === undefined) this.check(transfer);
      else {
        this.fail(transfer, error);
        if (isFinal(error)) return;
        await lane.recover();
      }
      onTest();
    }
  }

  /** @returns what went wrong with the transfer itself */
  private async transfer({ sourceOffset, destinationOffset, length }: Transfer): Promise<unknown> {
    const [source, destination] = this.buffers;
    const { timeoutMs, signal } = this.options;
    const start = performance.now();
    try {
      await this.lane.copy(source.iova + GUARD_BYTES + sourceOffset, destination.iova + GUARD_BYTES + destinationOffset, length, {
        timeoutMs,
        signal,
      });
      this.bytes += length;
      return undefined;
    } catch (error) {
      if (error instanceof AbortError || !(error instanceof SdxiError)) throw error;
      return error;
    } finally {
      this.transferMs += performance.now() - start;
    }
  }

  private check(transfer: Transfer): void {
    const { options, checker, buffers } = this;
    if (options.corrupt && this.tests === this.corruptIn) flip(options.corrupt, buffers[1].bytes, transfer, this.corruptRandom);
    if (!options.verify) return;
    const { errors, first } = checker.check(buffers[0].bytes, buffers[1].bytes, transfer);
    if (errors > 0) this.record({ ...this.place(transfer), result: 'data error', errors, mismatches: first });
  }

  private fail(transfer: Transfer, error: unknown): void {
    const { code, message } = error as SdxiError;
    this.record({ ...this.place(transfer), result: resultOf(error), errors: 0, mismatches: [], code, message });
  }

  private place(transfer: Transfer): Transfer & { thread: string; test: number } {
    return { thread: this.name, test: this.tests, ...transfer };
  }

  private record(failure: DmatestFailure): void {
    this.failed++;
    if (this.failures.length < DETAILS_MAX) this.failures.push(failure);
  }

  report(): DmatestThread {
    const seconds = this.transferMs / 1000;
    const per = (value: number) => (seconds > 0 ? value / seconds : 0);
    const { name, tests, failed: failures, bytes } = this;
    return { name, tests, failures, bytes, seconds, iops: per(tests), bytesPerSecond: per(bytes) };
  }
}

/**
 * The test of Linux' dmatest: on each lane, all at once, so many transfers of random size and place between buffers full of a
 * pattern, every byte of which is checked afterwards, those around the transfer included. The same seed draws the same transfers,
 * however fast each lane is.
 * @throws AbortError; ArgumentError for options that fit no transfer. Failures of the function are counted, not thrown.
 */
export async function dmatest(lanes: readonly Lane[], options: DmatestOptions): Promise<DmatestReport> {
  checkOptions(options);
  const checker = new PatternChecker(options.bufferBytes, GUARD_BYTES);
  const workers = lanes.map((lane, number) => new Worker(lane, number, options, checker));
  let done = 0;
  const onTest = () => {
    if ((++done & 0xff) === 0) options.onProgress?.(done);
  };
  const start = performance.now();
  const results = await Promise.allSettled(workers.map((worker) => worker.run(onTest)));
  const seconds = (performance.now() - start) / 1000;
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  const threads = workers.map((worker) => worker.report());
  const sum = (key: 'tests' | 'failures' | 'bytes' | 'iops' | 'bytesPerSecond') =>
    threads.reduce((total, thread) => total + thread[key], 0);
  return {
    seed: options.seed,
    tests: sum('tests'),
    failures: sum('failures'),
    bytes: sum('bytes'),
    seconds,
    iops: sum('iops'),
    bytesPerSecond: sum('bytesPerSecond'),
    threads,
    details: workers.flatMap((worker) => worker.failures).slice(0, DETAILS_MAX),
  };
}

/** The same transfers made by the CPU, on one thread: how long `copyWithin` takes for them. */
export function cpuTransferSeconds({ iterations, bufferBytes, alignment, seed }: DmatestOptions, threads: number): number {
  const bytes = new Uint8Array(2 * bufferBytes);
  let seconds = 0;
  for (let thread = 0; thread < threads; thread++) {
    const random = new Prng(seed, thread);
    const transfers = Array.from({ length: iterations }, () => draw(random, bufferBytes, alignment));
    const start = performance.now();
    for (const { sourceOffset, destinationOffset, length } of transfers) {
      bytes.copyWithin(bufferBytes + destinationOffset, sourceOffset, sourceOffset + length);
    }
    seconds += (performance.now() - start) / 1000;
  }
  return seconds;
}

/** dmatest's summary line, word for word. */
export function summaryLine({ name, tests, failures, iops, bytesPerSecond }: Omit<DmatestThread, 'bytes' | 'seconds'>): string {
  // dmatest computes in integers: KB/s are KiB, and digits beyond the second are cut off.
  const hundredths = Math.floor(iops * 100);
  const fraction = String(hundredths % 100).padStart(2, '0');
  return `${name}: summary ${tests} tests, ${failures} failures ${Math.floor(hundredths / 100)}.${fraction} iops ${Math.floor(bytesPerSecond / 1024)} KB/s (0)`;
}

/** dmatest's lines about one failure. */
export function failureLines(failure: DmatestFailure): string[] {
  const { thread, test, result, sourceOffset, destinationOffset, length, errors, mismatches } = failure;
  const hex = (value: number) => `0x${value.toString(16)}`;
  const lines = mismatches.map((mismatch) => `${thread}: ${PatternChecker.explain(mismatch)}`);
  if (errors > mismatches.length && mismatches.length > 0) lines.push(`${thread}: ${errors - mismatches.length} errors suppressed`);
  const detail = failure.code ? failure.code : String(errors);
  lines.push(
    `${thread}: result #${test}: '${result}' with src_off=${hex(sourceOffset)} dst_off=${hex(destinationOffset)} len=${hex(length)} (${detail})`,
  );
  if (failure.message) lines.push(`${thread}: ${failure.message}`);
  return lines;
}
