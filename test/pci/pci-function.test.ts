/** Identity, capabilities, bus mastering, reset and power states of the PCI shell. */
import { describe, expect, it } from 'vitest';
import { DEFAULT_IDENTITY, type PciIdentity, type PciShape } from '../../src/pci/index.js';
import { At, BUS_MASTER, FLR, MEMORY, MSIX_ENABLE, Rig } from './rig.js';

describe('identity (ref §9, S-95)', () => {
  it('S-95 ref §9 the class is 0x120100, and the ids are no real product', () => {
    const rig = new Rig();
    expect(rig.read(0, 4)).toBe(0x5d71_1234);
    expect(rig.read(8, 4)).toBe(0x1201_0000);
    expect(rig.read(0x2c, 4)).toBe(0x5d71_1234);
    expect(DEFAULT_IDENTITY.vendorId).not.toBe(0x1af4);
  });

  it('S-95 ids, revision and serial number are configurable, each by itself', () => {
    const rig = new Rig({}, { vendorId: 0x1022, deviceId: 0x14dc, revision: 7, serial: 0x0011_2233_4455_6677n });
    expect(rig.read(0, 4)).toBe(0x14dc_1022);
    expect(rig.read(8, 4)).toBe(0x1201_0007);
    expect(rig.read(0x2c, 4)).toBe(0x5d71_1234);
    expect([rig.read(0x104, 4), rig.read(0x108, 4)]).toEqual([0x4455_6677, 0x0011_2233]);
    expect(rig.pci.identity.serial).toBe(0x0011_2233_4455_6677n);
  });

  const BAD_IDENTITY: [Partial<PciIdentity>, RegExp][] = [
    [{ vendorId: 0x1af4 }, /virtio/],
    [{ vendorId: 0 }, /no function/],
    [{ vendorId: 0xffff }, /no function/],
    [{ vendorId: 0x10000 }, /does not fit/],
    [{ deviceId: -1 }, /does not fit/],
    [{ deviceId: undefined }, /does not fit/],
    [{ subsystemId: 1.5 }, /does not fit/],
    [{ subsystemVendorId: 0x10000 }, /does not fit/],
    [{ revision: 256 }, /does not fit/],
    [{ serial: 1n << 64n }, /does not fit/],
    [{ serial: -1n }, /does not fit/],
  ];
  it.each(BAD_IDENTITY)('S-95 refused: %o', (identity, message) => {
    expect(() => new Rig({}, identity)).toThrow(message);
  });

  const BAD_SHAPE: [Partial<PciShape>, RegExp][] = [
    [{ bar0Bytes: 0x80001 }, /no size of a BAR/],
    [{ bar0Bytes: 0x60000 }, /no size of a BAR/],
    [{ bar2Bytes: 2048 }, /no size of a BAR/],
    [{ bar2Bytes: 0 }, /no size of a BAR/],
    [{ bar2Bytes: 2 ** 53 }, /no size of a BAR/],
    [{ bar2Bytes: Number.NaN }, /no size of a BAR/],
    [{ vectors: 1 }, /vectors/],
    [{ vectors: 2049 }, /vectors/],
    [{ vectors: 2.5 }, /vectors/],
  ];
  it.each(BAD_SHAPE)('O-29 refused: %o', (shape, message) => {
    expect(() => new Rig(shape)).toThrow(message);
  });
});

describe('capabilities (S-95)', () => {
  function walk(rig: Rig): [id: number, offset: number][] {
    const found: [number, number][] = [];
    for (let at = rig.read(0x34, 1); at !== 0; at = rig.read(at + 1, 1)) {
      expect(at).toBeGreaterThanOrEqual(0x40);
      expect(at % 4).toBe(0);
      expect(found.length).toBeLessThan(48);
      found.push([rig.read(at, 1), at]);
    }
    return found;
  }

  it('S-95 the list: power management, PCI Express, MSI-X, and no MSI; STATUS says that there is one', () => {
    const rig = new Rig();
    expect(rig.read(At.STATUS, 2) & 0x10).toBe(0x10);
    expect(walk(rig)).toEqual([
      [0x01, 0x40],
      [0x10, 0x50],
      [0x11, 0x90],
    ]);
  });

  it('S-95 the extended list: the Device Serial Number alone, so no SR-IOV, ATS, PRI or PASID', () => {
    const rig = new Rig();
    const first = rig.read(0x100, 4);
    expect([first & 0xffff, (first >> 16) & 0xf, first >>> 20]).toEqual([3, 1, 0]);
  });

  it('S-123 PCI Express: an endpoint of version 2 with function-level reset; the link runs at what it can', () => {
    const rig = new Rig();
    expect(rig.read(0x52, 2)).toBe(0x0002);
    expect((rig.read(0x54, 4) >>> 28) & 1).toBe(1);
    const [cap, status, cap2] = [rig.read(0x5c, 4), rig.read(0x62, 2), rig.read(0x7c, 4)];
    expect(status & 0x3ff).toBe(cap & 0x3ff);
    expect(cap2 >> (cap & 0xf)).toBe(1);
    expect(rig.read(0x80, 2) & 0xf).toBe(cap & 0xf);
  });

  it.each([2, 66, 2048])('S-93 MSI-X of %d vectors: table and pending bits in BAR 4, apart, and both fit', (vectors) => {
    const rig = new Rig({ vectors });
    expect((rig.read(At.MSIX_CONTROL, 2) & 0x7ff) + 1).toBe(vectors);
    const [table, pba] = [rig.read(0x94, 4), rig.read(0x98, 4)];
    expect([table & 7, table & ~7, pba & 7, pba & ~7]).toEqual([4, 0, 4, 0x8000]);
    expect(16 * vectors).toBeLessThanOrEqual(0x8000);
    expect(0x8000 + Math.ceil(vectors / 64) * 8).toBeLessThanOrEqual(rig.pci.barBytes[4]);
  });
});

describe('COMMAND', () => {
  it('S-47 bus mastering is told when it changes, and only then', () => {
    const rig = new Rig();
    expect(rig.pci.busMastering).toBe(false);
    rig.write(At.COMMAND, 2, MEMORY);
    expect(rig.journal).toEqual([]);
    rig.write(At.COMMAND, 2, MEMORY | BUS_MASTER);
    rig.write(At.COMMAND, 1, MEMORY | BUS_MASTER);
    rig.write(At.COMMAND + 1, 1, 0x4);
    expect([rig.journal, rig.pci.busMastering]).toEqual([['busMaster true'], true]);
    rig.write(0, 8, 0n);
    expect([rig.journal, rig.pci.busMastering]).toEqual([['busMaster true', 'busMaster false'], false]);
  });

  it('S-95 memory space off: BAR 4 reads all ones and ignores writes', () => {
    const rig = new Rig();
    expect(rig.pci.memoryDecoding).toBe(false);
    expect(rig.readTable(0, 8)).toBe(0xffff_ffff_ffff_ffffn);
    expect(rig.readTable(0x8000, 1)).toBe(0xffn);
    rig.writeTable(0, 4, 0x1000);
    rig.write(At.COMMAND, 2, MEMORY);
    expect(rig.pci.memoryDecoding).toBe(true);
    expect(rig.readTable(0, 8)).toBe(0n);
  });
});

describe('function-level reset (S-46, S-107)', () => {
  it('S-46 S-107 bit 15 of Device Control resets everything, and reads 0; the shell is reset before the function is told', () => {
    const rig = new Rig().start();
    const fresh = new Rig();
    rig.write(0x10, 8, 0xfff0_0000n);
    rig.write(0x3c, 1, 9);
    rig.writeTable(0, 16, 0x1111_2222_3333_4444n);
    rig.pci.raise(1);
    rig.write(At.DEVCTL, 2, FLR | 0x2810);
    expect(rig.journal).toEqual(['busMaster false', 'flr']);
    expect(rig.image()).toEqual(fresh.image());
    expect(rig.read(At.DEVCTL, 2) & FLR).toBe(0);
    expect(rig.pci.msix.enabled).toBe(false);
    for (let vector = 0; vector < 66; vector++) {
      expect([rig.pci.msix.masked(vector), rig.pci.msix.pending(vector)]).toEqual([true, false]);
    }
    rig.write(At.COMMAND, 2, MEMORY);
    expect([rig.readTable(0, 8), rig.readTable(0x8000, 8)]).toEqual([0n, 0n]);
  });

  it.each([
    ['a dword', At.DEVCTL, 4, FLR],
    ['its own byte', At.DEVCTL + 1, 1, 0x80],
    ['a dword across', At.DEVCTL - 2, 4, FLR * 0x10000],
  ])('S-46 it works as %s', (_how, offset, bytes, value) => {
    const rig = new Rig().start();
    rig.write(offset, bytes, value);
    expect(rig.journal).toEqual(['busMaster false', 'flr']);
  });

  it('S-46 other bytes and other bits of Device Control do not reset', () => {
    const rig = new Rig().start();
    rig.write(At.DEVCTL, 2, 0x7fff);
    rig.write(At.DEVCTL, 1, 0xff);
    rig.write(At.DEVCTL + 2, 2, 0xffff);
    expect(rig.journal).toEqual([]);
  });

  it('S-123 of a write that resets nothing else is left', () => {
    const rig = new Rig();
    rig.pci.writeConfig(0, new Uint8Array(4096).fill(0xff));
    expect(rig.journal).toEqual(['flr']);
    expect(rig.image()).toEqual(new Rig().image());
  });

  it('S-107 reset() does the same without telling the function, which resets itself', () => {
    const rig = new Rig().start();
    rig.pci.reset();
    rig.pci.reset();
    expect(rig.journal).toEqual(['busMaster false']);
    expect(rig.image()).toEqual(new Rig().image());
  });

  it('S-122 what SET_IRQS has set up outlives a reset, so that a guest that resets its function has interrupts again', () => {
    const rig = new Rig().start();
    rig.pci.enableMsix(true);
    rig.pci.setReceiver(1, true);
    rig.pci.setReceiver(2, true);
    rig.pci.maskVector(2);
    rig.write(At.DEVCTL, 2, FLR);
    expect([0, 1, 2, 3].map((vector) => rig.pci.msix.masked(vector))).toEqual([true, false, true, true]);
    expect(rig.pci.msix.enabled).toBe(true);
    rig.write(At.COMMAND, 2, BUS_MASTER);
    rig.pci.raise(1);
    expect(rig.delivered).toEqual([1]);
  });

  it('S-122 until the client has gone', () => {
    const rig = new Rig().start();
    rig.pci.enableMsix(true);
    rig.pci.setReceiver(1, true);
    rig.pci.releaseInterrupts();
    expect([rig.pci.msix.masked(1), rig.pci.msix.enabled]).toEqual([true, true]);
    rig.write(At.MSIX_CONTROL, 2, 0);
    expect(rig.pci.msix.enabled).toBe(false);
    rig.pci.reset();
    expect(rig.pci.msix.masked(1)).toBe(true);
  });
});

describe('power states (S-95, S-120)', () => {
  const D3HOT = 3;

  it('S-120 in D3hot there is no bus mastering, BARs do not answer, and configuration space does', () => {
    const rig = new Rig().start();
    rig.write(At.PMCSR, 2, D3HOT);
    expect([rig.pci.awake, rig.pci.busMastering, rig.pci.memoryDecoding]).toEqual([false, false, false]);
    expect(rig.journal).toEqual(['busMaster false']);
    expect(rig.readTable(0, 4)).toBe(0xffff_ffffn);
    expect(rig.read(0, 2)).toBe(0x1234);
    expect(rig.read(At.PMCSR, 2)).toBe(0x000b);
  });

  it('S-95 S-120 D3hot and back: all state is as before (No_Soft_Reset)', () => {
    const rig = new Rig().start();
    rig.write(0x10, 4, 0xfff0_0000);
    rig.setMask(3, false);
    const before = rig.image();
    rig.write(At.PMCSR, 2, D3HOT);
    rig.write(At.PMCSR, 2, 0);
    expect(rig.image()).toEqual(before);
    expect(rig.pci.msix.masked(3)).toBe(false);
    expect(rig.journal).toEqual(['busMaster false', 'busMaster true']);
  });

  it('S-120 in D3hot nothing is delivered: masked becomes pending, the rest is dropped; pending goes out in D0', () => {
    const rig = new Rig().start();
    rig.setMask(1, false);
    rig.write(At.PMCSR, 2, D3HOT);
    rig.pci.raise(1);
    rig.pci.raise(2);
    rig.pci.unmaskVector(2);
    expect([rig.delivered, rig.pci.counters]).toEqual([[], { delivered: 0, pended: 1, dropped: 1 }]);
    rig.write(At.PMCSR, 2, 0);
    expect(rig.journal.slice(-2)).toEqual(['busMaster true', 'deliver 2']);
  });

  it.each([1, 2])('S-120 D%d is not supported: the state stays', (state) => {
    const rig = new Rig().start();
    rig.write(At.PMCSR, 2, state);
    expect([rig.pci.awake, rig.read(At.PMCSR, 2), rig.journal]).toEqual([true, 0x0008, []]);
    rig.write(At.PMCSR, 2, D3HOT);
    rig.write(At.PMCSR, 1, state);
    expect([rig.pci.awake, rig.read(At.PMCSR, 2)]).toEqual([false, 0x000b]);
  });

  it('S-46 a function-level reset in D3hot wakes it', () => {
    const rig = new Rig().start();
    rig.write(At.PMCSR, 2, D3HOT);
    rig.write(At.DEVCTL, 2, FLR);
    expect([rig.pci.awake, rig.journal]).toEqual([true, ['busMaster false', 'flr']]);
  });

  it('MSI-X stays enabled while bus mastering is off', () => {
    const rig = new Rig().start();
    rig.write(At.COMMAND, 2, 0);
    expect(rig.read(At.MSIX_CONTROL, 2) & MSIX_ENABLE).toBe(MSIX_ENABLE);
    expect(rig.pci.msix.enabled).toBe(true);
  });
});
