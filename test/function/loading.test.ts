/** Loading a context (ref §6.2, table): what is read, in which order, and when. */
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/memory/address-space.js';
import { ContextState, CXT_CTL, Reg } from '../../src/spec/index.js';
import { CSB, record, status } from './expect.js';
import { contextUpdate, copy, FILTER, nop, start, stop, sync } from './ops.js';
import { type ContextPlace, LAYOUT, Rig } from './rig.js';

const { RUN, STOP_SW, STOP_FN, STOPG_SW, STOPG_FN, ERR_FN } = ContextState;

/** Everything that a load can trip over, in the order of ref §6.2; each later fault is there from the beginning. */
const FAULTS: [string, number, (rig: Rig, p: ContextPlace) => void, (rig: Rig, p: ContextPlace) => void][] = [
  ['row 1: L2', 2, (rig) => rig.unmap(LAYOUT.l2), (rig) => rig.map(LAYOUT.l2)],
  ['row 2: L1', 3, (rig) => rig.unmap(LAYOUT.l1), (rig) => rig.map(LAYOUT.l1)],
  ['row 3: CXT_CTL', 4, (rig, p) => rig.unmap(p.control), (rig, p) => rig.map(p.control)],
  ['row 4: CXT_STS', 5, (rig, p) => rig.unmap(p.status), (rig, p) => rig.map(p.status)],
  ['row 5: Write_Index', 6, (rig, p) => rig.unmap(p.writeIndex), (rig, p) => rig.map(p.writeIndex)],
  ['main loop: the slot', 7, (rig, p) => rig.unmap(p.ring), (rig, p) => rig.map(p.ring)],
];

describe('ref §6.2 load', () => {
  it('S-69 reads are made in the order of the table: of many faults the first one is reported', () => {
    const rig = new Rig({}, { pages: true });
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    const p = rig.prepare(1, { state: RUN });
    rig.write(p, 0, nop());
    rig.claim(p, 1);
    for (const [, , harm] of FAULTS) harm(rig, p);
    for (const [name, step, , heal] of FAULTS) {
      const before = rig.records().length;
      rig.fn.injectInternalError(1);
      rig.fn.reset(); // so that each doorbell may log (S-36)
      rig.program();
      rig.setReg(Reg.ERR_WRT, before);
      rig.setReg(Reg.CTL0, 3);
      rig.fn.ringDoorbell(1, 1);
      rig.drain();
      const index = step === 7 ? 0 : undefined;
      expect([name, rig.records().slice(before)]).toEqual([name, [record({ step, sub: 1, context: 1, index })]]);
      heal(rig, p);
      if (step >= 5) rig.setState(p, RUN);
    }
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
  });

  it.each([STOP_SW, STOPG_SW, STOP_FN, STOPG_FN, ERR_FN])(
    'S-33 S-69 with state %d the load ends after CXT_STS: neither Write_Index nor ring is read, nothing is written',
    (state) => {
      const rig = new Rig({}, { pages: true });
      rig.activate();
      const p = rig.prepare(1, { state });
      rig.claim(p, 1);
      rig.unmap(p.writeIndex);
      rig.unmap(p.ring);
      rig.protect(p.status, Access.READ);
      const before = rig.snapshot();
      for (let i = 0; i < 3; i++) {
        rig.fn.ringDoorbell(1, i);
        rig.drain();
      }
      expect(rig.records()).toEqual([]);
      expect(rig.interrupts).toEqual([]);
      expect(rig.snapshot().equals(before)).toBe(true);
    },
  );

  it('S-36 doorbells of an unusable context log one record until a load succeeds, then one again', () => {
    const rig = new Rig({}, { pages: true });
    rig.activate();
    const p = rig.prepare(1, { state: RUN });
    const ring = () => {
      rig.fn.ringDoorbell(1, 0);
      rig.drain();
      return rig.records().length;
    };
    const spoil = (valid: boolean) => rig.bytes(p.control, 1).fill(valid ? 0x31 : 0x30);
    spoil(false);
    expect([ring(), ring(), ring()]).toEqual([1, 1, 1]);
    rig.unmap(LAYOUT.l1); // another cause, but no success in between
    expect(ring()).toBe(1);
    rig.map(LAYOUT.l1);
    spoil(true);
    expect([ring(), ring()]).toEqual([1, 1]);
    spoil(false);
    expect([ring(), ring()]).toEqual([2, 2]);
    expect(rig.records()[1]).toBe(record({ step: 4, sub: 3, context: 1 }));
  });

  it('S-36 a load that ends silently at CXT_STS counts as one that succeeded', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.prepare(1, { state: STOP_SW });
    for (const valid of [false, true, false]) {
      rig.bytes(p.control, 1).fill(valid ? 0x31 : 0x30);
      for (let i = 0; i < 2; i++) {
        rig.fn.ringDoorbell(1, 0);
        rig.drain();
      }
    }
    const once = record({ step: 4, sub: 3, context: 1 });
    expect(rig.records()).toEqual([once, once]);
  });

  it('S-36 a CXT_START that succeeds counts as a load that succeeded', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const p = rig.prepare(1, { state: RUN });
    const ring = (valid: boolean) => {
      rig.bytes(p.control, 1).fill(valid ? 0x31 : 0x30);
      rig.fn.ringDoorbell(1, 0);
      rig.drain();
    };
    ring(false);
    rig.bytes(p.control, 1).fill(0x31);
    rig.run(admin, start(1, 1));
    ring(false);
    const once = record({ step: 4, sub: 3, context: 1 });
    expect(rig.records()).toEqual([once, once]);
  });

  it('S-36 the storm of one context does not silence another one', () => {
    const rig = new Rig();
    rig.activate();
    for (let i = 0; i < 5; i++) for (const n of [5, 6, 7]) rig.fn.ringDoorbell(n, i);
    rig.drain();
    for (const n of [7, 6, 5]) rig.fn.ringDoorbell(n, 0);
    rig.drain();
    expect(rig.records()).toEqual([5, 6, 7].map((context) => record({ step: 3, sub: 3, context })));
  });

  it('O-15 an entry found invalid is not remembered: the next doorbell after software has made it valid starts the context', () => {
    const spoilers: ((rig: Rig, p: ContextPlace) => number)[] = [
      (rig) => rig.at(rig.l2Entry(1)),
      (rig) => rig.at(rig.l1Entry(1)),
      (rig, p) => rig.at(p.control),
      (rig, p) => rig.at(p.akeys),
    ];
    for (const [n, place] of spoilers.entries()) {
      const rig = new Rig();
      rig.activate();
      const p = rig.prepare(1, { state: RUN });
      rig.u8[place(rig, p)] &= ~1;
      rig.run(p, copy(LAYOUT.data, LAYOUT.data + 64, 8));
      expect(rig.records().length).toBe(1);
      rig.u8[place(rig, p)] |= 1;
      if (n === 3) {
        rig.setState(p, RUN); // an AKey: the descriptor has failed and is consumed
        rig.run(p, copy(LAYOUT.data, LAYOUT.data + 64, 8));
      } else {
        rig.fn.ringDoorbell(1, 1);
        rig.drain();
      }
      expect(rig.hex(p.status, 16)).toBe(status(RUN, n === 3 ? 2 : 1));
      expect(rig.records().length).toBe(1);
    }
  });

  it('O-27 an L1 entry that is valid before its CXT_CTL is no error until the context is started or rung', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const p = rig.prepare(1, { state: RUN });
    rig.u8[rig.at(p.control)] &= ~1;
    rig.run(admin, nop(), contextUpdate(1), stop(1, 1));
    expect(rig.records()).toEqual([]);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.records()).toEqual([record({ step: 4, sub: 3, context: 1 })]);
  });

  it('O-30 L2[0] and one L1 table are enough for 128 contexts', () => {
    const rig = new Rig({ maxContext: 127 });
    rig.activate();
    expect(rig.u64(LAYOUT.l2 + 8)).toBe(0n);
    for (const n of [1, 64, 127]) {
      const p = rig.running(n);
      rig.run(p, nop());
      expect([n, rig.hex(p.status, 16)]).toEqual([n, status(RUN, 1)]);
    }
  });

  it('ref §4.1 L2 index is bits 15:7, L1 index bits 6:0', () => {
    const rig = new Rig({ maxContext: 0xffff });
    rig.activate();
    for (const n of [128, 129, 255]) {
      const p = rig.running(n);
      rig.run(p, nop());
      expect([n, rig.hex(p.status, 16)]).toEqual([n, status(RUN, 1)]);
    }
    // The last entry of the last table.
    rig.putU64(LAYOUT.l2 + 511 * 8, BigInt(LAYOUT.l1Upper) | 1n);
    const p = rig.place(255);
    rig.run({ ...p, number: 0xffff }, nop());
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
  });

  it('S-61 max_cxt lowered below a running context: it goes on until it is stopped, but new doorbells are ignored', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const p = rig.running(5);
    const [first, second] = [rig.csb(p, 0), rig.csb(p, 1)];
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000, { csb: first }), nop({ csb: second }));
    rig.fn.step(1);
    rig.setReg(Reg.CTL2, 0x0000_0018_0004_800bn);
    rig.queue(admin, contextUpdate(5)); // it loads again before the NOP, which is no reason to drop it
    rig.drain();
    expect([first, second].map((at) => rig.hex(at, 32))).toEqual([CSB.done, CSB.done]);
    rig.run(p, nop());
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
    rig.run(admin, stop(5, 5));
    expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 2));
    expect(rig.records()).toEqual([]);
  });

  it('S-70 each load takes Read_Index from memory, also after idle', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.run(p, nop(), nop());
    expect(rig.readIndex(p)).toBe(2);
    rig.putU64(p.status + 8, 5);
    rig.putU64(p.writeIndex, 5);
    const csb = rig.csb(p);
    rig.run(p, nop({ csb }));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 6));
  });

  it('S-70 while a context runs, the state byte in memory is not looked at', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000), nop());
    rig.fn.step(1);
    rig.setState(p, STOP_SW);
    rig.drain();
    expect(rig.readIndex(p)).toBe(2);
  });

  it('S-70 a load that finds a context of the running set in another state drops it silently', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.setState(p, STOP_SW);
    rig.run(p, nop());
    expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 0));
    rig.setReg(Reg.CTL0, 1);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 0)); // not in the running set any more (S-79)
    expect(rig.records()).toEqual([]);
  });

  it.each([
    ['CXT_STOP', (rig: Rig, admin: ContextPlace) => rig.run(admin, stop(1, 1), sync(FILTER.STOP, 1))],
    ['STOP_SF', (rig: Rig) => rig.setReg(Reg.CTL0, 1)],
    ['STOP_HD', (rig: Rig) => rig.setReg(Reg.CTL0, 2)],
    ['GSV_ERROR', (rig: Rig) => rig.fn.injectInternalError()],
  ])('S-70 %s of an idle context whose state software has changed: it is what memory says, and is left alone', (_title, end) => {
    for (const state of [STOP_SW, STOP_FN, ERR_FN, 7]) {
      const rig = new Rig();
      const admin = rig.activate();
      const p = rig.running(1);
      rig.setState(p, state);
      rig.putU64(p.status + 8, 99);
      end(rig, admin);
      rig.drain();
      expect(rig.hex(p.status, 16)).toBe(status(state, 99));
    }
  });

  it('ref §4.11 a table entry that changes is read again at the next load, without any update operation', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const q = rig.place(2);
    rig.putFields(CXT_CTL, p.control, {
      vl: 1,
      ds_ring_ptr: BigInt(q.ring),
      ds_ring_sz: 2048,
      cxt_sts_ptr: BigInt(p.status),
      write_index_ptr: BigInt(p.writeIndex),
    });
    const csb = rig.csb(p);
    rig.write(q, 0, nop({ csb }));
    rig.claim(p, 1);
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });
});
