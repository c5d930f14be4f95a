/** Limits of rings, indexes and addresses, and memory that is not there any more. */
import { describe, expect, it } from 'vitest';
import { ContextState, Reg } from '../../src/spec/index.js';
import { CSB, failed, notConsumed, provoke, record, status } from './expect.js';
import { contextUpdate, copy, functionUpdate, nop, start } from './ops.js';
import { LAYOUT, PAGE, Rig } from './rig.js';

const { RUN, ERR_FN } = ContextState;

describe('limits of rings and indexes', () => {
  it.each([
    [0, false],
    [1023, false],
    [1024, true],
    [1025, true],
    [1500, true],
    [2048, true],
    [2049, false],
    [0xffff_ffff, false],
  ])('S-40 a ring of %d descriptors, limit 2048, is usable: %s', (ringEntries, usable) => {
    const rig = new Rig({ maxRing: 1 });
    rig.activate();
    const p = rig.running(1, { ringEntries });
    if (!usable) {
      expect(rig.records()).toEqual([record({ step: 4, sub: 3, context: 1 })]);
      return;
    }
    // Over the end of the ring.
    for (let i = 0; i < ringEntries + 3; i += 1) {
      rig.write(p, i, nop());
      rig.claim(p, 1);
      if (i % 500 === 0 || i >= ringEntries) {
        rig.fn.ringDoorbell(1, i + 1);
        rig.drain();
      }
    }
    expect(rig.hex(p.status, 16)).toBe(status(RUN, ringEntries + 3));
  });

  it.each([22, 23, 31])('S-78 with max_ds_ring_sz = %d rings have up to 2^32 − 1 descriptors; 0 is not 2^32', (maxRing) => {
    const rig = new Rig({ maxRing });
    const admin = rig.activate();
    const p = rig.prepare(1, { state: RUN, ringEntries: 0xffff_ffff });
    // Read_Index in the last slot, which lies 256 GiB further on.
    rig.map(LAYOUT.data, PAGE, { at: p.ring + 0xffff_fffe * 64 - (PAGE - 64) });
    rig.putU64(p.status + 8, 0xffff_fffe);
    rig.putU64(p.writeIndex, 0xffff_fffe + 2);
    const csbs = [rig.csb(p, 0), rig.csb(p, 1)];
    const word = rig.at(LAYOUT.data + PAGE - 64) / 4;
    rig.u32[word] = nop({ csb: csbs[0] })(rig.u32, word);
    rig.write(p, 0, nop({ csb: csbs[1] }));
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(csbs.map((at) => rig.hex(at, 32))).toEqual([CSB.done, CSB.done]);
    expect(rig.readIndex(p)).toBe(0x1_0000_0000);
    rig.prepare(2, { ringEntries: 0 });
    const csb = rig.csb(admin);
    rig.run(admin, start(2, 2, { csb }));
    expect(rig.records()).toEqual([record({ step: 4, sub: 3, re: 0, context: 2 })]);
  });

  it('S-77 of a ring over many pages only the page of the slot being taken matters', () => {
    const rig = new Rig({}, { pages: true });
    rig.activate();
    const p = rig.running(1);
    for (let page = 1; page < 16; page++) rig.unmap(p.ring + page * PAGE);
    for (let i = 0; i < 64; i++) rig.write(p, i, nop());
    rig.claim(p, 65);
    rig.fn.ringDoorbell(1, 65);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 64));
    expect(rig.records()).toEqual([record({ step: 7, sub: 1, context: 1, index: 64 })]);
    rig.map(p.ring + PAGE);
    rig.write(p, 64, nop());
    rig.setState(p, RUN);
    rig.fn.ringDoorbell(1, 65);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 65));
  });

  it('S-77 S-103 a slot address beyond 2^53 or 2^64 is not mapped, and the end of the ring is not checked at load', () => {
    for (const base of [0xffff_ffff_ffff_ffc0n, 0x0020_0000_0000_0000n, 0x001f_ffff_ffff_ffc0n]) {
      const rig = new Rig();
      rig.activate();
      const p = rig.running(1, { control: { ds_ring_ptr: base } });
      expect(rig.records()).toEqual([]);
      expect(provoke(rig, p, (csb) => nop({ csb }))).toEqual(notConsumed({ step: 7, sub: 1, context: 1, index: 0 }));
    }
  });

  it('S-103 Read_Index of 2^53 is step 5 / sub 3, Write_Index of 2^53 is step 6 / sub 3', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.putU64(p.status + 8, 2n ** 53n);
    rig.putU64(p.writeIndex, 2n ** 53n);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 2n ** 53n));
    const q = rig.running(2);
    rig.putU64(q.status + 8, 2n ** 53n - 1n);
    rig.putU64(q.writeIndex, 2n ** 53n);
    rig.fn.ringDoorbell(2, 0);
    rig.drain();
    expect(rig.hex(q.status, 16)).toBe(status(ERR_FN, 2n ** 53n - 1n));
    expect(rig.records()).toEqual([record({ step: 5, sub: 3, context: 1 }), record({ step: 6, sub: 3, context: 2 })]);
  });

  it.each([
    ['CXT_L2', (rig: Rig) => rig.setReg(Reg.CXT_L2, 2n ** 53n), 2],
    ['lv01_ptr', (rig: Rig) => rig.putU64(rig.l2Entry(1), (2n ** 53n) | 1n), 3],
    ['cxt_ctl_ptr', (rig: Rig) => rig.putU64(rig.l1Entry(1), (2n ** 63n) | 3n), 4],
  ])('S-103 a %s from 2^53 on is not translatable', (_title, harm, step) => {
    const rig = new Rig();
    rig.activate();
    rig.prepare(1, { state: RUN });
    harm(rig);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.records()).toEqual([record({ step, sub: 1, context: 1 })]);
  });

  it('S-103 CXT_STS and Write_Index from 2^53 on are not translatable', () => {
    const rig = new Rig();
    rig.activate();
    rig.running(1, { control: { cxt_sts_ptr: 2n ** 60n } });
    const q = rig.running(2, { control: { write_index_ptr: 0xffff_ffff_ffff_fff8n } });
    expect(rig.records()).toEqual([record({ step: 5, sub: 1, context: 1 }), record({ step: 6, sub: 1, context: 2 })]);
    expect(rig.hex(q.status, 16)).toBe(status(ERR_FN, 0));
  });

  it('S-65 a Write_Index that software lowers while the context runs is noticed as WI < RI, and only so', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000), nop(), nop());
    rig.fn.step(1);
    rig.putU64(p.writeIndex, 1); // above Read_Index: no error, and nothing runs beyond
    rig.drain();
    expect([rig.records(), rig.hex(p.status, 16)]).toEqual([[], status(RUN, 1)]);
    rig.putU64(p.writeIndex, 0);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.records()).toEqual([record({ step: 6, sub: 3, context: 1 })]);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 1));
  });

  it('S-47 bus mastering off while ACTIVE: every access is a data access failure, of unmapped addresses too', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000, { csb: rig.csb(p) }));
    rig.fn.step(1);
    rig.memory.setBlocked(true);
    rig.drain();
    // Neither the copy, its block, its slot nor the log can be reached.
    expect([rig.reg(Reg.ERR_STS), rig.reg(Reg.ERR_WRT), rig.fn.state]).toEqual([9n, 0n, 2]);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
    for (const at of [LAYOUT.data, 0, 2 ** 53]) expect(rig.memory.own.refusal(at, 1)).toBe('refused');
    expect(rig.memory.bind(9).refusal(0, 1)).toBe('refused');
    rig.memory.setBlocked(false);
    expect(rig.memory.own.refusal(2 ** 53, 1)).toBe('unmapped');
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 1)); // from memory, as if nothing had been
  });

  it('S-108 a reload that fails is an error of that context as at any load', () => {
    for (const update of [contextUpdate(1), functionUpdate()]) {
      const rig = new Rig();
      const admin = rig.activate();
      const p = rig.running(1);
      rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000), nop());
      rig.fn.step(1);
      rig.bytes(rig.l1Entry(1), 32).fill(0);
      rig.run(admin, update);
      expect(rig.records()).toEqual([record({ step: 3, sub: 3, context: 1 })]);
      expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
      expect(rig.isValid(p, 1)).toBe(true);
    }
  });

  it('S-41 a buffer crossing the end of what is mapped fails with step 10 / sub 1', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const end = LAYOUT.base + LAYOUT.bytes;
    expect(provoke(rig, p, (csb) => copy(end - 4, LAYOUT.data, 5, { csb }))).toEqual(
      failed({ step: 10, sub: 1, context: 1, index: 0, operand: 0 }),
    );
  });
});
