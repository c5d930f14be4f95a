/** Functions of a group move: consent, keys and work under them go along. Ref §7.1, §10, S-99. */
import { expect, it } from 'vitest';
import { openBus } from '../../src/bus/index.js';
import { type Region, SdxiDriver } from '../../src/driver/index.js';
import { closing, rejection } from './rig.js';

let fabrics = 0;

it.each([
  ['inline', '&inline=1'],
  ['on engine threads', ''],
])('ref §10 a group %s goes on elsewhere: remote copies that were queued reach the memory that they meant', async (_name, options) => {
  const fabric = () => `suspended-${process.pid}-${fabrics++}`;
  const uri = (name: string, sfunc: number) => `embedded:?fabric=${name}&groupId=7&sfunc=${sfunc}${options}`;
  const first = fabric();
  const target = closing(await SdxiDriver.open(await openBus(uri(first, 1))));
  const requester = closing(await SdxiDriver.open(await openBus(uri(first, 2))));
  const [from, to] = [requester.allocate(4096), target.allocate(4096)];
  from.bytes.fill(7);
  const rkey = target.grant({ to: 2 });
  const context = await requester.createContext();
  const key = context.akeys.allocate({ tgt_sfunc: 1, rkey });
  await context.stop();
  const batch = context.begin(1);
  batch.copy(4096, from.iova, to.iova, 0, 0, key);
  batch.submit();
  const saved: { snapshot: string; memory: Region[] }[] = [];
  for (const driver of [requester, target]) {
    const [snapshot, memory] = [JSON.stringify(await driver.suspend()), driver.regions];
    saved.push({ snapshot, memory });
  }
  expect(await rejection(target.revoke(rkey))).toMatchObject({ code: 'ERR_SDXI_STATE', message: expect.stringContaining('suspended') });
  expect(() => target.grant({ to: 2 })).toThrow(/suspended/);
  for (const driver of [requester, target]) await driver.close();

  const second = fabric();
  const resume = async (sfunc: number, { snapshot, memory }: (typeof saved)[number]) =>
    closing(await SdxiDriver.resume(await openBus(uri(second, sfunc)), snapshot, { memory }));
  // Another handle is another function.
  expect((await rejection(resume(3, saved[1]))).message).toContain('CAP0');
  const newTarget = await resume(1, saved[1]);
  const newRequester = await resume(2, saved[0]);
  const successor = newRequester.contexts.get(1);
  await successor?.start();
  await successor?.inherited[0].submission.done;
  expect(newTarget.bufferAt(to.iova).bytes.every((byte) => byte === 7)).toBe(true);
  expect(newTarget.grant({ to: 2 })).not.toBe(rkey);
  await newTarget.revoke(rkey);
});
