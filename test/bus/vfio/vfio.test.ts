import { readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { afterEach, describe, expect, it } from 'vitest';
import { RecordingBus, VfioBus } from '../../../src/bus/index.js';
import { SdxiDriver } from '../../../src/driver/index.js';
import { Access } from '../../../src/memory/address-space.js';
import { allocateRegion, pinRegion, type Region } from '../../../src/memory/region.js';
import { signalEventfd } from '../../../src/native/eventfd.js';
import { dmatest } from '../../../src/offload/dmatest.js';
import { closeAll, openLanes } from '../../../src/offload/lane.js';
import { Reg } from '../../../src/spec/index.js';
import { thrown } from '../../driver/rig.js';
import { MiniDriver } from '../rig.js';
import { ModelHost } from './model.js';

const { EEXIST, EFAULT, EINVAL, EIO, ENODEV, ENOMEM, ENOSPC } = constants.errno;
const URI = 'vfio:0000:c4:00.1';

const hosts: ModelHost[] = [];
const buses: VfioBus[] = [];

afterEach(async () => {
  await Promise.all(buses.splice(0).map((bus) => bus.close()));
  await Promise.all(hosts.splice(0).map((host) => host.end()));
});

async function start(prepare: (host: ModelHost) => void = () => {}, { uri = URI, options = '' } = {}) {
  const host = new ModelHost(options);
  hosts.push(host);
  prepare(host);
  const bus = await VfioBus.open(uri, host);
  buses.push(bus);
  return { host, bus };
}

/** An IOMMU that takes every address of the process. */
const wide = (host: ModelHost) => Object.assign(host, { ranges: [[0n, 0xffff_ffff_ffffn]] });
const at = (address: number, byteLength: number) => ({ address, byteLength, attached: true }) as Region;

describe('a vfio: bus', () => {
  it('has what the device has, enables memory and bus mastering, and says how it is reached', async () => {
    const { host, bus } = await start(() => {}, { options: 'maxContext=7&vectors=9' });
    expect([bus.uri, bus.vectors, bus.doorbellBytes, bus.virtualFunctions]).toEqual([URI, 9, 0x10000, []]);
    expect(host.command).toBe(0b110);
    expect(bus.details).toEqual({
      iommuGroup: 7,
      registers: 'system calls (the kernel offers no mapping)',
      doorbells: 'system calls (the kernel offers no mapping)',
      reset: 'function-level',
      hugepages: 'no',
    });
    expect(bus.readRegister(Reg.VERSION)).toBe(0x10000n);
    bus.writeRegister(Reg.ERR_WRT, 0xfedc_ba98_7654_3210n);
    expect(bus.readRegister(Reg.ERR_WRT)).toBe(0xfedc_ba98_7654_3210n);
  });

  it.each([-8, 0.5, 0x80000, 0x7fffc, Number.NaN])('refuses register %s', async (offset) => {
    const { bus } = await start();
    expect(thrown(() => bus.readRegister(offset)).code).toBe('ERR_SDXI_ARGUMENT');
    expect(thrown(() => bus.writeRegister(offset, 0n)).code).toBe('ERR_SDXI_ARGUMENT');
  });

  it('leaves nothing open when it is closed, and nothing when it cannot be opened', async () => {
    const { host, bus } = await start();
    await bus.close();
    await bus.close();
    expect([host.open_.size, host.eventfds.get(2)]).toEqual([0, undefined]);
    expect(thrown(() => bus.readRegister(0)).code).toBe('ERR_SDXI_CLOSED');
    host.results.set(110, -EINVAL);
    await expect(VfioBus.open(URI, host)).rejects.toMatchObject({ code: 'ERR_SDXI_SYSTEM' });
    expect(host.open_.size).toBe(0);
  });

  it('a function that does not answer is not opened', async () => {
    await expect(start((host) => Object.assign(host, { gone: true }))).rejects.toMatchObject({ code: 'ERR_SDXI_BUS_LOST' });
    expect(hosts[0]?.open_.size).toBe(0);
  });

  it('the driver works on it: dmatest on four contexts, in one mapping', async () => {
    const { bus } = await start();
    const recording = new RecordingBus(bus);
    const driver = await SdxiDriver.open(recording);
    const lanes = await openLanes([driver], 4, {});
    const report = await dmatest(lanes, { iterations: 50, bufferBytes: 16384, alignment: 0, seed: 1, timeoutMs: 3000, verify: true });
    await closeAll(lanes);
    await driver.close();
    expect(report).toMatchObject({ tests: 200, failures: 0 });
    expect(recording.records.filter(({ kind }) => kind === 'map')).toEqual([
      { kind: 'map', iova: 2 ** 32, byteLength: 4 * 2 ** 20, access: Access.READ_WRITE },
    ]);
  });
});

describe('vectors of a vfio: bus', () => {
  it('are as many as are asked for', async () => {
    const { host, bus } = await start(() => {}, { uri: `${URI}?vectors=3` });
    expect([bus.vectors, host.eventfds.get(2)?.length]).toEqual([3, 3]);
  });

  it('are as many as the kernel can give: it says how many, and is asked again', async () => {
    const { bus, host } = await start((one) => Object.assign(one, { vectorsAvailable: 5 }));
    expect([bus.vectors, host.eventfds.get(2)?.length]).toEqual([5, 5]);
  });

  it('are 2048 at most, whatever the kernel says of the device', async () => {
    const { bus } = await start((one) => Object.assign(one, { vectorsThere: 0xffff_ffff }));
    expect(bus.vectors).toBe(2048);
  });

  it('leave no descriptor open when there are not enough', async () => {
    const before = readdirSync('/proc/self/fd').length;
    await expect(start((one) => one.results.set(110, -EINVAL))).rejects.toMatchObject({ code: 'ERR_SDXI_SYSTEM' });
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  it('are two at least', async () => {
    await expect(start((one) => Object.assign(one, { vectorsAvailable: 1 }))).rejects.toMatchObject({ code: 'ERR_SDXI_UNSUPPORTED' });
    expect(hosts[0]?.open_.size).toBe(0);
  });

  it('count their deliveries, and end a wait', async () => {
    const { bus } = await start(wide);
    const driver = new MiniDriver(bus);
    for (let i = 0; i < 3; i++) driver.interrupt(3);
    driver.interrupt(4);
    driver.doorbell();
    await bus.wait(() => bus.interruptCount(4) === 1, { what: 'interrupt', timeoutMs: 2000, vector: 4, mode: 'interrupt' });
    await bus.wait(() => bus.interruptCount(3) > 0, { what: 'interrupt', timeoutMs: 2000, vector: 3 });
    expect(bus.interruptPending(3)).toBe(false);
  });

  it('S-94: a masked one is remembered, and delivered when it is unmasked; a reset forgets', async () => {
    const { bus } = await start(wide);
    const driver = new MiniDriver(bus);
    bus.maskInterrupt(3);
    driver.interrupt(3);
    driver.doorbell();
    await bus.wait(() => bus.interruptPending(3), { what: 'interrupt', timeoutMs: 2000 });
    expect(bus.interruptCount(3)).toBe(0);
    bus.unmaskInterrupt(3);
    await bus.wait(() => bus.interruptCount(3) === 1, { what: 'interrupt', timeoutMs: 2000, vector: 3 });
    bus.maskInterrupt(3);
    driver.interrupt(3);
    driver.doorbell();
    await bus.wait(() => bus.interruptPending(3), { what: 'interrupt', timeoutMs: 2000 });
    bus.reset();
    expect(bus.interruptPending(3)).toBe(false);
    bus.unmaskInterrupt(3);
    expect(bus.interruptCount(3)).toBe(1);
    expect(thrown(() => bus.interruptCount(bus.vectors)).code).toBe('ERR_SDXI_ARGUMENT');
  });
});

describe('memory of a vfio: bus', () => {
  it('is mapped in whole pages around what was asked for, with its access, and taken back as it was', async () => {
    const { host, bus } = await start();
    const region = pinRegion(new Uint8Array(20_000).subarray(3, 10_003));
    const within = region.address % 4096;
    const iova = 0x5000_0000 + within;
    bus.map({ iova, region, access: Access.READ });
    const size = Math.ceil((within + 10_000) / 4096) * 4096;
    expect([...host.mapped]).toEqual([[0x5000_0000n, { size: BigInt(size), vaddr: BigInt(region.address - within), flags: 1 }]]);
    bus.unmap(iova, 10_000);
    expect(host.mapped.size).toBe(0);
    bus.unmap(iova, 10_000);
    bus.map({ iova: 0x5000_0000, region: at(0x10000, 4096), access: Access.WRITE });
    expect([...host.mapped.values()].map(({ flags }) => flags)).toEqual([2]);
  });

  it('a range takes all mappings in it, and does not cut one', async () => {
    const { host, bus } = await start();
    const region = allocateRegion(4 * 4096);
    for (let page = 0; page < 4; page++)
      bus.map({ iova: 0x5000_0000 + page * 4096, region, offset: page * 4096, byteLength: 4096, access: Access.READ });
    expect(thrown(() => bus.unmap(0x5000_0000, 4096 + 64))).toMatchObject({ code: 'ERR_SDXI_MAPPING' });
    bus.unmap(0x5000_0000, 3 * 4096);
    expect([...host.mapped.keys()]).toEqual([0x5000_3000n]);
  });

  it('an unmap that takes less than was mapped is an error: the function may still reach it', async () => {
    const { host, bus } = await start();
    bus.map({ iova: 0x5000_0000, region: allocateRegion(8192), access: Access.READ });
    host.mapped.clear();
    expect(thrown(() => bus.unmap(0x5000_0000, 8192))).toMatchObject({
      code: 'ERR_SDXI_MAPPING',
      message: expect.stringContaining('0 bytes were'),
    });
  });

  it('addresses that the IOMMU does not translate are refused with those that it does', async () => {
    const { host, bus } = await start();
    const region = allocateRegion(8192);
    for (const iova of [0x80_0000_0000, 0xfee0_0000, 0xfedf_f000]) {
      const error = thrown(() => bus.map({ iova, region, access: Access.READ }));
      expect(error).toMatchObject({ code: 'ERR_SDXI_MAPPING' });
      expect(error.hint).toContain('0x0 … 0xfedfffff, 0xfef00000 … 0x7fffffffff');
    }
    bus.map({ iova: 0xfedf_e000, region, access: Access.READ });
    expect(host.requests.filter((number) => number === 113).length).toBe(1);
  });

  it.each([
    [EEXIST, /mapped already/],
    [ENOMEM, /RLIMIT|ulimit -l/],
    [ENOSPC, /dma_entry_limit/],
    [EFAULT, /pinned/],
    [EINVAL, /reserve/],
    [EIO, /dmesg/],
  ])('errno %i of VFIO_IOMMU_MAP_DMA is explained', async (errno, text) => {
    const { host, bus } = await start();
    host.results.set(113, -errno);
    const error = thrown(() => bus.map({ iova: 0x5000_0000, region: allocateRegion(4096), access: Access.READ }));
    expect(error.code).toBe('ERR_SDXI_MAPPING');
    expect(`${error.message} ${error.hint}`).toMatch(text);
    host.results.clear();
    bus.map({ iova: 0x5000_0000, region: allocateRegion(4096), access: Access.READ });
  });

  it('the number of mappings has a limit, which is not passed', async () => {
    const { host, bus } = await start((one) => Object.assign(one, { mappingsLeft: 2 }));
    const region = allocateRegion(3 * 4096);
    const map = (page: number) =>
      bus.map({ iova: 0x5000_0000 + page * 4096, region, offset: page * 4096, byteLength: 4096, access: Access.READ });
    map(0);
    map(1);
    expect(thrown(() => map(2))).toMatchObject({ code: 'ERR_SDXI_MAPPING', hint: expect.stringContaining('dma_entry_limit') });
    expect(host.mapped.size).toBe(2);
    bus.unmap(0x5000_0000, 4096);
    map(2);
  });

  it('the limit of locked memory is looked at first, unless none holds', async () => {
    const limits = 'Max locked memory         65536                65536                bytes\n';
    const { host, bus } = await start((one) => {
      one.files['self/limits'] = limits;
      one.files['self/status'] = 'VmLck:\t      60 kB\nCapEff:\t0000000000000000\n';
    });
    const region = allocateRegion(8192);
    expect(thrown(() => bus.map({ iova: 0x5000_0000, region, access: Access.READ }))).toMatchObject({
      code: 'ERR_SDXI_RESOURCE',
      hint: expect.stringContaining('ulimit -l'),
      fields: { byteLength: 8192, lockedBytes: 61440, limitBytes: 65536 },
    });
    expect(host.requests).not.toContain(113);
    bus.map({ iova: 0x5000_0000, region, byteLength: 4096, access: Access.READ });
    const { bus: free } = await start((one) => {
      one.files['self/limits'] = limits;
      one.files['self/status'] = 'VmLck:\t      60 kB\nCapEff:\t0000000000004000\n';
    });
    free.map({ iova: 0x5000_0000, region, access: Access.READ });
  });

  it('of a PASID is not to be had', async () => {
    const { bus } = await start();
    expect(thrown(() => bus.map({ iova: 0x5000_0000, region: allocateRegion(4096), access: Access.READ, pasid: 1 }))).toMatchObject({
      code: 'ERR_SDXI_UNSUPPORTED',
    });
    bus.unmap(0x5000_0000, 4096, 1);
  });
});

describe('a vfio: function that goes away', () => {
  it.each([
    ['reads all ones', (host: ModelHost) => Object.assign(host, { gone: true })],
    ['answers with a part', (host: ModelHost) => Object.assign(host, { read: () => 0 })],
    ['answers EIO', (host: ModelHost) => Object.assign(host, { read: () => -EIO })],
    ['answers ENODEV', (host: ModelHost) => Object.assign(host, { read: () => -ENODEV, write: () => -ENODEV })],
  ])('and %s is lost, for good, to every call and wait', async (_, vanish) => {
    const { host, bus } = await start();
    const waiting = bus.wait(() => false, { what: 'ever', timeoutMs: 10_000, vector: 1, mode: 'interrupt' });
    vanish(host);
    expect(thrown(() => bus.writeRegister(Reg.CTL0, 0n)).code).toBe('ERR_SDXI_BUS_LOST');
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_SDXI_BUS_LOST' });
    for (const call of [
      () => bus.readRegister(0),
      () => bus.writeDoorbell(0, 1),
      () => bus.interruptCount(0),
      () => bus.map({ iova: 0, region: allocateRegion(4096), access: Access.READ }),
      () => bus.spin(() => false, 1000),
      () => bus.reset(),
    ])
      expect(thrown(call).code).toBe('ERR_SDXI_BUS_LOST');
  });

  it.each([
    ['wants it back', 4, 'wants it back'],
    ['says that it failed', 3, 'uncorrectable'],
  ])('and of which the kernel %s is lost at once, without a call', async (_, index, reason) => {
    const { host, bus } = await start();
    const waiting = bus.wait(() => false, { what: 'ever', timeoutMs: 10_000, vector: 1, mode: 'interrupt' });
    const [fd] = host.eventfds.get(index) ?? [];
    signalEventfd(fd as number);
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_SDXI_BUS_LOST', message: expect.stringContaining(reason) });
    await bus.close();
    expect(host.open_.size).toBe(0);
  });

  it('all ones in a register that may hold them are a value', async () => {
    const { bus } = await start();
    bus.writeRegister(Reg.ERR_WRT, 0xffff_ffff_ffff_ffffn);
    expect(bus.readRegister(Reg.ERR_WRT)).toBe(0xffff_ffff_ffff_ffffn);
  });

  it('a reset that the kernel cannot make is refused', async () => {
    const { bus } = await start((host) => Object.assign(host, { canReset: false }));
    expect(thrown(() => bus.reset())).toMatchObject({ code: 'ERR_SDXI_UNSUPPORTED', hint: expect.stringContaining('recover') });
  });

  it('reset() is the kernel’s, and sets memory and bus mastering up again', async () => {
    const { host, bus } = await start();
    bus.writeRegister(Reg.ERR_WRT, 5n);
    host.command = 0;
    bus.reset();
    expect([bus.readRegister(Reg.ERR_WRT), host.command, host.requests.includes(111)]).toEqual([0n, 0b110, true]);
  });
});
