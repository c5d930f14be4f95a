// Another thread on the same 8 bytes, and no part of the package: it stores two values in turn, or looks for what is neither.
import { createRequire } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';

const koffi = createRequire(import.meta.url)('koffi');
const { address, values, job } = workerData;
const view = new BigUint64Array(koffi.view(BigInt(address), 64));
const stop = new Int32Array(koffi.view(BigInt(address) + 64n, 64));
let torn = 0;
let seen = 0;
parentPort?.postMessage('ready');
for (let i = 0; Atomics.load(stop, 0) === 0; i++) {
  if (job === 'store') view[1] = values[i & 1];
  else if (!values.includes(Atomics.load(view, 1))) torn++;
  seen = i;
}
parentPort?.postMessage({ torn, seen });
