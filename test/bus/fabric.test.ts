/** Function groups through buses: functions of one thread, and of an engine thread each. Ref §7.1, §7.2, S-98, S-99, S-102, S-112. */
import { afterEach, describe, expect, it } from 'vitest';
import { openBus } from '../../src/bus/index.js';
import { type Context, SdxiDriver } from '../../src/driver/index.js';
import { allocateRegion } from '../../src/memory/index.js';
import { FunctionState } from '../../src/spec/index.js';

const BYTES = 4096;
const open: SdxiDriver[] = [];
let fabrics = 0;

afterEach(async () => {
  await Promise.all(open.splice(0).map((driver) => driver.close()));
});

async function member(fabric: string, sfunc: number, options = ''): Promise<SdxiDriver> {
  const bus = await openBus(`embedded:?fabric=${fabric}&groupId=7&sfunc=${sfunc}${options}`);
  const driver = await SdxiDriver.open(bus);
  open.push(driver);
  return driver;
}

async function group(count: number, options = ''): Promise<SdxiDriver[]> {
  const fabric = `test-${process.pid}-${fabrics++}`;
  const members: SdxiDriver[] = [];
  for (let sfunc = 1; sfunc <= count; sfunc++) members.push(await member(fabric, sfunc, options));
  return members;
}

function memory(driver: SdxiDriver, fill: number) {
  const block = driver.allocate(BYTES, 4096);
  block.bytes.fill(fill);
  return block;
}

/** Key of a context for what another function consents to. */
function remote(context: Context, target: SdxiDriver, rkey: number): number {
  return context.akeys.allocate({ tgt_sfunc: target.capabilities.sfunc, rkey });
}

type Keys = { sourceKey?: number; destinationKey?: number };

function copy(context: Context, source: number, destination: number, { sourceKey, destinationKey }: Keys, bytes = BYTES): Promise<void> {
  const batch = context.begin(1);
  batch.copy(bytes, source, destination, 0, sourceKey, destinationKey);
  return batch.submit().done;
}

describe.each([
  ['inline', '&inline=1'],
  ['on engine threads', ''],
])('a group of functions %s', (_name, options) => {
  it('ref §10 three parties: B copies from A to C under a consent of each', async () => {
    const [a, b, c] = await group(3, options);
    const context = await b.createContext();
    const [from, to] = [memory(a, 0xaa), memory(c, 0xcc)];
    const sourceKey = remote(context, a, a.grant({ to: 2 }));
    const destinationKey = remote(context, c, c.grant({ to: 2 }));
    await copy(context, from.iova, to.iova, { sourceKey, destinationKey });
    expect(to.bytes.every((byte) => byte === 0xaa)).toBe(true);
  });

  it('ref §7.2 a remote interrupt arrives at the vector that the target grants', async () => {
    const [a, b] = await group(2, options);
    const context = await b.createContext();
    const vector = a.bus.vectors - 1;
    const key = remote(context, a, a.grant({ to: 2, vector }));
    const before = a.bus.interruptCount(vector);
    const batch = context.begin(1);
    batch.interrupt(key);
    await batch.submit().done;
    expect(a.bus.interruptCount(vector)).toBe(before + 1);
  });

  it('S-112 consent that is revoked is gone when revoke resolves, and so are the mappings of a member that has left', async () => {
    const [a, b] = await group(2, options);
    const context = await b.createContext();
    const [from, to] = [memory(b, 0xbb), memory(a, 0xaa)];
    const rkey = a.grant({ to: 2 });
    const destinationKey = remote(context, a, rkey);
    await copy(context, from.iova, to.iova, { destinationKey });
    await a.revoke(rkey);
    await expect(copy(context, from.iova, to.iova, { destinationKey })).rejects.toMatchObject({
      fields: { step: 'FN_RKEY', subStep: 'DVF', operand: 1 },
    });
    expect(a.grant({ to: 2 })).toBe(rkey);
    await copy(context, from.iova, to.iova, { destinationKey });
    await a.close();
    open.splice(open.indexOf(a), 1);
    await expect(copy(context, from.iova, to.iova, { destinationKey })).rejects.toMatchObject({ fields: { step: 'FN_RKEY' } });
  });

  it('S-102 memory that a member unmaps, others do not reach either', async () => {
    const [a, b] = await group(2, options);
    const context = await b.createContext();
    const from = memory(b, 0xbb);
    const destinationKey = remote(context, a, a.grant({ to: 2 }));
    const range = a.map(allocateRegion(1 << 20));
    await copy(context, from.iova, range.iova, { destinationKey });
    range.close();
    await expect(copy(context, from.iova, range.iova, { destinationKey })).rejects.toMatchObject({
      code: 'ERR_SDXI_TRANSLATION',
      fields: { operand: 1 },
    });
  });

  it('S-98 a handle that its group has already is refused, and so is a function of the other kind', async () => {
    const [a] = await group(1, options);
    const uri = a.bus.uri;
    await expect(openBus(uri)).rejects.toThrow(/group 7 has a function with the handle 1 already/);
    const mixed = options ? uri.replace('&inline=1', '') : `${uri}&inline=1`;
    await expect(openBus(mixed.replace('sfunc=1', 'sfunc=2'))).rejects.toThrow(/cannot have functions with inline=1 and functions without/);
    await a.close();
    open.splice(0);
    await (await openBus(uri)).close();
  });
});

describe('engine threads of one fabric', () => {
  it('S-99 a member that stops while others copy into it: once it shows STOP no byte moves any more', async () => {
    const [a, b, c] = await group(3);
    const big = 64 << 20;
    const target = a.allocate(big, 4096);
    const senders = await Promise.all(
      [b, c].map(async (driver) => {
        const context = await driver.createContext({ autoRecover: false });
        const source = driver.allocate(big, 4096);
        source.bytes.fill(driver.capabilities.sfunc);
        return { context, source, destinationKey: remote(context, a, a.grant({ to: driver.capabilities.sfunc })) };
      }),
    );
    const work = senders.map(({ context, source, destinationKey }) => copy(context, source.iova, target.iova, { destinationKey }, big));
    const results = Promise.allSettled(work);
    while (target.bytes[0] === 0) await new Promise((resolve) => setImmediate(resolve));
    await a.stop();
    expect(a.state()).toBe(FunctionState.STOP);
    const seen = Buffer.from(target.bytes);
    // Cut short by the stop, or looked up only when the member had stopped already.
    const refusals = [
      { step: 'DSC_BUF', subStep: 'DAF', operand: 1 },
      { step: 'FN_RKEY', subStep: 'DVF', operand: 1 },
    ];
    for (const result of await results) {
      if (result.status === 'fulfilled') continue;
      const { step, subStep, operand } = result.reason.fields;
      expect(refusals).toContainEqual({ step, subStep, operand });
    }
    expect(seen.equals(target.bytes)).toBe(true);
    await a.recover();
    const { context, source, destinationKey } = senders[0];
    await context.recover();
    await copy(context, source.iova, target.iova, { destinationKey });
  });

  it('two members that take consent back from each other at once wait for neither for ever', async () => {
    const [a, b] = await group(2);
    const rounds = async (self: SdxiDriver, other: SdxiDriver) => {
      const context = await self.createContext();
      const source = memory(self, 1);
      const target = memory(other, 0);
      const to = self.capabilities.sfunc;
      for (let round = 0; round < 200; round++) {
        const rkey = other.grant({ to });
        const destinationKey = remote(context, other, rkey);
        await copy(context, source.iova, target.iova, { destinationKey });
        await other.revoke(rkey);
        await context.updateKey(destinationKey, undefined);
      }
    };
    await Promise.all([rounds(a, b), rounds(b, a)]);
  });

  it('a member whose thread dies leaves the others at work', async () => {
    const [a, b, c] = await group(3);
    const context = await b.createContext();
    const destinationKey = remote(context, a, a.grant({ to: 2 }));
    const [from, to] = [memory(b, 7), memory(a, 0)];
    await (c.bus as unknown as { terminate(): Promise<void> }).terminate();
    await copy(context, from.iova, to.iova, { destinationKey });
    expect(to.bytes[BYTES - 1]).toBe(7);
    memory(a, 1);
    await a.stop();
  });
});
