/** SYNC and the update operations (ref §5.6, S-108), and context 0 among the others. */
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/memory/address-space.js';
import { ContextState, CXT_CTL } from '../../src/spec/index.js';
import { CSB, failed, provoke, status } from './expect.js';
import {
  adminInterrupt,
  akeyUpdate,
  atomic,
  contextUpdate,
  copy,
  descriptor,
  FILTER,
  functionUpdate,
  interrupt,
  nop,
  rkeyUpdate,
  stop,
  sync,
} from './ops.js';
import { LAYOUT, Rig, type RigOptions } from './rig.js';

const { STOP_SW, RUN, STOPG_SW } = ContextState;
const MIB = 0x10_0000;
const longCopy = (csb?: number) => copy(LAYOUT.data, LAYOUT.data + MIB, MIB, { csb });

function ready(config = {}, options: RigOptions = {}) {
  const rig = new Rig(config, options);
  return { rig, admin: rig.activate() };
}

/** Context 1 in the middle of a copy of four slices. */
function copying() {
  const { rig, admin } = ready();
  const p = rig.running(1);
  const work = rig.csb(p);
  rig.queue(p, longCopy(work), nop());
  rig.fn.step(1);
  return { rig, admin, p, work };
}

describe('SYNC', () => {
  it('O-14 SYNC.STOP completes only after the stop is final, and at once for a context that does not run', () => {
    const { rig, admin, p } = copying();
    const csbs = [0, 1].map((n) => rig.csb(admin, n));
    rig.queue(admin, stop(1, 1), sync(FILTER.STOP, 1, 1, { csb: csbs[0] }), sync(FILTER.STOP, 2, 63, { csb: csbs[1] }));
    while (rig.u64(csbs[0]) !== 0n) {
      if (rig.u64(csbs[0]) !== 0n && rig.state(p) !== STOP_SW) expect(rig.u64(csbs[0])).toBe(1n);
      rig.fn.step(1);
    }
    expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 1));
    rig.drain();
    expect(rig.hex(csbs[1], 32)).toBe(CSB.done);
  });

  it('ref §5.6 SYNC.STOP does not wait for contexts that run with no stop pending', () => {
    const { rig, admin, work } = copying();
    const csb = rig.csb(admin);
    rig.queue(admin, sync(FILTER.STOP, 1, 1, { csb }));
    rig.stepUntil(() => rig.u64(csb) === 0n);
    expect(rig.hex(work, 32)).toBe(CSB.armed);
  });

  it('S-54 SYNC.STOP over a range with 0 does not wait for context 0', () => {
    const { rig, admin } = copying();
    const csb = rig.csb(admin);
    rig.run(admin, stop(1, 1), sync(FILTER.STOP, 0, 0xffff, { csb }));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it('ref §5.6 while a SYNC waits, later admin descriptors do not execute', () => {
    const { rig, admin, p } = copying();
    rig.queue(admin, stop(1, 1), sync(FILTER.STOP, 1), adminInterrupt(9));
    rig.stepUntil(() => rig.state(p) === STOPG_SW);
    rig.fn.step(2);
    expect(rig.interrupts).toEqual([]);
    rig.drain();
    expect(rig.interrupts).toEqual([9]);
  });

  it('ref §5.6 a SYNC that waits ends when the context fails with an internal error in between', () => {
    const { rig, admin, p } = copying();
    const csb = rig.csb(admin);
    rig.queue(admin, stop(1, 1), sync(FILTER.STOP, 1, 1, { csb }));
    rig.stepUntil(() => rig.readIndex(admin) === 1 && rig.state(p) === STOPG_SW);
    rig.fn.step(1);
    rig.fn.injectInternalError(1);
    rig.drain();
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it.each([
    ['CXT', FILTER.CXT],
    ['AKEY', FILTER.AKEY],
    ['RKEY', FILTER.RKEY],
    ['FN', FILTER.FN],
  ])('ref §5.6 SYNC.%s waits for the operation that was under way, not for the ones after it', (_name, filter) => {
    // Copies of 4 and of 5 slices, so that either context may have its turn first when the copy is done.
    for (const size of [MIB, MIB + 0x4_0000]) {
      const { rig, admin } = ready();
      const p = rig.running(1);
      const [work, later] = [rig.csb(p, 0), rig.csb(p, 1)];
      const long = (csb: number) => copy(LAYOUT.data, LAYOUT.data + 0x16_0000, size, { csb });
      rig.queue(p, long(work), long(later));
      rig.fn.step(1);
      const csb = rig.csb(admin);
      rig.queue(admin, sync(filter, 1, 1, { csb, keys: [0, 1] }));
      rig.stepUntil(() => rig.u64(csb) === 0n);
      expect(rig.hex(work, 32)).toBe(CSB.done);
      expect(rig.hex(later, 32)).toBe(CSB.armed);
    }
  });

  it('ref §5.6 a SYNC of other contexts does not wait', () => {
    const { rig, admin, work } = copying();
    const csb = rig.csb(admin);
    rig.queue(admin, sync(FILTER.CXT, 2, 63, { csb }), sync(FILTER.AKEY, 2, 63, { keys: [0, 9] }));
    rig.stepUntil(() => rig.u64(csb) === 0n);
    expect(rig.hex(work, 32)).toBe(CSB.armed);
  });
});

describe('updates', () => {
  it.each([
    ['CXT_UPD, SYNC.CXT', contextUpdate(1), FILTER.CXT],
    ['CXT_UPD of all, SYNC.CXT', contextUpdate(0, 63), FILTER.CXT],
    ['FN_UPD, SYNC.CXT', functionUpdate(), FILTER.CXT],
    ['FN_UPD, SYNC.FN', functionUpdate(), FILTER.FN],
  ])(
    'S-108 %s: a running context of the range loads again before its next descriptor, and the SYNC waits for that',
    (_title, update, filter) => {
      // Copies of 4 and of 5 slices, so that either context may have its turn first when the copy is done.
      for (const slices of [4, 5]) {
        const { rig, admin } = ready();
        const p = rig.running(1);
        rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x16_0000, slices * 0x4_0000), nop());
        rig.fn.step(1);
        const q = rig.place(2);
        const csb = rig.csb(admin);
        // The ring moves: what was fetched finishes, then the new one is used.
        rig.prepare(1, { state: RUN, ringEntries: 2000, control: { ds_ring_ptr: BigInt(q.ring) } });
        rig.putU64(p.writeIndex, 2);
        const fresh = rig.csb(p, 5);
        rig.write(q, 1, nop({ csb: fresh }));
        rig.queue(admin, update, sync(filter, 0, 63, { csb }));
        rig.stepUntil(() => rig.u64(csb) === 0n);
        expect(rig.fn.contexts().find((c) => c.number === 1)).toMatchObject({ ringEntries: 2000 });
        rig.drain();
        expect(rig.hex(fresh, 32)).toBe(CSB.done);
        expect(rig.isValid(p, 1)).toBe(true); // the old ring
        expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
      }
    },
  );

  it('S-108 a CXT_UPD that names context 0 itself holds for its own next descriptor', () => {
    for (const update of [contextUpdate(0), functionUpdate()]) {
      const { rig, admin } = ready();
      const q = rig.place(2);
      rig.write(admin, 0, interrupt(1), update, adminInterrupt(3));
      rig.write(q, 2, adminInterrupt(4));
      rig.claim(admin, 3);
      rig.fn.ringDoorbell(0, 3);
      rig.akey(admin, 1, { vl: 1, iv: 1, intr_num: 9 });
      rig.onInterrupt = (vector) => {
        // While the first descriptor is executed, software moves the ring.
        if (vector === 9)
          rig.putFields(CXT_CTL, admin.control, { ...CXT_CTL.decode(rig.bytes(admin.control, 64)), ds_ring_ptr: BigInt(q.ring) } as never);
      };
      rig.drain();
      expect(rig.interrupts).toEqual([9, 4]);
    }
  });

  it('S-108 contexts outside the range do not load again', () => {
    const { rig, admin } = copying();
    const before = rig.fn.counters.loads;
    rig.run(admin, contextUpdate(2, 63));
    expect(rig.fn.counters.loads).toBe(before + 1); // context 0 itself, from its doorbell
  });

  it('S-108 AKEY_UPD and RKEY_UPD: later lookups read memory, with or without them', () => {
    const { rig, admin } = ready();
    const p = rig.running(1);
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 3 });
    rig.run(p, interrupt(1));
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 4 });
    rig.run(p, interrupt(1));
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 5 });
    const csb = rig.csb(admin, 0, 3);
    rig.run(admin, akeyUpdate(1, 1, [1, 1], { csb }), rkeyUpdate([0, 5], { csb }), sync(FILTER.AKEY, 1, 1, { keys: [1, 1], csb }));
    rig.run(p, interrupt(1));
    expect(rig.interrupts).toEqual([3, 4, 5]);
    expect(rig.u64(csb)).toBe(0n);
  });

  it('S-19 RKEY_UPD is admin subtype 0x07', () => {
    const { rig, admin } = ready();
    const csb = rig.csb(admin);
    rig.run(admin, descriptor(0x002, 0x07, { csb }));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it('ref §4.11 a context withdrawn by CXT_UPD and SYNC, its entries invalid, is left alone', () => {
    const { rig, admin } = ready();
    const p = rig.running(1);
    rig.bytes(rig.l1Entry(1), 32).fill(0);
    const csb = rig.csb(admin);
    rig.run(admin, contextUpdate(1), sync(FILTER.CXT, 1, 1, { csb }), stop(1, 1), sync(FILTER.STOP, 1, 1));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
    expect(rig.records()).toEqual([]);
  });
});

describe('context 0 among the others', () => {
  it('S-7 it executes everything that other contexts do', () => {
    const { rig, admin } = ready({}, { pages: true });
    rig.protect(LAYOUT.l2, Access.READ);
    const csb = rig.csb(admin, 0, 3);
    rig.akey(admin, 1, { vl: 1, iv: 1, intr_num: 4 });
    rig.run(admin, copy(LAYOUT.data, LAYOUT.data + 64, 8, { csb }), atomic(0x02, 8, LAYOUT.data, { a: 5n, csb }), interrupt(1, { csb }));
    expect([rig.u64(csb), rig.u64(LAYOUT.data), rig.interrupts]).toEqual([0n, 5n, [4]]);
  });

  it.each([0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08])('S-7 admin subtype %d is refused outside context 0', (subtype) => {
    const { rig } = ready({ opGroups: 0xffff_ffff });
    const p = rig.running(1, { l1: { opb_000_enb: 0xffff_ffff } });
    expect(provoke(rig, p, (csb) => descriptor(0x002, subtype, { csb }))).toEqual(failed({ step: 7, sub: 3, context: 1, index: 0 }));
  });
});
