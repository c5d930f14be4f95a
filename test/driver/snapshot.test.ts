/** What a driver's snapshot says about itself when it is not what it was. Ref §10. */
import { openSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { InlineBus } from '../../src/bus/index.js';
import {
  allocateRegion,
  DRIVER_SNAPSHOT_VERSION,
  type DriverSnapshot,
  IovaSpace,
  openRegion,
  type Region,
  SdxiDriver,
} from '../../src/driver/index.js';
import { readSnapshot } from '../../src/driver/snapshot.js';
import { rejection, thrown } from './rig.js';

const MIB = 2 ** 20;

describe('snapshots of a driver (ref §10)', () => {
  let snapshot: DriverSnapshot;
  let json: string;
  let memory: Region[];
  let bytes: Buffer[];

  beforeAll(async () => {
    const driver = await SdxiDriver.open(new InlineBus());
    const context = await driver.createContext({ qos: 2, akeys: 300 });
    await context.stop();
    for (let i = 0; i < 3; i++) context.begin(2, { bytes: 2 ** 20 }).submit();
    snapshot = await driver.suspend();
    json = JSON.stringify(snapshot);
    memory = driver.regions;
    bytes = memory.map((region) => Buffer.from(region.bytes));
    await driver.close();
  });

  const flipped = (at: number) => {
    const text = Buffer.from(json);
    text[at] ^= 1 << (at % 7);
    return text.toString();
  };

  it('ref §10 any byte that is not what it was is found, and its place named', () => {
    const places = new Set<string>();
    for (let at = 0; at < json.length; at++) {
      const error = thrown(() => readSnapshot(flipped(at)));
      expect(error.code).toBe('ERR_SDXI_STATE');
      expect(error.hint).toMatch(/\w/);
      places.add(/no JSON|no snapshot|version|"\w+" does not fit|no "\w+"/.exec(error.message)?.[0] ?? error.message);
    }
    for (const part of ['driver', 'function', 'memory', 'contexts']) {
      expect(places).toContain(`"${part}" does not fit`);
      expect(places).toContain(`no "${part}"`);
    }
    expect([...places].filter((place) => place.length > 30)).toEqual([]);
  });

  it('nothing of one that is refused is applied: neither function nor memory has changed', async () => {
    for (let at = 0; at < json.length; at += 171) {
      const bus = new InlineBus();
      const before = bus.snapshot();
      expect((await rejection(SdxiDriver.resume(bus, flipped(at), { memory }))).code).toBe('ERR_SDXI_STATE');
      expect(bus.fn.snapshot()).toEqual(before);
    }
    memory.forEach((region, i) => {
      expect(bytes[i].equals(region.bytes)).toBe(true);
    });
  });

  it('text that is cut short is refused where it ends', () => {
    expect(thrown(() => readSnapshot(json.slice(0, 500)))).toMatchObject({
      code: 'ERR_SDXI_STATE',
      hint: expect.stringContaining('again'),
    });
    expect(thrown(() => readSnapshot('')).message).toMatch(/no JSON/);
  });

  it('another version is refused by both versions', () => {
    const error = thrown(() => readSnapshot({ ...snapshot, version: 7 } as unknown as DriverSnapshot));
    expect(error).toMatchObject({ code: 'ERR_SDXI_STATE', fields: { version: 7, known: DRIVER_SNAPSHOT_VERSION } });
    expect(error.message).toMatch(new RegExp(`version 7.*version ${DRIVER_SNAPSHOT_VERSION}`));
    expect(thrown(() => readSnapshot(null as unknown as DriverSnapshot)).message).toMatch(/no snapshot of a driver/);
  });

  it('the order of keys is nobody`s business', () => {
    const turned = (value: unknown): unknown =>
      typeof value !== 'object' || value === null
        ? value
        : Array.isArray(value)
          ? value.map(turned)
          : Object.fromEntries(
              Object.entries(value)
                .reverse()
                .map(([name, inner]) => [name, turned(inner)]),
            );
    expect(readSnapshot(JSON.stringify(turned(snapshot)))).toEqual(snapshot);
  });

  it('it goes on with any of the two forms', async () => {
    for (const form of [snapshot, json]) {
      const driver = await SdxiDriver.resume(new InlineBus(), form, { memory: (_entry, index) => memory[index] });
      const context = driver.contexts.get(1);
      expect(context?.shape).toEqual({ ...snapshot.contexts[1].shape, pasid: undefined });
      expect(context?.inherited.map(({ first, end }) => [first, end])).toEqual([
        [0, 2],
        [3, 5],
        [6, 8],
      ]);
      await driver.close();
      // Each goes on from the same moment.
      memory.forEach((region, i) => {
        region.bytes.set(bytes[i]);
      });
    }
  });
});

describe('memory of a driver in a place of the user`s', () => {
  it('comes from where `regions` says, and a snapshot names its place in the file', async () => {
    const file = allocateRegion(64 * MIB);
    let used = 0;
    const regions = (byteLength: number) => {
      used += byteLength;
      return openRegion(openSync(`/proc/self/fd/${file.file?.fd}`, 'r+'), { offset: used - byteLength, byteLength });
    };
    const driver = await SdxiDriver.open(new InlineBus(), { regions });
    const buffer = driver.allocate(20 * MIB);
    buffer.bytes.fill(5);
    const { memory } = await driver.suspend();
    expect(memory.map(({ fileOffset }) => fileOffset)).toEqual([0, 16 * MIB]);
    expect(used).toBe(36 * MIB);
    expect(file.bytes[16 * MIB]).toBe(5);
    expect(driver.bufferAt(buffer.iova).bytes.equals(buffer.bytes)).toBe(true);
    expect(thrown(() => driver.bufferAt(buffer.iova + 64))).toMatchObject({ code: 'ERR_SDXI_ARGUMENT' });
    await driver.close();
    expect((await rejection(SdxiDriver.open(new InlineBus(), { regions: 1 as never }))).code).toBe('ERR_SDXI_ARGUMENT');
  });

  it('DMA addresses that somebody else has cannot be taken over', async () => {
    const driver = await SdxiDriver.open(new InlineBus());
    const snapshot = await driver.suspend();
    const iovas = new IovaSpace();
    iovas.reserve(0, 4096);
    const error = await rejection(SdxiDriver.resume(new InlineBus(), snapshot, { memory: driver.regions, iovas }));
    expect(error).toMatchObject({ code: 'ERR_SDXI_RESOURCE', hint: expect.stringContaining('IovaSpace') });
    await driver.close();
  });
});
