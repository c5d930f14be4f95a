import type { Bus } from '../../bus/index.js';
import { Reg } from '../../spec/registers.js';
import { median, percentile } from './machine.js';
import { checkAlive, Feed, type PassPlan, type PumpLane, runPass } from './pump.js';

/** Half of it for samples, the rest for what is in flight then. */
const LIMIT_MS = 10_000;

/** Times of one operation, each measured alone. */
export interface Latency {
  medianNs: number;
  p99Ns: number;
  samples: number;
}

/** Median and 99th percentile of times in nanoseconds. */
export function latencyOf(samples: Float64Array): Latency {
  return { medianNs: median(samples), p99Ns: percentile(samples, 99), samples: samples.length };
}

/** From the first store of a descriptor to its completion block, one at a time, while the function is awake. */
export function roundTrip(lane: PumpLane, span: number, samples = 20_000): Latency {
  const plan: PassPlan = { op: 'copy', size: 64, span, depth: 1, start: 0, count: 1 };
  runPass([lane], { ...plan, count: samples });
  return latencyOf(Float64Array.from({ length: samples }, () => runPass([lane], plan)));
}

/** A read of STS0 while the function copies blocks of 1 MiB all the time. */
export function registerRead(bus: Bus, lane: PumpLane, span: number, samples = 2000): Latency {
  const size = Math.min(span, 2 ** 20);
  const count = 64;
  const plan: PassPlan = { op: 'copy', size, span, depth: 2 * count, start: 0, count };
  const times: number[] = [];
  const feed = new Feed(lane);
  const deadline = performance.now() + LIMIT_MS;
  for (let stop = false; !stop || feed.inFlight > 0; ) {
    checkAlive([lane], deadline);
    if (feed.inFlight > 0) feed.retire();
    // When one batch is done, the other still keeps the function busy.
    while (!stop && feed.inFlight < 2 && feed.submit(plan, 0, count));
    const begin = process.hrtime.bigint();
    bus.readRegister(Reg.STS0);
    const time = Number(process.hrtime.bigint() - begin);
    if (!stop) times.push(time);
    stop = times.length >= samples || performance.now() > deadline - LIMIT_MS / 2;
  }
  return latencyOf(Float64Array.from(times));
}
