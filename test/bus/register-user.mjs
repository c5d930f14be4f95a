// One of several threads that use the registers of one function at once.
import { parentPort, workerData } from 'node:worker_threads';
import { attachEmbedded, doorbellOf } from '../../dist/bus/index.js';

const { share, seed, rounds } = workerData;
const client = attachEmbedded(share);
const ring = doorbellOf(share);
// Registers that hold what was written. ERR_WRT is shared by all: whoever reads it finds a value that someone wrote, whole.
const ERR_WRT = 0x20020;
let wrong = 0;
for (let round = 1; round <= rounds; round++) {
  const value = (BigInt(seed) << 48n) | BigInt(seed * 1_000_000 + round);
  client.writeRegister(ERR_WRT, value);
  ring(seed * 4096, round);
  const found = client.readRegister(ERR_WRT);
  const author = found >> 48n;
  if (found % 2n ** 48n < author * 1_000_000n || found % 2n ** 48n > author * 1_000_000n + BigInt(rounds)) wrong++;
}
parentPort?.postMessage({ wrong });
