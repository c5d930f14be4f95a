/** The side that goes on: makes its function the one of the snapshot, lets everything finish, and checks it. Started by migrate.js. */
import { once } from 'node:events';
import { openBus } from 'sdxi/bus';
import { SdxiDriver } from 'sdxi/driver';
import { load, pieceOf, verify } from './load.js';

const [{ memoryFd, snapshot, buffers }] = await once(process, 'message');

const driver = await SdxiDriver.resume(await openBus('embedded:'), snapshot, {
  memory: ({ fileOffset, byteLength }) => pieceOf(memoryFd, fileOffset, byteLength),
});
const saved = JSON.parse(snapshot).contexts;
const contexts = [...driver.contexts.values()].filter(({ number }) => number !== 0);

// What the other process submitted ends here.
for (const context of contexts) for (const { submission } of context.inherited) await submission.done;
for (const context of contexts)
  await driver.bus.wait(() => context.readIndex() === context.writeIndex(), { what: 'the rings', timeoutMs: 1000 });

const before = (number) => saved.find((context) => context.number === number).readIndex;
const executed = contexts.reduce((sum, context) => sum + context.readIndex() - before(context.number), 0);

const checked = { blocks: 0, counters: 0, bytes: 0 };
buffers.forEach((iova, n) => {
  const found = verify(driver.bufferAt(iova).bytes, load(n), n);
  for (const name of Object.keys(checked)) checked[name] += found[name];
});
await driver.close();
process.send({ pid: process.pid, executed, ...checked }, () => process.disconnect());
