/** The side that is left: loads a function and stops it in the middle. Started by migrate.js. */
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { openBus } from 'sdxi/bus';
import { SdxiDriver } from 'sdxi/driver';
import { CONTEXTS, load, pieceOf, prepare, RING, submit } from './load.js';

const [{ memoryFd }] = await once(process, 'message');

// All DMA memory comes out of the inherited file, one piece after the other.
let used = 0;
const regions = (byteLength) => {
  const length = Math.ceil(byteLength / 4096) * 4096;
  const region = pieceOf(memoryFd, used, length);
  used += length;
  return region;
};

const driver = await SdxiDriver.open(await openBus('embedded:'), { regions });
const contexts = [];
const buffers = [];
for (let n = 0; n < CONTEXTS; n++) {
  const context = await driver.createContext({ ringEntries: RING });
  const work = load(n);
  const buffer = driver.allocate(work.byteLength, 4096);
  prepare(buffer.bytes, work, n);
  contexts.push(context);
  buffers.push(buffer);
}

const sum = (count) => contexts.reduce((total, context) => total + count(context), 0);
contexts.forEach((context, n) => {
  submit(context, buffers[n].iova, load(n));
});
const total = sum((context) => context.writeIndex());
while (sum((context) => context.readIndex()) < total / 4) await turn();

const snapshot = await driver.suspend();
const executed = sum((context) => context.readIndex());
const answer = {
  pid: process.pid,
  contexts: CONTEXTS,
  executed,
  pending: total - executed,
  state: { snapshot: JSON.stringify(snapshot), buffers: buffers.map(({ iova }) => iova) },
};
// Only once this function is gone may another one have the memory: the target starts when this process has ended.
await driver.close();
process.send(answer, () => process.disconnect());
