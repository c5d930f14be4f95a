import { afterEach, describe, expect, it } from 'vitest';
import { type Context, SdxiDriver } from '../../src/driver/index.js';
import { RawClient } from './raw.js';
import { RawBus } from './raw-bus.js';
import { type Rig, startServer } from './rig.js';

const BYTES = 1 << 20;

let rig: Rig | undefined;
const drivers: SdxiDriver[] = [];
afterEach(async () => {
  for (const driver of drivers.splice(0)) await driver.close();
  await rig?.close();
  rig = undefined;
});

/** Three functions of one group, each with a client of its own. */
async function group(functions = 3): Promise<SdxiDriver[]> {
  rig = await startServer({ functions, config: { groupId: 7, sfunc: 1 } });
  for (const path of rig.server.sockets) drivers.push(await SdxiDriver.open(new RawBus(new RawClient(path), { descriptors: true })));
  return [...drivers];
}

async function move(context: Context, from: number, to: number, sourceKey: number, targetKey: number, bytes = BYTES): Promise<void> {
  const batch = context.begin(1);
  batch.copy(bytes, from, to, 0, sourceKey, targetKey);
  await batch.submit().done;
}

const REFUSED = { fields: { step: 'FN_RKEY', subStep: 'DVF' } };

describe('functions of one group that are served to several clients (ref §7.1)', () => {
  it('each direction needs the consent of the side that is not its own, and without it nothing is written', async () => {
    const [a, b, c] = await group();
    const own = a.allocate(BYTES, 4096);
    const other = b.allocate(BYTES, 4096);
    own.bytes.fill(0xaa);
    other.bytes.fill(0xbb);

    // A's function copies into B's memory.
    const context = await a.createContext();
    const unknown = context.akeys.allocate({ tgt_sfunc: 2, rkey: 0 });
    await expect(move(context, own.iova, other.iova, 0, unknown)).rejects.toMatchObject(REFUSED);
    expect(other.bytes.every((byte) => byte === 0xbb)).toBe(true);
    const rkey = b.grant({ to: 1 });
    await move(context, own.iova, other.iova, 0, context.akeys.allocate({ tgt_sfunc: 2, rkey }));
    expect(other.bytes.every((byte) => byte === 0xaa)).toBe(true);

    // A third function moves between the two.
    const third = await c.createContext();
    other.bytes.fill(0xbb);
    const keys = [third.akeys.allocate({ tgt_sfunc: 1, rkey: 0 }), third.akeys.allocate({ tgt_sfunc: 2, rkey: 1 })];
    await expect(move(third, own.iova, other.iova, keys[0], keys[1])).rejects.toMatchObject(REFUSED);
    expect(b.grant({ to: 3 })).toBe(1);
    await expect(move(third, own.iova, other.iova, keys[0], keys[1])).rejects.toMatchObject(REFUSED);
    expect(other.bytes.every((byte) => byte === 0xbb)).toBe(true);
    expect(a.grant({ to: 3 })).toBe(0);
    await move(third, own.iova, other.iova, keys[0], keys[1]);
    expect(other.bytes.every((byte) => byte === 0xaa)).toBe(true);

    // Taken back (S-112).
    await b.revoke(1);
    other.bytes.fill(0xbb);
    await expect(move(third, own.iova, other.iova, keys[0], keys[1])).rejects.toMatchObject(REFUSED);
    expect(other.bytes.every((byte) => byte === 0xbb)).toBe(true);
  });

  it('S-94 an interrupt of another function reaches its client', async () => {
    const [a, b] = await group(2);
    const vector = 5;
    const rkey = b.grant({ to: 1, vector });
    const context = await a.createContext();
    const batch = context.begin(1);
    batch.interrupt(context.akeys.allocate({ tgt_sfunc: 2, rkey }));
    await batch.submit().done;
    await b.bus.wait(() => b.bus.interruptCount(vector) === 1, { what: 'the interrupt', timeoutMs: 2000 });
  });

  it('S-102 memory that its client takes back in the middle of a copy of another is not touched any more', async () => {
    const [a, b] = await group(2);
    const size = 64 << 20;
    const source = a.allocate(size, 4096);
    source.bytes.fill(0xaa);
    const context = await a.createContext({ autoRecover: false });
    const key = context.akeys.allocate({ tgt_sfunc: 2, rkey: b.grant({ to: 1 }) });
    const target = b.allocate(size, 4096);
    const copied = move(context, source.iova, target.iova, 0, key, size).then(
      () => 'done',
      (error) => error.fields.step as string,
    );
    while (target.bytes[0] !== 0xaa) await new Promise((resolve) => setImmediate(resolve));
    b.bus.unmap(target.iova, size);
    const seen = Buffer.from(target.bytes);
    expect(['done', 'DSC_BUF']).toContain(await copied);
    expect(Buffer.compare(seen, target.bytes)).toBe(0);
  });

  it('S-47 without bus mastering no other reaches its memory', async () => {
    const [a, b] = await group(2);
    const source = a.allocate(4096, 4096);
    const target = b.allocate(4096, 4096);
    source.bytes.fill(1);
    const context = await a.createContext();
    const key = context.akeys.allocate({ tgt_sfunc: 2, rkey: b.grant({ to: 1 }) });
    const client = (b.bus as RawBus).client;
    client.write(7, 4, Buffer.from([2, 0]));
    await expect(move(context, source.iova, target.iova, 0, key, 4096)).rejects.toThrow();
    expect(target.bytes.every((byte) => byte === 0)).toBe(true);
    client.enable();
    await move(context, source.iova, target.iova, 0, key, 4096);
    expect(target.bytes.every((byte) => byte === 1)).toBe(true);
  });
});
