/** Taking descriptors from the ring (ref §6.2 main loop), memory consistency (ref §6.3), turns (S-45). */
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/memory/address-space.js';
import { ContextState, Reg } from '../../src/spec/index.js';
import { CSB, failed, provoke, record, status } from './expect.js';
import { copy, descriptor, FLAG, interrupt, nop, repcopy, writeImmediate } from './ops.js';
import { type ContextPlace, LAYOUT, Rig } from './rig.js';

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

/** Adds 1 to a counter in memory at each execution: an atomic would do, but this one needs no group. */
function executed(rig: Rig, p: ContextPlace, csb: number): bigint {
  expect(csb).toBeGreaterThan(p.csbs - 1);
  return 1000n - rig.u64(csb);
}

describe('ref §6.2 waiting for descriptors', () => {
  it('O-18 a slot with vl = 0 below Write_Index is waited for, without error, for any time', () => {
    const { rig, p } = ready();
    rig.claim(p, 3);
    rig.write(p, 1, mark(1, 1));
    for (let i = 0; i < 1000; i++) {
      rig.fn.ringDoorbell(1, 3);
      rig.drain();
    }
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
    expect(rig.records()).toEqual([]);
    expect(rig.bytes(TARGET + 1, 1)[0]).toBe(0);
    rig.write(p, 0, mark(0, 1));
    rig.write(p, 2, mark(2, 1));
    rig.fn.ringDoorbell(1, 3);
    rig.drain();
    expect(rig.hex(TARGET, 3)).toBe('010101');
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 3));
  });

  it('O-18 the rest of a slot with vl = 0 is not looked at, whatever it holds', () => {
    const { rig, p } = ready();
    rig.bytes(p.ring, 64 * 1024).fill(0xfe);
    rig.claim(p, 1024);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.records()).toEqual([]);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
  });

  it('ref §6.2 step 2 without a doorbell a descriptor that became valid is not looked at; with any doorbell it is', () => {
    const { rig, p } = ready();
    rig.claim(p, 1);
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    rig.write(p, 0, nop());
    rig.drain();
    expect(rig.readIndex(p)).toBe(0);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.readIndex(p)).toBe(1);
  });

  it('O-20 S-9 doorbell values 0, repeated, decreasing and far too large are the same wake-up: Write_Index in memory decides', () => {
    for (const values of [[0], [5, 5, 5], [9, 3, 1, 0], [2 ** 50, 1], [-1]]) {
      const { rig, p } = ready();
      rig.write(p, 0, nop(), nop(), nop(), nop());
      rig.claim(p, 3);
      for (const value of values) {
        rig.fn.ringDoorbell(1, value);
        rig.drain();
      }
      expect(rig.hex(p.status, 16)).toBe(status(RUN, 3));
      expect(rig.isValid(p, 3)).toBe(true);
    }
  });

  it('S-9 valid slots beyond Write_Index are not executed', () => {
    const { rig, p } = ready();
    rig.write(p, 0, nop(), mark(0, 1));
    rig.claim(p, 1);
    rig.fn.ringDoorbell(1, 1000);
    rig.drain();
    expect(rig.readIndex(p)).toBe(1);
    expect(rig.bytes(TARGET, 1)[0]).toBe(0);
  });

  it('S-71 the latch: a doorbell that rings while the context is in line or busy is not lost', () => {
    const { rig, p } = ready();
    rig.queue(p, copy(SOURCE, SOURCE + 0x10_0000, 0x10_0000));
    rig.fn.step(1);
    for (let i = 0; i < 3; i++) {
      rig.queue(p, mark(i, 1)); // each rings while the copy runs; they merge
      rig.fn.step(1);
    }
    rig.drain();
    expect(rig.hex(TARGET, 3)).toBe('010101');
  });

  it('S-71 a doorbell that rings during the very last look at the ring is not lost', () => {
    const { rig, p } = ready();
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 3 });
    // The interrupt handler queues more work at the moment when the function is about to go idle.
    let more = 2;
    rig.onInterrupt = () => {
      if (more-- > 0) rig.queue(p, interrupt(1));
    };
    rig.run(p, interrupt(1));
    expect(rig.interrupts).toEqual([3, 3, 3]);
    expect(rig.readIndex(p)).toBe(3);
  });
});

describe('ref §6.2 consuming', () => {
  it('O-19 vl is cleared when a descriptor is consumed, of failed ones too', () => {
    const { rig, p } = ready();
    rig.run(p, nop(), copy(SOURCE, TARGET, 8), interrupt(0));
    expect([0, 1, 2].map((i) => rig.isValid(p, i))).toEqual([false, false, false]);
    expect(rig.state(p)).toBe(ERR_FN);
  });

  it('O-19 a slot that is claimed but not rewritten after the ring has wrapped is not executed twice: three laps', () => {
    for (const block of [true, false]) {
      const { rig, p } = ready();
      const csb = rig.csb(p, 0, 1000);
      let index = 0;
      for (let lap = 0; lap < 3; lap++) {
        for (let i = 0; i < 1024; i++, index++) {
          rig.claim(p, 1);
          if (index % 100 === 0) {
            // Claimed, rung, and written only now: the slot still holds what the lap before left.
            rig.fn.ringDoorbell(1, index + 1);
            rig.drain();
            expect(rig.readIndex(p)).toBe(index);
          }
          rig.write(p, index, index % 100 === 0 ? nop({ csb }) : block ? nop({ csb: rig.csb(p, 1) }) : copy(SOURCE, TARGET, 8));
          if (index % 7 === 0) rig.fn.ringDoorbell(1, index + 1);
          if (index % 21 === 0) rig.drain();
        }
        rig.fn.ringDoorbell(1, index);
        rig.drain();
        expect(rig.hex(p.status, 16)).toBe(status(RUN, index));
      }
      expect(executed(rig, p, csb)).toBe(31n);
    }
  });

  it('F-7 clearValid = off: vl stays, and after wrap-around a claimed slot is executed again', () => {
    const { rig, p } = ready({ clearValid: 'off' });
    const csb = rig.csb(p, 0, 5);
    rig.run(p, nop({ csb }), ...Array.from({ length: 1023 }, () => nop()));
    expect(rig.isValid(p, 0)).toBe(true);
    rig.claim(p, 1);
    rig.fn.ringDoorbell(1, 1025);
    rig.drain();
    expect(rig.u64(csb)).toBe(3n);
  });

  it('S-76 a slot needs read and write permission before it is executed; with clearValid = off only read', () => {
    for (const clearValid of ['on', 'off'] as const) {
      const rig = new Rig({ clearValid }, { pages: true });
      rig.activate();
      const p = rig.running(1);
      rig.protect(p.ring, Access.READ);
      rig.run(p, mark(0, 7));
      expect([rig.bytes(TARGET, 1)[0], rig.hex(p.status, 16)]).toEqual(clearValid === 'on' ? [0, status(ERR_FN, 0)] : [7, status(RUN, 1)]);
    }
  });

  it('O-21 S-28 Read_Index of n + 1 means that the data of descriptor n is there, at every moment', () => {
    for (const block of [false, true]) {
      const { rig, p } = ready();
      const n = 40;
      const csb = rig.csb(p, 0, n);
      rig.queue(p, ...Array.from({ length: n }, (_, i) => copy(SOURCE, TARGET + i, 1, block ? { csb } : {})));
      rig.put(SOURCE, [1]);
      for (let i = 0; i <= n; i++) {
        for (let k = 0; k < rig.readIndex(p); k++) expect(rig.bytes(TARGET + k, 1)[0]).toBe(1);
        if (block) expect(Number(rig.u64(csb))).toBeLessThanOrEqual(n - rig.readIndex(p));
        rig.fn.step(1);
      }
      expect(rig.readIndex(p)).toBe(n);
    }
  });

  it('ref §6.2 one descriptor per turn when others are in line, else many; step returns the turns it ran', () => {
    const { rig, p } = ready();
    rig.queue(p, ...Array.from({ length: 10 }, () => nop()));
    expect(rig.fn.step(3)).toBe(3);
    expect(rig.readIndex(p)).toBe(3);
    expect(rig.fn.step(100)).toBe(7);
    expect(rig.fn.step(100)).toBe(0);
  });

  it('S-45 contexts take turns, one descriptor each, context 0 without priority', () => {
    const rig = new Rig();
    const places = [rig.activate(), rig.running(1), rig.running(2), rig.running(3)];
    const order: number[] = [];
    rig.onInterrupt = (vector) => order.push(vector);
    for (const p of [places[2], places[0], places[3], places[1]]) {
      rig.akey(p, 1, { vl: 1, iv: 1, intr_num: p.number + 1 });
      rig.queue(p, interrupt(1), interrupt(1), interrupt(1));
    }
    rig.drain();
    expect(order).toEqual([3, 1, 4, 2, 3, 1, 4, 2, 3, 1, 4, 2]);
  });

  it('S-45 S-88 a turn is a descriptor or a slice of at most 256 KiB: others get turns in the middle of a long copy', () => {
    const { rig, p } = ready();
    const q = rig.running(2);
    rig.akey(q, 1, { vl: 1, iv: 1, intr_num: 9 });
    const moved: number[] = [];
    rig.bytes(SOURCE, 0x10_0000).fill(1);
    rig.onInterrupt = () => moved.push(rig.bytes(SOURCE + 0x10_0000, 0x10_0000).lastIndexOf(1) + 1);
    rig.queue(p, copy(SOURCE, SOURCE + 0x10_0000, 0x10_0000), nop());
    rig.queue(q, ...Array.from({ length: 6 }, () => interrupt(1)));
    rig.drain();
    expect(moved).toEqual([1, 2, 3, 4, 4, 4].map((slices) => slices * 0x4_0000));
  });

  it('S-88 registers are served between slices: one call of step moves at most 256 KiB and a slice more', () => {
    const { rig, p } = ready();
    rig.queue(p, copy(SOURCE, SOURCE + 0x10_0000, 0x10_0000), repcopy(SOURCE, SOURCE + 0x10_0000, 0x10_0000));
    let calls = 0;
    for (let before = 0; rig.fn.step(1_000_000) > 0; calls++) {
      expect(rig.fn.counters.bytes - before).toBeLessThanOrEqual(0x4_0000);
      before = rig.fn.counters.bytes;
    }
    expect(calls).toBe(8);
  });

  it('ref §6.2 Write_Index over 2^32 and a ring that wraps at a number that is no power of two', () => {
    const rig = new Rig();
    rig.activate();
    const start = 2 ** 32 - 2;
    const p = rig.running(1, { ringEntries: 1500, readIndex: start });
    const csb = rig.csb(p, 0, 8);
    rig.run(p, ...Array.from({ length: 8 }, () => nop({ csb })));
    expect(rig.u64(csb)).toBe(0n);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, start + 8));
  });
});

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
    const or = (address: number, bytes: number[]) => bytes.forEach((byte, i) => (rig.u8[rig.at(address + i)] |= byte));
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
