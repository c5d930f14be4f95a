/**
 * `npm run fuzz -- --seconds N --seed S`: random things done to functions until time is up; `--case SEED` does one case again.
 * The cases run on a thread of their own, so that one that never ends can be named.
 */
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Prng, randomSeed } from '../../src/prng.js';
import { runCase } from './case.js';
import { Coverage } from './coverage.js';

/** A case takes some 50 ms. */
const HANG_MS = 60_000;
/** Runs of this length have to have seen everything. */
const DEPTH_SECONDS = 30;
/** A run counts its coverage from so many operations. */
const OPERATIONS = ['1/1', '1/2', '1/3', '1/4', '2/0', '2/1', '2/2', '2/3', '2/4', '2/5', '2/6', '2/7', '2/8', '4/0'].concat(
  [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14].map((op) => `3/${op.toString(16)}`),
);
/** Error steps that a hostile user reaches; 14 and 15 are internal. */
const RECORDS = [
  'CXT_L2/DVF',
  'CXT_L2/ATF',
  'CXT_L1/DVF',
  'CXT_L1/ATF',
  'CXT_CTL/DVF',
  'CXT_STS/DVF',
  'WRT_IDX/DVF',
  'DSC_GEN/DVF',
  'DSC_GEN/ATF',
].concat(['DSC_CSB/ATF', 'DSC_CSB/DAF', 'ATOMIC/ATF', 'DSC_BUF/ATF', 'DSC_BUF/DAF', 'DSC_AKEY/DVF', 'FN_RKEY/DVF', 'INT/OTHER']);

interface Progress {
  cases: number;
  descriptors: number;
  coverage: Coverage;
}

function work(): void {
  const { seed, seconds, current } = workerData as { seed: number; seconds: number; current: SharedArrayBuffer };
  const now = new Float64Array(current);
  const seeds = new Prng(seed);
  const progress: Progress = { cases: 0, descriptors: 0, coverage: new Coverage() };
  const until = performance.now() + seconds * 1000;
  while (performance.now() < until) {
    now[0] = seeds.next();
    now[1]++;
    try {
      const { descriptors, coverage } = runCase(now[0]);
      progress.cases++;
      progress.descriptors += descriptors;
      progress.coverage.add(coverage);
    } catch (error) {
      parentPort?.postMessage({ progress, failure: { seed: now[0], message: (error as Error).message } });
      return;
    }
  }
  parentPort?.postMessage({ progress });
}

function number(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  console.error(`fuzz: --${name} cannot be ${text}\n  hint: a whole number, 0 or more`);
  process.exit(2);
}

function report(seed: number, seconds: number, { cases, descriptors, coverage }: Progress): void {
  console.log(
    JSON.stringify(
      { seed, seconds: Number(seconds.toFixed(1)), cases, descriptors, perSecond: Math.round(descriptors / seconds), coverage },
      null,
      1,
    ),
  );
}

function again(seed: number): never {
  console.error(`fuzz: again with: npm run fuzz -- --case ${seed}`);
  process.exit(1);
}

function shallow({ done, records }: Coverage): string[] {
  return [
    ...OPERATIONS.filter((op) => !done[op]).map((op) => `operation ${op} never succeeded`),
    ...RECORDS.filter((name) => !records[name]).map((name) => `error ${name} never came`),
  ];
}

function main(): void {
  const { values } = parseArgs({
    options: { seconds: { type: 'string', default: '60' }, seed: { type: 'string' }, case: { type: 'string' } },
  });
  if (values.case !== undefined) {
    const seed = number('case', values.case);
    const { descriptors, coverage } = runCase(seed);
    report(seed, 1, { cases: 1, descriptors, coverage });
    return;
  }
  const seed = values.seed === undefined ? randomSeed() : number('seed', values.seed);
  const seconds = number('seconds', values.seconds);
  const current = new SharedArrayBuffer(16);
  const now = new Float64Array(current);
  const worker = new Worker(new URL(import.meta.url), { workerData: { seed, seconds, current } });
  let seen = -1;
  let since = performance.now();
  const watch = setInterval(() => {
    if (now[1] !== seen) {
      seen = now[1];
      since = performance.now();
    } else if (performance.now() - since > HANG_MS) {
      console.error(`fuzz: case ${now[0]} has not ended for ${HANG_MS / 1000} s`);
      again(now[0]);
    }
  }, 1000);
  const from = performance.now();
  worker.on('error', (error) => {
    console.error(`fuzz: ${error.stack}`);
    again(now[0]);
  });
  worker.on('message', ({ progress, failure }: { progress: Progress; failure?: { seed: number; message: string } }) => {
    clearInterval(watch);
    report(seed, (performance.now() - from) / 1000, progress);
    if (failure) {
      console.error(`fuzz: case ${failure.seed}: ${failure.message}`);
      again(failure.seed);
    }
    const missing = seconds >= DEPTH_SECONDS ? shallow(progress.coverage) : [];
    if (missing.length > 0) {
      console.error(`fuzz: not deep enough: ${missing.join('; ')}`);
      process.exitCode = 1;
    }
  });
}

if (isMainThread) main();
else work();
