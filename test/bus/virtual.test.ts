/** Buses of virtual functions: one thread for all, everything else of their own. Ref §5.6, S-113, S-114. */
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { attachEmbedded, EmbeddedBus, InlineBus, openBus, RecordingBus } from '../../src/bus/index.js';
import type { SdxiError, SdxiErrorCode } from '../../src/errors.js';
import { Access } from '../../src/memory/address-space.js';
import { allocateRegion, PAGE_BYTES } from '../../src/memory/region.js';
import type { Tracer } from '../../src/observe/tracer.js';
import { FunctionState, Reg } from '../../src/spec/index.js';
import { EMBEDDED, MiniDriver, type TestBus, tick } from './rig.js';

const code = (expected: SdxiErrorCode) => expect.objectContaining({ code: expected } satisfies Partial<SdxiError>);
const WAIT = { what: 'a test', timeoutMs: 2000 };

describe.each(EMBEDDED)('virtual functions, $name', ({ name, open }) => {
  it('S-113 each has registers, doorbells, memory, interrupts and counters of its own', async () => {
    await using pf = await open('vfs=3&maxContext=3');
    const { virtualFunctions: vfs } = pf;
    expect(vfs.map(({ uri }) => uri)).toEqual([1, 2, 3].map((n) => `${pf.uri}#vf${n}`));
    const drivers = [pf, ...vfs].map((bus) => new MiniDriver(bus));
    for (const [i, driver] of drivers.entries()) {
      driver.bytes(driver.scratch, 64).fill(i + 1);
      for (let n = 0; n <= i; n++) driver.copy(driver.scratch, driver.scratch + 64, 64);
      driver.interrupt(i + 1);
      driver.doorbell();
    }
    for (const [i, bus] of [pf, ...vfs].entries()) {
      await bus.wait(() => bus.interruptCount(i + 1) === 1, { ...WAIT, vector: i + 1 });
      expect(drivers[i].bytes(drivers[i].scratch + 64, 64).every((byte) => byte === i + 1)).toBe(true);
      expect(bus.counters()).toMatchObject({ descriptors: i + 2, interrupts: 1, doorbells: 1 });
      expect([1, 2, 3, 4].map((vector) => bus.interruptCount(vector))).toEqual([1, 2, 3, 4].map((vector) => (vector === i + 1 ? 1 : 0)));
    }
  });

  it('S-113 memory that the PF has mapped is none for its VFs', async () => {
    await using pf = await open('vfs=1');
    const [vf] = pf.virtualFunctions;
    const region = allocateRegion(PAGE_BYTES);
    pf.map({ iova: region.address, region, access: Access.READ_WRITE });
    const driver = new MiniDriver(vf);
    driver.copy(driver.scratch, region.address, 64);
    driver.bytes(driver.scratch, 64).fill(7);
    driver.doorbell();
    await vf.wait(() => driver.contextState === 0xf, WAIT);
    expect(region.bytes.every((byte) => byte === 0)).toBe(true);
  });

  it('all of them move at once', async () => {
    await using pf = await open('vfs=2');
    const buses = [pf, ...pf.virtualFunctions];
    const drivers = buses.map((bus) => new MiniDriver(bus));
    for (let round = 0; round < 20; round++) {
      for (const driver of drivers) {
        for (let n = 0; n < 20; n++) driver.copy(driver.scratch, driver.scratch + 64, 64);
        driver.doorbell();
      }
      await Promise.all(buses.map((bus, i) => bus.wait(() => drivers[i].readIndex === drivers[i].writeIndex, WAIT)));
    }
    expect(drivers.map(({ readIndex }) => readIndex)).toEqual([400, 400, 400]);
  });

  it('S-114 a reset of the PF resets its VFs and unmasks their vectors; one of a VF that one alone', async () => {
    await using pf = await open('vfs=2');
    const buses = [pf, ...pf.virtualFunctions];
    for (const bus of buses) new MiniDriver(bus);
    const states = () => buses.map((bus) => Number(bus.readRegister(Reg.STS0)));
    const raise = () => buses.map((bus) => bus.interruptPending(1));
    const { ACTIVE, STOP } = FunctionState;
    buses[1].reset();
    expect(states()).toEqual([ACTIVE, STOP, ACTIVE]);
    for (const bus of buses) bus.maskInterrupt(1);
    pf.reset();
    expect(states()).toEqual([STOP, STOP, STOP]);
    for (const bus of buses) {
      const driver = new MiniDriver(bus);
      driver.interrupt(1);
      driver.doorbell();
      await bus.wait(() => bus.interruptCount(1) === 1, WAIT);
    }
    expect(raise()).toEqual([false, false, false]);
  });

  it('closing the PF closes its VFs', async () => {
    const pf = await open('vfs=2');
    const [vf] = pf.virtualFunctions;
    const waiting = expect(vf.wait(() => false, { ...WAIT, vector: 1 })).rejects.toThrow(code('ERR_SDXI_CLOSED'));
    await tick(1);
    await pf.close();
    expect(() => vf.readRegister(Reg.STS0)).toThrow(code('ERR_SDXI_CLOSED'));
    await waiting;
    await vf.close();
  });

  it('closing a VF resets it and takes its memory; PF and other VFs go on', async () => {
    await using pf = await open('vfs=2');
    const [vf, other] = pf.virtualFunctions;
    const drivers = [pf, other].map((bus) => new MiniDriver(bus));
    const gone = new MiniDriver(vf);
    await vf.close();
    await vf.close();
    expect(() => vf.readRegister(Reg.STS0)).toThrow(code('ERR_SDXI_CLOSED'));
    expect(gone.contextState).toBe(1);
    for (const driver of drivers) {
      driver.nop();
      driver.doorbell();
      await driver.bus.wait(() => driver.readIndex === 1, WAIT);
    }
    if (pf instanceof InlineBus) expect(pf.fn.virtualFunctions[0].state).toBe(FunctionState.STOP);
  });

  it('the URI of one VF opens it alone, and closing it closes everything', async () => {
    const uri = name === 'inline' ? 'embedded:?inline=1&vfs=2#vf2' : 'embedded:?vfs=2#vf2';
    const bus = await openBus(uri);
    expect([bus.uri, bus.virtualFunctions]).toEqual([uri, []]);
    expect(Number(bus.readRegister(Reg.CAP0) & 0x1ffffn)).toBe(0x1_0003);
    const driver = new MiniDriver(bus);
    driver.interrupt(1);
    driver.doorbell();
    bus.ref();
    await bus.wait(() => bus.interruptCount(1) === 1, { ...WAIT, vector: 1, mode: 'interrupt' });
    bus.unref();
    await bus.close();
    expect(() => bus.readRegister(Reg.STS0)).toThrow(code('ERR_SDXI_CLOSED'));
  });

  it('a slot that is looked at without a doorbell is one in a VF, too', async () => {
    await using pf = await open('vfs=1&pollInvalid=on');
    const [vf] = pf.virtualFunctions;
    const driver = new MiniDriver(vf);
    driver.nop();
    const slot = driver.bytes(driver.base + 0x5000, 1);
    slot[0] &= ~1;
    driver.doorbell();
    await tick(5);
    slot[0] |= 1;
    await vf.wait(() => driver.readIndex === 1, WAIT);
  });

  it('F-2 faults are of the function that the URI names, or of the bus that they are set on', async () => {
    const fails = async (bus: TestBus) => {
      const driver = new MiniDriver(bus);
      driver.copy(driver.scratch, driver.scratch + 64, 64);
      driver.doorbell();
      await bus.wait(() => driver.contextState !== 1 || driver.readIndex === 1, WAIT);
      bus.readRegister(Reg.STS0); // answered after the step in which Read_Index moved; the state follows it (S-74)
      const failed = driver.contextState === 0xf;
      bus.reset();
      return failed;
    };
    const outcome = async (buses: TestBus[]) => {
      const results: boolean[] = [];
      for (const bus of buses.reverse()) results.unshift(await fails(bus));
      return results;
    };
    await using pf = await open('vfs=1&faults=F-2');
    const [vf] = pf.virtualFunctions;
    expect(await outcome([pf, vf])).toEqual([true, false]);
    pf.setFaults('');
    vf.setFaults('F-2');
    expect(await outcome([pf, vf])).toEqual([false, true]);
    const uri = `embedded:?vfs=1&faults=F-2${name === 'inline' ? '&inline=1' : ''}#vf1`;
    await using alone = (await openBus(uri)) as TestBus;
    expect(await fails(alone)).toBe(true);
  });

  it.each(['#vf3', '#vf0', '#vf01', '#vfx', '#', '#vf1&x=1'])('refuses %s', async (fragment) => {
    const inline = name === 'inline' ? 'inline=1&' : '';
    await expect(openBus(`embedded:?${inline}vfs=2${fragment}`)).rejects.toThrow(/virtual function 3|not the URI/);
    await expect(openBus(`embedded:?${inline}maxContext=3#vf1`)).rejects.toThrow('no virtual function 1');
    await expect(openBus(`embedded:?${inline}vfs=1&fabric=a`)).rejects.toThrow('cannot be in a fabric');
  });
});

describe('virtual functions on an engine thread', () => {
  it('the death of the thread is seen by all', async () => {
    const pf = await EmbeddedBus.open('embedded:?vfs=2');
    const buses = [pf, ...pf.virtualFunctions];
    const waits = buses.map((bus) => expect(bus.wait(() => false, { ...WAIT, vector: 1 })).rejects.toThrow(code('ERR_SDXI_BUS_LOST')));
    await tick(1);
    await pf.virtualFunctions[0].terminate();
    await Promise.all(waits);
    for (const bus of buses) expect(() => bus.readRegister(Reg.STS0)).toThrow(code('ERR_SDXI_BUS_LOST'));
    for (const bus of buses) await bus.close();
  });

  it('another thread rings doorbells of a VF while the engine sleeps', async () => {
    await using pf = await EmbeddedBus.open('embedded:?vfs=2');
    const [, vf] = pf.virtualFunctions;
    const driver = new MiniDriver(vf);
    const entry = new URL('../../dist/bus/index.js', import.meta.url).href;
    const worker = new Worker(
      `const { workerData: { share, entry }, parentPort } = require('node:worker_threads');
       import(entry).then(({ attachEmbedded }) => {
         const client = attachEmbedded(share);
         parentPort.on('message', () => client.writeDoorbell(0, 1));
         parentPort.postMessage(client.readRegister(0x100) !== undefined);
       });`,
      { eval: true, workerData: { share: vf.share(), entry } },
    );
    await new Promise((resolve) => worker.once('message', resolve));
    driver.nop();
    await tick(5);
    worker.postMessage('ring');
    await vf.wait(() => driver.readIndex === 1, WAIT);
    expect(attachEmbedded(vf.share()).counters()).toMatchObject({ descriptors: 1, doorbells: 1 });
    await worker.terminate();
  });
});

describe('virtual functions on the thread of their user', () => {
  it('whoever is asked to step steps all of them', () => {
    const pf = new InlineBus('embedded:?inline=1&vfs=2');
    const drivers = [pf, ...pf.virtualFunctions].map((bus) => new MiniDriver(bus));
    for (const driver of drivers) {
      driver.nop();
      driver.doorbell();
    }
    while (pf.virtualFunctions[1].step(4) > 0);
    expect(drivers.map(({ readIndex }) => readIndex)).toEqual([1, 1, 1]);
  });

  it('a tracer sees the function that the URI names', () => {
    for (const [fragment, sees] of [
      ['', 0],
      ['#vf2', 2],
    ] as const) {
      const seen: number[] = [];
      const tracer = { functionState: (state: number) => seen.push(state), registerWrite() {} } as unknown as Tracer;
      const bus = InlineBus.open(`embedded:?inline=1&vfs=2${fragment}`, { tracer });
      bus.writeRegister(Reg.CTL0, 3n);
      expect([seen.length > 0, bus.fn.config.sfunc]).toEqual([true, 1 + sees]);
    }
  });

  it('a recording bus hands out the buses of the VFs', () => {
    const pf = new InlineBus('embedded:?inline=1&vfs=2');
    expect(new RecordingBus(pf).virtualFunctions).toBe(pf.virtualFunctions);
  });
});
