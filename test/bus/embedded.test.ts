import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { Channel, Life } from '../../src/bus/embedded/channel.js';
import { attachEmbedded, EmbeddedBus, InlineBus } from '../../src/bus/index.js';
import { Access } from '../../src/memory/address-space.js';
import type { Region } from '../../src/memory/region.js';
import { closeFd, createMemfd, mapShared, unmap, viewMemory } from '../../src/native/libc.js';
import { FunctionRequest, FunctionState, Reg } from '../../src/spec/index.js';
import { MiniDriver, tick } from './rig.js';

const opened: EmbeddedBus[] = [];
const start = async (options = '') => {
  const bus = await EmbeddedBus.open(`embedded:?${options}`);
  opened.push(bus);
  return bus;
};
afterEach(() => Promise.all(opened.splice(0).map((bus) => bus.close())));

const code = (expected: string) => expect.objectContaining({ code: expected, hint: expect.any(String) });

describe('the engine thread', () => {
  it('works by itself: a doorbell is enough', async () => {
    const bus = await start();
    const driver = new MiniDriver(bus);
    const index = driver.nop();
    await tick(5);
    driver.doorbell();
    await tick(50);
    expect(driver.readIndex).toBe(index);
  });

  it('S-45: answers registers while it copies, and stops in the middle of a long copy', async () => {
    const bus = await start();
    const driver = new MiniDriver(bus);
    const fd = createMemfd('sdxi-test', 2 ** 30);
    const address = mapShared(fd, 0, 2 ** 30);
    const region = fakeRegion(address, 2 ** 30);
    bus.map({ iova: address, region, access: Access.READ_WRITE });
    for (let i = 0; i < 8; i++) driver.copy(address, address + 2 ** 29, 2 ** 29);
    driver.doorbell();
    bus.spin(() => bus.counters().bytes > 0, 1000);
    for (let i = 0; i < 20; i++) expect(bus.readRegister(Reg.STS0)).toBe(BigInt(FunctionState.ACTIVE));
    expect(bus.counters().bytes).toBeLessThan(8 * 2 ** 29);
    bus.writeRegister(Reg.CTL0, BigInt(FunctionRequest.STOP_HD));
    await bus.wait(() => bus.readRegister(Reg.STS0) === BigInt(FunctionState.STOP), { what: 'stop', timeoutMs: 2000 });
    expect(bus.counters().bytes).toBeLessThan(8 * 2 ** 29);
    bus.unmap(address, 2 ** 30);
    unmap(address, 2 ** 30);
    closeFd(fd);
  });

  it('maps more than one window holds, and copies across the seam', async () => {
    const bytes = 4.5 * 2 ** 30;
    const fd = createMemfd('sdxi-test', bytes);
    const address = mapShared(fd, 0, bytes);
    for (const bus of [await start(), new InlineBus()]) {
      const driver = new MiniDriver(bus);
      const view = (offset: number) => new Uint8Array(viewMemory(address + offset, 8192));
      bus.map({ iova: 0x10_0000_0000, region: fakeRegion(address, bytes), access: Access.READ_WRITE });
      for (const seam of [2 ** 31, 2 ** 32]) {
        view(0).fill(seam / 2 ** 31);
        const index = driver.copy(0x10_0000_0000, 0x10_0000_0000 + seam - 4096, 8192);
        driver.doorbell();
        await bus.wait(() => driver.readIndex === index, { what: 'copy', timeoutMs: 2000 });
        expect(view(seam - 4096).every((byte) => byte === seam / 2 ** 31)).toBe(true);
      }
      // Not what a region of this length holds: refused as a whole.
      const overlapping = { iova: 0x10_0000_0000 - 2 ** 31, region: fakeRegion(address, bytes), access: Access.READ };
      expect(() => bus.map(overlapping)).toThrow(code('ERR_SDXI_MAPPING'));
      bus.map({ ...overlapping, byteLength: 2 ** 31 });
      bus.unmap(0x10_0000_0000 - 2 ** 31, bytes + 2 ** 31);
      driver.copy(0x10_0000_0000, 0x10_0000_0000 + 8192, 64);
      driver.doorbell();
      await bus.wait(() => driver.contextState === 0xf, { what: 'error', timeoutMs: 2000 });
      await bus.close();
    }
    unmap(address, bytes);
    closeFd(fd);
  });

  it('serves several threads at once, each in its own order', async () => {
    const bus = await start('maxContext=63');
    const results = await Promise.all(
      [1, 2, 3].map(async (seed) => {
        const worker = new Worker(new URL('./register-user.mjs', import.meta.url), {
          workerData: { share: bus.share(), seed, rounds: 3000 },
        });
        const [result] = await once(worker, 'message');
        return result;
      }),
    );
    expect(results).toEqual([{ wrong: 0 }, { wrong: 0 }, { wrong: 0 }]);
    // A doorbell that is followed by a register access of the same thread cannot merge with the next one.
    expect(bus.counters().registerReads).toBe(3 * 3000);
    expect(bus.counters().doorbells).toBe(3 * 3000);
  });

  it('a thread that attached can wait for an interrupt', async () => {
    const bus = await start();
    const driver = new MiniDriver(bus);
    const worker = new Worker(new URL('./vector-user.mjs', import.meta.url), { workerData: { share: bus.share(), vector: 5 } });
    const messages: string[] = [];
    worker.on('message', (message) => messages.push(message));
    const exit = once(worker, 'exit');
    await once(worker, 'message');
    driver.interrupt(5);
    driver.doorbell();
    // The thread ends by itself: nothing of the bus keeps it.
    expect(await exit).toEqual([0]);
    expect(messages).toEqual(['waiting', 'woken']);
  });
});

describe('an engine that dies', () => {
  it('every pending wait rejects, every later call throws BusLostError, and close() returns', async () => {
    const bus = await start();
    const driver = new MiniDriver(bus);
    const rejected = (['adaptive', 'polled', 'interrupt'] as const).map((mode) =>
      expect(bus.wait(() => false, { what: 'x', timeoutMs: 10_000, vector: 1, mode })).rejects.toThrow(code('ERR_SDXI_BUS_LOST')),
    );
    await tick(5);
    await bus.terminate();
    await Promise.all(rejected);
    const lost = code('ERR_SDXI_BUS_LOST');
    expect(() => bus.readRegister(0)).toThrow(lost);
    expect(() => bus.writeRegister(0, 0n)).toThrow(lost);
    expect(() => driver.doorbell()).toThrow(lost);
    expect(() => bus.map({ iova: 0x9000_0000, region: driver.region, access: Access.READ })).toThrow(lost);
    expect(() => bus.unmap(driver.base, driver.region.byteLength)).toThrow(lost);
    expect(() => bus.interruptCount(0)).toThrow(lost);
    expect(() => bus.maskInterrupt(0)).toThrow(lost);
    expect(() => bus.reset()).toThrow(lost);
    expect(() => bus.spin(() => true, 1)).toThrow(lost);
    await expect(bus.wait(() => true, { what: 'x', timeoutMs: 1 })).rejects.toThrow(lost);
    expect(bus.counters()).toMatchObject({ descriptors: 0 });
    await bus.close();
    expect(() => bus.readRegister(0)).toThrow(code('ERR_SDXI_CLOSED'));
  });

  it('a caller that is inside a register access when it dies gets BusLostError within the timeout', async () => {
    // A channel whose engine never answers: what a thread sees that hangs, or died while the caller's event loop stood still.
    const channel = new Channel({ maxContext: 3, vectors: 2 });
    channel.setLife(Life.RUNNING);
    const share = {
      uri: 'embedded:',
      buffer: channel.buffer,
      maxContext: 3,
      vectors: 2,
      stride: 4096,
      doorbellBytes: 0x10000,
      registerTimeoutMs: 100,
      counterNames: ['descriptors'],
    };
    const client = attachEmbedded(share);
    const before = performance.now();
    expect(() => client.readRegister(0)).toThrow(
      expect.objectContaining({ code: 'ERR_SDXI_BUS_LOST', message: expect.stringContaining('no answer within 100 ms') }),
    );
    expect(performance.now() - before).toBeLessThan(1500);
    // From then on at once, for everybody.
    expect(() => attachEmbedded(share).writeDoorbell(0, 1)).toThrow(code('ERR_SDXI_BUS_LOST'));
    expect(client.counters()).toEqual({ descriptors: 0 });
  });

  it('the registers kept by a thread that is gone: an error, not a hang', () => {
    const channel = new Channel({ maxContext: 3, vectors: 2 });
    channel.setLife(Life.RUNNING);
    channel.words[channel.lock] = 1;
    const share = { uri: 'embedded:', buffer: channel.buffer, maxContext: 3, vectors: 2, stride: 4096, doorbellBytes: 0x10000 };
    const client = attachEmbedded({ ...share, registerTimeoutMs: 50, counterNames: [] });
    expect(() => client.readRegister(0)).toThrow(code('ERR_SDXI_TIMEOUT'));
  });

  it('an error inside the engine is its last word', async () => {
    const bus = await start();
    const channel = new Channel({ maxContext: 63, vectors: bus.vectors }, bus.share().buffer);
    const wait = bus.wait(() => false, { what: 'x', timeoutMs: 10_000, vector: 1 });
    const rejected = expect(wait).rejects.toThrow(/engine of embedded.* is gone: .*operation 99/);
    channel.post(99 as never);
    await rejected;
    await bus.close();
  });

  it('close() in spite of an engine that does not listen', async () => {
    const bus = await start();
    await bus.terminate();
    await Promise.all([bus.close(), bus.close()]);
  });
});

describe('the life of the process', () => {
  const run = async (program: string) => {
    const library = fileURLToPath(new URL('../../dist/bus/index.js', import.meta.url));
    const script = `import { EmbeddedBus } from ${JSON.stringify(library)};
      const bus = await EmbeddedBus.open('embedded:');
      ${program}`;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { timeout: 10_000 });
    return stdout.trim();
  };

  it('ends by itself when the bus is idle, closed or not', async () => {
    expect(await run(`bus.readRegister(0); console.log('idle');`)).toBe('idle');
    expect(await run(`await bus.close(); console.log('closed');`)).toBe('closed');
    expect(await run(`bus.ref(); bus.ref(); bus.unref(); bus.unref(); bus.unref(); console.log('idle');`)).toBe('idle');
  });

  it('does not end before a wait does', async () => {
    for (const mode of ['adaptive', 'polled', 'interrupt']) {
      const wait = `bus.wait(() => false, { what: 'x', timeoutMs: 100, vector: 1, mode: '${mode}' })`;
      expect(await run(`await ${wait}.catch((e) => console.log(e.code));`)).toBe('ERR_SDXI_TIMEOUT');
    }
  });

  it('does not end while somebody holds it by ref()', async () => {
    const program = `bus.ref();
      const timer = setTimeout(() => { bus.unref(); console.log('let go'); }, 100);
      timer.unref();`;
    expect(await run(program)).toBe('let go');
  });

  it('can be ended in the middle of waits and work', async () => {
    const wait = `bus.wait(() => false, { what: 'x', timeoutMs: 60_000, vector: 1, mode: 'interrupt' })`;
    expect(await run(`${wait}; setTimeout(() => { console.log('exit'); process.exit(0); }, 50);`)).toBe('exit');
  });
});

/** Memory of the test's own as a region. */
function fakeRegion(address: number, byteLength: number): Region {
  const none = new Uint8Array(0);
  return { address, byteLength, bytes: none, window: undefined as never, offset: 0, attached: true };
}
