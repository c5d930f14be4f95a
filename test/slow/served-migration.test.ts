import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { SdxiDriver } from '../../src/driver/index.js';
import { dmatest } from '../../src/offload/dmatest.js';
import { openLanes } from '../../src/offload/lane.js';
import { ServeProcess } from '../serve/processes.js';
import { RawClient } from '../serve/raw.js';
import { RawBus } from '../serve/raw-bus.js';

const servers: ServeProcess[] = [];
let driver: SdxiDriver | undefined;
afterEach(async () => {
  await driver?.close();
  driver = undefined;
  for (const server of servers.splice(0)) await server.stop();
});

/** A driver on a function of the first of two server processes, and the way to move it to the other. */
async function twoServers(...options: string[]): Promise<{ bus: RawBus; driver: SdxiDriver; move(): void }> {
  for (let i = 0; i < 2; i++) servers.push(await ServeProcess.start('--max-cxt', '7', ...options));
  const bus = new RawBus(new RawClient(servers[0].socket), { descriptors: true });
  driver = await SdxiDriver.open(bus);
  let at = 0;
  return {
    bus,
    driver,
    move: () => {
      at = 1 - at;
      bus.moveTo(new RawClient(servers[at].socket));
    },
  };
}

describe('live migration of a loaded function between two server processes', () => {
  it('transfers of four contexts go on over ten moves: every byte is right, nothing is lost', async () => {
    const { driver: own, move } = await twoServers();
    const lanes = await openLanes([own], 4, { polled: false });
    const controller = new AbortController();
    let tests = 0;
    const report = dmatest(lanes, {
      iterations: 1500,
      bufferBytes: 16384,
      alignment: 0,
      seed: 7,
      timeoutMs: 5000,
      verify: true,
      signal: controller.signal,
      onProgress: (done) => {
        tests = done;
      },
    });
    for (let moves = 0; moves < 10; moves++) {
      const from = tests;
      while (tests < from + 100) await pause(1);
      move();
    }
    const { failures, tests: all } = await report;
    expect(failures).toBe(0);
    expect(all).toBe(6000);
  });

  it('a long copy that is under way is complete on the other side', async () => {
    const { driver: own, move } = await twoServers();
    const bytes = 256 << 20;
    const [source, target] = [own.allocate(bytes, 4096), own.allocate(bytes, 4096)];
    for (let at = 0; at < bytes; at += 4) source.u32[at >>> 2] = Math.imul(at, 0x9e37_79b1);
    const context = await own.createContext();
    const batch = context.begin(1);
    batch.copy(bytes, source.iova, target.iova);
    const { done } = batch.submit();
    move();
    await done;
    expect(Buffer.compare(source.bytes, target.bytes)).toBe(0);
  });

  it('what a fault holds back moves along (F-4)', async () => {
    const { driver: own, move } = await twoServers('--fault', 'F-4:context=1,ms=1000');
    const [source, target] = [own.allocate(4096, 4096), own.allocate(4096, 4096)];
    source.bytes.fill(0x5a);
    const context = await own.createContext();
    const batch = context.begin(1);
    batch.copy(4096, source.iova, target.iova);
    const { done } = batch.submit();
    await pause(100);
    move();
    await done;
    expect(target.bytes.every((byte) => byte === 0x5a)).toBe(true);
  });
});
