// A thread that sleeps until an interrupt comes, and then ends by itself.
import { parentPort, workerData } from 'node:worker_threads';
import { attachEmbedded } from '../../dist/bus/index.js';

const { share, vector } = workerData;
const client = attachEmbedded(share);
parentPort?.postMessage('waiting');
await client.wait(() => client.interruptCount(vector) > 0, { what: 'interrupt', timeoutMs: 10_000, vector });
parentPort?.postMessage('woken');
