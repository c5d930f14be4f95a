import type { Bus } from '../../bus/index.js';
import { Reg } from '../../spec/registers.js';
import { median, percentile } from './machine.js';
import { checkAlive, Feed, type PassPlan, type PumpLane, runPass } from './pump.js';

/** Times of one operation, each measured alone. */
export interface Latency {
  medianNs: number;
  p99Ns: number;
  samples: number;
}

function latencyOf(samples: Float64Array): Latency {
  return { medianNs: median(samples), p99Ns: percentile(samples, 99), samples: samples.length };
}

/** From the first store of a descriptor to its completion block, one at a time, while the function is awake. */
export function roundTrip(lane: PumpLane, span: number, samples = 20_000): Latency {
  const plan: PassPlan = { op: 'copy', size: 64, span, depth: 1, start: 0, count: 1 };
  runPass([lane], { ...plan, count: samples });
  return latencyOf(Float64Array.from({ length: samples }, () => runPass([lane], plan)));
}

/** A read of STS0 while the function copies large blocks all the time. */
export function registerRead(bus: Bus, lane: PumpLane, span: number): Latency {
  const size = Math.min(span, 2 ** 20);
  const count = 256;
  const plan: PassPlan = { op: 'copy', size, span, depth: 2 * count, start: 0, count };
  const samples: number[] = [];
  const feed = new Feed(lane);
  // When the first batch is done, the second still keeps the function busy: every sample meets a busy function.
  for (let batch = 0; batch < 2; batch++) feed.submit(plan, 0, count, Math.floor(span / size));
  while (!feed.retire()) {
    const begin = process.hrtime.bigint();
    bus.readRegister(Reg.STS0);
    samples.push(Number(process.hrtime.bigint() - begin));
    checkAlive([lane], Number.POSITIVE_INFINITY);
  }
  while (!feed.retire()) checkAlive([lane], Number.POSITIVE_INFINITY);
  return latencyOf(Float64Array.from(samples));
}
