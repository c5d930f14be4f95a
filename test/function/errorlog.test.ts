/** The error log as the function writes it: ref §8.4–8.7, S-6, S-35, S-48, S-50, S-51. */
import { describe, expect, it } from 'vitest';
import type { FunctionConfig } from '../../src/function/config.js';
import { Access } from '../../src/memory/address-space.js';
import { ContextState, Reg } from '../../src/spec/index.js';
import { record, status } from './expect.js';
import { copy, nop } from './ops.js';
import { LAYOUT, Rig, type RigOptions } from './rig.js';

/** A function whose context 1 can be made to fail again and again. */
function failing(config: Partial<FunctionConfig> = {}, options: RigOptions = {}) {
  const rig = new Rig(config, options);
  rig.activate();
  const p = rig.running(1);
  let index = 0;
  const fail = () => {
    rig.setState(p, ContextState.RUN);
    rig.run(p, copy(0, LAYOUT.data, 1));
    expect(rig.hex(p.status, 16)).toBe(status(ContextState.ERR_FN, ++index));
  };
  return { rig, p, fail };
}

/** The record of the n-th failure. */
const nth = (n: number) => record({ step: 10, sub: 1, context: 1, index: n, operand: 0 });

const registersOf = (rig: Rig) => [rig.reg(Reg.ERR_STS), rig.reg(Reg.ERR_WRT)];

describe('ref §8.5 logging', () => {
  it('S-35 ref §8.5 step 1 ERR_CFG.en = 0: the record vanishes, ERR_STS stays, no interrupt, the context is stopped all the same', () => {
    const { rig, fail } = failing();
    rig.setReg(Reg.ERR_CFG, LAYOUT.errorLog | 2);
    fail();
    expect(registersOf(rig)).toEqual([0n, 0n]);
    expect(rig.hex(LAYOUT.errorLog, 64)).toBe('00'.repeat(64));
    expect(rig.interrupts).toEqual([]);
  });

  it('ref §8.5 step 2 a full log: ovf and sts, the record is dropped, the edge of sts interrupts', () => {
    const { rig, fail } = failing();
    for (let i = 0; i < 64; i++) fail();
    expect(registersOf(rig)).toEqual([1n, 64n]);
    expect(rig.interrupts).toEqual([0]); // one edge, however many records
    const before = rig.hex(LAYOUT.errorLog, 4096);
    fail();
    expect(registersOf(rig)).toEqual([3n, 64n]);
    expect(rig.interrupts).toEqual([0]);
    rig.setReg(Reg.ERR_STS, 0xb);
    fail();
    expect(registersOf(rig)).toEqual([3n, 64n]);
    expect(rig.interrupts).toEqual([0, 0]);
    expect(rig.hex(LAYOUT.errorLog, 4096)).toBe(before);
    rig.setReg(Reg.ERR_RD, 1);
    fail();
    expect(registersOf(rig)).toEqual([3n, 65n]);
    expect(rig.hex(LAYOUT.errorLog, 64)).toBe(nth(66));
  });

  it.each([
    ['is not mapped', (rig: Rig) => rig.unmap(LAYOUT.errorLog)],
    ['cannot be written', (rig: Rig) => rig.protect(LAYOUT.errorLog, Access.READ)],
  ])('ref §8.5 step 3 a log that %s: err and sts, ERR_WRT stays, the edge interrupts', (_title, harm) => {
    const { rig, fail } = failing({}, { pages: true });
    harm(rig);
    fail();
    expect(registersOf(rig)).toEqual([9n, 0n]);
    expect(rig.interrupts).toEqual([0]);
    expect(rig.hex(LAYOUT.errorLog, 64)).toBe('00'.repeat(64));
  });

  it('ref §8.5 step 3 a log that can be written but not read is fine', () => {
    const { rig, fail } = failing({}, { pages: true });
    rig.protect(LAYOUT.errorLog, Access.WRITE);
    fail();
    expect(rig.records()).toEqual([nth(0)]);
  });

  it('ref §8.5 step 3 a log beyond 2^53 cannot be written', () => {
    const { rig, fail } = failing();
    rig.setReg(Reg.ERR_CFG, 0xffff_ffff_ffff_f003n);
    fail();
    expect(registersOf(rig)).toEqual([9n, 0n]);
  });

  it('S-109 ref §8.5 step 3 a log in the space of a fn_pasid that the platform does not know cannot be written', () => {
    const { rig } = failing();
    rig.setReg(Reg.CTL0, BigInt(3 | 4 | (0x77 << 8)));
    rig.fn.injectInternalError();
    expect(registersOf(rig)).toEqual([9n, 0n]);
    expect(rig.interrupts).toEqual([0]);
  });

  it('ref §8.5 step 4 ERR_WRT counts on, the slot is ERR_WRT modulo the entries, all 64 bytes are written', () => {
    const { rig, fail } = failing();
    rig.bytes(LAYOUT.errorLog, 4096).fill(0xee);
    for (let i = 0; i < 130; i++) {
      fail();
      rig.setReg(Reg.ERR_RD, rig.reg(Reg.ERR_WRT));
      expect(rig.hex(LAYOUT.errorLog + 64 * (i % 64), 64)).toBe(nth(i));
    }
    expect(rig.reg(Reg.ERR_WRT)).toBe(130n);
  });

  it('ref §8.5 step 5 vector 0 on the 0→1 edge of sts, only with ERR_CTL.intr_en', () => {
    const { rig, fail } = failing();
    fail();
    fail();
    expect(rig.interrupts).toEqual([0]);
    rig.setReg(Reg.ERR_STS, 1);
    fail();
    expect(rig.interrupts).toEqual([0, 0]);
    rig.setReg(Reg.ERR_STS, 1);
    rig.setReg(Reg.ERR_CTL, 0);
    fail();
    expect(rig.interrupts).toEqual([0, 0]);
    expect(rig.reg(Reg.ERR_STS)).toBe(1n);
  });

  it('ref §8.6 clearing ERR_STS before reading ERR_WRT loses no edge', () => {
    const { rig, fail } = failing();
    fail();
    rig.setReg(Reg.ERR_STS, 0xb);
    fail(); // a record that arrives between the two
    expect(rig.interrupts).toEqual([0, 0]);
    expect(rig.reg(Reg.ERR_WRT)).toBe(2n);
  });

  it('ref §8.4 the six steps of initialization leave no interrupt and no record behind', () => {
    const { rig, fail } = failing();
    fail();
    rig.setReg(Reg.ERR_CFG, 0);
    fail();
    rig.setReg(Reg.ERR_STS, 0xb);
    rig.setReg(Reg.ERR_CTL, 1);
    rig.setReg(Reg.ERR_WRT, 0);
    rig.setReg(Reg.ERR_RD, 0);
    rig.setReg(Reg.ERR_CFG, LAYOUT.errorLog | 3);
    expect([rig.reg(Reg.ERR_STS), rig.interrupts]).toEqual([0n, [0]]);
    fail();
    expect(rig.records()).toEqual([nth(2)]);
    expect(rig.interrupts).toEqual([0, 0]);
  });
});

describe('decisions about the log', () => {
  it.each([
    ['pages', 0, 64],
    ['pages', 1, 64],
    ['pages', 2, 128],
    ['pages', 3, 128], // clamped to CAP1.max_errlog_sz = 1
    ['pages', 31, 128],
    ['pagesMinus1', 0, 64],
    ['pagesMinus1', 1, 128],
    ['pagesMinus1', 31, 128],
  ] as const)('S-6 ref §8.7 errlog=%s: sz = %d gives %d entries, up to the limit of CAP1', (errlog, sz, entries) => {
    const { rig, fail } = failing({ errlog, maxErrorLog: 1 });
    rig.setReg(Reg.ERR_CFG, LAYOUT.errorLog | (sz << 1) | 1);
    rig.setReg(Reg.ERR_WRT, entries - 1);
    rig.setReg(Reg.ERR_RD, 0);
    fail();
    expect(rig.hex(LAYOUT.errorLog + 64 * (entries - 1), 64)).toBe(nth(0));
    fail();
    expect(registersOf(rig)).toEqual([3n, BigInt(entries)]);
    rig.setReg(Reg.ERR_RD, 1);
    fail();
    expect(rig.hex(LAYOUT.errorLog, 64)).toBe(nth(2));
  });

  it('S-48 ERR_CFG, ERR_CTL and ERR_RD written while ACTIVE are effective at once', () => {
    const { rig, fail } = failing();
    fail();
    rig.setReg(Reg.ERR_CFG, LAYOUT.data | 3);
    fail();
    expect(rig.hex(LAYOUT.data + 64, 64)).toBe(nth(1));
    rig.setReg(Reg.ERR_CFG, 0);
    fail();
    expect(rig.reg(Reg.ERR_WRT)).toBe(2n);
    rig.setReg(Reg.ERR_STS, 0xb);
    rig.setReg(Reg.ERR_CTL, 0);
    rig.setReg(Reg.ERR_CFG, LAYOUT.errorLog | 3);
    fail();
    expect([rig.reg(Reg.ERR_WRT), rig.interrupts]).toEqual([3n, [0]]);
  });

  it('S-50 ERR_RD ahead of ERR_WRT: the difference modulo 2^64 is huge, which is an overflow', () => {
    const { rig, fail } = failing();
    rig.setReg(Reg.ERR_RD, 1);
    fail();
    expect(registersOf(rig)).toEqual([3n, 0n]);
  });

  it('S-51 ERR_WRT that software sets is where the next entry goes, also over 2^64', () => {
    const { rig, fail } = failing();
    rig.setReg(Reg.ERR_WRT, 2n ** 64n - 1n);
    rig.setReg(Reg.ERR_RD, 2n ** 64n - 1n);
    fail();
    expect(rig.hex(LAYOUT.errorLog + 63 * 64, 64)).toBe(nth(0));
    expect(rig.reg(Reg.ERR_WRT)).toBe(0n);
    fail();
    expect(rig.hex(LAYOUT.errorLog, 64)).toBe(nth(1));
    expect(rig.reg(Reg.ERR_WRT)).toBe(1n);
    rig.setReg(Reg.ERR_WRT, 2n ** 63n + 5n);
    rig.setReg(Reg.ERR_RD, 2n ** 63n + 5n);
    fail();
    expect(rig.hex(LAYOUT.errorLog + 5 * 64, 64)).toBe(nth(2));
  });

  it('S-15 err_class is 0 in every record', () => {
    const { rig, fail } = failing();
    rig.bytes(LAYOUT.errorLog, 4096).fill(0xff);
    fail();
    expect(rig.hex(LAYOUT.errorLog + 44, 2)).toBe('0000');
  });

  it('S-110 fields that are not valid are 0, and so are the vendor bytes', () => {
    const { rig, p } = failing();
    rig.bytes(LAYOUT.errorLog, 4096).fill(0xff);
    rig.putU64(p.writeIndex, 5000);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.hex(LAYOUT.errorLog, 64)).toBe(`0106f70701130100${'00'.repeat(56)}`);
  });

  it('S-67 S-110 with vendorInfo the vendor bytes hold the operand address and a reason; all other bytes are the same', () => {
    const { rig, p } = failing({ vendorInfo: 'on' });
    rig.run(p, copy(0x12_3456_7890, LAYOUT.data, 1));
    const [bytes] = rig.records();
    const plain = nth(0);
    expect(bytes.slice(0, 96)).toBe(plain.slice(0, 96));
    expect(bytes.slice(96, 112)).toBe('9078563412000000');
    expect(bytes.slice(112, 120)).not.toBe('00000000');
    expect(bytes.slice(120)).toBe('00000000');
  });

  it('ref §8.5 records stand in the log in the order in which things went wrong', () => {
    const { rig, fail } = failing();
    const q = rig.running(2);
    fail();
    rig.run(q, nop({ csb: 0 }));
    fail();
    expect(rig.records()).toEqual([nth(0), record({ step: 8, sub: 1, context: 2, index: 0 }), nth(1)]);
  });
});
