/** The register block (ref §2): reset values, widths, reserved bits. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ContextState, Reg } from '../../src/spec/index.js';
import { CSB } from './expect.js';
import { copy, nop, repcopy } from './ops.js';
import { LAYOUT, Rig } from './rig.js';

const ALL_ONES = 0xffff_ffff_ffff_ffffn;

/** Bits of each register that software can write, from the tables of ref §2.3–2.12. */
const WRITABLE: [string, number, bigint][] = [
  ['CTL0', Reg.CTL0, 0xffff_ffff_0fff_ff17n],
  ['GRP_ENUM', Reg.GRP_ENUM, 0x2n],
  ['CTL2', Reg.CTL2, 0xffff_ffff_ffff_f00fn],
  ['CXT_L2', Reg.CXT_L2, 0xffff_ffff_ffff_f000n],
  ['RKEY', Reg.RKEY, 0xffff_ffff_ffff_f01fn],
  ['ERR_CTL', Reg.ERR_CTL, 0x1n],
  ['ERR_CFG', Reg.ERR_CFG, 0xffff_ffff_ffff_f03fn],
  ['ERR_WRT', Reg.ERR_WRT, ALL_ONES],
  ['ERR_RD', Reg.ERR_RD, ALL_ONES],
];

/** STOP_HD in the low bits of CTL0 is ignored in STOP, so that all registers can be written freely. */
const PATTERN = 0xdead_beef_0bad_cafen;

function bound(config: ConstructorParameters<typeof Rig>[0]) {
  const rig = new Rig(config);
  return { rig, reg: (offset: number) => rig.reg(offset) };
}

describe('reset values and capabilities', () => {
  it.each([
    ['CTL0', Reg.CTL0, 0n],
    ['GRP_ENUM', Reg.GRP_ENUM, 0n],
    ['CTL2', Reg.CTL2, 0x0000_0018_003f_800bn],
    ['STS0', Reg.STS0, 0n],
    ['CAP0', Reg.CAP0, 0x0000_0008_1600_0001n],
    ['CAP1', Reg.CAP1, 0x0000_0018_003f_855bn],
    ['VERSION', Reg.VERSION, 0x0001_0000n],
    ['CXT_L2', Reg.CXT_L2, 0n],
    ['RKEY', Reg.RKEY, 0n],
    ['ERR_CTL', Reg.ERR_CTL, 0n],
    ['ERR_STS', Reg.ERR_STS, 0n],
    ['ERR_CFG', Reg.ERR_CFG, 0n],
    ['ERR_WRT', Reg.ERR_WRT, 0n],
    ['ERR_RD', Reg.ERR_RD, 0n],
  ])('S-104 ref §2.2 %s at power-on', (_name, offset, value) => {
    expect(new Rig().reg(offset)).toBe(value);
  });

  it('ref §2.7, §2.8 the configuration is what CAP0, CAP1, CTL2 and CTL0 show', () => {
    const { reg } = bound({
      sfunc: 0x0801,
      groupId: 7,
      csCap: 2,
      dbStride: 5,
      maxRing: 9,
      maxRkey: 3,
      maxBuffer: 4,
      rkeyCap: false,
      maxErrorLog: 2,
      maxAkey: 1,
      maxContext: 0x1ff,
      opGroups: 0x8000_0010,
    });
    expect(reg(Reg.CAP0)).toBe(0x0000_0003_0954_0801n);
    expect(reg(Reg.CAP1)).toBe(0x8000_0010_01ff_1244n);
    expect(reg(Reg.CTL2)).toBe(0x8000_0010_01ff_1004n);
    expect(reg(Reg.CTL0)).toBe(0x0000_0007_0000_0000n);
  });

  it('S-5 CAP1.rm is 0 and CAP1.mmio64 is 1', () => {
    const cap1 = new Rig().reg(Reg.CAP1);
    expect([(cap1 >> 5n) & 1n, (cap1 >> 6n) & 1n]).toEqual([0n, 1n]);
  });

  it('O-26 doorbells are 4 KiB apart by default, so that a mapping of one page is exact', () => {
    expect((new Rig().reg(Reg.CAP0) >> 20n) & 7n).toBe(0n);
  });
});

describe('access sizes', () => {
  it.each(WRITABLE)('O-23 %s takes one 64-bit write or two 32-bit writes in either order', (_name, offset, mask) => {
    const whole = new Rig();
    whole.setReg(offset, PATTERN);
    expect(whole.reg(offset)).toBe(PATTERN & mask);
    for (const order of [
      [0, 4],
      [4, 0],
    ]) {
      const halves = new Rig();
      for (const half of order) halves.fn.writeRegister(offset + half, 4, (PATTERN >> BigInt(8 * half)) & 0xffff_ffffn);
      expect(halves.reg(offset)).toBe(PATTERN & mask);
      expect(halves.fn.readRegister(offset, 4)).toBe(PATTERN & mask & 0xffff_ffffn);
      expect(halves.fn.readRegister(offset + 4, 4)).toBe((PATTERN & mask) >> 32n);
    }
  });

  it('S-101 reserved bits read 0, whatever was written', () => {
    for (const [name, offset, mask] of WRITABLE) {
      const rig = new Rig({ initDelay: 1 });
      rig.setReg(offset, ALL_ONES);
      expect(`${name} ${rig.reg(offset).toString(16)}`).toBe(`${name} ${mask.toString(16)}`);
    }
  });

  it('ref §2.12 ERR_STS is write-1-to-clear, by either width', () => {
    const rig = new Rig();
    rig.activate();
    for (const width of [8, 4]) {
      for (const [write, left] of [
        [0n, 1n],
        [8n, 1n],
        [1n, 0n],
      ]) {
        if (rig.reg(Reg.ERR_STS) === 0n) rig.run(rig.running(1), repcopy(0, 0, 1));
        rig.fn.writeRegister(Reg.ERR_STS, width, write);
        expect(rig.reg(Reg.ERR_STS)).toBe(left);
      }
    }
    rig.run(rig.running(1), repcopy(0, 0, 1));
    rig.fn.writeRegister(Reg.ERR_STS + 4, 4, 0xffff_ffffn);
    expect(rig.reg(Reg.ERR_STS)).toBe(1n);
  });

  it.each([Reg.STS0, Reg.CAP0, Reg.CAP1, Reg.VERSION])('ref §2.2 the read-only register at %d ignores writes', (offset) => {
    const rig = new Rig();
    const before = rig.reg(offset);
    rig.setReg(offset, ALL_ONES);
    rig.fn.writeRegister(offset + 4, 4, 0n);
    expect(rig.reg(offset)).toBe(before);
  });

  it('S-100 reads take any size and alignment; bytes that belong to no register are 0', () => {
    const rig = new Rig({ sfunc: 0x1234, maxContext: 0xabcd });
    for (const [, offset] of WRITABLE) rig.setReg(offset, PATTERN);
    const near = fc.constantFrom(...Object.values(Reg), 0x18, 0x30000, 0x7fff8);
    fc.assert(
      fc.property(near, fc.integer({ min: -16, max: 16 }), fc.integer({ min: 1, max: 8 }), (register, delta, size) => {
        const offset = Math.max(0, register + delta);
        const byte = (at: number) => (rig.reg(at - (at % 8)) >> BigInt(8 * (at % 8))) & 0xffn;
        let expected = 0n;
        for (let i = 0; i < size; i++) expected |= byte(offset + i) << BigInt(8 * i);
        expect(rig.fn.readRegister(offset, size)).toBe(expected);
      }),
    );
    expect(rig.fn.readRegister(0x28, 8)).toBe(0n);
    expect(rig.fn.readRegister(Reg.VERSION + 4, 8)).toBe(0n);
  });

  it('S-100 writes that are not 4 or 8 naturally aligned bytes inside BAR 0 are dropped and counted', () => {
    const rig = new Rig();
    const bad: [number, number][] = [1, 2, 3, 5, 6, 7, 16].map((size) => [Reg.ERR_RD, size]);
    bad.push(
      [Reg.ERR_RD + 4, 8],
      [Reg.ERR_RD + 1, 4],
      [Reg.ERR_RD + 2, 4],
      [Reg.ERR_RD + 2, 8],
      [0x80000, 8],
      [0x7fffc, 8],
      [-8, 8],
      [0.5, 4],
    );
    for (const [offset, size] of bad) rig.fn.writeRegister(offset, size, ALL_ONES);
    expect(rig.fn.counters.writesDropped).toBe(bad.length);
    for (const [name, offset] of Object.entries(Reg)) expect(`${name} ${rig.reg(offset)}`).toBe(`${name} ${new Rig().reg(offset)}`);
  });

  it('S-100 halves are not latched: a low-first writer enables ERR_CFG before the upper half of the pointer arrives', () => {
    const rig = new Rig();
    rig.fn.writeRegister(Reg.ERR_CFG, 4, BigInt(LAYOUT.errorLog | 3));
    expect(rig.reg(Reg.ERR_CFG)).toBe(BigInt(LAYOUT.errorLog | 3));
    rig.fn.writeRegister(Reg.ERR_CFG + 4, 4, 1n);
    expect(rig.reg(Reg.ERR_CFG)).toBe(0x1_0000_0000n + BigInt(LAYOUT.errorLog | 3));
  });

  it('S-90 O-23 only the low half of CTL0 carries a request', () => {
    const rig = new Rig();
    rig.setReg(Reg.CTL0, 3);
    rig.setReg(Reg.CTL0, 1); // STOP_SF
    rig.fn.writeRegister(Reg.CTL0, 4, 3n); // ignored while it stops
    rig.drain();
    rig.fn.writeRegister(Reg.CTL0 + 4, 4, 7n);
    rig.drain();
    expect(rig.reg(Reg.STS0)).toBe(0n);
    expect(rig.reg(Reg.CTL0)).toBe(0x7_0000_0003n);
    rig.fn.writeRegister(Reg.CTL0, 4, 3n);
    expect(rig.reg(Reg.STS0)).toBe(2n);
  });
});

describe('registers and places without meaning', () => {
  it('S-3 the mailbox block and all unlisted offsets read 0 and ignore writes', () => {
    const rig = new Rig();
    const listed = new Set<number>(Object.values(Reg));
    for (const offset of [0x18, 0x20, 0x108, 0x218, 0x10008, 0x10108, 0x20018, 0x20030, 0x30000, 0x30008, 0x3fff8, 0x7fff8]) {
      expect(listed.has(offset)).toBe(false);
      rig.setReg(offset, ALL_ONES);
      expect(rig.reg(offset)).toBe(0n);
    }
    for (const [name, offset] of Object.entries(Reg)) expect(`${name} ${rig.reg(offset)}`).toBe(`${name} ${new Rig().reg(offset)}`);
  });

  it('S-4 GRP_ENUM: probe reads back, and busy stays 0 while no other function probes', () => {
    const rig = new Rig();
    rig.setReg(Reg.GRP_ENUM, 3);
    expect(rig.reg(Reg.GRP_ENUM)).toBe(2n);
    rig.setReg(Reg.GRP_ENUM, 0);
    expect(rig.reg(Reg.GRP_ENUM)).toBe(0n);
  });

  it('O-3 S-1 garbage in the reserved bits of CTL0, CTL2, CXT_L2, RKEY, ERR_CTL and ERR_CFG changes nothing', () => {
    const rig = new Rig();
    const admin = rig.prepare(0, { state: ContextState.RUN });
    rig.setReg(Reg.CTL2, 0x0000_0018_003f_8ffbn);
    rig.setReg(Reg.CXT_L2, LAYOUT.l2 | 0xabc);
    rig.setReg(Reg.RKEY, 0x7000 | 0xfe3);
    rig.setReg(Reg.ERR_CTL, 0xffff_ffffn);
    rig.setReg(Reg.ERR_CFG, LAYOUT.errorLog | 0xfc3);
    rig.setReg(Reg.CTL0, 0xf000_00ebn);
    const csb = rig.csb(admin);
    rig.run(admin, nop({ csb }));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.records()).toEqual([]);
  });

  it('O-4 RKEY and ERR_CFG are programmed or not, before or after ERR_CTL, while ACTIVE too (S-48)', () => {
    const writes: [number, number][] = [
      [Reg.ERR_CTL, 1],
      [Reg.ERR_CFG, LAYOUT.errorLog | 3],
      [Reg.RKEY, 0x7003],
    ];
    for (const order of [[], [0], [1], [0, 1], [1, 0], [2, 1, 0], [0, 2, 1]]) {
      const rig = new Rig();
      rig.activate({ log: false });
      for (const n of order) rig.setReg(...writes[n]);
      const p = rig.running(1);
      rig.run(p, copy(0, 0, 1));
      expect(rig.state(p)).toBe(ContextState.ERR_FN);
      expect(rig.reg(Reg.ERR_WRT)).toBe(order.includes(1) ? 1n : 0n);
      expect(rig.interrupts).toEqual(order.includes(1) && order.includes(0) ? [0] : []);
    }
  });
});
