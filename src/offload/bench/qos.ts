import { setImmediate as nextTurn } from 'node:timers/promises';
import type { SdxiDriver } from '../../driver/index.js';
import { AbortError, ArgumentError } from '../../errors.js';
import { allocateRegion } from '../../memory/index.js';
import { Functions } from '../functions.js';
import { closeAll } from '../lane.js';
import { checkAlive, Feed, type PassPlan } from './pump.js';
import { type Latency, latencyOf } from './single.js';

/** Latency of one urgent descriptor at a time beside contexts that copy all the while, without and with option `qos`. */
export interface QosComparison {
  /** Contexts of CXT_CTL.qos 0 that copy, and bytes of each of their descriptors. */
  bulkContexts: number;
  bulkBytes: number;
  /** Bytes of a descriptor of the context with CXT_CTL.qos 3. */
  urgentBytes: number;
  /** `qos=off`: round robin (S-45). */
  off: Latency;
  /** `qos=on`: weighted turns. */
  on: Latency;
}

const BULK_CONTEXTS = 64;
const BULK_BYTES = 64 * 1024;
const BULK_BATCH = 16;
const URGENT_BYTES = 64;
const URGENT = 3;
/** More than caches hold: bulk copies then take as long as they do in earnest. */
const SPAN = 64 * 2 ** 20;
/** Both functions take turns, so that whatever else the machine does meets both. */
const ROUNDS = 8;
const SAMPLES_PER_ROUND = 100;
/** Samples that are not counted: code is compiled, and queues fill. */
const WARM_UP_SAMPLES = 200;
const LIMIT_MS = 60_000;

const BULK: PassPlan = { op: 'copy', size: BULK_BYTES, span: SPAN, depth: 2 * BULK_BATCH, start: 0, count: BULK_BATCH };
const SINGLE: PassPlan = { op: 'copy', size: URGENT_BYTES, span: SPAN, depth: 1, start: 0, count: 1 };

/** A function with one urgent context and many others. */
class Stage {
  private readonly contexts: { close(): Promise<void> }[] = [];
  private readonly bulk: Feed[] = [];
  private urgent!: Feed;
  /** Where the next batch copies. */
  private next = 0;

  static async open(driver: SdxiDriver): Promise<Stage> {
    const stage = new Stage();
    const { iova } = driver.map(allocateRegion(2 * SPAN, 'sdxi-bench-qos'));
    try {
      for (let i = 0; i <= BULK_CONTEXTS; i++) {
        const context = await driver.createContext({ completion: 'polled', vector: false, qos: i === 0 ? URGENT : 0 });
        stage.contexts.push(context);
        const feed = new Feed({ ring: context.ring, iova });
        if (i === 0) stage.urgent = feed;
        else stage.bulk.push(feed);
      }
      return stage;
    } catch (error) {
      await stage.close();
      throw error;
    }
  }

  /** So many urgent descriptors, one after another, while the rings of all others are kept full. @returns nanoseconds */
  sample(count: number): number[] {
    const { urgent } = this;
    const times: number[] = [];
    const lanes = [urgent.lane, ...this.bulk.map(({ lane }) => lane)];
    const deadline = performance.now() + LIMIT_MS;
    while (times.length < count) {
      this.refill();
      checkAlive(lanes, deadline);
      const begin = process.hrtime.bigint();
      urgent.submit(SINGLE, times.length, 1);
      for (let looks = 1; !urgent.retire(); looks++) if (looks % 4096 === 0) checkAlive(lanes, deadline);
      times.push(Number(process.hrtime.bigint() - begin));
    }
    this.drain(deadline);
    return times;
  }

  private refill(): void {
    for (const feed of this.bulk) {
      while (feed.inFlight > 0 && feed.retire());
      while (feed.inFlight < 2 && feed.submit(BULK, this.next, BULK_BATCH)) this.next += BULK_BATCH;
    }
  }

  /** The function is idle when the other one is measured. */
  private drain(deadline: number): void {
    const lanes = this.bulk.map(({ lane }) => lane);
    for (const feed of this.bulk) while (feed.inFlight > 0) if (!feed.retire()) checkAlive(lanes, deadline);
  }

  close(): Promise<void> {
    return closeAll(this.contexts);
  }
}

/** The URI of a software function with enough contexts, and `qos` as asked. @throws ArgumentError */
function uriWith(uri: string, qos: 'off' | 'on'): string {
  const match = /^embedded:(?:\?(.*))?$/s.exec(uri);
  if (!match) {
    throw new ArgumentError('--qos compares functions of our own, which have an option for it', { hint: 'give an embedded: URI' });
  }
  const query = new URLSearchParams(match[1] ?? '');
  query.set('qos', qos);
  if (Number(query.get('maxContext') ?? 0) <= BULK_CONTEXTS) query.set('maxContext', String(2 * BULK_CONTEXTS - 1));
  return `embedded:?${query}`;
}

/** @throws ArgumentError unless the URI is that of a software function; AbortError; errors of the pump */
export async function compareQos(uri: string, signal?: AbortSignal): Promise<QosComparison> {
  const opened: { close(): Promise<void> }[] = [];
  try {
    const stages: Stage[] = [];
    for (const qos of ['off', 'on'] as const) {
      const functions = await Functions.open(uriWith(uri, qos));
      opened.unshift(functions);
      const stage = await Stage.open(functions.drivers[0]);
      opened.unshift(stage);
      stages.push(stage);
    }
    for (const stage of stages) stage.sample(WARM_UP_SAMPLES);
    const times = stages.map((): number[] => []);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [i, stage] of stages.entries()) {
        if (signal?.aborted) throw new AbortError('bench', { cause: signal.reason });
        times[i].push(...stage.sample(SAMPLES_PER_ROUND));
        await nextTurn();
      }
    }
    const [off, on] = times.map((samples) => latencyOf(Float64Array.from(samples)));
    return { bulkContexts: BULK_CONTEXTS, bulkBytes: BULK_BYTES, urgentBytes: URGENT_BYTES, off, on };
  } finally {
    for (const thing of opened) await thing.close();
  }
}
