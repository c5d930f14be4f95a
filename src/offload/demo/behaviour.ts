import { SdxiError } from '../../errors.js';
import { ContextState, FunctionState, nameOf } from '../../spec/codes.js';
import { cpuTransferSeconds, type DmatestOptions, dmatest, summaryLine } from '../dmatest.js';
import { compareEventLoop } from '../event-loop.js';
import { ContextLane, closeAll, openLanes } from '../lane.js';
import { rates, type Stage, type StepResult } from './step.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const DMATEST_LANES = 4;
/** Fixed, so that every run of the demo does the same. */
const SEED = 2025;
/** The event loop is watched over 1 GiB, moved in pieces of this size. */
const PIECE_BYTES = 128 * MIB;
/** No mapping reaches so far up: an address that no function may touch. */
const NOWHERE = 2 ** 46;

/** What was brought up. */
export async function describeFunction({ driver }: Stage): Promise<StepResult> {
  const { version, maxContext, maxRingEntries, maxBufferBytes } = driver.capabilities;
  const state = driver.state();
  return {
    name: 'function',
    ok: state === FunctionState.ACTIVE,
    what: `${driver.name}, SDXI ${version}, is ${nameOf(FunctionState, state)} on ${driver.bus.uri}`,
    remark: `${maxContext + 1} contexts, rings of up to ${maxRingEntries} descriptors, buffers of up to ${maxBufferBytes / GIB} GiB`,
    details: { state: nameOf(FunctionState, state) },
  };
}

/** dmatest over four contexts. */
export async function runDmatest({ driver, corrupt, signal }: Stage): Promise<StepResult> {
  const options: DmatestOptions = {
    iterations: 2500,
    bufferBytes: 16_384,
    alignment: 0,
    seed: SEED,
    timeoutMs: 3000,
    verify: true,
    corrupt: corrupt === 'guard' ? 'guard' : undefined,
    signal,
  };
  const lanes = await openLanes([driver], DMATEST_LANES);
  try {
    const report = await dmatest(lanes, options);
    const cpuSeconds = cpuTransferSeconds(options, DMATEST_LANES);
    const { tests, failures, iops, bytes, bytesPerSecond } = report;
    return {
      name: 'dmatest',
      ok: failures === 0 && tests === options.iterations * DMATEST_LANES,
      what: `${tests} random transfers on ${DMATEST_LANES} contexts, one at a time each`,
      bytes,
      seconds: bytes / bytesPerSecond,
      bytesPerSecond,
      cpuSeconds,
      cpuBytesPerSecond: bytes / cpuSeconds,
      ratioToCpu: (bytesPerSecond * cpuSeconds) / bytes,
      remark: summaryLine({ ...report, name: driver.name }),
      details: { tests, failures, iops, seed: SEED, failed: report.details },
    };
  } finally {
    await closeAll(lanes);
  }
}

/** A destination that is not mapped, on purpose: the error, and the same context afterwards. */
export async function provokeError({ driver, signal }: Stage): Promise<StepResult> {
  const lane = await ContextLane.open(driver);
  try {
    const { number } = lane.context;
    const buffer = lane.allocate(2 * 4096);
    buffer.bytes.fill(0xa5, 0, 4096);
    const error = await lane.copy(buffer.iova, NOWHERE, 4096, { timeoutMs: 3000, signal }).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (!(error instanceof SdxiError)) throw error ?? new SdxiError('ERR_SDXI_CONTEXT', 'a copy to an unmapped address succeeded');
    await lane.recover();
    const state = lane.context.state();
    await lane.copy(buffer.iova, buffer.iova + 4096, 4096, { timeoutMs: 3000, signal });
    const moved = buffer.bytes.subarray(0, 4096).equals(buffer.bytes.subarray(4096));
    const ok = error.code === 'ERR_SDXI_TRANSLATION' && state === ContextState.RUN && lane.context.number === number && moved;
    return {
      name: 'error',
      ok,
      what: `a copy to an unmapped address fails, ${lane.name} recovers and copies on`,
      remark: error.message,
      details: { error: error.toJSON(), context: lane.name, state: nameOf(ContextState, state), copiedAfterwards: moved },
    };
  } finally {
    await lane.close();
  }
}

/** How late the event loop is while 1 GiB is moved: by the thread itself, and by the function. */
export async function watchEventLoop({ mover, signal }: Stage): Promise<StepResult> {
  const { offloaded, inline } = await compareEventLoop(mover, GIB, PIECE_BYTES, signal);
  return {
    name: 'event-loop',
    ok: true,
    what: '1 GiB moved: how late the event loop is meanwhile',
    ...rates(GIB, offloaded.seconds, inline.seconds),
    details: { offloaded, inline },
  };
}
