import { readdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterEach, describe, expect, it } from 'vitest';
import { openBus, VfioUserBus } from '../../../src/bus/index.js';
import { Access } from '../../../src/memory/address-space.js';
import { allocateRegion, pinRegion } from '../../../src/memory/region.js';
import { open as openMover } from '../../../src/mover/index.js';
import { Reg } from '../../../src/spec/index.js';
import { MigrationState } from '../../../src/vfio-user/messages.js';
import { thrown } from '../../driver/rig.js';
import { type Rig, startServer } from '../../serve/rig.js';
import { MiniDriver } from '../rig.js';

let rig: Rig | undefined;
const opened: VfioUserBus[] = [];

async function start(query = '', options: Parameters<typeof startServer>[0] = {}): Promise<VfioUserBus> {
  rig ??= await startServer(options);
  const bus = await VfioUserBus.open(`vfio-user:${rig.server.sockets[0]}${query}`);
  opened.push(bus);
  return bus;
}

afterEach(async () => {
  for (const bus of opened.splice(0)) await bus.close();
  await rig?.close();
  rig = undefined;
});

const descriptors = () => readdirSync('/proc/self/fd').length;

describe('a served function', () => {
  it('has registers, doorbells and vectors as its server says', async () => {
    const bus = await start();
    expect(bus.readRegister(Reg.VERSION)).toBe(0x10000n);
    bus.writeRegister(Reg.ERR_WRT, 0xfedc_ba98_7654_3210n);
    expect(bus.readRegister(Reg.ERR_WRT)).toBe(0xfedc_ba98_7654_3210n);
    expect(bus.vectors).toBe(10);
    expect(bus.doorbellBytes).toBe(0x10000);
    expect(thrown(() => bus.readRegister(-8)).code).toBe('ERR_SDXI_ARGUMENT');
    expect(thrown(() => bus.writeDoorbell(bus.doorbellBytes, 1)).code).toBe('ERR_SDXI_ARGUMENT');
  });

  it('has one client at a time: a second one is told so', async () => {
    const bus = await start();
    const error = await VfioUserBus.open(bus.uri).catch((e) => e);
    expect(error).toMatchObject({ code: 'ERR_SDXI_BUS_LOST', message: expect.stringContaining('could not be opened: ') });
    expect(error.hint).toContain('one client at a time');
    expect(bus.readRegister(Reg.VERSION)).toBe(0x10000n);
  });

  it('is reached over its socket, and nothing else', async () => {
    await start();
    const path = `${rig?.path}.file`;
    writeFileSync(path, '');
    for (const place of [path, tmpdir()]) {
      await expect(VfioUserBus.open(`vfio-user:${place}`)).rejects.toMatchObject({ message: expect.stringContaining('it is no socket') });
    }
  });

  it.each(['', '?postedWrites=0', '?shareMemory=0', '?mapDoorbells=0'])('moves bytes, and interrupts (%s)', async (query) => {
    const bus = await start(query, { mapDoorbells: query !== '?mapDoorbells=0' });
    const mini = new MiniDriver(bus);
    mini.bytes(mini.scratch, 4096).fill(0x5a);
    mini.copy(mini.scratch, mini.scratch + 0x2000, 4096);
    mini.interrupt(1);
    mini.doorbell();
    await bus.wait(() => bus.interruptCount(1) === 1, { what: 'an interrupt', timeoutMs: 5000, vector: 1, mode: 'interrupt' });
    expect(mini.bytes(mini.scratch + 0x2000, 4096).every((byte) => byte === 0x5a)).toBe(true);
  });

  it('PASIDs are not there', async () => {
    const bus = await start();
    const region = allocateRegion(4096);
    const error = thrown(() => bus.map({ iova: region.address, region, access: Access.READ, pasid: 1 }));
    expect(error.code).toBe('ERR_SDXI_UNSUPPORTED');
  });

  it('a range that is mapped is not mapped again, and says so', async () => {
    const bus = await start();
    const region = allocateRegion(8192);
    bus.map({ iova: 0x10000, region, access: Access.READ_WRITE });
    const error = thrown(() => bus.map({ iova: 0x11000, region, access: Access.READ_WRITE }));
    expect(error).toMatchObject({ code: 'ERR_SDXI_MAPPING', fields: { errno: 17 }, hint: expect.stringContaining('unmap') });
    bus.unmap(0x10000, 8192);
    bus.map({ iova: 0x11000, region, access: Access.READ_WRITE });
  });

  it('two pinned buffers in one page can be mapped and taken back one by one', async () => {
    const bus = await start();
    const bytes = new Uint8Array(64 * 1024);
    const parts = [bytes.subarray(100, 5000), bytes.subarray(5000, 5100), bytes.subarray(5100, 40_000)].map((view) => pinRegion(view));
    for (const region of parts) bus.map({ iova: region.address, region, access: Access.READ_WRITE });
    for (const region of parts) bus.unmap(region.address, region.byteLength);
    for (const region of parts.reverse()) bus.map({ iova: region.address, region, access: Access.READ_WRITE });
  });

  it('a mover copies allocated and registered memory', async () => {
    rig = await startServer();
    const mover = await openMover(`vfio-user:${rig.server.sockets[0]}`);
    try {
      const from = mover.alloc(100_000);
      const to = new Uint8Array(100_003);
      from.fill(7);
      mover.register(to);
      await mover.copy(from, to.subarray(3));
      expect(to.subarray(0, 3)).toEqual(new Uint8Array(3));
      expect(to.subarray(3).every((byte) => byte === 7)).toBe(true);
    } finally {
      await mover.close();
    }
  });

  it('a reset keeps memory, and interrupts work after it', async () => {
    const bus = await start();
    bus.maskInterrupt(1);
    bus.reset();
    const mini = new MiniDriver(bus);
    mini.interrupt(1);
    mini.doorbell();
    await bus.wait(() => bus.interruptCount(1) === 1, { what: 'an interrupt', timeoutMs: 5000, vector: 1, mode: 'interrupt' });
  });

  it('the end of its server ends every wait and call with the reason', async () => {
    const bus = await start();
    const wait = bus.wait(() => false, { what: 'nothing', timeoutMs: 10_000, vector: 0, mode: 'interrupt' });
    const ended = expect(wait).rejects.toMatchObject({ code: 'ERR_SDXI_BUS_LOST' });
    await rig?.close();
    rig = undefined;
    await ended;
    expect(thrown(() => bus.readRegister(0)).code).toBe('ERR_SDXI_BUS_LOST');
    await bus.close();
    expect(thrown(() => bus.readRegister(0)).code).toBe('ERR_SDXI_CLOSED');
  });

  it('closing leaves no descriptor, and the next client finds the function', async () => {
    rig = await startServer({ mapDoorbells: true });
    const uri = `vfio-user:${rig.server.sockets[0]}`;
    await (await VfioUserBus.open(uri)).close();
    const before = descriptors();
    for (let round = 0; round < 5; round++) {
      const bus = await openBus(uri);
      bus.map({ iova: 0x10000, region: allocateRegion(4096), access: Access.READ });
      await Promise.all([bus.close(), bus.close()]);
    }
    // Each region keeps its file until it is collected; the server drops a client a moment later.
    expect(descriptors()).toBeLessThanOrEqual(before + 5 + 12);
  });

  it('its state is saved and loaded, and dirty pages are told', async () => {
    const bus = await start();
    expect(bus.migration.supported()).toBe(true);
    expect(bus.migration.startDirtyLog()).toBe(4096);
    expect(bus.migration.dirtyPages({ iova: 0x10000, byteLength: 1 << 20 })).toEqual([]);
    bus.migration.stopDirtyLog();
    bus.writeRegister(Reg.ERR_WRT, 77n);
    const state = bus.migration.saveState();
    expect(bus.migration.state).toBe(MigrationState.STOP_COPY);
    bus.migration.setState(MigrationState.RUNNING);
    bus.writeRegister(Reg.ERR_WRT, 5n);
    bus.migration.loadState(state);
    expect(bus.migration.state).toBe(MigrationState.RUNNING);
    expect(bus.readRegister(Reg.ERR_WRT)).toBe(77n);
    expect(thrown(() => bus.migration.loadState(new Uint8Array(10)))).toMatchObject({ code: 'ERR_SDXI_SYSTEM' });
  });

  it.each([
    ['vfio-user:', 'ERR_SDXI_URI'],
    ['vfio-user:/nowhere/at/all', 'ERR_SDXI_SYSTEM'],
    ['vfio-user:/x?colour=red', 'ERR_SDXI_ARGUMENT'],
    ['vfio-user:/x?vectors=1', 'ERR_SDXI_ARGUMENT'],
    ['vfio-user:/x?postedWrites=maybe', 'ERR_SDXI_ARGUMENT'],
  ])('%s: %s', async (uri, code) => {
    await expect(openBus(uri)).rejects.toMatchObject({ code, hint: expect.any(String) });
  });
});
