/** Flags and their order (ref §6.3), completion blocks (ref §4.9), failing descriptors (ref §6.4). */
import { describe, expect, it } from 'vitest';
import { ContextState, Reg } from '../../src/spec/index.js';
import { CSB, failed, provoke, record, status } from './expect.js';
import { copy, descriptor, FLAG, interrupt, nop, repcopy, writeImmediate } from './ops.js';
import { LAYOUT, Rig } from './rig.js';

const { RUN, ERR_FN } = ContextState;
const SOURCE = LAYOUT.data;
const TARGET = LAYOUT.data + 0x1_0000;

function ready(config = {}) {
  const rig = new Rig(config);
  const admin = rig.activate();
  const p = rig.running(1);
  return { rig, admin, p };
}

/** Writes byte `value` at `TARGET + at`, so that order and number of executions can be seen. */
const mark = (at: number, value: number) => writeImmediate(TARGET + at, [value]);

describe('ref §6.3 memory consistency and flags', () => {
  it.each([
    ['fe', FLAG.FE],
    ['se', FLAG.SE],
    ['rb (S-17)', FLAG.RB],
    ['csr', FLAG.CSR],
    ['all of them', FLAG.FE | FLAG.SE | FLAG.RB | FLAG.CSR],
  ])('ref §6.3 %s: executed after everything before it, in every context and for every operation', (_name, flags) => {
    const { rig, p } = ready();
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 2 });
    const csb = rig.csb(p, 0, 2);
    const at: [bigint, number][] = [];
    rig.onInterrupt = () => at.push([rig.u64(csb), rig.bytes(TARGET, 1)[0]]);
    rig.run(p, writeImmediate(TARGET, [1], { csb }), writeImmediate(TARGET, [2], { csb, flags }), interrupt(1, { flags }));
    expect(at).toEqual([[0n, 2]]);
  });

  it('S-17 rb is treated as fe: accepted, and in order', () => {
    const { rig, p } = ready();
    const csb = rig.csb(p);
    rig.run(p, mark(0, 1), copy(TARGET, TARGET + 1, 1, { flags: FLAG.RB, csb }));
    expect([rig.hex(TARGET, 2), rig.hex(csb, 32)]).toEqual(['0101', CSB.done]);
  });

  it('S-16 ch = 1 is refused by every operation, and executed with ignoreChain', () => {
    const operations = [nop, (o: object) => copy(SOURCE, TARGET, 8, o), (o: object) => repcopy(SOURCE, TARGET, 8, o)];
    for (const operation of operations) {
      const { rig, p } = ready();
      expect(provoke(rig, p, (csb) => operation({ csb, flags: FLAG.CH }))).toEqual(failed({ step: 7, sub: 3, context: 1, index: 0 }));
      const tolerant = ready({ ignoreChain: 'on' });
      expect(provoke(tolerant.rig, tolerant.p, (csb) => operation({ csb, flags: FLAG.CH })).csb).toBe(CSB.done);
    }
  });

  it('S-1 reserved bits of descriptors are ignored', () => {
    const { rig, p } = ready();
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 2 });
    const csbs = [0, 1, 2, 3].map((n) => rig.csb(p, n));
    rig.put(SOURCE, [5, 6, 7, 8]);
    const header = (type: number, subtype: number) => ((0x1f << 27) | (type << 16) | (subtype << 8) | 0xc0) >>> 0;
    const rest = { 8: -1, 9: -1, 10: -1, 11: -1, 12: -1, 13: -1 };
    rig.run(
      p,
      nop({ csb: csbs[0], words: { 0: header(1, 1), 1: -1, 2: -1, 3: -1, 4: -1, 5: -1, 6: -1, 7: -1, ...rest } }),
      copy(SOURCE, TARGET, 4, { csb: csbs[1], words: { 0: header(1, 3), 2: 0xffff_ff00, ...rest } }),
      interrupt(1, { csb: csbs[2], words: { 0: header(4, 0), 1: -1, 2: -1, 3: 0xffff_0001, 4: -1, ...rest } }),
      nop({ csb: csbs[3], words: { 14: csbs[3] | 0x1e } }), // csb_ptr 4:1
    );
    expect(csbs.map((at) => rig.hex(at, 32))).toEqual(csbs.map(() => CSB.done));
    expect(rig.hex(TARGET, 4)).toBe('05060708');
    expect(rig.interrupts).toEqual([2]);
  });

  it('S-1 reserved bits of L2, L1, CXT_CTL, CXT_STS and AKey entries are ignored', () => {
    const { rig } = ready();
    const p = rig.prepare(2, { state: RUN });
    const or = (address: number, bytes: number[]) => {
      for (const [i, byte] of bytes.entries()) rig.u8[rig.at(address + i)] |= byte;
    };
    or(rig.l2Entry(2), [0xfe, 0x0f]);
    or(rig.l1Entry(2), [0x38, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x0f]);
    or(rig.l1Entry(2) + 19, [0xff]);
    or(rig.l1Entry(2) + 24, Array(8).fill(0xff));
    or(p.control, [0x02]);
    or(p.control + 12, Array(4).fill(0xff));
    or(p.control + 16, [0x0f]);
    or(p.control + 24, [0x07]);
    or(p.control + 32, Array(32).fill(0xff));
    or(p.status + 1, Array(7).fill(0xff));
    or(p.akeys, [0, 0x80, 0, 0, 0, 0, 0xf0, 0x3f]);
    or(p.akeys + 10, [0xff, 0xff]);
    or(p.akeys + 14, [0xff, 0xff]);
    const csb = rig.csb(p);
    rig.run(p, copy(SOURCE, TARGET, 8, { csb }));
    expect(rig.records()).toEqual([]);
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });
});

describe('ref §4.9 completion blocks', () => {
  it('O-12 np = 1: no write, whatever the rest of the qword says', () => {
    const { rig, p } = ready();
    const csb = rig.csb(p);
    for (const low of [csb | 1, csb | 0x1f, 1]) {
      rig.run(p, copy(SOURCE, TARGET, 8, { words: { 14: low } }), nop({ words: { 14: low } }));
      rig.setState(p, RUN);
      rig.run(p, copy(0, TARGET, 8, { words: { 14: low } }));
      expect(rig.hex(csb, 32)).toBe(CSB.armed);
      rig.setState(p, RUN);
    }
  });

  it('ref §5.1 with np = 0 a csb_ptr of 0 is the real address 0', () => {
    const { rig, p } = ready();
    rig.map(LAYOUT.data, 4096, { at: 0 });
    rig.putU64(LAYOUT.data, 3);
    rig.run(p, nop({ csb: 0 }));
    expect(rig.u64(LAYOUT.data)).toBe(2n);
  });

  it('S-62 bits 4:1 of csb_ptr are no part of the address, so that a block never straddles anything', () => {
    const { rig, p } = ready();
    const csb = rig.csb(p);
    rig.run(p, nop({ words: { 14: csb | 0x1e } }));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it.each([
    [1n, 0n],
    [0xffn, 0xfen],
    [0n, 2n ** 64n - 1n],
    [2n ** 32n, 2n ** 32n - 1n],
    [2n ** 64n - 1n, 2n ** 64n - 2n],
    [0x1234_5678_0000_0001n, 0x1234_5678_0000_0000n],
  ])('O-11 S-13 signal %d becomes %d', (before, after) => {
    const { rig, p } = ready();
    const csb = rig.csb(p, 0, before);
    rig.run(p, nop({ csb }));
    expect(rig.completion(csb)).toEqual({ signal: after, er: false });
  });

  it('S-14 csr, csa and cs_cap together: the signal is overwritten with 0; in every other case it is decremented', () => {
    for (const csCap of [0, 1, 3]) {
      for (const csa of [0, 1]) {
        for (const csr of [0, FLAG.CSR]) {
          const rig = new Rig({ csCap });
          rig.activate();
          const p = rig.running(1, { control: { csa } });
          const csb = rig.csb(p, 0, 9);
          rig.run(p, nop({ csb, flags: csr }));
          expect([csCap, csa, csr, rig.u64(csb)]).toEqual([csCap, csa, csr, csCap && csa && csr ? 0n : 8n]);
        }
      }
    }
  });

  it('S-14 er comes before the overwritten signal too', () => {
    const rig = new Rig({ csCap: 1 });
    rig.activate();
    const p = rig.running(1);
    const csb = rig.csb(p, 0, 9);
    rig.run(p, copy(0, 0, 1, { csb, flags: FLAG.CSR }));
    expect(rig.hex(csb, 32)).toBe(CSB.failed);
  });
});

describe('ref §6.4 descriptor errors', () => {
  it('S-34 a failing descriptor is consumed: vl cleared, Read_Index behind it', () => {
    const { rig, p } = ready();
    rig.run(p, nop(), nop(), copy(0, 0, 1), nop());
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 3));
    expect([2, 3].map((i) => rig.isValid(p, i))).toEqual([false, true]);
  });

  it('S-43 an operation that fails with an inaccessible completion block: two records, its own first', () => {
    const { rig, p } = ready();
    rig.run(p, nop(), copy(0, 0, 1, { csb: 0x7000_0000 }), nop());
    expect(rig.records()).toEqual([
      record({ step: 10, sub: 1, context: 1, index: 1, operand: 0 }),
      record({ step: 8, sub: 1, context: 1, index: 1 }),
    ]);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 2));
    expect(rig.interrupts).toEqual([0]);
  });

  it('S-20 groups that are not implemented (minimal atomic, vendor) are unknown types', () => {
    for (const type of [0x006, 0x010, 0x01f, 0x020, 0x7ff]) {
      const { rig, p } = ready({ opGroups: 0xffff_ffff });
      const after = provoke(rig, p, (csb) => descriptor(type, 1, { csb }));
      expect(after).toEqual(failed({ step: 7, sub: 3, context: 1, index: 0 }));
    }
  });

  it('S-44 of several faults the first in the order of the checks is reported', () => {
    const rig = new Rig({ maxBuffer: 0 });
    rig.activate();
    const badKey = 0x200;
    const bytes = 2 ** 21 + 1;
    const everything = { akey0: badKey, akey1: badKey, csb: 0 };
    const report = (encode: ReturnType<typeof nop>) => {
      const p = rig.running(1);
      const at = Number(rig.reg(Reg.ERR_WRT));
      rig.run(p, encode);
      return rig.records()[at].slice(0, 12);
    };
    const start = (fields: Parameters<typeof record>[0]) => record({ context: 1, index: 0, ...fields }).slice(0, 12);
    expect(report(copy(0, 0, bytes, { ...everything, flags: FLAG.CH }))).toBe(start({ step: 7, sub: 3 })); // header
    expect(report(copy(0, 0, bytes, everything))).toBe(start({ step: 7, sub: 3 })); // body
    expect(report(copy(0, 0, 8, everything))).toBe(start({ step: 11, sub: 3, operand: 0 }));
    expect(report(copy(0, 0, 8, { ...everything, akey0: 0 }))).toBe(start({ step: 11, sub: 3, operand: 1 }));
    expect(report(copy(0, 0, 8, { csb: 0 }))).toBe(start({ step: 10, sub: 1, operand: 0 })); // data read
    expect(report(copy(SOURCE, 0, 8, { csb: 0 }))).toBe(start({ step: 10, sub: 1, operand: 1 })); // data write
    expect(report(copy(SOURCE, TARGET, 8, { csb: 0 }))).toBe(start({ step: 8, sub: 1 })); // CSB
  });
});
